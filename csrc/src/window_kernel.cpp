#include "window_kernel.hpp"

#include <algorithm>
#include <cstring>

#include "float_bits.hpp"
#include "simd.hpp"

namespace koopcore::detail {
namespace {

// Rows of all columns that a change of the reference takes at a time: what they share stays in the
// first-level cache.
constexpr int64_t kPanel = 1024;

// Stores a difference; 1 if it is not finite as it is stored, of bfloat16 also by rounding. On bits
// and without branches, so that the loops vectorise.
template <class T>
KOOPCORE_INLINE typename Bits<T>::Word keep(T difference, T& out) {
  out = difference;
  return exponent_field(difference) == Bits<T>::exponent ? 1 : 0;
}
KOOPCORE_INLINE uint32_t keep(float difference, BFloat16& out) {
  constexpr uint32_t exponent = Bits<float>::exponent;
  uint32_t word = 0;
  std::memcpy(&word, &difference, sizeof(word));
  const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);  // as BFloat16's, but for NaN
  out.bits = static_cast<uint16_t>(rounded >> 16);
  return ((word & exponent) == exponent ? 1u : 0u) | ((rounded & exponent) == exponent ? 1u : 0u);
}

template <class T, class Stored>
KOOPCORE_INLINE void subtract_in(const T* x, const T* reference, Stored* out, int64_t size,
                                 bool& finite) {
  typename Bits<T>::Word bad = 0;
  for (int64_t i = 0; i < size; ++i) bad |= keep(x[i] - reference[i], out[i]);
  finite = bad == 0;
}

template <class T, class Stored>
KOOPCORE_INLINE void look_at(const T* x, const T* reference, int64_t size, const Stored*,
                             bool& finite) {
  typename Bits<T>::Word bad = 0;
  for (int64_t i = 0; i < size; ++i) {
    Stored stored;
    bad |= keep(x[i] - reference[i], stored);
  }
  finite = bad == 0;
}

template <class T, class Stored>
KOOPCORE_INLINE void rebase_in(T* reference, Stored* const* columns, int64_t count, int64_t size) {
  T shift[kPanel], error[kPanel];
  for (int64_t row = 0; row < size; row += kPanel) {
    const int64_t rows = std::min(kPanel, size - row);
    T* const base = reference + row;
    const Stored* const newest = columns[count - 1] + row;
    for (int64_t i = 0; i < rows; ++i) {
      const T old = base[i], moved = static_cast<T>(newest[i]);
      const T sum = old + moved;
      const T back = sum - old;
      error[i] = (old - (sum - back)) + (moved - back);
      shift[i] = moved;
      base[i] = sum;
    }
    for (int64_t k = 0; k < count; ++k) {
      Stored* const column = columns[k] + row;
      for (int64_t i = 0; i < rows; ++i)
        keep((static_cast<T>(column[i]) - shift[i]) + error[i], column[i]);
    }
  }
}

#define KOOPCORE_WINDOW_LOOPS(T, Stored)                                                          \
  KOOPCORE_PER_PROCESSOR(                                                                         \
      run_subtract, (const T* x, const T* reference, Stored* out, int64_t size, bool& finite),    \
      (x, reference, out, size, finite), subtract_in)                                             \
  KOOPCORE_PER_PROCESSOR(                                                                         \
      run_look, (const T* x, const T* reference, int64_t size, const Stored* type, bool& finite), \
      (x, reference, size, type, finite), look_at)                                                \
  KOOPCORE_PER_PROCESSOR(run_rebase,                                                              \
                         (T * reference, Stored* const* columns, int64_t count, int64_t size),    \
                         (reference, columns, count, size), rebase_in)
KOOPCORE_WINDOW_LOOPS(float, float)
KOOPCORE_WINDOW_LOOPS(float, BFloat16)
KOOPCORE_WINDOW_LOOPS(double, double)

}  // namespace

template <class T, class Stored>
bool subtract(const T* x, const T* reference, Stored* out, int64_t size) {
  bool finite = true;
  run_subtract(x, reference, out, size, finite);
  return finite;
}

template <class T, class Stored>
bool differences_are_finite(const T* x, const T* reference, int64_t size) {
  bool finite = true;
  run_look(x, reference, size, static_cast<const Stored*>(nullptr), finite);
  return finite;
}

template <class T, class Stored>
void rebase(T* reference, Stored* const* columns, int64_t count, int64_t size) {
  run_rebase(reference, columns, count, size);
}

#define KOOPCORE_INSTANTIATE(T, Stored)                                         \
  template bool subtract<T, Stored>(const T*, const T*, Stored*, int64_t);      \
  template bool differences_are_finite<T, Stored>(const T*, const T*, int64_t); \
  template void rebase<T, Stored>(T*, Stored* const*, int64_t, int64_t);
KOOPCORE_INSTANTIATE(float, float)
KOOPCORE_INSTANTIATE(float, BFloat16)
KOOPCORE_INSTANTIATE(double, double)

}  // namespace koopcore::detail
