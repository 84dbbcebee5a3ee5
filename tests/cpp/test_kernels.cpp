// The core's own loops, on their own, against plain ones: once per instruction set, which
// tests/test_native.py demands by KOOPCORE_SIMD.

#include <doctest/doctest.h>

#include <type_traits>

#include "../../csrc/src/combine_kernel.hpp"
#include "../../csrc/src/gram_kernel.hpp"
#include "support.hpp"

using namespace koopcore;
using detail::kPanelStride;
using support::random_matrix;

namespace {

constexpr float kDenormal = 1e-41f;
static_assert(kDenormal < std::numeric_limits<float>::min());

double widened(double value) { return value; }
double widened(BFloat16 value) { return static_cast<double>(static_cast<float>(value)); }

template <class T>
T narrowed(double value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return BFloat16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}

// Numbers of all sizes that have one, in a buffer that begins `offset` numbers past an aligned one.
template <class T>
struct Buffer {
  Buffer(int64_t size, int64_t offset, unsigned seed)
      : values(static_cast<size_t>(size + offset)), data(values.data() + offset) {
    const Matrix<double> random = random_matrix<double>(size, 1, seed);
    for (int64_t i = 0; i < size; ++i)
      data[i] =
          narrowed<T>(i % 11 == 0 ? static_cast<double>(kDenormal) * random(i, 0) : random(i, 0));
  }
  std::vector<T> values;
  T* data;
};

}  // namespace

TEST_SUITE_BEGIN("kernels");

TEST_CASE("products of panels: every part of the triangle, any size") {
  for (const int64_t cols : {1, 3, 4, 7, 16, 33, 130})
    for (const int64_t rows : {8, 40, 256}) {
      const Matrix<double> x = random_matrix<double>(kPanelStride, cols, 1);
      const MatrixView<const double> panel = x.view().block(0, 0, rows, cols);
      for (const int64_t i_end : {int64_t{1}, cols / 2, cols})
        for (const int64_t j_begin : {int64_t{0}, cols / 3, cols - 1}) {
          Matrix<double> g(cols, cols);
          for (int64_t j = 0; j < cols; ++j)
            for (int64_t i = 0; i < cols; ++i) g(i, j) = 5.0;
          detail::add_products(panel, {cols, i_end, j_begin}, g.view());
          double worst = 0.0;
          for (int64_t j = 0; j < cols; ++j)
            for (int64_t i = 0; i < cols; ++i) {
              double expected = 5.0;
              if (i <= j && i < i_end && j >= j_begin)
                for (int64_t k = 0; k < rows; ++k) expected += x(k, i) * x(k, j);
              worst = std::max(worst, std::abs(g(i, j) - expected));
            }
          CHECK(worst < support::sum_tolerance(rows));
        }
    }
}

TEST_CASE_TEMPLATE("products of a few columns where they lie", T, float, double, BFloat16) {
  for (const int64_t cols : {1, 4, 5, 11, 16})
    for (const int64_t rows : {0, 8, 504, 1512}) {
      std::vector<Buffer<T>> buffers;
      std::vector<const T*> columns;
      for (int64_t j = 0; j < cols; ++j)
        buffers.emplace_back(rows + 5, j % 4, static_cast<unsigned>(20 + j));
      for (const Buffer<T>& buffer : buffers) columns.push_back(buffer.data);
      for (const int64_t j_begin : {int64_t{0}, cols / 2}) {
        Matrix<double> g(cols, cols);
        detail::add_products<T>(columns.data(), 5, rows, {cols, cols, j_begin}, g.view());
        double worst = 0.0;
        for (int64_t j = 0; j < cols; ++j)
          for (int64_t i = 0; i < cols; ++i) {
            double expected = 0.0;
            if (i <= j && j >= j_begin)
              for (int64_t k = 5; k < 5 + rows; ++k)
                expected += widened(columns[static_cast<size_t>(i)][k]) *
                            widened(columns[static_cast<size_t>(j)][k]);
            worst = std::max(worst, std::abs(g(i, j) - expected));
          }
        CHECK(worst <= support::sum_tolerance(rows));
      }
    }
}

TEST_CASE_TEMPLATE("panels: any order, length and alignment, denormals to the bit", T, float,
                   double, BFloat16) {
  for (const int64_t rows : {1, 7, 8, 31, 250})
    for (const int64_t cols : {1, 8, 13})
      for (const int64_t offset : {0, 1, 3}) {
        // With room behind: what comes next is asked for, not read.
        const Buffer<T> buffer(3 * (rows + 1) * (cols + 1), offset, 2);
        std::vector<StridedView<const T>> orders{{buffer.data, rows, cols, 1, rows + 1}};
        if constexpr (!std::is_same_v<T, BFloat16>) {
          orders.push_back({buffer.data, rows, cols, cols, 1});
          orders.push_back({buffer.data, rows, cols, cols + 1, 1});
          orders.push_back({buffer.data, rows, cols, 3, 3 * rows});
        }
        for (const StridedView<const T>& x : orders) {
          std::vector<double> panel(static_cast<size_t>(kPanelStride * cols), -1.0);
          detail::fill_panel(x, panel.data());
          const int64_t padded = (rows + 7) / 8 * 8;
          bool equal = true;
          for (int64_t j = 0; j < cols; ++j)
            for (int64_t i = 0; i < padded; ++i)
              equal = equal && panel[static_cast<size_t>(j * kPanelStride + i)] ==
                                   (i < rows ? widened(x(i, j)) : 0.0);
          CHECK(equal);
        }
      }
}

