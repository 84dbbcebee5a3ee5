#include "koopcore/leading_eigen.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"
#include "tridiagonal_lanes.hpp"

namespace koopcore {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();
// Beyond these the library's blocked routines win.
constexpr int64_t kMaxSize = 160;

LeadingEigen by_library(MatrixView<const double> a, int64_t count, double floor) {
  Matrix<double> vectors(a.rows, a.cols);
  for (int64_t j = 0; j < a.cols; ++j) std::copy_n(a.col(j), a.rows, vectors.view().col(j));
  std::vector<double> ascending = blas::symmetric_eigen(vectors.view());
  std::vector<double> values;
  for (auto value = ascending.rbegin(); value != ascending.rend(); ++value)
    if (static_cast<int64_t>(values.size()) < count && *value > floor * ascending.back())
      values.push_back(*value);
  LeadingEigen result{std::move(values), {}};
  const int64_t found = static_cast<int64_t>(result.values.size());
  result.vectors = Matrix<double>(a.rows, found);
  for (int64_t j = 0; j < found; ++j)
    std::copy_n(std::as_const(vectors).view().col(a.cols - 1 - j), a.rows,
                result.vectors.view().col(j));
  return result;
}

double largest_magnitude(MatrixView<const double> a) {
  double by_row[kMaxSize] = {};  // no chain from one entry to the next
  for (int64_t j = 0; j < a.cols; ++j)
    for (int64_t i = 0; i < a.rows; ++i) by_row[i] = std::max(by_row[i], std::abs(a(i, j)));
  return *std::max_element(by_row, by_row + a.rows);
}

}  // namespace

LeadingEigen leading_symmetric_eigen(MatrixView<const double> a, int64_t count, double floor) {
  KOOPCORE_REQUIRE(a.rows == a.cols && count >= 1 && count <= a.rows && floor >= 0.0)
      << "leading_symmetric_eigen: a is (" << a.rows << ", " << a.cols << "), count " << count
      << ", floor " << floor;
  // A third of the spectrum or more is the library's: it gets all of it at the price of a few.
  if (a.rows > kMaxSize || count > detail::kMaxLanes || 3 * count > a.rows)
    return by_library(a, count, floor);
  const double largest = largest_magnitude(a);
  if (!(largest > 0.0) || !std::isfinite(largest)) return by_library(a, count, floor);
  int exponent = 0;
  std::frexp(largest, &exponent);
  exponent = std::clamp(exponent, -1000, 1000);

  detail::Tridiagonal t(a, std::ldexp(1.0, -exponent));
  LeadingEigen result;
  result.values = t.leading_values(count);
  while (!result.values.empty() && !(result.values.back() > floor * result.values.front()))
    result.values.pop_back();
  const int64_t found = static_cast<int64_t>(result.values.size());
  result.vectors = Matrix<double>(a.rows, found);
  if (found > 0 && !t.vectors(result.values, 32.0 * kEps, result.vectors.view()))
    return by_library(a, count, floor);
  for (double& value : result.values) value = std::ldexp(value, exponent);
  return result;
}

}  // namespace koopcore
