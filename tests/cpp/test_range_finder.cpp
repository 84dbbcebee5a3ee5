#include <doctest/doctest.h>

#include "support.hpp"

using namespace koopcore;
using support::random_matrix;

namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

Matrix<double> times(MatrixView<const double> a, MatrixView<const double> b) {
  Matrix<double> out(a.rows, b.cols);
  blas::gemm(blas::Op::kNone, blas::Op::kNone, 1.0, a, b, 0.0, out.view());
  return out;
}

// Columns of `a`, then those of `b`.
Matrix<double> beside(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> out(a.rows(), a.cols() + b.cols());
  std::copy_n(a.view().data, a.rows() * a.cols(), out.view().data);
  std::copy_n(b.view().data, b.rows() * b.cols(), out.view().data + a.rows() * a.cols());
  return out;
}

Matrix<double> orthonormal(int64_t rows, int64_t cols, unsigned seed) {
  Matrix<double> a = random_matrix<double>(rows, cols, seed);
  return blas::svd(a.view()).left;
}

struct Found {
  RangeFinder finder;
  Matrix<double> q, again;
  double deviation = 0.0;  // of q^T q from the identity
};

// Everything about T = [U, B], with the lengths of B's columns.
Found find(const Matrix<double>& t, int64_t basis, double tolerance) {
  const int64_t block = t.cols() - basis;
  const Matrix<double> gram = support::gram_of(t);
  std::vector<double> lengths;
  for (int64_t j = basis; j < t.cols(); ++j) lengths.push_back(std::sqrt(gram(j, j)));
  Found out{RangeFinder(basis + 1, block + 1), {}, {}};
  out.finder.find(gram.view(), basis, lengths.data(), tolerance);
  out.q = times(t.view(), out.finder.directions());
  out.again = times(out.q.view(), out.finder.coordinates());
  const Matrix<double> inner = support::gram_of(out.q);
  for (int64_t j = 0; j < inner.cols(); ++j)
    for (int64_t i = 0; i < inner.rows(); ++i)
      out.deviation = std::max(out.deviation, std::abs(inner(i, j) - (i == j ? 1.0 : 0.0)));
  return out;
}

}  // namespace

TEST_CASE("directions are orthonormal and give the columns back") {
  for (const int64_t basis : {0, 1, 5})
    for (const int64_t block : {1, 4, 9}) {
      const Matrix<double> t =
          beside(orthonormal(200, basis, 1), random_matrix<double>(200, block, 2));
      const Found f = find(t, basis, 1e-7);
      CHECK(f.finder.columns() == basis + block);
      CHECK(f.finder.spanned() == basis);
      CHECK(f.finder.added() == block);
      CHECK(f.finder.independent());
      CHECK(f.deviation < 100.0 * kEps);
      CHECK(support::largest_difference(f.again, t) < 100.0 * kEps);
    }
}

TEST_CASE("with an independent basis the leading blocks are triangular inverses") {
  Matrix<double> u = orthonormal(100, 4, 3);
  for (int64_t i = 0; i < 100; ++i) u(i, 2) += 1e-3 * u(i, 0);  // not quite orthonormal
  const Found f = find(beside(u, random_matrix<double>(100, 3, 4)), 4, 1e-7);
  REQUIRE(f.finder.independent());
  const Matrix<double> product =
      times(f.finder.directions().block(0, 0, 4, 4), f.finder.coordinates().block(0, 0, 4, 4));
  for (int64_t j = 0; j < 4; ++j)
    for (int64_t i = 0; i < 4; ++i) {
      CHECK(std::abs(product(i, j) - (i == j ? 1.0 : 0.0)) < 10.0 * kEps);
      if (i > j) CHECK(f.finder.coordinates()(i, j) == 0.0);
    }
  CHECK(f.deviation < 100.0 * kEps);
}

TEST_CASE("a block of lower rank adds its rank, sizes far apart included") {
  const Matrix<double> u = orthonormal(150, 3, 5);
  Matrix<double> b =
      times(random_matrix<double>(150, 2, 6).view(), random_matrix<double>(2, 6, 7).view());
  for (int64_t i = 0; i < 150; ++i) {
    b(i, 1) *= 1e-60;  // what is new is judged by shares, not by sizes
    b(i, 4) *= 1e40;
  }
  const Found f = find(beside(u, b), 3, 1e-7);
  CHECK(f.finder.added() == 2);
  CHECK(f.deviation < 1e-12);
  for (int64_t j = 0; j < 6; ++j) {
    double error = 0.0, size = 0.0;
    for (int64_t i = 0; i < 150; ++i) {
      error = std::max(error, std::abs(f.again(i, 3 + j) - b(i, j)));
      size = std::max(size, std::abs(b(i, j)));
    }
    CHECK(error < 1e-7 * size);
  }
}

