#include <doctest/doctest.h>

#include "support.hpp"

using namespace koopcore;
using support::random_matrix;

TEST_CASE("symmetric_eigen rebuilds its matrix") {
  const Matrix<double> x = random_matrix<double>(30, 8, 1);
  const Matrix<double> g = support::gram_of(x);
  Matrix<double> vectors = g;
  const std::vector<double> values = blas::symmetric_eigen(vectors.view());
  Matrix<double> rebuilt(8, 8);
  for (int64_t i = 0; i < 8; ++i)
    for (int64_t j = 0; j < 8; ++j)
      for (int64_t k = 0; k < 8; ++k)
        rebuilt(i, j) += vectors(i, k) * values[static_cast<size_t>(k)] * vectors(j, k);
  CHECK(support::largest_difference(g, rebuilt) < 1e-12);
}

TEST_CASE("general_eigen unpacks conjugate pairs") {
  Matrix<double> rotation(2, 2);
  rotation(0, 0) = rotation(1, 1) = 0.6;
  rotation(0, 1) = -0.8;
  rotation(1, 0) = 0.8;
  Matrix<double> overwritten = rotation;
  const blas::Eigen eigen = blas::general_eigen(overwritten.view());
  for (int64_t j = 0; j < 2; ++j)
    for (int64_t i = 0; i < 2; ++i) {
      const auto image =
          rotation(i, 0) * eigen.vectors(0, j) + rotation(i, 1) * eigen.vectors(1, j);
      CHECK(std::abs(image - eigen.values[static_cast<size_t>(j)] * eigen.vectors(i, j)) < 1e-14);
    }
  CHECK(std::abs(eigen.values[0].imag()) == doctest::Approx(0.8));
}

namespace {

using blas::Complex;

Matrix<Complex> random_complex(int64_t rows, int64_t cols) {
  const Matrix<double> re = random_matrix<double>(rows, cols, 1);
  const Matrix<double> im = random_matrix<double>(rows, cols, 2);
  Matrix<Complex> out(rows, cols);
  for (int64_t j = 0; j < cols; ++j)
    for (int64_t i = 0; i < rows; ++i) out(i, j) = {re(i, j), im(i, j)};
  return out;
}

template <class Scalar>
double svd_error(Matrix<Scalar> a) {
  const Matrix<Scalar> original = a;
  const blas::Svd<Scalar> s = blas::svd(a.view());
  double largest = 0.0;
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) {
      Scalar sum = 0.0;
      for (size_t k = 0; k < s.values.size(); ++k)
        sum +=
            s.left(i, static_cast<int64_t>(k)) * s.values[k] * s.right(static_cast<int64_t>(k), j);
      largest = std::max(largest, std::abs(sum - original(i, j)));
    }
  return largest;
}

}  // namespace

TEST_CASE("svd rebuilds tall, wide and empty matrices, real and complex") {
  CHECK(svd_error(random_matrix<double>(9, 4, 3)) < 1e-13);
  CHECK(svd_error(random_matrix<double>(3, 7, 3)) < 1e-13);
  CHECK(svd_error(random_complex(9, 4)) < 1e-13);
  CHECK(svd_error(random_complex(3, 7)) < 1e-13);
  Matrix<double> empty(4, 0);
  CHECK(blas::svd(empty.view()).values.empty());
}

TEST_CASE("complex eigenproblems and products") {
  const Matrix<Complex> a = random_complex(6, 6);
  Matrix<Complex> overwritten = a;
  const blas::Eigen eigen = blas::general_eigen(overwritten.view());
  Matrix<Complex> images(6, 6), hermitian(6, 6);
  blas::gemm(blas::Op::kNone, blas::Op::kNone, Complex(1.0), a.view(), eigen.vectors.view(),
             Complex(0.0), images.view());
  for (int64_t j = 0; j < 6; ++j)
    for (int64_t i = 0; i < 6; ++i)
      CHECK(std::abs(images(i, j) - eigen.values[static_cast<size_t>(j)] * eigen.vectors(i, j)) <
            1e-12);
  blas::gemm(blas::Op::kAdjoint, blas::Op::kNone, Complex(1.0), a.view(), a.view(), Complex(0.0),
             hermitian.view());
  Matrix<Complex> vectors = hermitian;
  const std::vector<double> values = blas::symmetric_eigen(vectors.view());
  const blas::Svd<Complex> s = [&] {
    Matrix<Complex> copy = a;
    return blas::svd(copy.view());
  }();
  for (size_t k = 0; k < 6; ++k)
    CHECK(values[5 - k] == doctest::Approx(s.values[k] * s.values[k]).epsilon(1e-12));
}

TEST_CASE("cholesky tells whether a matrix is positive definite") {
  Matrix<double> g = support::gram_of(random_matrix<double>(20, 5, 4));
  const Matrix<double> before = g;
  REQUIRE(blas::cholesky(g.view()));
  double diagonal = 0.0;
  for (int64_t k = 0; k < 3; ++k) diagonal += g(k, 2) * g(k, 2);
  CHECK(diagonal == doctest::Approx(before(2, 2)));
  Matrix<double> indefinite(2, 2);
  indefinite(0, 0) = 1.0;
  indefinite(1, 1) = -1.0;
  CHECK_FALSE(blas::cholesky(indefinite.view()));
}

TEST_CASE("least_squares gives the minimum-norm solution of a singular system") {
  Matrix<blas::Complex> a(2, 2), rhs(2, 1);
  a(0, 0) = a(0, 1) = a(1, 0) = a(1, 1) = 1.0;
  rhs(0, 0) = rhs(1, 0) = 2.0;
  blas::least_squares(a.view(), rhs.view(), 1e-12);
  CHECK(std::abs(rhs(0, 0) - 1.0) < 1e-12);
  CHECK(std::abs(rhs(1, 0) - 1.0) < 1e-12);
}

TEST_CASE("wrong shapes and thread counts are refused with their values") {
  Matrix<double> a(2, 3), b(2, 3), c(2, 3);
  CHECK_THROWS_WITH_AS(
      blas::gemm(blas::Op::kNone, blas::Op::kNone, 1.0, a.view(), b.view(), 0.0, c.view()),
      "gemm: shapes do not match: (2, 3) times (2, 3) into (2, 3)", Error);
  CHECK_THROWS_AS(blas::syrk_add(blas::Op::kNone, a.view(), c.view()), Error);
  CHECK_THROWS_AS(blas::householder_r(a.view()), Error);
  Matrix<blas::Complex> wide(2, 3), rhs(2, 1);
  CHECK_THROWS_AS(blas::least_squares(wide.view(), rhs.view(), 0.0), Error);
  CHECK_THROWS_WITH_AS(blas::set_num_threads(0), "n_threads must be at least 1, got 0", Error);
}

TEST_CASE("the number of threads can be set where the library allows it") {
  const int before = blas::num_threads();
  blas::set_num_threads(1);
  CHECK(blas::num_threads() == 1);
  blas::set_num_threads(before);
  CHECK(blas::num_threads() == before);
  CHECK(!blas::library_name().empty());
}
