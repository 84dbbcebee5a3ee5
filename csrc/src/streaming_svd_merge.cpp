// StreamingSvd: merging, row blocks of one state, and its contents for files.

#include <algorithm>
#include <cmath>
#include <utility>

#include "koopcore/error.hpp"
#include "koopcore/streaming_svd.hpp"
#include "stream_archive.hpp"
#include "stream_units.hpp"

namespace koopcore {

using blas::Op;
using detail::to_unit;

namespace {

constexpr int64_t kSums = SparseSignSketch::kSums;

}  // namespace

template <class T>
void StreamingSvd<T>::check_alike(const StreamingSvd& other) const {
  const StreamOptions &a = options_, &b = other.options_;
  KOOPCORE_REQUIRE(segment_sizes_ == other.segment_sizes_)
      << "merge: the states differ: " << state_size_ << " numbers in " << segment_sizes_.size()
      << " segment(s) and " << other.state_size_ << " in " << other.segment_sizes_.size();
  KOOPCORE_REQUIRE(a.rank == b.rank && a.oversampling == b.oversampling)
      << "merge: the ranks differ: " << a.rank << " + " << a.oversampling << " and " << b.rank
      << " + " << b.oversampling;
  KOOPCORE_REQUIRE(a.seed == b.seed && a.first_row == b.first_row)
      << "merge: the sketches differ: seed " << a.seed << ", first_row " << a.first_row << " and "
      << b.seed << ", " << b.first_row;
  KOOPCORE_REQUIRE(a.forgetting == b.forgetting && a.center == b.center)
      << "merge: forgetting or center differ";
  KOOPCORE_REQUIRE(!a.sharded && !b.sharded) << "merge: row blocks cannot be merged one by one";
}

template <class T>
void StreamingSvd<T>::merge(StreamingSvd& other) {
  KOOPCORE_REQUIRE(this != &other) << "merge: a stream cannot be merged with itself";
  const std::scoped_lock lock(mutex_, other.mutex_);
  check_alike(other);
  merge_locked(other, nullptr);
}

// However a merge ends, the pending columns are snapshots again.
template <class T>
struct StreamingSvd<T>::AfterMerge {
  StreamingSvd& stream;
  ~AfterMerge() {
    stream.plain_ = stream.counted_ = false;
    stream.pending_ = stream.block_exponent_ = 0;
  }
};

// Returns the coordinates, in the new basis, of our old one and of the other's leading directions,
// which are `theirs_out`.
template <class T>
Matrix<double> StreamingSvd<T>::merge_locked(StreamingSvd& other, Leading* theirs_out) {
  absorb();
  Leading theirs = other.leading(other.used());
  const int64_t ours = basis_size_;
  Matrix<double> map(capacity_, ours + theirs.count);
  for (int64_t i = 0; i < ours; ++i) map(i, i) = 1.0;
  const AfterMerge after{*this};
  plain_ = true;
  for (int64_t first = 0; first < theirs.count; first += options_.block) {
    const int64_t count = std::min(options_.block, theirs.count - first);
    other.copy_directions(theirs, first, count,
                          storage().block(0, slot(count - 1), state_size_, count));
    std::copy_n(theirs.values.begin() + first, count, column_weights_.begin());
    block_exponent_ = theirs.exponent;
    others_in_block_ = theirs.others;
    pending_ = count;
    const int64_t before = basis_size_;
    absorb();
    follow(map, ours + first, before, count);
  }
  block_exponent_ = 0;
  if (options_.center) merge_means(other, map);
  const double share = to_unit(2 * (theirs.exponent - exponent_));
  if (theirs.count > 0)
    blas::gemm(Op::kNone, Op::kTranspose, share, std::as_const(theirs.cross).view(),
               std::as_const(map).view().block(0, ours, basis_size_, theirs.count), 1.0,
               cross_sketch_.view().block(0, 0, kSums, basis_size_));
  sketch_energy_ += share * theirs.sketch_energy;
  energy_ += share * theirs.energy;
  weight_ += other.weight_now();
  seen_ += other.seen_;
  ++version_;
  if (theirs_out != nullptr) *theirs_out = std::move(theirs);
  return map;
}

// The directions [first, first + count) of this stream, into columns that run newest first.
template <class T>
void StreamingSvd<T>::copy_directions(const Leading& from, int64_t first, int64_t count,
                                      MatrixView<T> out) {
  const int64_t c = used(), start = options_.block - pending_;
  Matrix<double> placed(c, count);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < c; ++i)
      placed(place_of(i) - start, count - 1 - j) = from.on_columns(i, first + j);
  koopcore::combine<T>(strided(MatrixView<const T>(used_columns())), std::as_const(placed).view(),
                       out);
}

