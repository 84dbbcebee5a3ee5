#pragma once
// Dynamic mode decomposition of a stream without end, in one pass.
// Hemati, Williams & Rowley 2014 (and Hemati et al. 2017 for total least squares) carry the moments
// of successive states in an incremental basis. Ours carries a triangular factor of them instead,
// so that nothing is squared, for any number of delays and inputs; its rows are a few "virtual"
// trajectories with the very moments of the stream, and the batch engine (dmd.hpp) fits those:
// every variant of it is a variant here.

#include <cstdint>
#include <mutex>
#include <vector>

#include "koopcore/dmd.hpp"
#include "koopcore/streaming_svd.hpp"

namespace koopcore {

struct StreamingDmdOptions {
  StreamOptions stream;      ///< `center` is not for this: see `differences`
  int64_t delays = 1;        ///< successive states stacked into one
  bool differences = false;  ///< fit the first differences: x -> A x + b
  int64_t inputs = 0;        ///< numbers given beside each state
};

/// Forgetting acts once per step from a state to its successor. Steps from or to a state that
/// counts as zero for its shortness without being zero tell nothing, and are not counted. Memory:
/// that of StreamingSvd, with `differences` one state more. Every call locks the object; after the
/// first blocks pushes allocate nothing, with one thread.
template <class T>
class StreamingDmd {
 public:
  StreamingDmd(std::vector<int64_t> segment_sizes, const StreamingDmdOptions& options);

  /// Appends the next state of the trajectory, and the numbers given beside it. Throws as
  /// StreamingSvd does, and then leaves the stream as it was.
  void push(const T* const* segments, const double* inputs = nullptr);
  /// Appends the columns of `block`, oldest first, and the columns of `inputs` (empty: none). All
  /// or none of them.
  void push_block(StridedView<const T> block, MatrixView<const double> inputs = {});
  /// Appends pairs (x, y) of states, columns of two matrices, each a trajectory of its own.
  void push_pairs(StridedView<const T> x, StridedView<const T> y,
                  MatrixView<const double> inputs = {});
  /// The next state follows on none before it.
  void start_trajectory();

  int64_t state_size() const { return svd_.state_size(); }
  const std::vector<int64_t>& segment_sizes() const { return svd_.segment_sizes(); }
  const StreamingDmdOptions& options() const { return options_; }
  int64_t seen() const;

  /// The stream in a few numbers. Row i of `rows` is a virtual trajectory: (directions + inputs)
  /// numbers for each of its delays + 1 states (with `differences`: of its differences), oldest
  /// first; sums over rows are the weighted sums over the stream.
  struct Moments {
    Matrix<double> rows;
    Matrix<double> last;  ///< the newest states, oldest first: (directions + inputs) x delays; no
                          ///< columns if the trajectory is shorter
    Matrix<double> lift;  ///< columns * lift: the orthonormal directions
    double unit = 1.0;    ///< of rows and last
    double pairs = 0.0;   ///< weighted number of trajectories
    int64_t version = 0;  ///< of the columns, for `combine`
  };
  Moments moments();

  /// A fit of the virtual trajectories and, as last columns of it, the newest states. Coefficients
  /// c of `dmd` are the state columns * lift * c, times `unit` unless they are modes; with
  /// `differences` a forecast minus 1 at the last column is the step from the newest state.
  struct Fit {
    Dmd dmd;
    Matrix<double> lift;
    double unit = 1.0;
    bool has_state = false;  ///< whether the last columns are there
    int64_t version = 0;
  };
  /// options.max_rank is lowered to the directions there are; hard_threshold has no meaning here. A
  /// negative tolerance becomes 1e-6 (float32) or 1e-12. Cost: one Gram matrix of the columns,
  /// however long the stream.
  Fit fit(DmdOptions options);

  /// As in StreamingSvd. With `differences`, `newest` times the newest state is added.
  void combine(MatrixView<const double> coefficients, int64_t version, double newest,
               T* const* segments);
  Matrix<double> cross(StridedView<const T> x, int64_t version);
  typename StreamingSvd<T>::Decomposition decompose(int64_t rank = 0);

  /// Adds the trajectories of another stream, made alike.
  void merge(StreamingDmd& other);
  Matrix<double> partial();
  void provide(MatrixView<const double> total);
  int64_t room() const;
  typename StreamingSvd<T>::State state();
  void restore(MatrixView<const T> columns, const std::vector<double>& numbers);

 private:
  using View = MatrixView<const double>;
  int64_t lags() const { return options_.delays + 1; }
  int64_t stride() const { return svd_.capacity_ + options_.inputs; }

  void push_state(const T* const* segments, const double* inputs);
  void push_differences(StridedView<const T> block);
  void commit(int64_t count, View inputs);
  int64_t fill(View transition, int64_t pending, int64_t stride_to, MatrixView<double> stack,
               MatrixView<double> coordinates) const;
  void follow_absorption(int64_t basis_before, int64_t pending);
  void keep_history(int64_t rows);
  int64_t count_pairs(int64_t pending);
  double pairs_in_block(int64_t pending) const;
  void note_inputs(int64_t pending);
  void absorb();
  Moments moments_locked();
  Matrix<double> virtual_columns(const Moments& m) const;
  void append_rows(View rows, int64_t stride_from, View to_new, double scale,
                   MatrixView<double> out) const;
  template <class Archive>
  void archive(Archive& numbers);
  void check_own_numbers(const std::vector<double>& numbers, int64_t first) const;

  StreamingDmdOptions options_;
  StreamingSvd<T> svd_;
  std::vector<T> previous_;   // with differences
  int64_t has_previous_ = 0;  // 0 or 1, a number like all that a state holds
  int64_t seen_ = 0;
  Matrix<double> history_;  // upper triangular; past trajectories in units of the svd's
  double pairs_ = 0.0;
  Matrix<double> tail_;        // coordinates and inputs of the last `delays` columns absorbed
  int64_t age_ = 0;            // predecessors of the next state in its trajectory, at most `delays`
  std::vector<int64_t> ages_;  // of the pending columns
  int64_t sound_ =
      0;  // of the last columns absorbed, in a row, are not vanishing; at most `delays`
  Matrix<double> pending_inputs_;

  std::vector<char> ends_pair_;  // which of the pending columns end a trajectory that counts
  Matrix<double> stack_, coordinates_;
  blas::Workspace work_;
  mutable std::mutex mutex_;
};

}  // namespace koopcore
