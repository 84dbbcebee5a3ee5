#pragma once
// Private: the columns of a window, a reference snapshot and a ring of differences from it, and
// what is done to all their numbers, on several threads where there are many.

#include <vector>

#include "koopcore/bfloat16.hpp"
#include "koopcore/gram.hpp"
#include "koopcore/snapshot_window.hpp"
#include "window_memory.hpp"

namespace koopcore::detail {

/// Slots of the ring that hold snapshots, oldest first.
struct Held {
  int64_t start, size, slots;
  int64_t slot(int64_t age_order) const { return (start + age_order) % slots; }
};

template <class T>
class WindowColumns {
 public:
  WindowColumns(const std::vector<int64_t>& segment_sizes, int64_t slots,
                const WindowOptions& options);

  /// slot = snapshot - reference; `first`: the snapshot becomes the reference before. False if some
  /// difference is not finite as it is stored.
  bool put(const T* const* segments, int64_t slot, bool first);

  /// What `put` would return for a state in one piece; a null reference stands for the own one.
  bool would_take(const T* state, const T* reference) const;

  /// The newest snapshot becomes the reference.
  void rebase(const Held& held);

  /// segments = base_weight * reference + sum_k weights[k] * difference_k, oldest first.
  void combine(double base_weight, const double* weights, const Held& held,
               T* const* segments) const;

  /// Products of the columns held, oldest first, and of the reference behind them if it is wanted:
  /// g(i, j) for i <= j, j >= known.
  void gram(const Held& held, bool with_reference, int64_t known, MatrixView<double> g,
            GramWorkspace& work) const;

  /// The reference and the ring as a matrix, zeros where nothing is held; and back: throws, with
  /// nothing changed, on a number that is not finite or not one of bfloat16 where that is what is
  /// stored.
  Matrix<T> to_matrix(const Held& held) const;
  void assign(MatrixView<const T> columns);

  bool bfloat16() const { return bfloat16_; }
  void check_process() const { ring_.check_process(); }

 private:
  // Rows of one segment: `rows` of them, from its number `from` on, which is row `at` of the state.
  struct Piece {
    size_t segment;
    int64_t from, at, rows;
  };

  void cut_into_slices(const std::vector<int64_t>& segment_sizes);
  template <class Visit>
  void for_each_piece(int64_t slice, const Visit& visit) const;
  // make(at, rows, out) gives rows of the state; those from `first` on, a piece, go to `segments`.
  template <class Make>
  void scatter(size_t first, int64_t end, const Make& make, T* const* segments) const;
  template <class Stored>
  MatrixView<Stored> ring() const {
    return {static_cast<Stored*>(ring_.data()), state_size_, slots_, stride_};
  }
  template <class Work>
  auto with_ring(const Work& work) const;  // work(ring<T>()) or work(ring<BFloat16>())
  T* reference() const { return static_cast<T*>(reference_.data()); }
  int64_t slices() const { return static_cast<int64_t>(slices_.size()) - 1; }

  bool bfloat16_;
  int n_threads_;
  int64_t state_size_, slots_;
  int64_t stride_;  // from one column of the ring to the next
  WindowMemory ring_, reference_;
  std::vector<Piece> pieces_;
  std::vector<size_t> slices_;  // first piece of each, and the end
};

}  // namespace koopcore::detail
