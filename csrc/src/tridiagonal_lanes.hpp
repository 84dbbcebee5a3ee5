#pragma once
// The parts of leading_symmetric_eigen: a symmetric matrix made tridiagonal, some eigenvalues of
// that, and their vectors. Several eigenvalues are worked on at once, one per vector lane.

#include <cstdint>
#include <vector>

#include "koopcore/matrix_view.hpp"
#include "simd.hpp"

namespace koopcore::detail {

/// Most eigenvalues handled at once.
constexpr int64_t kMaxLanes = 32;

class Tridiagonal {
 public:
  /// scale * a = Q T Q^T by Householder reflections; `scale` a power of two that puts the largest
  /// entry near 1.
  Tridiagonal(MatrixView<const double> a, double scale);

  /// The `count` largest eigenvalues of T, falling, to a few eps times its norm.
  std::vector<double> leading_values(int64_t count) const;

  /// Orthonormal eigenvectors of scale * a (n x values.size()). False, if a residual of T exceeds
  /// `tolerance` times its 1-norm.
  bool vectors(const std::vector<double>& values, double tolerance, MatrixView<double> out) const;

 private:
  double radius(int64_t i) const;

  int64_t size_;
  int64_t stride_;           // size_ rounded up to whole vectors
  simd::Buffer reflectors_;  // column k: u of I - taus_[k] u u^T, zero up to row k
  std::vector<double> taus_;
  std::vector<double> diagonal_;
  std::vector<double> beside_;  // beside_[i] couples i and i + 1
  double norm_;                 // the 1-norm of T
};

}  // namespace koopcore::detail