// `map` holds coordinates in the basis before the last absorption, whose block were the unweighted
// directions [first, first + count).
template <class T>
void StreamingSvd<T>::follow(Matrix<double>& map, int64_t first, int64_t before, int64_t count) {
  const MatrixView<const double> t = std::as_const(transition_).view();
  Matrix<double> moved(capacity_, first + count);
  blas::gemm(Op::kNone, Op::kNone, 1.0, t.block(0, 0, basis_size_, before),
             std::as_const(map).view().block(0, 0, before, first), 0.0,
             moved.view().block(0, 0, basis_size_, first));
  for (int64_t j = 0; j < count; ++j) {
    const double w = column_weights_[static_cast<size_t>(j)];
    for (int64_t i = 0; i < basis_size_; ++i)
      moved(i, first + j) = w > 0.0 ? t(i, before + j) / w : 0.0;
  }
  std::copy_n(moved.view().data, capacity_ * (first + count), map.view().data);
}

// The step between the two means is one more data column, and the mean moves.
template <class T>
void StreamingSvd<T>::merge_means(StreamingSvd& other, Matrix<double>& map) {
  const double ours = weight_, theirs = other.weight_now();
  if (!(theirs > 0.0)) return;
  const std::vector<T> of_other = other.mean_now();
  T* const reference = storage().col(storage_columns_ - 1);
  if (!(ours > 0.0)) std::copy(of_other.begin(), of_other.end(), reference);
  T* const mean = storage().col(mean_at());
  T* const step = storage().col(slot(0));
  const T share = static_cast<T>(theirs / (ours + theirs));
  for (int64_t i = 0; i < state_size_; ++i)
    step[i] = (of_other[static_cast<size_t>(i)] - reference[i]) - mean[i];
  column_weights_[0] = std::sqrt(ours * theirs / (ours + theirs));
  pending_ = 1;
  counted_ = true;
  const int64_t before = basis_size_;
  absorb();
  counted_ = false;
  follow(map, map.cols(), before, 0);
  for (int64_t i = 0; i < state_size_; ++i) mean[i] += share * step[i];
  std::fill_n(mean_sketch_.view().data, kSums, 0.0);
  sketch_.add<T>({mean, state_size_, 1, 1, state_size_}, mean_sketch_.view());
}

template <class T>
double StreamingSvd<T>::weight_now() {
  weigh();
  return weight_ * fading_ + block_weight_;
}

template <class T>
std::vector<T> StreamingSvd<T>::mean_now() {
  std::vector<double> c(static_cast<size_t>(used()));
  weigh();
  if (pending_ > 0)
    mean_weights(c.data());
  else
    c[static_cast<size_t>(basis_size_)] = 1.0;
  std::vector<T> out(static_cast<size_t>(state_size_));
  std::vector<T*> segments;
  int64_t row = 0;
  for (const int64_t size : segment_sizes_) {
    segments.push_back(out.data() + row);
    row += size;
  }
  combine_locked({c.data(), used(), 1, used()}, 1.0, segments.data());
  return out;
}

