#pragma once
// bfloat16, to store numbers in: the upper half of a float32, with 8 digits of its fraction. All
// arithmetic happens in float32 or float64.

#include <cstdint>
#include <cstring>

namespace koopcore {

struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  /// To the nearest, ties to even; beyond the largest it becomes infinite, NaN stays NaN.
  explicit BFloat16(float value) {
    uint32_t word = 0;
    std::memcpy(&word, &value, sizeof(word));
    const bool nan = (word & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);
    bits = static_cast<uint16_t>((nan ? word | 0x400000u : rounded) >> 16);
  }
  explicit operator float() const {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value = 0.0f;
    std::memcpy(&value, &word, sizeof(value));
    return value;
  }
};

}  // namespace koopcore
