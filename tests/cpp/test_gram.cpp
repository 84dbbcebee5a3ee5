#include <doctest/doctest.h>

#include "allocations.hpp"
#include "support.hpp"

using namespace koopcore;
using support::plain_gram;
using support::random_matrix;

namespace {

// Rows above one block at 5 columns, so that blocks are summed and the last one is short.
constexpr int64_t kManyRows = 60000;

template <class T>
StridedView<const T> transposed_copy(const Matrix<T>& x, Matrix<T>& storage) {
  storage = Matrix<T>(x.cols(), x.rows());
  for (int64_t j = 0; j < x.cols(); ++j)
    for (int64_t i = 0; i < x.rows(); ++i) storage(j, i) = x(i, j);
  return {storage.view().data, x.rows(), x.cols(), x.cols(), 1};
}

}  // namespace

TEST_CASE_TEMPLATE("gram equals plain loops, column-major and row-major", T, float, double) {
  for (const int64_t rows : {int64_t{1}, int64_t{3}, int64_t{1000}, kManyRows}) {
    const Matrix<T> x = random_matrix<T>(rows, 5, 1);
    const Matrix<double> expected = plain_gram(x, x);
    const double tolerance = support::sum_tolerance(rows);
    CHECK(support::largest_difference(support::gram_of(x), expected) < tolerance);
    Matrix<T> storage;
    Matrix<double> g(5, 5);
    gram<T>(transposed_copy(x, storage), g.view());
    CHECK(support::largest_difference(g, expected) < tolerance);
  }
}

TEST_CASE_TEMPLATE("gram reads slices in place", T, float, double) {
  const Matrix<T> x = random_matrix<T>(40, 6, 2);
  Matrix<T> slice(20, 3);
  for (int64_t j = 0; j < 3; ++j)
    for (int64_t i = 0; i < 20; ++i) slice(i, j) = x(2 * i, 2 * j);
  Matrix<double> g(3, 3);
  gram<T>({x.view().data, 20, 3, 2, 80}, g.view());
  CHECK(support::largest_difference(g, plain_gram(slice, slice)) < 1e-12);
}

TEST_CASE_TEMPLATE("cross_gram equals plain loops", T, float, double) {
  const Matrix<T> x = random_matrix<T>(kManyRows, 4, 3), y = random_matrix<T>(kManyRows, 3, 4);
  Matrix<double> g(4, 3);
  cross_gram<T>(strided(x.view()), strided(y.view()), g.view());
  CHECK(support::largest_difference(g, plain_gram(x, y)) < 1e-9);
  Matrix<T> storage;
  cross_gram<T>(transposed_copy(x, storage), strided(y.view()), g.view());
  CHECK(support::largest_difference(g, plain_gram(x, y)) < 1e-9);
}

TEST_CASE("cross_gram with very many columns takes little more than its result") {
  const Matrix<double> x = random_matrix<double>(40, 3, 3), y = random_matrix<double>(40, 9001, 4);
  Matrix<double> g(3, 9001);
  const int64_t before = support::allocated_bytes();
  cross_gram<double>(strided(x.view()), strided(y.view()), g.view());
  CHECK(support::allocated_bytes() - before < int64_t{1} << 20);  // all pairs would be 648 MB
  CHECK(support::largest_difference(g, plain_gram(x, y)) < 1e-12);
}

TEST_CASE_TEMPLATE("products of listed columns, of those not known alone", T, float, double) {
  const Matrix<T> x = random_matrix<T>(500, 5, 5), reference = random_matrix<T>(500, 1, 6);
  std::vector<const T*> columns;
  for (const int64_t j : {3, 0, 4, 1}) columns.push_back(x.view().col(j));
  for (const bool with_reference : {false, true})
    for (const int64_t known : {0, 2, 4}) {
      const int64_t count = with_reference ? 5 : 4;
      Matrix<double> g(count, count);
      for (int64_t j = 0; j < count; ++j)
        for (int64_t i = 0; i < count; ++i) g(i, j) = -1.0;
      GramWorkspace work(500, count);
      gram_of_columns<T, T>(columns.data(), 4, with_reference ? reference.view().data : nullptr,
                            500, known, g.view(), work, 1);
      for (int64_t j = 0; j < count; ++j)
        for (int64_t i = 0; i < count; ++i) {
          double expected = -1.0;
          if (i <= j && j >= known) {
            const T* const a = i < 4 ? columns[static_cast<size_t>(i)] : reference.view().data;
            const T* const b = j < 4 ? columns[static_cast<size_t>(j)] : reference.view().data;
            expected = 0.0;
            for (int64_t k = 0; k < 500; ++k)
              expected += static_cast<double>(a[k]) * static_cast<double>(b[k]);
          }
          CHECK(g(i, j) == doctest::Approx(expected));
        }
    }
  Matrix<double> wrong(3, 3);
  GramWorkspace work(500, 4);
  CHECK_THROWS_AS(
      (gram_of_columns<T, T>(columns.data(), 4, nullptr, 500, 0, wrong.view(), work, 1)), Error);
}

