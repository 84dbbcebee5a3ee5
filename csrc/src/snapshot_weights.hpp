#pragma once
// Private: from coefficients on columns (of states, pairs, differences) to those on the snapshots.

#include <algorithm>
#include <vector>

#include "dense.hpp"
#include "koopcore/dmd.hpp"

namespace koopcore::detail {

// Coefficients on first differences become coefficients on the snapshots (out has one row more).
template <class Value>
void undo_differences(const Value* differences, int64_t count, Value* out) {
  std::fill_n(out, count + 1, Value(0));
  for (int64_t j = 0; j < count; ++j) {
    out[j] -= differences[j];
    out[j + 1] += differences[j];
  }
}

// Coefficients `weights` (pairs x q) on the columns starts + offset, as coefficients on snapshots.
template <class Value>
Matrix<Value> on_snapshots(const Matrix<Value>& weights, const Layout& layout, int64_t offset,
                           int64_t snapshots) {
  const bool differences = layout.affine == Affine::kDifferences;
  Matrix<Value> out(snapshots, weights.cols());
  std::vector<Value> on_columns(dense::at(differences ? snapshots - 1 : snapshots));
  for (int64_t q = 0; q < weights.cols(); ++q) {
    std::fill(on_columns.begin(), on_columns.end(), Value(0.0));
    for (int64_t i = 0; i < weights.rows(); ++i)
      on_columns[dense::at(layout.starts[dense::at(i)] + offset)] += weights(i, q);
    if (differences)
      undo_differences(on_columns.data(), snapshots - 1, out.view().col(q));
    else
      std::copy(on_columns.begin(), on_columns.end(), out.view().col(q));
  }
  return out;
}

}  // namespace koopcore::detail
