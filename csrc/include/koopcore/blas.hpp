#pragma once
// The BLAS and LAPACK routines the core uses, and no other: float64, because every inner product
// and every small matrix of the core is float64. Sizes are int64 here and checked before they
// narrow to the library's integer; LAPACK failures become koopcore::Error with routine and value.

#include <complex>
#include <string>
#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore::blas {

using Complex = std::complex<double>;

enum class Op : char { kNone = 'N', kTranspose = 'T' };

/// c = alpha op(a) op(b) + beta c
void gemm(Op op_a, Op op_b, double alpha, MatrixView<const double> a, MatrixView<const double> b,
          double beta, MatrixView<double> c);

/// Upper triangle of c += op(a) op(a)^T, where op(a) has as many rows as c.
void syrk_add(Op op_a, MatrixView<const double> a, MatrixView<double> c);

/// Symmetric eigenproblem (dsyevd). `a` becomes its eigenvectors; values ascend.
std::vector<double> symmetric_eigen(MatrixView<double> a);

struct Eigen {
  std::vector<Complex> values;
  Matrix<Complex> vectors;  ///< columns of unit length
};

/// General real eigenproblem (dgeev), right vectors. `a` is overwritten.
Eigen general_eigen(MatrixView<double> a);

/// Minimum-norm least squares (zgelsd) for square `a`, whose singular values below `rcond` times
/// the largest count as zero. `a` is destroyed, `rhs` becomes the solution. Returns the rank found.
int64_t least_squares(MatrixView<Complex> a, MatrixView<Complex> rhs, double rcond);

/// Threads of the library this core is linked to; no other BLAS copy of the process is touched.
/// Libraries without such a call (reference BLAS) report 1 and ignore the setting.
void set_num_threads(int n_threads);
int num_threads();

/// Name and build of the library, for benchmark reports.
std::string library_name();

}  // namespace koopcore::blas
