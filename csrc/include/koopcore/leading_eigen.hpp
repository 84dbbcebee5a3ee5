#pragma once
// The leading eigenpairs of a small symmetric matrix: Householder tridiagonalisation, eigenvalues
// by Sturm counts with Newton steps, vectors by twisted factorisation (Parlett & Dhillon 1997).
// Unlike LAPACK's drivers all of it runs in vector registers, a lane per eigenvalue where it can,
// and the pairs are verified: where their residual shows a cluster, dsyevd does the work after all.

#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

struct LeadingEigen {
  std::vector<double> values;  ///< falling
  Matrix<double> vectors;      ///< orthonormal columns, one per value
};

/// The `count` >= 1 largest eigenvalues of `a` (n x n, both triangles, finite, count <= n) and
/// their vectors, to a residual of 32 eps ||a||_1. Values not above `floor` >= 0 times the largest
/// are left out: they are noise to the caller, and where they cluster their vectors would cost the
/// most.
LeadingEigen leading_symmetric_eigen(MatrixView<const double> a, int64_t count, double floor);

}  // namespace koopcore
