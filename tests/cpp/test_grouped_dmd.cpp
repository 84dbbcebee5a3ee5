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

// Modes of many sizes above noise; one group of denormal numbers, one of zeros, one of rank 1.
template <class T>
Matrix<T> mixed_groups(const std::vector<Segment>& segments, int64_t cols) {
  Matrix<T> x(segments.back().stop, cols);
  for (size_t g = 0; g < segments.size(); ++g) {
    const Segment& s = segments[g];
    const std::vector<double> rates =
        g == 3 ? std::vector<double>{0.9} : std::vector<double>{0.98, 0.9, -0.8, 0.5};
    const Matrix<T> signal = support::decaying_modes<T>(s.rows(), cols, rates);
    const Matrix<T> noise = random_matrix<T>(s.rows(), cols, static_cast<unsigned>(g));
    const double scale =
        g == 1 ? 4.0 * static_cast<double>(std::numeric_limits<T>::min()) : (g == 2 ? 0.0 : 1.0);
    for (int64_t j = 0; j < cols; ++j)
      for (int64_t i = 0; i < s.rows(); ++i) {
        const double value = signal(i, j) + (g == 3 ? 0.0 : 1e-3) * noise(i, j);
        x(s.start + i, j) = static_cast<T>(scale * value);
      }
  }
  return x;
}