template <class T>
int64_t StreamingSvd<T>::seen() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return seen_;
}

template <class T>
double StreamingSvd<T>::weight() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return weight_now();
}

template <class T>
int64_t StreamingSvd<T>::room() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return options_.block - pending_;
}

// The Gram matrix of the columns, and below it the sketch of the snapshots.
template <class T>
Matrix<double> StreamingSvd<T>::partial() {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(options_.sharded) << "partial() is for row blocks; this stream is whole";
  measure_locally();
  const int64_t c = used();
  Matrix<double> out(c + kSums, c);
  for (int64_t j = 0; j < c; ++j) {
    std::copy_n(gram_.view().col(j), c, out.view().col(j));
    if (j >= c - pending_)
      std::copy_n(block_sketch_.view().col(j - (c - pending_)), kSums, out.view().col(j) + c);
  }
  return out;
}

template <class T>
void StreamingSvd<T>::provide(MatrixView<const double> total) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t c = used();
  KOOPCORE_REQUIRE(options_.sharded && total.rows == c + kSums && total.cols == c)
      << "provide: got (" << total.rows << ", " << total.cols << "); the sum of partial() is ("
      << c + kSums << ", " << c << ")" << (options_.sharded ? "" : ", and this stream is whole");
  for (int64_t j = 0; j < c; ++j)
    for (int64_t i = 0; i < total.rows; ++i)
      KOOPCORE_REQUIRE(std::isfinite(total(i, j)))
          << "provide: total[" << i << ", " << j << "] is " << total(i, j);
  for (int64_t j = 0; j < c; ++j) {
    std::copy_n(total.col(j), c, gram_.view().col(j));
    if (j >= c - pending_)
      std::copy_n(total.col(j) + c, kSums, block_sketch_.view().col(j - (c - pending_)));
  }
  drop_vanishing();
  provided_ = true;
  if (pending_ == options_.block) absorb();
}

template <class T>
template <class Archive>
void StreamingSvd<T>::archive(Archive& numbers) {
  for (int64_t* value : {&basis_size_, &pending_, &seen_, &exponent_}) numbers(*value);
  for (double* value : {&energy_, &weight_, &sketch_energy_, &others_}) numbers(*value);
  for (int64_t j = 0; j < pending_; ++j) numbers(ticks_[static_cast<size_t>(j)]);
  for (int64_t j = 0; j < basis_size_; ++j) {
    for (int64_t i = 0; i < basis_size_; ++i) numbers(factor_(i, j));
    for (int64_t i = 0; i < kSums; ++i) numbers(basis_sketch_(i, j));
    for (int64_t i = 0; i < kSums; ++i) numbers(cross_sketch_(i, j));
  }
  for (int64_t i = 0; i < kSums; ++i) numbers(mean_sketch_(i, 0));
}

template <class T>
typename StreamingSvd<T>::State StreamingSvd<T>::state() {
  const std::lock_guard<std::mutex> lock(mutex_);
  State out{Matrix<T>(state_size_, used() + mean_columns()), {}};
  const MatrixView<T> from = used_columns();
  std::copy_n(from.data, state_size_ * used(), out.columns.view().data);
  if (options_.center && seen_ > 0)  // what a refused first snapshot has left there does not count
    std::copy_n(storage().col(storage_columns_ - 1), state_size_, out.columns.view().col(used()));
  detail::Writer writer{out.numbers};
  archive(writer);
  return out;
}

// How many numbers a state that begins like this has; 0 if none can.
template <class T>
int64_t StreamingSvd<T>::numbers_of_state(const std::vector<double>& numbers) {
  if (numbers.size() < 2) return 0;
  for (const double size : {numbers[0], numbers[1]})
    if (!(size >= 0.0 && size < 4e6 && size == std::floor(size))) return 0;
  const auto r = static_cast<int64_t>(numbers[0]), p = static_cast<int64_t>(numbers[1]);
  return 8 + p + r * (r + 2 * kSums) + kSums;
}

