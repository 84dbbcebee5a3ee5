#pragma once
// Private: numbers of a stream to a flat list and back, named once for both directions.

#include <cmath>
#include <cstdint>
#include <vector>

#include "koopcore/error.hpp"

namespace koopcore::detail {

struct Writer {
  std::vector<double>& out;
  void operator()(double& value) { out.push_back(value); }
  void operator()(int64_t& value) { out.push_back(static_cast<double>(value)); }
};

/// Of numbers that have been checked.
struct Reader {
  const std::vector<double>& in;
  size_t at = 0;
  void operator()(double& value) { value = in[at++]; }
  void operator()(int64_t& value) { value = static_cast<int64_t>(in[at++]); }
};

inline void check_numbers(const std::vector<double>& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i)
    KOOPCORE_REQUIRE(std::abs(numbers[i]) <= 0x1p500)
        << "number " << i << " of the state is " << numbers[i] << "; no stream writes that";
}

inline void check_integer(const std::vector<double>& numbers, size_t i, double least, double most) {
  const double value = numbers[i];
  KOOPCORE_REQUIRE(value == std::floor(value) && value >= least && value <= most)
      << "number " << i << " of the state is " << value << "; expected a whole one from " << least
      << " to " << most;
}

}  // namespace koopcore::detail
