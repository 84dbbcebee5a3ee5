#include "koopcore/gram.hpp"

#include <algorithm>
#include <type_traits>

#include "combine_kernel.hpp"
#include "gram_slices.hpp"
#include "koopcore/error.hpp"
#include "simd.hpp"

namespace koopcore {
namespace {

using detail::add_panels;
using detail::add_slices;
using detail::kPanelPadding;
using detail::kPanelStride;
using detail::rows_of;

void mirror_upper(MatrixView<double> g) {
  for (int64_t j = 0; j < g.cols; ++j)
    for (int64_t i = 0; i < j; ++i) g(j, i) = g(i, j);
}

template <class T>
struct OneMatrix {
  using Number = T;
  StridedView<const T> x;

  bool list(detail::FewColumns<T>& few) const {
    for (int64_t j = 0; j < x.cols; ++j) few.at[j] = x.data + j * x.col_stride;
    return x.row_stride == 1;
  }
  void fill(int64_t row, int64_t rows, double* panel) const {
    detail::fill_panel(rows_of(x, row, rows), panel);
  }
};

template <class T>
struct TwoMatrices {
  using Number = T;
  StridedView<const T> x, y;

  bool list(detail::FewColumns<T>& few) const {
    for (int64_t j = 0; j < x.cols; ++j) few.at[j] = x.data + j * x.col_stride;
    for (int64_t j = 0; j < y.cols; ++j) few.at[x.cols + j] = y.data + j * y.col_stride;
    return x.row_stride == 1 && y.row_stride == 1;
  }
  void fill(int64_t row, int64_t rows, double* panel) const {
    detail::fill_panel(rows_of(x, row, rows), panel);
    detail::fill_panel(rows_of(y, row, rows), panel + x.cols * kPanelStride);
  }
};

// Columns wherever they lie, and behind them a reference.
template <class T, class Stored>
struct ColumnList {
  using Number = Stored;
  const Stored* const* columns;
  int64_t count;
  const T* reference;

