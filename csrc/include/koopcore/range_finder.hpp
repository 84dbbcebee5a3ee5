#pragma once
// What a block of new columns adds to an orthonormal basis, from the Gram matrix of both: block
// classical Gram-Schmidt (Brand 2006 for the use in incremental singular value decompositions).
// Unlike the randomized range finder (Halko, Martinsson & Tropp 2011) no test matrix
// is needed: as many inner products as columns are cheap, and exact. Unlike Brand's the tall
// matrices are never touched here, the basis need be orthonormal only nearly, since its own Gram
// matrix is measured too, and so its rounding does not add up over many blocks.

#include <vector>

#include "koopcore/blas.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// For tall T = [U, B]: T * directions() is orthonormal and T = (T * directions()) coordinates(),
/// up to what the tolerance drops. The first directions are those of U. After construction and
/// first calls nothing allocates.
class RangeFinder {
 public:
  RangeFinder(int64_t max_basis, int64_t max_block);

  /// `gram` = T^T T; the first `basis` columns are U, with singular values near 1 (directions of it
  /// that have shrunk, made of rounding by an earlier block, are dropped). `lengths`: of B's
  /// columns, or of what they are small differences of. A direction is new if B's columns, divided
  /// by their lengths, have on average more than `tolerance` of it: inner products carry rounding,
  /// so tolerances below 1e-7 see noise.
  void find(MatrixView<const double> gram, int64_t basis, const double* lengths, double tolerance);

  int64_t columns() const { return columns_; }  ///< of T
  int64_t spanned() const { return spanned_; }  ///< directions of U
  int64_t added() const { return added_; }
  int64_t total() const { return spanned_ + added_; }
  /// Whether all columns of U count; then the leading block of `coordinates` is upper triangular,
  /// and that of `directions` its inverse.
  bool independent() const { return spanned_ == basis_; }
  /// (columns x total)
  MatrixView<const double> directions() const {
    return directions_.view().block(0, 0, columns_, total());
  }
  /// (total x columns)
  MatrixView<const double> coordinates() const {
    return coordinates_.view().block(0, 0, total(), columns_);
  }

 private:
  void span_basis(MatrixView<const double> gram);
  void find_residual_directions(const double* lengths, double tolerance);

  int64_t columns_ = 0, basis_ = 0, spanned_ = 0, added_ = 0;
  Matrix<double> directions_;
  Matrix<double> coordinates_;
  Matrix<double> residual_;  // Schur complement, then its eigenvectors
  Matrix<double> scratch_;
  std::vector<double> eigenvalues_;
  blas::Workspace work_;
};

}  // namespace koopcore
