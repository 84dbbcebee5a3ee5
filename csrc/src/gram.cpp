#include "koopcore/gram.hpp"

#include <algorithm>
#include <type_traits>

#include "koopcore/bfloat16.hpp"
#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"
#include "gram_kernel.hpp"
#include "parallel.hpp"

namespace koopcore {
namespace {

using blas::Op;

// About 1 MiB of float64 per block: it stays in cache between conversion and multiplication.
constexpr int64_t kBlockNumbers = int64_t{1} << 17;
constexpr int64_t kMinBlockRows = 128;
constexpr size_t kLine = 64 / sizeof(double);

int64_t block_rows_for(int64_t rows, int64_t cols) {
  const int64_t fitting = kBlockNumbers / std::max<int64_t>(cols, 1);
  return std::max<int64_t>(1, std::min(rows, std::max(fitting, kMinBlockRows)));
}

// Rows [row, row + rows) of a snapshot matrix in float64. Row-major data stay row-major: op() says
// how to read `view` as (rows x cols).
struct Block {
  MatrixView<const double> view;
  bool transposed;
  Op op() const { return transposed ? Op::kTranspose : Op::kNone; }
  Op op_transposed() const { return transposed ? Op::kNone : Op::kTranspose; }
};

// Columns of the scratch begin at cache lines.
int64_t rounded_up(int64_t rows) {
  return (rows + static_cast<int64_t>(kLine) - 1) / static_cast<int64_t>(kLine) *
         static_cast<int64_t>(kLine);
}

void copy_widened(const float* from, int64_t size, double* to) { detail::widen(from, to, size); }
void copy_widened(const double* from, int64_t size, double* to) { std::copy_n(from, size, to); }

template <class T>
Block load_block(StridedView<const T> x, int64_t row, int64_t rows, double* scratch) {
  const T* first = x.data + row * x.row_stride;
  if constexpr (std::is_same_v<T, double>) {
    if (x.row_stride == 1 && x.col_stride >= std::max<int64_t>(rows, 1))
      return {{first, rows, x.cols, x.col_stride}, false};
    if (x.col_stride == 1 && x.row_stride >= std::max<int64_t>(x.cols, 1))
      return {{first, x.cols, rows, x.row_stride}, true};
  }
  if (x.col_stride == 1 && x.row_stride != 1) {  // one row of one column-major matrix stays that
    if (x.row_stride == x.cols)
      copy_widened(first, rows * x.cols, scratch);
    else
      for (int64_t i = 0; i < rows; ++i)
        copy_widened(first + i * x.row_stride, x.cols, scratch + i * x.cols);
    return {{scratch, x.cols, rows, std::max<int64_t>(x.cols, 1)}, true};
  }
  const int64_t ld = std::max<int64_t>(rounded_up(rows), 1);
  for (int64_t j = 0; j < x.cols; ++j) {
    const T* column = first + j * x.col_stride;
    double* out = scratch + j * ld;
    if (x.row_stride == 1) {
      copy_widened(column, rows, out);
    } else {
      for (int64_t i = 0; i < rows; ++i) out[i] = column[i * x.row_stride];
    }
  }
  return {{scratch, rows, x.cols, ld}, false};
}

// Up to `count` rows from `first` on.
template <class T>
StridedView<const T> rows_of(StridedView<const T> x, int64_t first, int64_t count) {
  return {x.data + first * x.row_stride, std::min(count, x.rows - first), x.cols, x.row_stride,
          x.col_stride};
}

// Calls visit(block, row, rows) for every row block.
template <class T, class Visit>
void for_each_block(StridedView<const T> x, BlockScratch& scratch, Visit visit) {
  for (int64_t row = 0; row < x.rows; row += scratch.block_rows()) {
    const int64_t rows = std::min(scratch.block_rows(), x.rows - row);
    visit(load_block(x, row, rows, scratch.data()), row, rows);
  }
}

void fill(MatrixView<double> g, double value) {
  for (int64_t j = 0; j < g.cols; ++j) std::fill_n(g.col(j), g.rows, value);
}

void mirror_upper(MatrixView<double> g) {
  for (int64_t j = 0; j < g.cols; ++j)
    for (int64_t i = 0; i < j; ++i) g(j, i) = g(i, j);
}

// out rows [row, row + rows) = op(block) c, widened result handed to `store(i, j, value)`. Products
// lie behind the block in the scratch.
template <class T, class Store>
void combine_blocks(StridedView<const T> x, MatrixView<const double> c, BlockScratch& scratch,
                    Store store) {
  double* const products = scratch.data() + rounded_up(scratch.block_rows()) * x.cols;
  for_each_block(x, scratch, [&](const Block& block, int64_t row, int64_t rows) {
    const MatrixView<double> product{products, rows, c.cols, rows};
    blas::gemm(block.op(), Op::kNone, 1.0, block.view, c, 0.0, product);
    for (int64_t j = 0; j < c.cols; ++j)
      for (int64_t i = 0; i < rows; ++i) store(row + i, j, product(i, j));
  });
}

void check_combine(int64_t x_rows, int64_t x_cols, int64_t c_rows, int64_t c_cols, int64_t out_rows,
                   int64_t out_cols) {
  KOOPCORE_REQUIRE(x_cols == c_rows && out_rows == x_rows && out_cols == c_cols)
      << "combine: x is (" << x_rows << ", " << x_cols << "), coefficients (" << c_rows << ", "
      << c_cols << "), out (" << out_rows << ", " << out_cols << ")";
}

}  // namespace

BlockScratch::BlockScratch(int64_t rows, int64_t max_cols)
    : block_rows_(block_rows_for(rows, max_cols)),
      values_(static_cast<size_t>(rounded_up(block_rows_) * std::max<int64_t>(max_cols, 0)) +
              kLine) {}

GramWorkspace::GramWorkspace(int64_t rows, int64_t max_cols) : scratch_(rows, max_cols) {}

double* BlockScratch::data() {
  const auto address = reinterpret_cast<uintptr_t>(values_.data());
  return values_.data() + (kLine - address / sizeof(double) % kLine) % kLine;
}

template <class T>
void gram(StridedView<const T> x, MatrixView<double> g) {
  BlockScratch scratch(x.rows, x.cols);
  gram(x, g, scratch, {});
}

template <class T>
void gram(StridedView<const T> x, MatrixView<double> g, BlockScratch& scratch,
          StridedView<const T> next) {
  KOOPCORE_REQUIRE(g.rows == x.cols && g.cols == x.cols)
      << "gram: x has " << x.cols << " columns, g is (" << g.rows << ", " << g.cols << ")";
  fill(g, 0.0);
  for_each_block(x, scratch, [&](const Block& block, int64_t row, int64_t rows) {
    const int64_t end = row + rows;
    const StridedView<const T> ahead =
        rows_of(end < x.rows ? x : next, end < x.rows ? end : 0, scratch.block_rows());
    if (!detail::add_small_gram(block.view, block.transposed, g, detail::Ahead(ahead)))
      blas::syrk_add(block.op_transposed(), block.view, g);
  });
  mirror_upper(g);
}

template <class T>
void cross_gram(StridedView<const T> x, StridedView<const T> y, MatrixView<double> g) {
  KOOPCORE_REQUIRE(x.rows == y.rows && g.rows == x.cols && g.cols == y.cols)
      << "cross_gram: x is (" << x.rows << ", " << x.cols << "), y (" << y.rows << ", " << y.cols
      << "), g (" << g.rows << ", " << g.cols << ")";
  fill(g, 0.0);
  BlockScratch scratch(x.rows, x.cols + y.cols);
  for_each_block(x, scratch, [&](const Block& left, int64_t row, int64_t rows) {
    const Block right = load_block(y, row, rows, scratch.data() + rounded_up(rows) * x.cols);
    blas::gemm(left.op_transposed(), right.op(), 1.0, left.view, right.view, 1.0, g);
  });
}

template <class T, class Stored>
void update_gram(const T* reference, MatrixView<const Stored> ring,
                 const std::vector<ColumnRange>& changed, MatrixView<double> g, GramWorkspace& work,
                 int n_threads) {
  threads_for(n_threads);
  BlockScratch& scratch = work.scratch();
  const int64_t cols = ring.cols + 1;
  for (const ColumnRange& range : changed) fill(g.block(0, range.first, cols, range.count), 0.0);
  for (int64_t row = 0; row < ring.rows; row += scratch.block_rows()) {
    const int64_t rows = std::min(scratch.block_rows(), ring.rows - row);
    const MatrixView<double> block{scratch.data(), rows, cols, rows};
    for (int64_t i = 0; i < rows; ++i) block(i, 0) = static_cast<double>(reference[row + i]);
    for (int64_t j = 0; j < ring.cols; ++j)
      for (int64_t i = 0; i < rows; ++i)
        block(i, j + 1) = static_cast<double>(static_cast<T>(ring(row + i, j)));
    for (const ColumnRange& range : changed)
      blas::gemm(Op::kTranspose, Op::kNone, 1.0, block,
                 block.block(0, range.first, rows, range.count), 1.0,
                 g.block(0, range.first, cols, range.count));
  }
  for (const ColumnRange& range : changed)
    for (int64_t j = range.first; j < range.first + range.count; ++j)
      for (int64_t i = 0; i < cols; ++i) g(j, i) = g(i, j);
}

template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out) {
  BlockScratch scratch(x.rows, x.cols + c.cols);
  combine(x, c, out, scratch);
}

