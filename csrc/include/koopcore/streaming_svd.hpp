#pragma once
// Singular value decomposition of a stream of tall snapshots in one pass, with forgetting.
// An incremental decomposition (Brand 2006; Ross et al. 2008 for the mean): blocks of snapshots
// extend an orthonormal basis, and the largest directions of both are kept. Unlike theirs the tall
// matrices are touched by two operations alone, a Gram matrix with float64 accumulation and a
// combination; orthogonality is measured anew each time instead of trusted; and a random sketch of
// all snapshots (Tropp et al. 2019) tells the error afterwards.

#include <cstdint>
#include <mutex>
#include <type_traits>
#include <vector>

#include "koopcore/gram.hpp"
#include "koopcore/matrix_view.hpp"
#include "koopcore/range_finder.hpp"
#include "koopcore/sketch.hpp"

namespace koopcore {

struct StreamOptions {
  int64_t rank = 10;          ///< directions reported
  int64_t oversampling = 10;  ///< directions kept beyond them
  int64_t block = 16;         ///< snapshots gathered before the basis is brought up to date
  double forgetting = 1.0;    ///< a snapshot's weight (of its square) fades by this per later one,
                              ///< within a block not below 1e-40
  double tolerance = -1.0;    ///< share of a snapshot that makes a new direction; negative: 1e-6 in
                              ///< float32, 3e-7 in float64
  bool center = false;        ///< subtract the (fading) mean of the snapshots
  uint64_t seed = 0;          ///< of the sketch
  int64_t first_row = 0;      ///< row blocks: which row of the whole state the first one is
  bool sharded = false;       ///< row blocks: the caller adds up Gram matrices, see `provide`
  int n_threads = 0;  ///< that share the rows; 0: as many as the BLAS of this core has. More
                      ///< than one costs the allocations of a thread per block
};

/// The stream does not depend on how it is cut into calls. Memory: state size * (rank +
/// oversampling + block, with `center` 2 more) numbers, whatever its length. Snapshots shorter than
/// 2^-100 (float32) or 2^-430 (float64) count as zero. Every call locks the object; after the first
/// blocks pushes allocate nothing, with one thread.
template <class T>
class StreamingSvd {
 public:
  /// `segment_sizes`: how many numbers each segment of the state has.
  StreamingSvd(std::vector<int64_t> segment_sizes, const StreamOptions& options);

  /// Appends one snapshot. Throws on a value that is not finite, or whose square could overflow;
  /// the stream is then as it was.
  void push(const T* const* segments);
  /// Appends the columns of `block` (state size x count), oldest first. All or none of them.
  void push_block(StridedView<const T> block);

  int64_t state_size() const { return state_size_; }
  const std::vector<int64_t>& segment_sizes() const { return segment_sizes_; }
  const StreamOptions& options() const { return options_; }
  int64_t seen() const;  ///< snapshots since the start
  double weight();       ///< sum of their weights, the newest one's being 1

  /// Results are coefficients on the columns the stream is held as: basis, mean, and the snapshots
  /// not yet absorbed.
  struct Decomposition {
    std::vector<double> values;   ///< singular values of the weighted snapshots, falling
    Matrix<double> coefficients;  ///< left singular vectors = columns * coefficients
    double energy = 0.0;          ///< sum of squares of all weighted snapshots
    double error = 0.0;           ///< estimate of |X - X_rank| in the Frobenius norm, from the
                                  ///< sketch: about 20 % off, and never below 1e-7 |X|
    int64_t version = 0;          ///< of the columns, for `combine`
  };
  /// Cost: one Gram matrix of the columns, however long the stream. `rank` = 0: that of the
  /// options.
  Decomposition decompose(int64_t rank = 0);
  /// Coefficients of the mean (zero without `center`); the reference is added by `combine`.
  std::vector<double> mean_coefficients(int64_t* version);

  /// out (k states, segment by segment, each column-major (segment size x k)) = columns *
  /// coefficients. With `center`, `reference` times the reference snapshot is added. Throws if the
  /// columns are no longer those of `version`.
  void combine(MatrixView<const double> coefficients, int64_t version, double reference,
               T* const* segments);
  /// columns^T x for states x (state size x k); with `center` of x minus the reference.
  Matrix<double> cross(StridedView<const T> x, int64_t version);

  /// Adds what another stream has seen, as if its snapshots had come before this one's block. Both
  /// must have been made alike.
  void merge(StreamingSvd& other);

  /// Row blocks of one state, each an object of its own with `sharded`: before `block` snapshots
  /// are full, and before results, sum `partial` over them all and `provide` each with the sum.
  Matrix<double> partial();
  void provide(MatrixView<const double> total);
  int64_t room() const;  ///< snapshots that fit before `provide`

  /// All there is, for files: the tall columns and the rest as float64 numbers. A stream restored
  /// into an object made alike goes on with the same bits.
  struct State {
    Matrix<T> columns;
    std::vector<double> numbers;
  };
  State state();
  void restore(MatrixView<const T> columns, const std::vector<double>& numbers);

 private:
  template <class>
  friend class StreamingDmd;

  // Left singular vectors on the columns, in units of 2^exponent, with the sketch in them.
  struct Leading {
    int64_t count = 0, exponent = 0;
    std::vector<double> values;
    Matrix<double> on_columns, sketch, cross;
    double sketch_energy = 0.0, energy = 0.0, others = 0.0;
  };

