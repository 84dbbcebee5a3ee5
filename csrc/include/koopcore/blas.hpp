#pragma once
// The BLAS and LAPACK routines the core uses, and no other: float64 and complex128, because every
// inner product and every small matrix of the core is. Sizes are int64 here and checked before they
// narrow to the library's integer; LAPACK failures become koopcore::Error with routine and value.

#include <complex>
#include <string>
#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore::blas {

using Complex = std::complex<double>;

/// kAdjoint of a real matrix is its transpose.
enum class Op : char { kNone = 'N', kTranspose = 'T', kAdjoint = 'C' };

/// c = alpha op(a) op(b) + beta c
void gemm(Op op_a, Op op_b, double alpha, MatrixView<const double> a, MatrixView<const double> b,
          double beta, MatrixView<double> c);
void gemm(Op op_a, Op op_b, Complex alpha, MatrixView<const Complex> a, MatrixView<const Complex> b,
          Complex beta, MatrixView<Complex> c);

/// Upper triangle of c += op(a) op(a)^T, where op(a) has as many rows as c.
void syrk_add(Op op_a, MatrixView<const double> a, MatrixView<double> c);

/// Symmetric (Hermitian) eigenproblem (dsyevd, zheevd), upper triangle read. `a` becomes its
/// eigenvectors; values ascend.
std::vector<double> symmetric_eigen(MatrixView<double> a);
std::vector<double> symmetric_eigen(MatrixView<Complex> a);

/// Work arrays that a caller keeps: they grow to the largest need, and from then on the routines
/// that take them allocate nothing.
struct Workspace {
  std::vector<double> numbers;
  std::vector<int> integers;
};
void symmetric_eigen(MatrixView<double> a, double* values, Workspace& work);

struct Eigen {
  std::vector<Complex> values;
  Matrix<Complex> vectors;  ///< columns of unit length
};

/// General eigenproblem (dgeev, zgeev), right vectors. `a` is overwritten.
Eigen general_eigen(MatrixView<double> a);
Eigen general_eigen(MatrixView<Complex> a);

template <class Scalar>
struct Svd {
  Matrix<Scalar> left;         ///< rows x min(rows, cols)
  std::vector<double> values;  ///< falling
  Matrix<Scalar> right;        ///< adjoint of the right vectors: min(rows, cols) x cols
};

/// Thin singular value decomposition (dgesdd, zgesdd). `a` is overwritten.
Svd<double> svd(MatrixView<double> a);
Svd<Complex> svd(MatrixView<Complex> a);
/// The same into matrices of the caller.
void svd(MatrixView<double> a, double* values, MatrixView<double> left, MatrixView<double> right,
         Workspace& work);

/// Minimum-norm least squares (zgelsd) for square `a`, whose singular values below `rcond` times
/// the largest count as zero. `a` is destroyed, `rhs` becomes the solution. Returns the rank found.
int64_t least_squares(MatrixView<Complex> a, MatrixView<Complex> rhs, double rcond);

/// Cholesky factor (dpotrf): the upper triangle of `a` becomes R of a = R^T R. False where `a` is
/// not positive definite; it is then spoiled.
bool cholesky(MatrixView<double> a);

/// a = a R^-1, or R^-T a from the left, for upper triangular R (dtrsm).
void divide_by_upper(MatrixView<double> a, MatrixView<const double> r);
void solve_lower(MatrixView<const double> r, MatrixView<double> a);

/// Householder QR (dgeqrf): the upper triangle of `a` (rows >= cols) becomes R, the rest is
/// spoiled.
void householder_r(MatrixView<double> a);
void householder_r(MatrixView<double> a, Workspace& work);

/// Threads of the library this core is linked to; no other BLAS copy of the process is touched.
/// Libraries without such a call (reference BLAS) report 1 and ignore the setting.
void set_num_threads(int n_threads);
int num_threads();

/// Name and build of the library, for benchmark reports.
std::string library_name();

}  // namespace koopcore::blas
