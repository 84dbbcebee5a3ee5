#pragma once
// Private: powers of two that keep a stream's small matrices near 1, however far it has faded.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "koopcore/matrix_view.hpp"

namespace koopcore::detail {

constexpr int64_t kNone = std::numeric_limits<int64_t>::min();

inline double largest_entry(MatrixView<const double> a) {
  double largest = 0.0;
  for (int64_t j = 0; j < a.cols; ++j)
    for (int64_t i = 0; i < a.rows; ++i) largest = std::max(largest, std::abs(a(i, j)));
  return largest;
}

/// e with 2^(e - 1) <= size < 2^e; kNone for zero.
inline int64_t exponent_of(double size) {
  if (!(size > 0.0)) return kNone;
  int exponent = 0;
  std::frexp(size, &exponent);
  return exponent;
}

/// 2^exponent, 0 where that is below all numbers.
inline double to_unit(int64_t exponent) {
  return std::ldexp(1.0, static_cast<int>(std::clamp<int64_t>(exponent, -3000, 1023)));
}

}  // namespace koopcore::detail