namespace {

template <class X, class T, class Sum>
void check_combine_rows(double tolerance) {
  for (const int64_t rows : {1, 15, 64, 129, 300, 700})
    for (const int64_t cols : {1, 5, 17})
      for (const int64_t results : {1, 2, 7}) {
        const int64_t ld = rows + 3;
        const Buffer<X> x(ld * cols, 1, 3);
        const Matrix<double> c = random_matrix<double>(cols, results, 4);
        std::vector<T> out(static_cast<size_t>(ld * results), T(-1));
        std::vector<Sum> scratch(static_cast<size_t>(detail::combine_scratch(cols, results)));
        detail::combine_rows<X, T, Sum>({x.data, rows, cols, ld}, c.view(),
                                        {out.data(), rows, results, ld}, scratch.data());
        double worst = 0.0;
        for (int64_t j = 0; j < results; ++j)
          for (int64_t i = 0; i < rows; ++i) {
            double expected = 0.0, size = 1e-300;
            for (int64_t k = 0; k < cols; ++k) {
              expected += widened(x.data[i + k * ld]) * c(k, j);
              size += std::abs(widened(x.data[i + k * ld]) * c(k, j));
            }
            const double found = static_cast<double>(out[static_cast<size_t>(i + j * ld)]);
            worst = std::max(worst, std::abs(found - expected) / std::max(size, 1e-37));
          }
        CHECK(worst < tolerance);
        CHECK(out[static_cast<size_t>(rows)] == T(-1));  // nothing behind a column is touched
      }
}

}  // namespace

TEST_CASE("combinations of rows, in all arithmetics") {
  check_combine_rows<float, float, float>(1e-6);
  check_combine_rows<float, float, double>(1e-7);
  check_combine_rows<double, float, double>(1e-7);
  check_combine_rows<double, double, double>(1e-15);
}

TEST_CASE("combinations may replace the columns they are made of") {
  const int64_t rows = 777, cols = 9, results = 8;
  Matrix<float> x = random_matrix<float>(rows, cols, 5);
  const Matrix<float> before = x;
  const Matrix<double> c = random_matrix<double>(cols, results, 6);
  std::vector<double> scratch(static_cast<size_t>(detail::combine_scratch(cols, results)));
  detail::combine_rows<float, float, double>(std::as_const(x).view(), c.view(),
                                             x.view().block(0, 1, rows, results), scratch.data());
  double worst = 0.0;
  for (int64_t j = 0; j < results; ++j)
    for (int64_t i = 0; i < rows; ++i) {
      double expected = 0.0;
      for (int64_t k = 0; k < cols; ++k) expected += static_cast<double>(before(i, k)) * c(k, j);
      worst = std::max(worst, std::abs(static_cast<double>(x(i, j + 1)) - expected));
    }
  CHECK(worst < 1e-5);
  CHECK(x(5, 0) == before(5, 0));
}

TEST_CASE_TEMPLATE("combinations of listed columns, with and without a base", Stored, float, double,
                   BFloat16) {
  using T = std::conditional_t<std::is_same_v<Stored, double>, double, float>;
  const double tolerance = std::is_same_v<T, double> ? 1e-15 : 1e-7;
  for (const int64_t rows : {1, 9, 32, 1000})
    for (const int64_t count : {0, 1, 16})
      for (const bool based : {false, true}) {
        std::vector<Buffer<Stored>> columns;
        std::vector<const Stored*> listed;
        std::vector<double> weights;
        for (int64_t k = 0; k < count; ++k) {
          columns.emplace_back(rows, k % 5, static_cast<unsigned>(10 + k));
          weights.push_back(k % 2 == 0 ? 0.5 : -1.25);
        }
        for (const Buffer<Stored>& column : columns) listed.push_back(column.data);
        const Buffer<T> base(rows, 1, 9);
        std::vector<T> out(static_cast<size_t>(rows + 1), T(-1));
        detail::combine_columns<T, Stored>(based ? base.data : nullptr, 2.0, listed.data(), count,
                                           weights.data(), rows, out.data());
        double worst = 0.0;
        for (int64_t i = 0; i < rows; ++i) {
          double expected = based ? 2.0 * static_cast<double>(base.data[i]) : 0.0, size = 1e-300;
          size += std::abs(expected);
          for (int64_t k = 0; k < count; ++k) {
            const double term =
                weights[static_cast<size_t>(k)] * widened(listed[static_cast<size_t>(k)][i]);
            expected += term;
            size += std::abs(term);
          }
          worst = std::max(worst,
                           std::abs(static_cast<double>(out[static_cast<size_t>(i)]) - expected) /
                               std::max(size, 1e-37));
        }
        CHECK(worst < tolerance);
        CHECK(out[static_cast<size_t>(rows)] == T(-1));
      }
}

TEST_CASE("bfloat16 rounds to the nearest, ties to even, and keeps what is not finite") {
  const auto back = [](float value) { return static_cast<float>(BFloat16(value)); };
  CHECK(back(1.0f) == 1.0f);
  CHECK(back(1.00390625f) == 1.0f);       // halfway between 1 and the next: even
  CHECK(back(1.01171875f) == 1.015625f);  // halfway between two: even
  CHECK(back(1.0039064f) == 1.0078125f);  // just above halfway
  CHECK(back(-2.5f) == -2.5f);
  CHECK(back(9.2e-41f) == doctest::Approx(9.18355e-41f));  // a denormal stays one
  CHECK(back(3.4e38f) == std::numeric_limits<float>::infinity());
  CHECK(back(-std::numeric_limits<float>::infinity()) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(back(std::numeric_limits<float>::quiet_NaN())));
}

TEST_SUITE_END();
