#pragma once
// The triangular factor R of a tall x = Q R: CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa &
// Fukaya 2015), two passes of matrix multiplies; where x is too ill-conditioned for a Cholesky
// factor (above about 1e8), Householder QR of row blocks merged in a tree (Demmel et al. 2012).
// Unlike theirs, Q is never stored.

#include "koopcore/matrix_view.hpp"

namespace koopcore {

enum class QrRoute { kCholesky, kHouseholder };

/// r (cols x cols, upper triangular) with r^T r = x^T x to the accuracy of x itself, not of its
/// square: singular values come out right down to about eps * cols of the largest.
/// Extra memory: one cache-sized block. Returns the route taken.
template <class T>
QrRoute triangular_factor(StridedView<const T> x, MatrixView<double> r);

}  // namespace koopcore
