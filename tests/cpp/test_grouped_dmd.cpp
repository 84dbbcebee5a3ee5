#include <doctest/doctest.h>

#include "support.hpp"

using namespace koopcore;
using support::gram_of;
using support::random_matrix;

namespace {

// Blocks of decaying modes, each with its own rates, one below the other.
template <class T>
Matrix<T> stacked(int64_t groups, int64_t rows, int64_t cols) {
  Matrix<T> all(groups * rows, cols);
  for (int64_t g = 0; g < groups; ++g) {
    const double rate = 0.5 + 0.4 * static_cast<double>(g) / static_cast<double>(groups);
    const Matrix<T> one = support::decaying_modes<T>(rows, cols, {rate, -0.7 * rate});
    for (int64_t j = 0; j < cols; ++j)
      for (int64_t i = 0; i < rows; ++i) all(g * rows + i, j) = one(i, j);
  }
  return all;
}

template <class T>
Matrix<T> rows_of(const Matrix<T>& x, const Segment& segment) {
  Matrix<T> out(segment.rows(), x.cols());
  for (int64_t j = 0; j < x.cols(); ++j)
    for (int64_t i = 0; i < segment.rows(); ++i) out(i, j) = x(segment.start + i, j);
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("each group is the Dmd of its rows, on any number of threads", T, float,
                   double) {
  const Matrix<T> x = stacked<T>(9, 21, 16);
  DmdOptions options;
  options.max_rank = 2;
  const std::vector<Segment> segments = equal_segments(x.rows(), 40);
  CHECK(segments.back().rows() == 29);
  const std::vector<double> horizons = {0.0, 1.0, 4.5};
  const GroupedDmd one(strided(x.view()), segments, {}, options, 1);
  const GroupedDmd three(strided(x.view()), segments, {}, options, 3);
  const Matrix<double> coefficients = one.forecast(horizons);
  CHECK(support::largest_difference(coefficients, three.forecast(horizons)) == 0.0);
  Matrix<T> states(x.rows(), 3), again(x.rows(), 3);
  one.combine<T>(strided(x.view()), coefficients.view(), states.view());
  three.combine<T>(strided(x.view()), coefficients.view(), again.view());
  CHECK(support::largest_difference(states, again) == 0.0);
  for (int64_t g = 0; g < one.groups(); ++g) {
    const Segment& segment = segments[static_cast<size_t>(g)];
    const Matrix<T> own = rows_of(x, segment);
    const Dmd single(gram_of(own).view(), {}, options);
    CHECK(one.eigenvalues(g) == single.eigenvalues());
    CHECK(one.eigenvalues(g) == three.eigenvalues(g));
    const std::vector<double> expected = single.forecast(4.5);
    for (int64_t i = 0; i < segment.rows(); ++i) {
      double sum = 0.0;
      for (int64_t j = 0; j < x.cols(); ++j)
        sum += expected[static_cast<size_t>(j)] * static_cast<double>(own(i, j));
      CHECK(static_cast<double>(states(segment.start + i, 2)) ==
            doctest::Approx(sum).epsilon(1e-5));
    }
  }
}

TEST_CASE("rows in no segment stay; segments come in any order") {
  const Matrix<double> x = stacked<double>(2, 10, 8);
  const GroupedDmd grouped(strided(x.view()), {{12, 18}, {1, 9}}, {}, {}, 2);
  Matrix<double> states(20, 1);
  grouped.combine<double>(strided(x.view()), grouped.forecast({2.0}).view(), states.view());
  for (const int64_t row : {0, 9, 10, 11, 18, 19}) CHECK(states(row, 0) == x(row, 7));
  for (const int64_t row : {1, 8, 12, 17}) CHECK(states(row, 0) != x(row, 7));
}

TEST_CASE("bad segments and bad data are named") {
  Matrix<double> x = stacked<double>(4, 10, 8);
  const auto fit = [&](std::vector<Segment> segments, DmdOptions options = {}, int threads = 2) {
    return GroupedDmd(strided(std::as_const(x).view()), std::move(segments), {}, options, threads);
  };
  CHECK_THROWS_AS(fit({}), Error);
  CHECK_THROWS_WITH_AS(fit({{0, 5}, {7, 7}}), doctest::Contains("segments[1] is (7, 7)"), Error);
  CHECK_THROWS_WITH_AS(fit({{-1, 5}}), doctest::Contains("segments[0] is (-1, 5)"), Error);
  CHECK_THROWS_WITH_AS(fit({{0, 41}}), doctest::Contains("segments[0] is (0, 41)"), Error);
  CHECK_THROWS_WITH_AS(fit({{20, 30}, {0, 10}, {9, 21}}),
                       doctest::Contains("segments[1] and segments[2] both hold row 9"), Error);
  CHECK_THROWS_AS(equal_segments(10, 0), Error);
  CHECK_THROWS_AS(fit({{0, 10}}, {}, -1), Error);
  DmdOptions options;
  options.max_rank = 8;
  CHECK_THROWS_WITH_AS(fit({{0, 10}}, options), "rank=8 needs at least 9 snapshots, got 8", Error);
  x(15, 3) = x(33, 2) = std::numeric_limits<double>::quiet_NaN();
  for (const int threads : {1, 4})
    CHECK_THROWS_WITH_AS(fit(equal_segments(40, 10), {}, threads),
                         doctest::Contains("segment 1 (rows 10 to 20): "), Error);
  x(15, 3) = x(33, 2) = 0.0;
  const GroupedDmd grouped = fit({{0, 10}});
  CHECK_THROWS_AS(grouped.forecast({std::numeric_limits<double>::infinity()}), Error);
  Matrix<double> out(40, 1), wrong(8, 2);
  CHECK_THROWS_AS(grouped.combine<double>(strided(std::as_const(x).view()),
                                          std::as_const(wrong).view(), out.view()),
                  Error);
}

TEST_CASE("zero segments have rank 0 and stay zero") {
  Matrix<double> x = stacked<double>(2, 10, 8);
  for (int64_t j = 0; j < 8; ++j)
    for (int64_t i = 0; i < 10; ++i) x(i, j) = 0.0;
  const GroupedDmd grouped(strided(std::as_const(x).view()), equal_segments(20, 10), {}, {}, 2);
  CHECK(grouped.rank(0) == 0);
  CHECK(grouped.rank(1) == 2);
  Matrix<double> states(20, 1);
  grouped.combine<double>(strided(std::as_const(x).view()), grouped.forecast({3.0}).view(),
                          states.view());
  CHECK(states(3, 0) == 0.0);
}
