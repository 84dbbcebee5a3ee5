#include <doctest/doctest.h>

#include <functional>

#include "support.hpp"

using namespace koopcore;
using support::random_matrix;

namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

// Q diag(values) Q^T with Q = I - 2 v v^T, v random of length 1.
Matrix<double> with_values(const std::vector<double>& values, unsigned seed) {
  const int64_t n = static_cast<int64_t>(values.size());
  const Matrix<double> v = random_matrix<double>(n, 1, seed);
  double square = 0.0;
  for (int64_t i = 0; i < n; ++i) square += v(i, 0) * v(i, 0);
  Matrix<double> q(n, n), scaled(n, n), out(n, n);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i) {
      q(i, j) = (i == j ? 1.0 : 0.0) - 2.0 * v(i, 0) * v(j, 0) / square;
      scaled(i, j) = q(i, j) * values[static_cast<size_t>(j)];
    }
  blas::gemm(blas::Op::kNone, blas::Op::kTranspose, 1.0, scaled.view(), q.view(), 0.0, out.view());
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < j; ++i) out(j, i) = out(i, j);
  return out;
}

// Values against dsyevd, residuals, orthonormality: all in units of the largest |eigenvalue|.
void check_against_library(const Matrix<double>& a, int64_t count) {
  const int64_t n = a.rows();
  Matrix<double> overwritten = a;
  const std::vector<double> ascending = blas::symmetric_eigen(overwritten.view());
  const double norm = std::max(std::abs(ascending.front()), std::abs(ascending.back()));
  const double tolerance = 40.0 * kEps * std::sqrt(static_cast<double>(n)) * norm;
  const LeadingEigen found = leading_symmetric_eigen(a.view(), count, 0.0);
  for (size_t k = 0; k < found.values.size(); ++k) {
    CHECK(std::abs(found.values[k] - ascending[static_cast<size_t>(n) - 1 - k]) <= tolerance);
    const int64_t column = static_cast<int64_t>(k);
    for (int64_t i = 0; i < n; ++i) {
      double residual = -found.values[k] * found.vectors(i, column);
      for (int64_t j = 0; j < n; ++j) residual += a(i, j) * found.vectors(j, column);
      CHECK(std::abs(residual) <= tolerance);
    }
    for (int64_t other = 0; other <= column; ++other) {
      double product = other == column ? -1.0 : 0.0;
      for (int64_t i = 0; i < n; ++i) product += found.vectors(i, other) * found.vectors(i, column);
      CHECK(std::abs(product) < 1e-13);
    }
  }
}

}  // namespace

TEST_CASE("leading pairs of Gram matrices of many sizes agree with the whole decomposition") {
  for (const int64_t n : {1, 2, 3, 7, 8, 9, 30, 63, 64, 99, 160, 161})
    for (const int64_t count : {int64_t{1}, int64_t{10}, int64_t{20}, n}) {
      if (count > n) continue;
      const Matrix<double> x = random_matrix<double>(2 * n, n, static_cast<unsigned>(n));
      check_against_library(support::plain_gram(x, x), count);
    }
}

TEST_CASE("graded, clustered, indefinite, diagonal and badly scaled matrices") {
  std::vector<double> graded, cluster(48, 0.25), pairs;
  for (int i = 0; i < 48; ++i) {
    graded.push_back(std::pow(0.2, i));
    pairs.push_back(std::pow(0.5, i / 2));
  }
  cluster[0] = cluster[1] = cluster[2] = 1.0;
  for (const auto& values : {graded, cluster, pairs})
    check_against_library(with_values(values, 5), 9);
  Matrix<double> indefinite = random_matrix<double>(50, 50, 3);
  for (int64_t j = 0; j < 50; ++j)
    for (int64_t i = 0; i < j; ++i) indefinite(j, i) = indefinite(i, j);
  check_against_library(indefinite, 12);
  Matrix<double> diagonal(40, 40);
  for (int64_t i = 0; i < 40; ++i) diagonal(i, i) = static_cast<double>(i % 5);
  check_against_library(diagonal, 9);
  for (const double scale : {1e-290, 1e290}) {
    Matrix<double> scaled = with_values(graded, 6);
    for (int64_t j = 0; j < 48; ++j)
      for (int64_t i = 0; i < 48; ++i) scaled(i, j) *= scale;
    check_against_library(scaled, 9);
  }
}

TEST_CASE("spectra that are hard to search agree with the whole decomposition") {
  const std::vector<std::function<double(int)>> spectra = {
      [](int i) { return std::pow(0.8, i); },
      [](int i) { return std::pow(0.5, i / 2) * (1.0 + 1e-8 * (i % 2)); },
      [](int i) { return std::pow(0.5, i / 2) * (1.0 + 1e-13 * (i % 2)); },
      [](int i) { return i == 0 ? 1.0 : 1e-8 * (1.0 - 0.01 * i); },  // noise below one mode
      [](int i) { return i < 7 ? std::pow(0.1, i) : 2e-8 * (1.0 + 1.0 / i); },
      [](int i) { return i < 5 ? 1.0 / (i + 1) : -1.0 / (i + 1); },
      [](int i) { return -0.1 - 0.01 * i; },
      [](int) { return 1.0; },
      [](int i) { return i < 3 ? 1.0 : 0.0; },
  };
  for (const auto& spectrum : spectra)
    for (const int n : {31, 63, 97}) {
      std::vector<double> values;
      for (int i = 0; i < n; ++i) values.push_back(spectrum(i));
      for (const int64_t count : {1, 8, 9, 10, 17, 32})
        if (3 * count <= n) check_against_library(with_values(values, 7), count);
    }
}

TEST_CASE("eigenvalues next to the smallest numbers there are") {
  Matrix<double> a = with_values({8.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01}, 3);
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) a(i, j) *= 1e-306;
  check_against_library(a, 4);
}

TEST_CASE("values at the floor are left out, all of them for a zero matrix") {
  std::vector<double> values(40, 0.0);
  values[0] = 4.0;
  values[1] = 1.0;
  values[2] = 1e-6;
  const Matrix<double> a = with_values(values, 2);
  CHECK(leading_symmetric_eigen(a.view(), 10, 1e-12).values.size() == 3);
  CHECK(leading_symmetric_eigen(a.view(), 10, 1e-5).values.size() == 2);
  CHECK(leading_symmetric_eigen(a.view(), 30, 1e-5).values.size() == 2);
  const Matrix<double> zero(40, 40);
  CHECK(leading_symmetric_eigen(zero.view(), 3, 0.0).values.empty());
  CHECK_THROWS_AS(leading_symmetric_eigen(a.view(), 41, 0.0), Error);
  CHECK_THROWS_AS(leading_symmetric_eigen(a.view(), 0, 0.0), Error);
}