  // Storage columns: block (newest first), mean, basis, reference. Used ones lie side by side.
  int64_t mean_columns() const { return options_.center ? 1 : 0; }
  int64_t used() const { return basis_size_ + mean_columns() + pending_; }
  int64_t slot(int64_t pending) const { return options_.block - 1 - pending; }
  int64_t mean_at() const { return options_.block; }
  int64_t basis_at() const { return options_.block + mean_columns(); }
  int64_t place_of(int64_t column) const;
  MatrixView<T> storage() { return {storage_.data(), state_size_, storage_columns_, state_size_}; }
  MatrixView<T> used_columns() {
    return storage().block(0, options_.block - pending_, state_size_, used());
  }

  void require_room(int64_t count) const;
  void stage(StridedView<const T> x, int64_t row, const T* reference);
  const T* reference_for(StridedView<const T> x, int64_t row);
  void commit(int64_t count, double first_tick);
  void check_staged(int64_t count) const;
  void check_block(StridedView<const T> block, const T* reference, bool successive) const;

  void measure();
  void make_workers(int64_t columns);
  int64_t slice_rows() const;
  void measure_locally();
  void drop_vanishing();
  void weigh();
  void project();
  void choose_unit(double past);
  void absorb();
  void rotate();
  void append();
  void write_basis(int64_t first, int64_t count);
  void to_columns(int64_t first, int64_t count);
  void mean_weights(double* out) const;
  void move_last_column_first(int64_t last);
  void combine_columns(int64_t count, int64_t at);

  void project_sketch();
  void move_sketch(int64_t kept);
  int64_t decompose_data();
  Leading leading(int64_t rank);
  void check_version(int64_t version, int64_t rows) const;
  void combine_locked(MatrixView<const double> coefficients, double reference, T* const* segments);
  Matrix<double> cross_locked(StridedView<const T> x);
  void cross_with_differences(StridedView<const T> x, MatrixView<double> out);

  struct AfterMerge;
  void check_alike(const StreamingSvd& other) const;
  Matrix<double> merge_locked(StreamingSvd& other, Leading* theirs);
  void copy_directions(const Leading& from, int64_t first, int64_t count, MatrixView<T> out);
  void follow(Matrix<double>& map, int64_t first, int64_t before, int64_t count);
  void merge_means(StreamingSvd& other, Matrix<double>& map);
  double weight_now();
  std::vector<T> mean_now();
  template <class Archive>
  void archive(Archive& numbers);
  static int64_t numbers_of_state(const std::vector<double>& numbers);
  void check_state(MatrixView<const T> columns, const std::vector<double>& numbers) const;
  void restore_locked(MatrixView<const T> columns, const std::vector<double>& numbers);

  std::vector<int64_t> segment_sizes_;
  int64_t state_size_;
  StreamOptions options_;
  int64_t capacity_;  // of the basis
  int64_t storage_columns_;
  int n_threads_;
  int64_t slices_;  // of the rows; what threads share
  SparseSignSketch sketch_;

  // The stream.
  std::vector<T> storage_;
  int64_t basis_size_ = 0, pending_ = 0, seen_ = 0;
  std::vector<double> ticks_;  // of the pending snapshots: 1, or 0 where nothing fades
  double weight_ = 0.0;
  int64_t exponent_ = 0;         // what follows is in units of 2^exponent, or of its square
  Matrix<double> factor_;        // coordinates of the past: factor factor^T is their Gram matrix
  Matrix<double> cross_sketch_;  // sum of (Psi x) c^T
  double energy_ = 0.0, sketch_energy_ = 0.0;  // sums of |x|^2 and of |Psi x|^2
  double others_ = 0.0;  // largest of other numbers in the same unit (inputs of a StreamingDmd)
  Matrix<double> basis_sketch_, mean_sketch_;  // Psi U and Psi mean, without unit

  // Scratch, and what the last absorption did.
  int64_t version_ = 0;
  bool provided_ = false;
  bool plain_ = false, counted_ = false;  // pending columns are directions of another stream
  int64_t block_exponent_ = 0;            // and their weights are in units of 2^this
  double others_in_block_ = 0.0;
  std::vector<char> vanishing_;  // pending snapshots too short to tell from zero, but not zero
  std::vector<std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>> largest_;
  struct Worker {
    BlockScratch block;
    std::vector<T> combine;
  };
  std::vector<Worker> workers_;
  Matrix<double> slice_grams_, slice_sums_;
  int64_t data_columns_ = 0;  // D = [mean, snapshots] * weights_, after basis_size_ columns of U
  Matrix<double> gram_, block_sketch_, weights_, data_gram_, data_sketch_, sketch_scratch_;
  std::vector<double> column_weights_, lengths_, values_;
  double fading_ = 1.0, block_weight_ = 0.0, past_scale_ = 0.0, block_scale_ = 0.0;
  int64_t next_exponent_ = 0;
  RangeFinder finder_;
  Matrix<double> data_, left_, right_, small_, on_data_, on_columns_;
  Matrix<double> transition_;  // [U, D] in the new basis
  blas::Workspace work_;
  mutable std::mutex mutex_;
};

}  // namespace koopcore