TEST_CASE_TEMPLATE("combine equals plain loops, real and complex", T, float, double) {
  const Matrix<T> x = random_matrix<T>(kManyRows, 4, 6);
  const Matrix<double> re = random_matrix<double>(4, 2, 7), im = random_matrix<double>(4, 2, 8);
  Matrix<std::complex<double>> c(4, 2);
  for (int64_t j = 0; j < 2; ++j)
    for (int64_t i = 0; i < 4; ++i) c(i, j) = {re(i, j), im(i, j)};
  Matrix<T> real_out(kManyRows, 2);
  Matrix<std::complex<T>> complex_out(kManyRows, 2);
  combine<T>(strided(x.view()), re.view(), real_out.view());
  combine<T>(strided(x.view()), c.view(), complex_out.view());
  double worst = 0.0;
  for (int64_t j = 0; j < 2; ++j)
    for (int64_t i = 0; i < kManyRows; ++i) {
      std::complex<double> expected = 0.0;
      for (int64_t k = 0; k < 4; ++k) expected += static_cast<double>(x(i, k)) * c(k, j);
      worst = std::max(worst, std::abs(expected.real() - static_cast<double>(real_out(i, j))));
      worst = std::max(worst, std::abs(expected - std::complex<double>(complex_out(i, j))));
    }
  CHECK(worst < 20.0 * static_cast<double>(std::numeric_limits<T>::epsilon()));
}

TEST_CASE("a float32 Gram matrix keeps modes 1e-5 of the largest") {
  // Two directions, the second 1e-5 of the first: it sits at 1e-10 in the Gram matrix.
  Matrix<float> x(200000, 2);
  const Matrix<double> z = random_matrix<double>(200000, 2, 9);
  for (int64_t i = 0; i < x.rows(); ++i) {
    x(i, 0) = static_cast<float>(z(i, 0));
    x(i, 1) = static_cast<float>(z(i, 0) + 1e-5 * z(i, 1));
  }
  const Matrix<double> g = support::gram_of(x);
  const double distance_squared = g(0, 0) + g(1, 1) - 2.0 * g(0, 1);
  double exact = 0.0;
  for (int64_t i = 0; i < x.rows(); ++i) {
    const double d = static_cast<double>(x(i, 1)) - static_cast<double>(x(i, 0));
    exact += d * d;
  }
  CHECK(distance_squared == doctest::Approx(exact).epsilon(1e-4));
}

TEST_CASE("mismatched shapes are refused with both shapes") {
  Matrix<double> x(5, 2), y(4, 2), g(3, 3);
  CHECK_THROWS_WITH_AS(gram<double>(strided(x.view()), g.view()),
                       "gram: x has 2 columns, g is (3, 3)", Error);
  CHECK_THROWS_AS(cross_gram<double>(strided(x.view()), strided(y.view()), g.view()), Error);
  CHECK_THROWS_AS(combine<double>(strided(x.view()), std::as_const(g).view(), y.view()), Error);
}

TEST_CASE("no columns and no rows give empty or zero results") {
  Matrix<double> none(0, 2), g(2, 2);
  gram<double>(strided(none.view()), g.view());
  CHECK(g(0, 0) == 0.0);
  Matrix<double> no_columns(5, 0), empty(0, 0);
  CHECK_NOTHROW(gram<double>(strided(no_columns.view()), empty.view()));
}