  bool list(detail::FewColumns<Stored>& few) const {
    std::copy_n(columns, count, few.at);
    if (reference == nullptr) return true;
    if constexpr (std::is_same_v<T, Stored>) few.at[count] = reference;
    return std::is_same_v<T, Stored>;
  }
  void fill(int64_t row, int64_t rows, double* panel) const {
    for (int64_t j = 0; j < count; ++j)
      detail::fill_panel(StridedView<const Stored>{columns[j] + row, rows, 1, 1, rows},
                         panel + j * kPanelStride);
    if (reference != nullptr)
      detail::fill_panel(StridedView<const T>{reference + row, rows, 1, 1, rows},
                         panel + count * kPanelStride);
  }
};

// Rows that one thread takes at a time where every row is on its own.
constexpr int64_t kTaskRows = 16384;

// work(first row, rows, scratch of the thread)
template <class Scratch, class Work>
void for_row_tasks(int64_t rows, int n_threads, const Work& work) {
  const int64_t tasks = (rows + kTaskRows - 1) / kTaskRows;
  const int threads = threads_for(n_threads);
  std::vector<Scratch> scratch(static_cast<size_t>(threads));
  parallel_for(tasks, threads, [&](int64_t task, int worker) {
    const int64_t first = task * kTaskRows;
    work(first, std::min(kTaskRows, rows - first), scratch[static_cast<size_t>(worker)]);
  });
}

// A real product for complex coefficients: even columns real parts, odd columns imaginary ones.
Matrix<double> interleaved(MatrixView<const std::complex<double>> c) {
  Matrix<double> parts(c.rows, 2 * c.cols);
  for (int64_t j = 0; j < c.cols; ++j)
    for (int64_t i = 0; i < c.rows; ++i) {
      parts(i, 2 * j) = c(i, j).real();
      parts(i, 2 * j + 1) = c(i, j).imag();
    }
  return parts;
}

void check_combine(int64_t x_rows, int64_t x_cols, int64_t c_rows, int64_t c_cols, int64_t out_rows,
                   int64_t out_cols) {
  KOOPCORE_REQUIRE(x_cols == c_rows && out_rows == x_rows && out_cols == c_cols)
      << "combine: x is (" << x_rows << ", " << x_cols << "), coefficients (" << c_rows << ", "
      << c_cols << "), out (" << out_rows << ", " << out_cols << ")";
}

}  // namespace

BlockScratch::BlockScratch(int64_t max_cols)
    : values_(static_cast<size_t>(kPanelStride * std::max<int64_t>(max_cols, 0)) + simd::kLine) {}

double* BlockScratch::data() { return simd::from_line(values_.data()); }

// Slices are long enough that their matrices are a small part of the data, and that a thread that
// wakes for one has something to do.
GramWorkspace::GramWorkspace(int64_t rows, int64_t max_cols) : max_cols_(max_cols) {
  constexpr int64_t kMost = 64, kLeastNumbers = int64_t{1} << 17;
  const int64_t cols = std::max<int64_t>(max_cols, 1);
  const int64_t least = std::max({int64_t{4096}, kLeastNumbers / cols, 32 * cols});
  slices_ = std::clamp<int64_t>(rows / least, 1, kMost);
  slice_rows_ = (rows + slices_ - 1) / slices_;
  if (slices_ > 1) partials_.resize(static_cast<size_t>(slices_ * max_cols * max_cols));
  prepare(std::min(num_threads(), static_cast<int>(slices_)));
}

MatrixView<double> GramWorkspace::partial(int64_t slice, int64_t cols) {
  return {partials_.data() + slice * max_cols_ * max_cols_, cols, cols, std::max<int64_t>(cols, 1)};
}

void GramWorkspace::prepare(int n_threads) {
  while (static_cast<int>(scratch_.size()) < n_threads) scratch_.emplace_back(max_cols_);
}

template <class T>
void gram(StridedView<const T> x, MatrixView<double> g, int n_threads) {
  KOOPCORE_REQUIRE(g.rows == x.cols && g.cols == x.cols)
      << "gram: x has " << x.cols << " columns, g is (" << g.rows << ", " << g.cols << ")";
  GramWorkspace work(x.rows, x.cols);
  add_slices(OneMatrix<T>{x}, x.rows, {x.cols, x.cols, 0}, work, n_threads, g);
  mirror_upper(g);
}

template <class T>
void gram(StridedView<const T> x, MatrixView<double> g, BlockScratch& scratch) {
  KOOPCORE_REQUIRE(g.rows == x.cols && g.cols == x.cols)
      << "gram: x has " << x.cols << " columns, g is (" << g.rows << ", " << g.cols << ")";
  detail::fill(g, 0.0);
  add_panels(OneMatrix<T>{x}, 0, x.rows, {x.cols, x.cols, 0}, scratch.data(), g);
  mirror_upper(g);
}

template <class T>
void cross_gram(StridedView<const T> x, StridedView<const T> y, MatrixView<double> g,
                int n_threads) {
  KOOPCORE_REQUIRE(x.rows == y.rows && g.rows == x.cols && g.cols == y.cols)
      << "cross_gram: x is (" << x.rows << ", " << x.cols << "), y (" << y.rows << ", " << y.cols
      << "), g (" << g.rows << ", " << g.cols << ")";
  // As many columns of y at a time as x has, or a few: what lies beside the products stays small.
  const int64_t most = std::min(y.cols, std::max(x.cols, detail::kFewColumns));
  GramWorkspace work(x.rows, x.cols + most);
  Matrix<double> both(x.cols + most, x.cols + most);
  for (int64_t first = 0; first < y.cols; first += most) {
    const StridedView<const T> some{y.data + first * y.col_stride, y.rows,
                                    std::min(most, y.cols - first), y.row_stride, y.col_stride};
    const int64_t cols = x.cols + some.cols;
    add_slices(TwoMatrices<T>{x, some}, x.rows, {cols, x.cols, x.cols}, work, n_threads,
               both.view());
    for (int64_t j = 0; j < some.cols; ++j)
      std::copy_n(both.view().col(x.cols + j), x.cols, g.col(first + j));
  }
}

template <class T, class Stored>
void gram_of_columns(const Stored* const* columns, int64_t count, const T* reference, int64_t rows,
                     int64_t known, MatrixView<double> g, GramWorkspace& work, int n_threads) {
  const int64_t cols = count + (reference == nullptr ? 0 : 1);
  KOOPCORE_REQUIRE(g.rows == cols && g.cols == cols && 0 <= known && known <= cols)
      << "gram_of_columns: g is (" << g.rows << ", " << g.cols << "), " << known << " of " << cols
      << " columns are known";
  add_slices(ColumnList<T, Stored>{columns, count, reference}, rows, {cols, cols, known}, work,
             n_threads, g);
}

template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out,
             std::vector<double>& scratch) {
  check_combine(x.rows, x.cols, c.rows, c.cols, out.rows, out.cols);
  const bool in_columns = x.row_stride == 1;
  const int64_t panel = in_columns ? 0 : x.cols * kPanelStride;
  const auto needed = static_cast<size_t>(panel + detail::combine_scratch(c.rows, c.cols));
  if (scratch.size() < needed + simd::kLine) scratch.resize(needed + simd::kLine);
  double* const widened = simd::from_line(scratch.data());
  double* const sums = widened + panel;
  if (in_columns)
    return detail::combine_rows<T, T, double>({x.data, x.rows, x.cols, x.col_stride}, c, out, sums);
  const int64_t most = detail::panel_rows(x.rows, x.cols);
  for (int64_t row = 0; row < x.rows; row += most) {
    const StridedView<const T> piece = rows_of(x, row, most);
    detail::fill_panel(piece, widened);
    detail::combine_rows<double, T, double>({widened, piece.rows, x.cols, kPanelStride}, c,
                                            out.block(row, 0, piece.rows, c.cols), sums);
  }
}