TEST_CASE_TEMPLATE("a group's fit is the same to the bit in any company, order and thread", T,
                   float, double) {
  DmdOptions options;
  options.max_rank = 6;
  for (const int64_t groups : {1, 7, 8, 9}) {
    std::vector<Segment> segments;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t start = g == 0 ? 0 : segments.back().stop;
      segments.push_back({start, start + 40 + 31 * (g % 3)});
    }
    const Matrix<T> x = mixed_groups<T>(segments, 33);
    std::vector<Segment> backward(segments.rbegin(), segments.rend());
    const GroupedDmd one(strided(x.view()), segments, {}, options, 1);
    const GroupedDmd three(strided(x.view()), segments, {}, options, 3);
    const GroupedDmd reversed(strided(x.view()), backward, {}, options, 2);
    const Matrix<double> together = one.forecast({2.5}), again = reversed.forecast({2.5});
    CHECK(support::largest_difference(together, three.forecast({2.5})) == 0.0);
    for (int64_t g = 0; g < groups; ++g) {
      const GroupedDmd alone(strided(x.view()), {segments[static_cast<size_t>(g)]}, {}, options, 1);
      CHECK(one.eigenvalues(g) == alone.eigenvalues(0));
      CHECK(one.eigenvalues(g) == reversed.eigenvalues(groups - 1 - g));
      const Matrix<double> own = alone.forecast({2.5});
      for (int64_t i = 0; i < 33; ++i) {
        CHECK(together(i, g) == own(i, 0));
        CHECK(together(i, g) == again(i, groups - 1 - g));
      }
    }
    if (groups > 3) {
      CHECK(one.rank(2) == 0);
      CHECK(std::abs(one.eigenvalues(3)[0] - 0.9) < 1e-3);
    }
    CHECK(std::abs(one.eigenvalues(0)[0] - 0.98) < 2e-2);
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

TEST_CASE_TEMPLATE("Gram matrices of the segments give the same fits as the data", T, float,
                   double) {
  const Matrix<T> x = stacked<T>(9, 21, 16);
  DmdOptions options;
  options.max_rank = 2;
  const std::vector<Segment> segments = equal_segments(x.rows(), 40);
  std::vector<int64_t> rows;
  for (const Segment& segment : segments) rows.push_back(segment.rows());
  Matrix<double> grams(16, 16 * 5), again(16, 16 * 5);
  grouped_gram<T>(strided(x.view()), segments, grams.view(), 1);
  grouped_gram<T>(strided(x.view()), segments, again.view(), 3);
  CHECK(support::largest_difference(grams, again) == 0.0);
  for (int64_t g = 0; g < 5; ++g) {
    const Matrix<double> own = gram_of(rows_of(x, segments[static_cast<size_t>(g)]));
    for (int64_t j = 0; j < 16; ++j)
      for (int64_t i = 0; i < 16; ++i) CHECK(grams(i, 16 * g + j) == own(i, j));
  }
  const GroupedDmd of_data(strided(x.view()), segments, {}, options, 2);
  const GroupedDmd of_grams =
      GroupedDmd::from_grams(std::as_const(grams).view(), rows, {}, options, 2);
  CHECK(of_grams.snapshots() == 16);
  CHECK(of_grams.segments().back().stop == x.rows());
  for (int64_t g = 0; g < 5; ++g) CHECK(of_grams.eigenvalues(g) == of_data.eigenvalues(g));
  const std::vector<double> horizons = {1.0, 7.5};
  CHECK(support::largest_difference(of_grams.forecast(horizons), of_data.forecast(horizons)) ==
        0.0);
}

TEST_CASE_TEMPLATE("combinations follow each segment's coefficients, in any layout", T, float,
                   double) {
  const Matrix<T> x = random_matrix<T>(3000, 5, 1);
  std::vector<T> row_major(3000 * 5);
  for (int64_t i = 0; i < 3000; ++i)
    for (int64_t j = 0; j < 5; ++j) row_major[static_cast<size_t>(5 * i + j)] = x(i, j);
  const std::vector<Segment> segments = {{2500, 2999}, {0, 1}, {1, 2200}};
  Matrix<double> c = random_matrix<double>(5, 3, 2);
  for (int64_t j = 0; j < 5; ++j) c(j, 0) = j == 3 ? 1.0 : 0.0;
  std::vector<T> out(3000, T{7}), again(3000, T{7});
  grouped_combine<T>(strided(x.view()), segments, std::as_const(c).view(), out.data(), 1);
  const StridedView<const T> rows{row_major.data(), 3000, 5, 5, 1};
  grouped_combine<T>(rows, segments, std::as_const(c).view(), again.data(), 3);
  CHECK(out == again);
  for (const size_t row : {size_t{2200}, size_t{2499}, size_t{2999}}) CHECK(out[row] == T{7});
  for (int64_t row = 2500; row < 2999; ++row) CHECK(out[static_cast<size_t>(row)] == x(row, 3));
  for (const int64_t row : {0, 1, 1023, 1024, 1025, 1026, 2199}) {
    double sum = 0.0;
    for (int64_t j = 0; j < 5; ++j) sum += c(j, row == 0 ? 1 : 2) * static_cast<double>(x(row, j));
    CHECK(static_cast<double>(out[static_cast<size_t>(row)]) == doctest::Approx(sum).epsilon(1e-6));
  }
}

TEST_CASE("Gram matrices and combinations of the wrong shape are refused") {
  const Matrix<double> x = stacked<double>(2, 10, 8);
  Matrix<double> grams(8, 16), wrong(8, 15);
  std::vector<double> out(20);
  const std::vector<Segment> halves = equal_segments(20, 10);
  CHECK_THROWS_WITH_AS(grouped_gram<double>(strided(x.view()), halves, wrong.view()),
                       doctest::Contains("grams are (8, 15); 2 of (8, 8)"), Error);
  CHECK_THROWS_WITH_AS(grouped_gram<double>(strided(x.view()), {{0, 10}, {5, 20}}, grams.view()),
                       doctest::Contains("both hold row 5"), Error);
  CHECK_THROWS_AS(grouped_gram<double>(strided(x.view()), halves, grams.view(), -1), Error);
  CHECK_THROWS_WITH_AS(
      grouped_combine<double>(strided(x.view()), halves, std::as_const(wrong).view(), out.data()),
      doctest::Contains("coefficients are (8, 15); expected (8, 2)"), Error);
  const auto fit = [](const Matrix<double>& g, const std::vector<int64_t>& rows) {
    return GroupedDmd::from_grams(g.view(), rows, {}, {}, 1);
  };
  CHECK_THROWS_WITH_AS(fit(grams, {10}), doctest::Contains("grams are (8, 16); 1 of (8, 8)"),
                       Error);
  CHECK_THROWS_WITH_AS(fit(grams, {10, 0}), doctest::Contains("segments[1] is (10, 10)"), Error);
  CHECK_THROWS_AS(fit(Matrix<double>(8, 0), {}), Error);
  CHECK(fit(grams, {10, 10}).rank(1) == 0);
  grams(2, 10) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS(fit(grams, {10, 10}), doctest::Contains("segment 1 (rows 10 to 20): "),
                       Error);
}

TEST_CASE("without columns there is nothing to multiply") {
  const StridedView<const float> none{nullptr, 6, 0, 1, 6};
  Matrix<double> grams(0, 0), coefficients(0, 2);
  std::vector<float> out(6, 1.0F);
  grouped_gram<float>(none, equal_segments(6, 3), grams.view());
  grouped_combine<float>(none, equal_segments(6, 3), std::as_const(coefficients).view(),
                         out.data());
  CHECK(out == std::vector<float>(6, 0.0F));
}
