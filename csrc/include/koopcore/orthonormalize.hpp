#pragma once
// The triangular factor R of a tall matrix x = Q R, without ever storing Q.
// CholeskyQR2 (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya 2015): two passes of matrix multiplies.
// Unlike theirs, Q is formed block by block and dropped, and where x is too ill-conditioned for a
// Cholesky factor (condition above about 1e8), one pass of Householder QR over row blocks follows.

#include "koopcore/matrix_view.hpp"

namespace koopcore {

enum class QrRoute { kCholesky, kHouseholder };

/// r (cols x cols, upper triangular) with r^T r = x^T x to the accuracy of x itself, not of its
/// square: singular values come out right down to about eps * cols of the largest.
/// Extra memory: one cache-sized block. Returns the route taken.
template <class T>
QrRoute triangular_factor(StridedView<const T> x, MatrixView<double> r);

}  // namespace koopcore
