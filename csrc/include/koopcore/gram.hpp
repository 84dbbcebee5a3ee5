#pragma once
// Gram matrices and linear combinations of tall-skinny snapshot matrices.
// A few hundred rows at a time are widened to float64 and multiplied there: float32 data, float64
// accumulation. A plain float32 Gram matrix loses modes that are 1e-3 of the largest; this one
// keeps 1e-5 and less. Unlike a cast of the whole matrix, the extra memory is one cache-sized
// panel. Rows are shared out over threads in slices that depend on the sizes alone, and sums are
// taken in the order of the slices: the number of threads changes no bit.

#include <complex>
#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// Scratch for one panel of up to `max_cols` columns; made once, so that updates allocate nothing.
class BlockScratch {
 public:
  explicit BlockScratch(int64_t max_cols);
  double* data();  ///< begins at a cache line

 private:
  std::vector<double> values_;
};

/// What a Gram matrix of `rows` x up to `max_cols` needs: a panel for each thread, and a matrix for
/// each slice of the rows where there are several.
class GramWorkspace {
 public:
  GramWorkspace(int64_t rows, int64_t max_cols);

  int64_t slices() const { return slices_; }
  int64_t slice_rows() const { return slice_rows_; }
  MatrixView<double> partial(int64_t slice, int64_t cols);
  BlockScratch& scratch(int worker) { return scratch_[static_cast<size_t>(worker)]; }
  void prepare(int n_threads);  ///< allocates where there are more than ever before

 private:
  int64_t max_cols_, slices_, slice_rows_;
  std::vector<double> partials_;
  std::vector<BlockScratch> scratch_;
};

/// g = x^T x, both triangles. g is (cols x cols). Here and below n_threads = 0 is num_threads().
template <class T>
void gram(StridedView<const T> x, MatrixView<double> g, int n_threads = 0);

/// The same on one thread with scratch of the caller, for many small matrices.
template <class T>
void gram(StridedView<const T> x, MatrixView<double> g, BlockScratch& scratch);

/// g = x^T y for two matrices of equally many rows.
template <class T>
void cross_gram(StridedView<const T> x, StridedView<const T> y, MatrixView<double> g,
                int n_threads = 0);

/// Products of columns wherever they lie, behind them, if it is not null, a `reference` of their
/// length; the columns may be held in fewer bits. g(i, j) is computed for i <= j, j >= known, in
/// that order; the rest of g is left as it is. One pass. Allocates nothing, except where there are
/// more threads than ever before.
template <class T, class Stored>
void gram_of_columns(const Stored* const* columns, int64_t count, const T* reference, int64_t rows,
                     int64_t known, MatrixView<double> g, GramWorkspace& work, int n_threads);

/// out = x c, accumulated in float64; out is column-major (x.rows x c.cols).
template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out,
             int n_threads = 0);

/// The same on one thread with scratch of the caller, which grows to what is needed.
template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out,
             std::vector<double>& scratch);

/// The same with complex coefficients: real snapshots in, complex combinations out.
template <class T>
void combine(StridedView<const T> x, MatrixView<const std::complex<double>> c,
             MatrixView<std::complex<T>> out, int n_threads = 0);

}  // namespace koopcore
