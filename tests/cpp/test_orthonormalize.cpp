#include <doctest/doctest.h>

#include "support.hpp"

using namespace koopcore;
using support::random_matrix;

namespace {

// Largest entry of r^T r - x^T x, over the largest of x^T x; r must be upper triangular.
template <class T>
double factor_error(const Matrix<T>& x, QrRoute expected) {
  Matrix<double> r(x.cols(), x.cols());
  CHECK(triangular_factor<T>(strided(x.view()), r.view()) == expected);
  for (int64_t j = 0; j < r.cols(); ++j)
    for (int64_t i = j + 1; i < r.rows(); ++i) CHECK(r(i, j) == 0.0);
  const Matrix<double> exact = support::plain_gram(x, x), found = support::plain_gram(r, r);
  double largest = 1e-300;
  for (int64_t j = 0; j < x.cols(); ++j) largest = std::max(largest, exact(j, j));
  return support::largest_difference(exact, found) / largest;
}

std::vector<double> singular_values(const Matrix<double>& x) {
  Matrix<double> r(x.cols(), x.cols());
  triangular_factor<double>(strided(x.view()), r.view());
  return blas::svd(r.view()).values;
}

}  // namespace

TEST_CASE_TEMPLATE("well-conditioned matrices take the Cholesky route", T, float, double) {
  CHECK(factor_error(random_matrix<T>(1000, 7, 1), QrRoute::kCholesky) < 1e-14);
  CHECK(factor_error(random_matrix<T>(7, 7, 1), QrRoute::kCholesky) < 1e-14);
  CHECK(factor_error(random_matrix<T>(300000, 3, 1), QrRoute::kCholesky) < 1e-12);
}

TEST_CASE("columns that differ in size alone are no obstacle") {
  Matrix<double> x = random_matrix<double>(500, 3, 2);
  for (int64_t i = 0; i < 500; ++i) x(i, 1) *= 1e-12;
  Matrix<double> r(3, 3);
  CHECK(triangular_factor<double>(strided(x.view()), r.view()) == QrRoute::kCholesky);
  double square = 0.0;
  for (int64_t i = 0; i < 500; ++i) square += x(i, 1) * x(i, 1);
  CHECK((r(0, 1) * r(0, 1) + r(1, 1) * r(1, 1)) == doctest::Approx(square).epsilon(1e-12));
}

TEST_CASE("rank-deficient, wide and empty matrices take the Householder route") {
  Matrix<double> twice = random_matrix<double>(400, 4, 3);
  for (int64_t i = 0; i < 400; ++i) twice(i, 3) = twice(i, 0);
  CHECK(factor_error(twice, QrRoute::kHouseholder) < 1e-14);
  CHECK(factor_error(random_matrix<double>(3, 5, 3), QrRoute::kHouseholder) < 1e-14);
  CHECK(factor_error(Matrix<double>(10, 4), QrRoute::kHouseholder) == 0.0);
  CHECK(factor_error(Matrix<double>(0, 4), QrRoute::kHouseholder) == 0.0);
}

TEST_CASE("singular values come out that the square of the matrix has lost") {
  // Orthonormal directions with sizes 1, 1e-6, 1e-12, mixed by a rotation of the columns.
  const int64_t n = 4096;
  Matrix<double> x(n, 3), mixed(n, 3);
  for (int64_t i = 0; i < n; ++i) {
    x(i, 0) = 1.0 / 64.0;
    x(i, 1) = (i % 2 == 0 ? 1.0 : -1.0) / 64.0 * 1e-6;
    x(i, 2) = (i % 4 < 2 ? 1.0 : -1.0) / 64.0 * 1e-12;
    const double s = 1.0 / std::sqrt(3.0), t = 1.0 / std::sqrt(2.0), u = 1.0 / std::sqrt(6.0);
    mixed(i, 0) = s * x(i, 0) + t * x(i, 1) + u * x(i, 2);
    mixed(i, 1) = s * x(i, 0) - t * x(i, 1) + u * x(i, 2);
    mixed(i, 2) = s * x(i, 0) - 2.0 * u * x(i, 2);
  }
  const std::vector<double> sigma = singular_values(mixed);
  CHECK(sigma[0] == doctest::Approx(1.0).epsilon(1e-10));
  CHECK(sigma[1] == doctest::Approx(1e-6).epsilon(1e-8));
  CHECK(sigma[2] == doctest::Approx(1e-12).epsilon(1e-2));
}

TEST_CASE("a wrong shape of the result is refused") {
  const Matrix<double> x(5, 3);
  Matrix<double> r(2, 3);
  CHECK_THROWS_WITH_AS(triangular_factor<double>(strided(x.view()), r.view()),
                       "triangular_factor: x has 3 columns, r is (2, 3)", Error);
}
