#pragma once
// A random sketch of tall columns: every row of the state is added, with a random sign, to one of a
// few dozen sums (a sparse-sign embedding with one entry per column of Psi; Martinsson & Tropp
// 2020). E |Psi x|^2 = |x|^2 for every x.
// Unlike theirs the sums that a run of 32 rows goes to are a random rotation by 8, 16, 24 or none
// instead of independent draws, so that the loop runs in vector registers; signs stay independent.

#include <cstdint>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

class SparseSignSketch {
 public:
  static constexpr int64_t kSums = 32;

  /// Entries of Psi depend on (seed, row of the whole state) alone. `first_row`: which row of it
  /// the first row given to `add` is; a multiple of 64.
  explicit SparseSignSketch(uint64_t seed, int64_t first_row = 0);

  /// out (kSums x cols) += Psi x. Sums of disjoint row ranges add up to that of the whole.
  template <class T>
  void add(StridedView<const T> x, MatrixView<double> out) const;

 private:
  uint64_t seed_;
  int64_t first_row_;
};

}  // namespace koopcore
