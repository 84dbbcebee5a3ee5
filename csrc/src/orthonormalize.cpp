#include "koopcore/orthonormalize.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"
#include "koopcore/gram.hpp"
#include "gram_slices.hpp"

namespace koopcore {
namespace {

// The second pass repairs a first factor this far from orthonormal; beyond, Householder.
constexpr double kLargestDefect = 0.1;
// Rows per Householder block: about what stays in cache, and enough to make few blocks.
constexpr int64_t kLeafRows = 2048;

void keep_upper(MatrixView<double> r) {
  for (int64_t j = 0; j < r.cols; ++j) std::fill(r.col(j) + j + 1, r.col(j) + r.rows, 0.0);
}

// R of a = Q R, square. `a` is overwritten.
Matrix<double> upper_factor(MatrixView<double> a) {
  blas::householder_r(a);
  Matrix<double> r(a.cols, a.cols);
  for (int64_t j = 0; j < a.cols; ++j) std::copy_n(a.col(j), j + 1, r.view().col(j));
  return r;
}

// Columns scaled to length 1 before the Cholesky factor: snapshots that merely differ in size are
// no obstacle then.
bool scaled_cholesky(MatrixView<double> g) {
  std::vector<double> length(static_cast<size_t>(g.cols));
  for (int64_t j = 0; j < g.cols; ++j) {
    length[static_cast<size_t>(j)] = std::sqrt(g(j, j));
    if (!(length[static_cast<size_t>(j)] > 0.0)) return false;
  }
  for (int64_t j = 0; j < g.cols; ++j)
    for (int64_t i = 0; i < g.rows; ++i)
      g(i, j) /= length[static_cast<size_t>(i)] * length[static_cast<size_t>(j)];
  if (!blas::cholesky(g)) return false;
  keep_upper(g);
  for (int64_t j = 0; j < g.cols; ++j)
    for (int64_t i = 0; i <= j; ++i) g(i, j) *= length[static_cast<size_t>(j)];
  return true;
}

template <class T>
void load_rows(StridedView<const T> x, int64_t row, MatrixView<double> out) {
  for (int64_t j = 0; j < x.cols; ++j)
    for (int64_t i = 0; i < out.rows; ++i) out(i, j) = static_cast<double>(x(row + i, j));
}

// Panels of x R^-1.
template <class T>
struct Orthonormal {
  using Number = T;
  StridedView<const T> x;
  MatrixView<const double> r;

  bool list(detail::FewColumns<T>&) const { return false; }
  void fill(int64_t row, int64_t rows, double* panel) const {
    detail::fill_panel(detail::rows_of(x, row, rows), panel);
    blas::divide_by_upper({panel, rows, x.cols, detail::kPanelStride}, r);
  }
};

template <class T>
bool cholesky_qr2(StridedView<const T> x, MatrixView<double> r) {
  gram<T>(x, r);
  if (!scaled_cholesky(r)) return false;
  const int64_t k = x.cols;
  Matrix<double> second(k, k);
  GramWorkspace work(x.rows, k);
  detail::add_slices(Orthonormal<T>{x, r}, x.rows, {k, k, 0}, work, 0, second.view());
  double defect = 0.0;
  for (int64_t j = 0; j < k; ++j)
    for (int64_t i = 0; i <= j; ++i) {
      second(j, i) = second(i, j);
      defect = std::max(defect, std::abs(second(i, j) - (i == j ? 1.0 : 0.0)));
    }
  if (!(defect < kLargestDefect) || !blas::cholesky(second.view())) return false;
  keep_upper(second.view());
  Matrix<double> first(k, k);
  for (int64_t j = 0; j < k; ++j) std::copy_n(r.col(j), k, first.view().col(j));
  blas::gemm(blas::Op::kNone, blas::Op::kNone, 1.0, std::as_const(second).view(),
             std::as_const(first).view(), 0.0, r);
  return true;
}

// R of [upper; lower].
Matrix<double> merged(const Matrix<double>& upper, const Matrix<double>& lower) {
  const int64_t k = upper.cols();
  Matrix<double> stack(2 * k, k);
  for (int64_t j = 0; j < k; ++j) {
    std::copy_n(upper.view().col(j), k, stack.view().col(j));
    std::copy_n(lower.view().col(j), k, stack.view().col(j) + k);
  }
  return upper_factor(stack.view());
}

// Row blocks are factored one by one and merged in a binary tree: R is made anew as often as the
// tree is deep, not once per block, and its rounding stays that of a few factorisations.
template <class T>
Matrix<double> factor_of_rows(StridedView<const T> x) {
  const int64_t k = x.cols, rows_per_block = std::max(kLeafRows, k);
  std::vector<std::pair<int, Matrix<double>>> branches;  // height and R, the higher ones first
  for (int64_t row = 0; row < x.rows; row += rows_per_block) {
    const int64_t rows = std::min(rows_per_block, x.rows - row);
    Matrix<double> leaf(std::max(rows, k), k);  // zeros below fewer rows than columns
    load_rows(x, row, leaf.view().block(0, 0, rows, k));
    branches.emplace_back(0, upper_factor(leaf.view()));
    const bool last = row + rows == x.rows;
    while (branches.size() > 1 &&
           (last || branches.back().first == branches[branches.size() - 2].first)) {
      const Matrix<double> lower = std::move(branches.back().second);
      branches.pop_back();
      branches.back() = {branches.back().first + 1, merged(branches.back().second, lower)};
    }
  }
  return branches.empty() ? Matrix<double>(k, k) : std::move(branches[0].second);
}

// Slices of the rows on several threads, then merged pair by pair.
template <class T>
void householder_qr(StridedView<const T> x, MatrixView<double> r) {
  const GramWorkspace work(x.rows, x.cols);
  std::vector<Matrix<double>> parts(static_cast<size_t>(work.slices()));
  parallel_for(work.slices(), threads_for(0), [&](int64_t slice, int) {
    parts[static_cast<size_t>(slice)] =
        factor_of_rows(detail::rows_of(x, slice * work.slice_rows(), work.slice_rows()));
  });
  for (size_t step = 1; step < parts.size(); step *= 2)
    for (size_t i = 0; i + step < parts.size(); i += 2 * step)
      parts[i] = merged(parts[i], parts[i + step]);
  for (int64_t j = 0; j < x.cols; ++j) std::copy_n(parts[0].view().col(j), x.cols, r.col(j));
}

}  // namespace

template <class T>
QrRoute triangular_factor(StridedView<const T> x, MatrixView<double> r) {
  KOOPCORE_REQUIRE(r.rows == x.cols && r.cols == x.cols)
      << "triangular_factor: x has " << x.cols << " columns, r is (" << r.rows << ", " << r.cols
      << ")";
  if (cholesky_qr2(x, r)) return QrRoute::kCholesky;
  householder_qr(x, r);
  return QrRoute::kHouseholder;
}

template QrRoute triangular_factor<float>(StridedView<const float>, MatrixView<double>);
template QrRoute triangular_factor<double>(StridedView<const double>, MatrixView<double>);

}  // namespace koopcore