template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out,
             BlockScratch& scratch) {
  check_combine(x.rows, x.cols, c.rows, c.cols, out.rows, out.cols);
  combine_blocks(x, c, scratch,
                 [&](int64_t i, int64_t j, double value) { out(i, j) = static_cast<T>(value); });
}

template <class T>
void combine(StridedView<const T> x, MatrixView<const std::complex<double>> c,
             MatrixView<std::complex<T>> out) {
  check_combine(x.rows, x.cols, c.rows, c.cols, out.rows, out.cols);
  // One real product for both parts: even columns real, odd columns imaginary.
  Matrix<double> parts(c.rows, 2 * c.cols);
  for (int64_t j = 0; j < c.cols; ++j)
    for (int64_t i = 0; i < c.rows; ++i) {
      parts(i, 2 * j) = c(i, j).real();
      parts(i, 2 * j + 1) = c(i, j).imag();
    }
  BlockScratch scratch(x.rows, x.cols + parts.cols());
  combine_blocks(x, parts.view(), scratch, [&](int64_t i, int64_t j, double value) {
    reinterpret_cast<T*>(&out(i, j / 2))[j % 2] = static_cast<T>(value);
  });
}

#define KOOPCORE_INSTANTIATE(T)                                                                \
  template void gram<T>(StridedView<const T>, MatrixView<double>);                             \
  template void gram<T>(StridedView<const T>, MatrixView<double>, BlockScratch&,               \
                        StridedView<const T>);                                                 \
  template void cross_gram<T>(StridedView<const T>, StridedView<const T>, MatrixView<double>); \
  template void combine<T>(StridedView<const T>, MatrixView<const double>, MatrixView<T>);     \
  template void combine<T>(StridedView<const T>, MatrixView<const double>, MatrixView<T>,      \
                           BlockScratch&);                                                     \
  template void combine<T>(StridedView<const T>, MatrixView<const std::complex<double>>,       \
                           MatrixView<std::complex<T>>);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

#define KOOPCORE_INSTANTIATE_UPDATE(T, Stored)                                              \
  template void update_gram<T, Stored>(const T*, MatrixView<const Stored>,                  \
                                       const std::vector<ColumnRange>&, MatrixView<double>, \
                                       GramWorkspace&, int);
KOOPCORE_INSTANTIATE_UPDATE(float, float)
KOOPCORE_INSTANTIATE_UPDATE(float, BFloat16)
KOOPCORE_INSTANTIATE_UPDATE(double, double)

}  // namespace koopcore
