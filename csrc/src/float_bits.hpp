#pragma once
// Private: what the exponent of a float or double tells without arithmetic, so that loops over
// whole states vectorise.

#include <cstdint>
#include <cstring>

namespace koopcore::detail {

template <class T>
struct Bits;
template <>
struct Bits<float> {
  using Word = uint32_t;
  static constexpr Word exponent = 0x7f800000u;
  static constexpr int fraction = 23, bias = 127;
};
template <>
struct Bits<double> {
  using Word = uint64_t;
  static constexpr Word exponent = 0x7ff0000000000000u;
  static constexpr int fraction = 52, bias = 1023;
};

/// The exponent field of a number; all ones for infinities and NaN. Ordered like magnitudes.
template <class T>
inline typename Bits<T>::Word exponent_field(T value) {
  typename Bits<T>::Word word;
  std::memcpy(&word, &value, sizeof(T));
  return word & Bits<T>::exponent;
}

/// The field of 2^power.
template <class T>
constexpr typename Bits<T>::Word field_of(int power) {
  return static_cast<typename Bits<T>::Word>(power + Bits<T>::bias) << Bits<T>::fraction;
}

}  // namespace koopcore::detail
