#pragma once
// The last snapshots of a high-dimensional state, and their Gram matrix.
// A ring buffer of differences from a reference snapshot. The Gram matrix (float64) is brought up
// to date only when asked for, all pending snapshots in one pass: a push costs one copy of the
// state, and the update is a matrix multiply instead of memory-bound vector products.

#include <mutex>
#include <vector>

#include "koopcore/gram.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// A state is one vector or several disjoint segments (the tensors of a model) that the caller
/// need not concatenate. After construction nothing allocates. Every call locks the object.
template <class T>
class SnapshotWindow {
 public:
  /// `segment_sizes`: how many numbers each segment of the state has; `capacity` >= 2 snapshots.
  /// Memory: state size * (capacity + 2) numbers.
  SnapshotWindow(std::vector<int64_t> segment_sizes, int64_t capacity);

  /// Appends one snapshot; the oldest leaves once `capacity` are held. Cost: one pass over the
  /// state. Throws on a non-finite value and then leaves the window as it was.
  void push(const T* const* segments);

  /// Appends the columns of `block` (state size x count), oldest first. All or none of them.
  void push_block(StridedView<const T> block);

  /// Writes the size() x size() Gram matrix, oldest snapshot first: of the snapshots minus the
  /// reference (`raw` false), which keeps the digits of small changes, or of the snapshots.
  void gram(MatrixView<double> out, bool raw = false);

  /// Writes sum_j coefficients[j] * snapshot_j (oldest first; count = size()) to the segments.
  /// One pass over the window, accumulated in float64.
  void combine(const double* coefficients, int64_t count, T* const* segments) const;

  /// Forgets all snapshots; the next one becomes the reference.
  void clear();

  /// All there is, for files: the ring with its reference, and the rest as float64 numbers. A
  /// window restored into an object made alike goes on with the same bits.
  struct State {
    Matrix<T> columns;
    std::vector<double> numbers;
  };
  State state() const;
  void restore(MatrixView<const T> columns, const std::vector<double>& numbers);

  int64_t size() const;
  int64_t capacity() const { return slots_ - 1; }
  int64_t state_size() const { return state_size_; }
  const std::vector<int64_t>& segment_sizes() const { return segment_sizes_; }

 private:
  // storage_ holds the reference in column 0 and the ring of differences behind it.
  MatrixView<T> columns() { return {storage_.data(), state_size_, slots_ + 1, state_size_}; }
  int64_t column_of(int64_t age_order) const { return 1 + (start_ + age_order) % slots_; }
  template <class SegmentAt>
  void append(SegmentAt segment_at);
  void collect_pending();
  void update();
  bool drifted() const;
  void rebase();

  std::vector<int64_t> segment_sizes_;
  int64_t state_size_;
  int64_t slots_;      // capacity + 1: a refused push only ever spoils the spare one
  int64_t start_ = 0;  // slot of the oldest snapshot
  int64_t size_ = 0;
  int64_t pending_ = 0;  // newest snapshots whose Gram entries are not computed yet
  bool reference_pending_ = false;
  std::vector<T> storage_;
  Matrix<double> column_gram_;  // of the columns of storage_
  GramWorkspace work_;
  std::vector<ColumnRange> changed_;
  mutable std::mutex mutex_;
};

}  // namespace koopcore
