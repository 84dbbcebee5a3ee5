#pragma once
// The last snapshots of a high-dimensional state, and their Gram matrix.
// A ring buffer of differences from a reference snapshot. The Gram matrix (float64) is brought up
// to date only when asked for, all pending snapshots in one pass: a push costs one copy of the
// state, and the update is a matrix multiply instead of memory-bound vector products.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "koopcore/error.hpp"
#include "koopcore/gram.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore {

namespace detail {
template <class T>
class WindowColumns;
}

struct WindowOptions {
  /// Differences from the reference are rounded to bfloat16, for half of the memory; T = float
  /// only. A number that was pushed is off by up to 2^-9 of its difference, and once more when the
  /// reference moves. It moves as soon as it is farther away than the window is wide; to see to
  /// that, the Gram matrix is brought up to date after every `capacity` pushes, asked or not. Gram
  /// matrices and combinations are those of the rounded snapshots, as exact as ever.
  bool bfloat16 = false;
  /// If not empty, the folder of a file that holds the differences in the place of memory. The file
  /// has no name: the system removes it with the window, even if the process is killed. A forked
  /// child may not use the window.
  std::string memory_map;
  /// Threads of each call; 0: num_threads(). Results do not depend on it.
  int n_threads = 0;
};

/// The file of a memory-mapped window cannot be made; `code` is the system's errno.
class FileError : public Error {
 public:
  FileError(const std::string& what, int code) : Error(what), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

/// A state is one vector or several disjoint segments (the tensors of a model) that the caller
/// need not concatenate. After construction nothing allocates, up to 256 snapshots. Every call
/// locks the object.
template <class T>
class SnapshotWindow {
 public:
  /// `segment_sizes`: how many numbers each segment of the state has; `capacity` >= 2 snapshots.
  /// Memory: state size * (capacity + 2) numbers, all but one state of it as the options say.
  SnapshotWindow(std::vector<int64_t> segment_sizes, int64_t capacity,
                 const WindowOptions& options = {});
  ~SnapshotWindow();

  /// Appends one snapshot; the oldest leaves once `capacity` are held. Cost: one pass over the
  /// state. Throws on a value that is not finite, or whose difference from the reference is not as
  /// it is stored, and then leaves the window as it was.
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

  /// All there is, for files: the reference and the ring, and the rest as float64 numbers. A
  /// window restored into an object made alike goes on with the same bits. Numbers in bfloat16 are
  /// widened.
  struct State {
    Matrix<T> columns;
    std::vector<double> numbers;
  };
  State state() const;
  void restore(MatrixView<const T> columns, const std::vector<double>& numbers);

  int64_t size() const;
  int64_t capacity() const { return capacity_; }
  int64_t state_size() const { return state_size_; }
  const std::vector<int64_t>& segment_sizes() const { return segment_sizes_; }

 private:
  // A refused push only ever spoils the spare slot of the ring. Column 0 of column_gram_ is the
  // reference, the others are the slots.
  int64_t slots() const { return capacity_ + 1; }
  int64_t column_of(int64_t age_order) const { return 1 + (start_ + age_order) % slots(); }
  void append(const T* const* segments);
  void update_pending(bool raw);
  void update(bool raw);
  bool drifted() const;

  std::vector<int64_t> segment_sizes_;
  int64_t state_size_;
  int64_t capacity_;
  int64_t start_ = 0;  // slot of the oldest snapshot
  int64_t size_ = 0;
  int64_t pending_ = 0;      // newest snapshots whose Gram entries are not computed yet
  int64_t raw_pending_ = 0;  // and those whose products with the reference are not
  std::unique_ptr<detail::WindowColumns<T>> columns_;
  Matrix<double> column_gram_, found_;  // found_: the newest products, in the order of age
  GramWorkspace work_;
  mutable std::mutex mutex_;
};

}  // namespace koopcore
