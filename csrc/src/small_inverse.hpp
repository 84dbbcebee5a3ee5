#pragma once
// The inverse of a few columns of eigenvectors, and how far it can be trusted.

#include <complex>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// Empty for a matrix that is singular or not square. Gauss-Jordan with pivoting: for some ten
/// columns LAPACK's least squares take ten times as long, nearly all of it overhead.
Matrix<std::complex<double>> small_inverse(const Matrix<std::complex<double>>& matrix);

/// A bound on the condition number of `matrix`, whose inverse this is; infinite if that is empty.
double condition_bound(const Matrix<std::complex<double>>& matrix,
                       const Matrix<std::complex<double>>& inverse);

}  // namespace koopcore