// Whether a stream could have written this: shapes, whole numbers where they count, and nothing
// that is not finite or whose products could overflow.
template <class T>
void StreamingSvd<T>::check_state(MatrixView<const T> columns,
                                  const std::vector<double>& numbers) const {
  const int64_t count = numbers_of_state(numbers);
  const double r = count > 0 ? numbers[0] : 0.0, p = count > 0 ? numbers[1] : 0.0;
  const double width = r + p + 2.0 * static_cast<double>(mean_columns());
  const int64_t most_pending = options_.block - (options_.sharded ? 0 : 1);
  KOOPCORE_REQUIRE(count > 0 && r <= static_cast<double>(capacity_) &&
                   p <= static_cast<double>(most_pending) &&
                   count == static_cast<int64_t>(numbers.size()) && columns.rows == state_size_ &&
                   width == static_cast<double>(columns.cols))
      << "the state has " << r << " directions, " << p << " snapshots pending, columns ("
      << columns.rows << ", " << columns.cols << ") and " << numbers.size()
      << " numbers; this stream takes up to " << capacity_ << " and " << most_pending
      << ", and with those columns (" << state_size_ << ", " << width << ") and " << count;
  detail::check_numbers(numbers);
  for (const size_t i : {size_t{2}, size_t{3}}) detail::check_integer(numbers, i, -0x1p53, 0x1p53);
  for (const size_t i : {size_t{2}, size_t{4}, size_t{5}, size_t{6}, size_t{7}})
    KOOPCORE_REQUIRE(numbers[i] >= 0.0)
        << "number " << i << " of the state is " << numbers[i] << "; it counts from 0";
  for (size_t i = 8; i < 8 + static_cast<size_t>(p); ++i) detail::check_integer(numbers, i, 0, 1);
  check_block(strided(columns), nullptr, false);
}

template <class T>
void StreamingSvd<T>::restore(MatrixView<const T> columns, const std::vector<double>& numbers) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_state(columns, numbers);
  restore_locked(columns, numbers);
}

template <class T>
void StreamingSvd<T>::restore_locked(MatrixView<const T> columns,
                                     const std::vector<double>& numbers) {
  detail::Reader reader{numbers};
  archive(reader);
  const MatrixView<T> to = used_columns();
  for (int64_t j = 0; j < used(); ++j) std::copy_n(columns.col(j), state_size_, to.col(j));
  if (options_.center)
    std::copy_n(columns.col(used()), state_size_, storage().col(storage_columns_ - 1));
  provided_ = false;
  others_in_block_ = 0.0;
  ++version_;
}

#define KOOPCORE_INSTANTIATE(T)                                                                   \
  template void StreamingSvd<T>::merge(StreamingSvd<T>&);                                         \
  template void StreamingSvd<T>::check_alike(const StreamingSvd<T>&) const;                       \
  template Matrix<double> StreamingSvd<T>::merge_locked(StreamingSvd<T>&, Leading*);              \
  template int64_t StreamingSvd<T>::seen() const;                                                 \
  template double StreamingSvd<T>::weight();                                                      \
  template int64_t StreamingSvd<T>::room() const;                                                 \
  template Matrix<double> StreamingSvd<T>::partial();                                             \
  template void StreamingSvd<T>::provide(MatrixView<const double>);                               \
  template int64_t StreamingSvd<T>::numbers_of_state(const std::vector<double>&);                 \
  template void StreamingSvd<T>::check_state(MatrixView<const T>, const std::vector<double>&)     \
      const;                                                                                      \
  template void StreamingSvd<T>::restore_locked(MatrixView<const T>, const std::vector<double>&); \
  template typename StreamingSvd<T>::State StreamingSvd<T>::state();                              \
  template void StreamingSvd<T>::restore(MatrixView<const T>, const std::vector<double>&);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
