#include "koopcore/range_finder.hpp"

#include <algorithm>
#include <cmath>

#include "koopcore/error.hpp"

namespace koopcore {

using blas::Op;

namespace {

// Squared singular values of a basis that is what it should be lie in [kSmallest, 1 / kSmallest].
constexpr double kSmallest = 0.25;

bool near_orthonormal(MatrixView<const double> r) {
  for (int64_t i = 0; i < r.cols; ++i)
    if (!(r(i, i) * r(i, i) > kSmallest && r(i, i) * r(i, i) * kSmallest < 1.0)) return false;
  return true;
}

}  // namespace

RangeFinder::RangeFinder(int64_t max_basis, int64_t max_block)
    : directions_(max_basis + max_block, max_basis + max_block),
      coordinates_(max_basis + max_block, max_basis + max_block),
      residual_(max_block, max_block),
      scratch_(max_basis, std::max(max_basis, max_block)),
      eigenvalues_(static_cast<size_t>(std::max(max_basis, max_block))) {}

void RangeFinder::find(MatrixView<const double> gram, int64_t basis, const double* lengths,
                       double tolerance) {
  KOOPCORE_REQUIRE(gram.rows == gram.cols && basis <= gram.cols &&
                   gram.cols <= directions_.rows() && gram.cols - basis <= residual_.rows())
      << "range finder: gram is (" << gram.rows << ", " << gram.cols << ") with a basis of "
      << basis << "; made for " << directions_.rows() - residual_.rows() << " and blocks of "
      << residual_.rows();
  columns_ = gram.cols;
  basis_ = basis;
  added_ = 0;
  for (int64_t j = 0; j < columns_; ++j) {
    std::fill_n(directions_.view().col(j), columns_, 0.0);
    std::fill_n(coordinates_.view().col(j), columns_, 0.0);
  }
  span_basis(gram);
  // Q^T B, and what is left of B: the Schur complement B^T B - (Q^T B)^T (Q^T B).
  const int64_t block = columns_ - basis_;
  const MatrixView<double> projection = coordinates_.view().block(0, basis_, spanned_, block);
  blas::gemm(Op::kTranspose, Op::kNone, 1.0, directions_.view().block(0, 0, basis_, spanned_),
             gram.block(0, basis_, basis_, block), 0.0, projection);
  const MatrixView<double> residual = residual_.view().block(0, 0, block, block);
  for (int64_t j = 0; j < block; ++j)
    std::copy_n(gram.col(basis_ + j) + basis_, block, residual.col(j));
  blas::gemm(Op::kTranspose, Op::kNone, -1.0, projection, projection, 1.0, residual);
  find_residual_directions(lengths, tolerance);
}

// U = Q R with directions R^-1; where some of U's columns are not independent, from the
// eigenvectors of its Gram matrix instead.
void RangeFinder::span_basis(MatrixView<const double> gram) {
  const MatrixView<double> r = coordinates_.view().block(0, 0, basis_, basis_);
  const MatrixView<double> inverse = directions_.view().block(0, 0, basis_, basis_);
  for (int64_t j = 0; j < basis_; ++j) std::copy_n(gram.col(j), basis_, r.col(j));
  spanned_ = basis_;
  if (blas::cholesky(r) && near_orthonormal(r)) {
    for (int64_t j = 0; j < basis_; ++j) {
      std::fill(r.col(j) + j + 1, r.col(j) + basis_, 0.0);
      inverse(j, j) = 1.0;
    }
    blas::divide_by_upper(inverse, r);
    return;
  }
  const MatrixView<double> vectors = scratch_.view().block(0, 0, basis_, basis_);
  for (int64_t j = 0; j < basis_; ++j) {
    std::copy_n(gram.col(j), basis_, vectors.col(j));
    std::fill_n(r.col(j), basis_, 0.0);
  }
  blas::symmetric_eigen(vectors, eigenvalues_.data(), work_);  // ascending
  spanned_ = 0;
  for (int64_t k = basis_ - 1; k >= 0; --k) {
    const double root = std::sqrt(std::max(0.0, eigenvalues_[static_cast<size_t>(k)]));
    if (!(root * root > kSmallest)) break;
    for (int64_t i = 0; i < basis_; ++i) {
      inverse(i, spanned_) = vectors(i, k) / root;
      r(spanned_, i) = vectors(i, k) * root;
    }
    ++spanned_;
  }
}

// Eigenvectors of the residual's Gram matrix, its columns divided by the lengths: directions get
// coefficients on T, and B its coordinates in them.
void RangeFinder::find_residual_directions(const double* lengths, double tolerance) {
  const int64_t block = columns_ - basis_;
  const MatrixView<double> residual = residual_.view().block(0, 0, block, block);
  for (int64_t j = 0; j < block; ++j)
    for (int64_t i = 0; i < block; ++i) {
      const double scale = lengths[i] * lengths[j];
      residual(i, j) = scale > 0.0 ? residual(i, j) / scale : 0.0;
    }
  blas::symmetric_eigen(residual, eigenvalues_.data(), work_);  // ascending
  const double least = tolerance * tolerance * static_cast<double>(block);
  for (int64_t k = block - 1; k >= 0 && eigenvalues_[static_cast<size_t>(k)] > least; --k) {
    const int64_t at = spanned_ + added_++;
    const double root = std::sqrt(eigenvalues_[static_cast<size_t>(k)]);
    for (int64_t i = 0; i < block; ++i) {
      directions_(basis_ + i, at) = lengths[i] > 0.0 ? residual(i, k) / (lengths[i] * root) : 0.0;
      coordinates_(at, basis_ + i) = residual(i, k) * lengths[i] * root;
    }
  }
  // Minus their parts in U: - Q (Q^T B) of the same coefficients.
  const MatrixView<double> parts = scratch_.view().block(0, 0, spanned_, added_);
  blas::gemm(Op::kNone, Op::kNone, 1.0, coordinates_.view().block(0, basis_, spanned_, block),
             directions_.view().block(basis_, spanned_, block, added_), 0.0, parts);
  blas::gemm(Op::kNone, Op::kNone, -1.0, directions_.view().block(0, 0, basis_, spanned_), parts,
             0.0, directions_.view().block(0, spanned_, basis_, added_));
}

}  // namespace koopcore