TEST_CASE("zero columns and columns within the basis add nothing") {
  const Matrix<double> u = orthonormal(80, 4, 8);
  const Matrix<double> within = times(u.view(), random_matrix<double>(4, 3, 9).view());
  CHECK(find(beside(u, within), 4, 1e-7).finder.added() == 0);
  const Found zero = find(beside(u, Matrix<double>(80, 3)), 4, 1e-7);
  CHECK(zero.finder.added() == 0);
  CHECK(support::largest_difference(zero.again, beside(u, Matrix<double>(80, 3))) < 1e-14);
  CHECK(find(Matrix<double>(80, 2), 0, 1e-7).finder.total() == 0);
}

TEST_CASE("what is new counts from the tolerance on") {
  const Matrix<double> u = orthonormal(100, 3, 10);
  Matrix<double> b(100, 1);
  for (const double share : {1e-3, 1e-5}) {
    for (int64_t i = 0; i < 100; ++i) b(i, 0) = u(i, 0) + share * u(i, 2);
    const Matrix<double> t = beside(beside(u, Matrix<double>(100, 0)), b);
    Matrix<double> two(100, 3);
    std::copy_n(t.view().col(0), 200, two.view().data);
    std::copy_n(t.view().col(3), 100, two.view().col(2));
    CHECK(find(two, 2, 1e-4).finder.added() == (share > 1e-4 ? 1 : 0));
  }
}

TEST_CASE("basis columns that are not independent, or have shrunk, are dropped") {
  const Matrix<double> u = orthonormal(120, 5, 11), block = random_matrix<double>(120, 2, 12);
  SUBCASE("shrunk") {
    Matrix<double> spoiled = u;
    for (int64_t i = 0; i < 120; ++i) spoiled(i, 3) *= 0.1;
    const Found f = find(beside(spoiled, block), 5, 1e-7);
    CHECK(f.finder.spanned() == 4);
    CHECK(!f.finder.independent());
    CHECK(f.deviation < 1e-13);
  }
  SUBCASE("twice the same") {
    Matrix<double> spoiled = u;
    std::copy_n(u.view().col(1), 120, spoiled.view().col(4));
    const Found f = find(beside(spoiled, block), 5, 1e-7);
    CHECK(f.finder.spanned() == 4);
    CHECK(f.finder.added() == 2);
    CHECK(f.deviation < 1e-13);
    CHECK(support::largest_difference(f.again, beside(spoiled, block)) < 1e-13);
  }
  SUBCASE("all zero") {
    const Found f = find(beside(Matrix<double>(120, 3), block), 3, 1e-7);
    CHECK(f.finder.spanned() == 0);
    CHECK(f.finder.added() == 2);
    CHECK(f.deviation < 1e-13);
  }
}

TEST_CASE("rounding of the inner products passes no direction but its own") {
  // Float32 columns inside the basis: their rounding is 1e-7 of them, below the tolerance.
  const Matrix<double> u = orthonormal(3000, 6, 13);
  Matrix<double> b = times(u.view(), random_matrix<double>(6, 8, 14).view());
  for (int64_t j = 0; j < 8; ++j)
    for (int64_t i = 0; i < 3000; ++i) b(i, j) = static_cast<double>(static_cast<float>(b(i, j)));
  CHECK(find(beside(u, b), 6, 1e-6).finder.added() == 0);
}

TEST_CASE("sizes beyond those it was made for are refused with their values") {
  RangeFinder finder(2, 3);
  const std::vector<double> lengths(4, 1.0);
  const Matrix<double> gram(6, 6), narrow(6, 5), four(4, 4);
  CHECK_THROWS_WITH_AS(finder.find(gram.view(), 2, lengths.data(), 1e-7),
                       "range finder: gram is (6, 6) with a basis of 2; made for 2 and blocks of 3",
                       Error);
  CHECK_THROWS_AS(finder.find(narrow.view(), 2, lengths.data(), 1e-7), Error);
  CHECK_THROWS_AS(finder.find(four.view(), 0, lengths.data(), 1e-7), Error);
  CHECK_THROWS_AS(finder.find(four.view(), 5, lengths.data(), 1e-7), Error);
}
