#pragma once
// Gram matrices and linear combinations of tall-skinny snapshot matrices.
// Row blocks are widened to float64 and multiplied there: float32 data, float64 accumulation. A
// plain float32 Gram matrix loses modes that are 1e-3 of the largest; this one keeps 1e-5 and less.
// Unlike a cast of the whole matrix, the extra memory is one cache-sized block.

#include <complex>
#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// Scratch for row blocks of up to `max_cols` columns; made once, so that updates allocate nothing.
class BlockScratch {
 public:
  BlockScratch(int64_t rows, int64_t max_cols);
  int64_t block_rows() const { return block_rows_; }
  double* data();  ///< begins at a cache line

 private:
  int64_t block_rows_;
  std::vector<double> values_;
};

/// What a Gram matrix of up to `rows` x `max_cols` needs beside itself.
class GramWorkspace {
 public:
  GramWorkspace(int64_t rows, int64_t max_cols);
  BlockScratch& scratch() { return scratch_; }

 private:
  BlockScratch scratch_;
};

/// g = x^T x, both triangles. g is (cols x cols).
template <class T>
void gram(StridedView<const T> x, MatrixView<double> g);

/// The same with scratch of the caller, for many small matrices; `next`, if not empty, is the one
/// after this and is fetched from memory meanwhile.
template <class T>
void gram(StridedView<const T> x, MatrixView<double> g, BlockScratch& scratch,
          StridedView<const T> next);

/// g = x^T y for two matrices of equally many rows.
template <class T>
void cross_gram(StridedView<const T> x, StridedView<const T> y, MatrixView<double> g);

/// Columns [first, first + count) of a matrix.
struct ColumnRange {
  int64_t first = 0;
  int64_t count = 0;
};

/// Recomputes the rows and columns of g that belong to the columns in `changed`, where g = x^T x
/// for x = [reference, ring]; the ring may be held in fewer bits than the reference. One pass over
/// x, on n_threads threads (0: num_threads()). Allocates nothing, except where there are more
/// threads than ever before.
template <class T, class Stored>
void update_gram(const T* reference, MatrixView<const Stored> ring,
                 const std::vector<ColumnRange>& changed, MatrixView<double> g, GramWorkspace& work,
                 int n_threads);

/// out = x c, accumulated in float64; out is column-major (x.rows x c.cols).
template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out);

/// The same with scratch of the caller, made for x.cols + c.cols columns; allocates nothing.
template <class T>
void combine(StridedView<const T> x, MatrixView<const double> c, MatrixView<T> out,
             BlockScratch& scratch);

/// The same with complex coefficients: real snapshots in, complex combinations out.
template <class T>
void combine(StridedView<const T> x, MatrixView<const std::complex<double>> c,
             MatrixView<std::complex<T>> out);

}  // namespace koopcore
