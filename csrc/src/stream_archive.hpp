#pragma once
// Private: numbers of a stream to a flat list and back, named once for both directions.

#include <cstdint>
#include <vector>

namespace koopcore::detail {

struct Writer {
  std::vector<double>& out;
  void operator()(double& value) { out.push_back(value); }
  void operator()(int64_t& value) { out.push_back(static_cast<double>(value)); }
};

struct Reader {
  const std::vector<double>& in;
  size_t at = 0;
  void operator()(double& value) { value = in[at++]; }
  void operator()(int64_t& value) { value = static_cast<int64_t>(in[at++]); }
};

}  // namespace koopcore::detail