template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out, int n_threads) {
  check_combine(x.rows, x.cols, c.rows, c.cols, out.rows, out.cols);
  for_row_tasks<std::vector<double>>(
      x.rows, n_threads, [&](int64_t first, int64_t rows, std::vector<double>& scratch) {
        combine<T>(rows_of(x, first, rows), c, out.block(first, 0, rows, c.cols), scratch);
      });
}

template <class T>
void combine(StridedView<const T> x, MatrixView<const std::complex<double>> c,
             MatrixView<std::complex<T>> out, int n_threads) {
  check_combine(x.rows, x.cols, c.rows, c.cols, out.rows, out.cols);
  const Matrix<double> parts = interleaved(c);
  struct Scratch {
    std::vector<double> numbers;
    Matrix<T> parts;
  };
  constexpr int64_t kRows = kPanelStride - kPanelPadding;
  for_row_tasks<Scratch>(x.rows, n_threads, [&](int64_t first, int64_t rows, Scratch& own) {
    if (own.parts.rows() == 0) own.parts = Matrix<T>(kRows, parts.cols());
    for (int64_t row = first; row < first + rows; row += kRows) {
      const StridedView<const T> piece = rows_of(x, row, std::min(kRows, first + rows - row));
      const MatrixView<T> product = own.parts.view().block(0, 0, piece.rows, parts.cols());
      combine<T>(piece, parts.view(), product, own.numbers);
      for (int64_t j = 0; j < out.cols; ++j)
        for (int64_t i = 0; i < piece.rows; ++i)
          out(row + i, j) = {product(i, 2 * j), product(i, 2 * j + 1)};
    }
  });
}

#define KOOPCORE_INSTANTIATE(T)                                                                 \
  template void gram<T>(StridedView<const T>, MatrixView<double>, int);                         \
  template void gram<T>(StridedView<const T>, MatrixView<double>, BlockScratch&);               \
  template void cross_gram<T>(StridedView<const T>, StridedView<const T>, MatrixView<double>,   \
                              int);                                                             \
  template void combine<T>(StridedView<const T>, MatrixView<const double>, MatrixView<T>, int); \
  template void combine<T>(StridedView<const T>, MatrixView<const double>, MatrixView<T>,       \
                           std::vector<double>&);                                               \
  template void combine<T>(StridedView<const T>, MatrixView<const std::complex<double>>,        \
                           MatrixView<std::complex<T>>, int);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

#define KOOPCORE_INSTANTIATE_COLUMNS(T, Stored)                                              \
  template void gram_of_columns<T, Stored>(const Stored* const*, int64_t, const T*, int64_t, \
                                           int64_t, MatrixView<double>, GramWorkspace&, int);
KOOPCORE_INSTANTIATE_COLUMNS(float, float)
KOOPCORE_INSTANTIATE_COLUMNS(float, BFloat16)
KOOPCORE_INSTANTIATE_COLUMNS(double, double)

}  // namespace koopcore
