#include <doctest/doctest.h>

#include <array>

#include "koopcore/rng.hpp"
#include "support.hpp"

using namespace koopcore;
using support::random_matrix;

namespace {

constexpr int64_t kSums = SparseSignSketch::kSums;

template <class T>
Matrix<double> sketch_of(StridedView<const T> x, uint64_t seed, int64_t first_row = 0) {
  Matrix<double> out(kSums, x.cols);
  SparseSignSketch(seed, first_row).add<T>(x, out.view());
  return out;
}

template <class T>
Matrix<double> sketch_of(const Matrix<T>& x, uint64_t seed) {
  return sketch_of<T>(strided(x.view()), seed);
}

double square(const Matrix<double>& a) {
  double sum = 0.0;
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) sum += a(i, j) * a(i, j);
  return sum;
}

}  // namespace

TEST_CASE("philox gives the known answers of Random123") {
  using Four = std::array<uint32_t, 4>;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("seed and counter address philox in 64 bits each") {
  const uint64_t seed = 0x0123456789abcdef, counter = 0xfedcba9876543210;
  CHECK(philox(seed, counter) ==
        philox4x32({0x76543210, 0xfedcba98, 0, 0}, {0x89abcdef, 0x01234567}));
}

TEST_CASE_TEMPLATE("squared lengths are kept on average over seeds", T, float, double) {
  const int64_t n = 700, seeds = 400;
  const Matrix<T> x = random_matrix<T>(n, 1, 1);
  const double expected = support::plain_gram(x, x)(0, 0);
  double sum = 0.0;
  for (int64_t seed = 0; seed < seeds; ++seed)
    sum += square(sketch_of(x, static_cast<uint64_t>(seed)));
  // One sketch of 32 sums is off by a share of sqrt(2 / 32).
  const double deviation = std::sqrt(2.0 / static_cast<double>(kSums * seeds));
  CHECK(std::abs(sum / static_cast<double>(seeds) / expected - 1.0) < 4.0 * deviation);
}

TEST_CASE_TEMPLATE("the sketch is linear and adds to what is there", T, float, double) {
  const Matrix<T> x = random_matrix<T>(333, 2, 2);
  Matrix<T> combined(333, 1);
  for (int64_t i = 0; i < 333; ++i) combined(i, 0) = x(i, 0) + x(i, 0) - x(i, 1);
  const Matrix<double> parts = sketch_of(x, 3);
  Matrix<double> out(kSums, 1);
  for (int64_t i = 0; i < kSums; ++i) out(i, 0) = 1.0;
  SparseSignSketch(3).add<T>(strided(combined.view()), out.view());
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (int64_t i = 0; i < kSums; ++i)
    CHECK(std::abs(out(i, 0) - (1.0 + 2.0 * parts(i, 0) - parts(i, 1))) < 300.0 * eps);
}

TEST_CASE_TEMPLATE("row blocks add up to the whole, wherever they are cut", T, float, double) {
  const int64_t n = 2500;
  const Matrix<T> x = random_matrix<T>(n, 3, 4);
  const Matrix<double> whole = sketch_of(x, 5);
  for (const int64_t cut : {64, 1024, 1600}) {
    Matrix<double> sum(kSums, 3);
    SparseSignSketch(5).add<T>(strided(x.view().block(0, 0, cut, 3)), sum.view());
    SparseSignSketch(5, cut).add<T>(strided(x.view().block(cut, 0, n - cut, 3)), sum.view());
    CHECK(support::largest_difference(whole, sum) < support::sum_tolerance(n / kSums));
  }
}

TEST_CASE_TEMPLATE("any strides and any company of columns give the same bits", T, float, double) {
  const int64_t n = 1500;
  const Matrix<T> x = random_matrix<T>(n, 4, 6);
  std::vector<T> row_major(static_cast<size_t>(n * 4));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < 4; ++j) row_major[static_cast<size_t>(4 * i + j)] = x(i, j);
  const Matrix<double> whole = sketch_of(x, 7);
  const StridedView<const T> rows{row_major.data(), n, 4, 4, 1};
  CHECK(support::largest_difference(whole, sketch_of<T>(rows, 7)) == 0.0);
  const StridedView<const T> backward{x.view().col(3), n, 4, 1, -n};
  const Matrix<double> reversed = sketch_of<T>(backward, 7);
  for (int64_t i = 0; i < kSums; ++i) CHECK(reversed(i, 0) == whole(i, 3));
}

TEST_CASE("seeds and rows matter, signs are balanced") {
  const int64_t n = 64 * 100;
  Matrix<double> ones(n, 1);
  for (int64_t i = 0; i < n; ++i) ones(i, 0) = 1.0;
  const Matrix<double> a = sketch_of(ones, 0), b = sketch_of(ones, 1);
  CHECK(support::largest_difference(a, b) > 1.0);
  CHECK(support::largest_difference(a, sketch_of<double>(strided(ones.view()), 0, 64)) > 0.5);
  double sum = 0.0;
  for (int64_t i = 0; i < kSums; ++i) sum += a(i, 0);
  CHECK(std::abs(sum) < 4.0 * std::sqrt(static_cast<double>(n)));
}

TEST_CASE("bad shapes and offsets are refused with their values") {
  CHECK_THROWS_WITH_AS(SparseSignSketch(0, 32),
                       "first_row is 32; row blocks begin at multiples of 64", Error);
  CHECK_THROWS_AS(SparseSignSketch(0, -64), Error);
  const Matrix<double> x(10, 2);
  Matrix<double> out(kSums, 3);
  CHECK_THROWS_WITH_AS(SparseSignSketch(0).add<double>(strided(x.view()), out.view()),
                       "sketch: x has 2 columns, out is (32, 3); expected 32 rows", Error);
}
