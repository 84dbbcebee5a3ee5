#include "koopcore/snapshot_window.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "koopcore/error.hpp"
#include "float_bits.hpp"
#include "stream_archive.hpp"

namespace koopcore {
namespace {

using detail::Bits;

// The reference moves to the newest snapshot once it lies farther away than this times the
// diameter of the window (squared): beyond, differences between snapshots lose float32 digits.
constexpr double kDriftSquared = 1000.0;

// Rows that one pass of combine() accumulates in float64; the accumulator stays in the L1 cache.
constexpr int64_t kCombineRows = 1024;

// out = x - reference; 0 unless some difference is not finite. On bits, so that it vectorises.
template <class T>
typename Bits<T>::Word subtract(const T* x, const T* reference, T* out, int64_t size) {
  using Word = typename Bits<T>::Word;
  Word bad = 0;
  for (int64_t i = 0; i < size; ++i) {
    const T difference = x[i] - reference[i];
    bad |= detail::exponent_field(difference) == Bits<T>::exponent ? Word{1} : Word{0};
    out[i] = difference;
  }
  return bad;
}

int64_t total_size(const std::vector<int64_t>& sizes) {
  KOOPCORE_REQUIRE(!sizes.empty()) << "segment_sizes is empty; a state needs at least one segment";
  for (size_t i = 0; i < sizes.size(); ++i)
    KOOPCORE_REQUIRE(sizes[i] >= 1)
        << "segment_sizes[" << i << "] is " << sizes[i] << "; a segment needs at least one number";
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

// A sum that rounding does not tell from one is one, so that what never moved stays to the bit.
double sum_of(const double* coefficients, int64_t count) {
  double sum = 0.0, magnitude = 0.0;
  for (int64_t k = 0; k < count; ++k) {
    sum += coefficients[k];
    magnitude += std::abs(coefficients[k]);
  }
  const double rounding =
      static_cast<double>(count) * std::numeric_limits<double>::epsilon() * magnitude;
  return std::abs(sum - 1.0) <= rounding ? 1.0 : sum;
}

int64_t slots_for(int64_t capacity) {
  KOOPCORE_REQUIRE(capacity >= 2) << "capacity is " << capacity
                                  << "; a window needs at least 2 snapshots";
  return capacity + 1;
}

}  // namespace

template <class T>
SnapshotWindow<T>::SnapshotWindow(std::vector<int64_t> segment_sizes, int64_t capacity)
    : segment_sizes_(std::move(segment_sizes)),
      state_size_(total_size(segment_sizes_)),
      slots_(slots_for(capacity)),
      storage_(static_cast<size_t>(state_size_ * (slots_ + 1))),
      column_gram_(slots_ + 1, slots_ + 1),
      work_(state_size_, slots_ + 1) {
  changed_.reserve(3);
}

// `segment_at(i)` points to segment i of the new snapshot.
template <class T>
template <class SegmentAt>
void SnapshotWindow<T>::append(SegmentAt segment_at) {
  T* const reference = columns().col(0);
  T* const target = columns().col(column_of(size_));
  typename Bits<T>::Word bad = 0;
  int64_t offset = 0;
  for (size_t i = 0; i < segment_sizes_.size(); ++i) {
    const T* segment = segment_at(i);
    if (size_ == 0) std::copy_n(segment, segment_sizes_[i], reference + offset);
    bad |= subtract(segment, reference + offset, target + offset, segment_sizes_[i]);
    offset += segment_sizes_[i];
  }
  KOOPCORE_REQUIRE(bad == 0)
      << "the snapshot has a value that is not finite (or overflows when the "
         "reference is subtracted); it was not recorded";
  if (size_ == 0) reference_pending_ = true;
  if (size_ == capacity())
    start_ = (start_ + 1) % slots_;
  else
    ++size_;
  pending_ = std::min(pending_ + 1, size_);
}

template <class T>
void SnapshotWindow<T>::push(const T* const* segments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  append([segments](size_t i) { return segments[i]; });
}

template <class T>
void SnapshotWindow<T>::push_block(StridedView<const T> block) {
  KOOPCORE_REQUIRE(block.rows == state_size_ && block.row_stride == 1 && segment_sizes_.size() == 1)
      << "block has " << block.rows << " rows with stride " << block.row_stride
      << "; this window of " << segment_sizes_.size() << " segment(s) takes " << state_size_
      << " contiguous numbers per snapshot";
  for (int64_t j = 0; j < block.cols; ++j)
    for (int64_t i = 0; i < block.rows; ++i)
      KOOPCORE_REQUIRE(std::isfinite(block(i, j)))
          << "block[" << i << ", " << j << "] is " << block(i, j) << "; nothing was recorded";
  const std::lock_guard<std::mutex> lock(mutex_);
  for (int64_t j = 0; j < block.cols; ++j)
    append([&block, j](size_t) { return block.data + j * block.col_stride; });
}

template <class T>
void SnapshotWindow<T>::collect_pending() {
  changed_.clear();
  if (reference_pending_) changed_.push_back({0, 1});
  if (pending_ > 0) {
    const int64_t first = column_of(size_ - pending_);
    const int64_t unwrapped = std::min(pending_, slots_ + 1 - first);
    changed_.push_back({first, unwrapped});
    if (pending_ > unwrapped) changed_.push_back({1, pending_ - unwrapped});
  }
  pending_ = 0;
  reference_pending_ = false;
}

template <class T>
void SnapshotWindow<T>::update() {
  collect_pending();
  if (changed_.empty()) return;
  const int64_t used = 1 + (start_ == 0 ? size_ : slots_);  // columns ever written
  const MatrixView<T> written = columns().block(0, 0, state_size_, used);
  const MatrixView<const T> ring = written.block(0, 1, state_size_, used - 1);
  update_gram<T, T>(written.col(0), ring, changed_, column_gram_.view(), work_, 0);
  if (!drifted()) return;
  rebase();
  collect_pending();
  update_gram<T, T>(written.col(0), ring, changed_, column_gram_.view(), work_, 0);
}

template <class T>
bool SnapshotWindow<T>::drifted() const {
  const int64_t newest = column_of(size_ - 1);
  const double distance = column_gram_(newest, newest);
  double diameter = 0.0;
  for (int64_t k = 0; k + 1 < size_; ++k) {
    const int64_t j = column_of(k);
    diameter = std::max(diameter, column_gram_(j, j) + distance - 2.0 * column_gram_(j, newest));
  }
  return size_ > 1 && distance > kDriftSquared * diameter;
}

// The newest snapshot becomes the reference. The rounding error of the new reference goes into
// the differences, so that reference + difference stays what was pushed.
template <class T>
void SnapshotWindow<T>::rebase() {
  const MatrixView<T> all = columns();
  const int64_t newest = column_of(size_ - 1);
  for (int64_t i = 0; i < state_size_; ++i) {
    const T old_reference = all(i, 0), shift = all(i, newest);
    const T reference = old_reference + shift;
    const T back = reference - old_reference;
    const T error = (old_reference - (reference - back)) + (shift - back);
    all(i, 0) = reference;
    for (int64_t k = 0; k < size_; ++k) {
      T& difference = all(i, column_of(k));
      difference = (difference - shift) + error;
    }
  }
  pending_ = size_;
  reference_pending_ = true;
}

template <class T>
void SnapshotWindow<T>::gram(MatrixView<double> out, bool raw) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(out.rows == size_ && out.cols == size_)
      << "out is (" << out.rows << ", " << out.cols << "); the window holds " << size_
      << " snapshots";
  update();
  const Matrix<double>& g = column_gram_;
  for (int64_t k = 0; k < size_; ++k)
    for (int64_t l = 0; l < size_; ++l) {
      const int64_t i = column_of(l), j = column_of(k);
      out(l, k) = raw ? g(i, j) + g(i, 0) + g(0, j) + g(0, 0) : g(i, j);
    }
}

template <class T>
void SnapshotWindow<T>::combine(const double* coefficients, int64_t count,
                                T* const* segments) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(count == size_)
      << "got " << count << " coefficients; the window holds " << size_ << " snapshots";
  const double sum = sum_of(coefficients, size_);
  double accumulated[kCombineRows];
  const T* at = storage_.data();
  for (size_t s = 0; s < segment_sizes_.size(); ++s)
    for (int64_t row = 0; row < segment_sizes_[s]; row += kCombineRows) {
      const int64_t rows = std::min(kCombineRows, segment_sizes_[s] - row);
      for (int64_t i = 0; i < rows; ++i) accumulated[i] = sum * static_cast<double>(at[i]);
      for (int64_t k = 0; k < size_; ++k) {
        const T* difference = at + column_of(k) * state_size_;
        const double weight = coefficients[k];
        for (int64_t i = 0; i < rows; ++i)
          accumulated[i] += weight * static_cast<double>(difference[i]);
      }
      std::copy_n(accumulated, rows, segments[s] + row);
      at += rows;
    }
}

template <class T>
void SnapshotWindow<T>::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  start_ = size_ = pending_ = 0;
  reference_pending_ = false;
}

template <class T>
typename SnapshotWindow<T>::State SnapshotWindow<T>::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  State out{Matrix<T>(state_size_, slots_ + 1), {}};
  std::copy(storage_.begin(), storage_.end(), out.columns.view().data);
  for (const int64_t value : {start_, size_, pending_, int64_t{reference_pending_ ? 1 : 0}})
    out.numbers.push_back(static_cast<double>(value));
  const double* const gram = column_gram_.view().data;
  out.numbers.insert(out.numbers.end(), gram, gram + (slots_ + 1) * (slots_ + 1));
  return out;
}

template <class T>
void SnapshotWindow<T>::restore(MatrixView<const T> columns, const std::vector<double>& numbers) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t width = slots_ + 1, count = 4 + width * width;
  KOOPCORE_REQUIRE(columns.rows == state_size_ && columns.cols == width &&
                   static_cast<int64_t>(numbers.size()) == count)
      << "the state has columns (" << columns.rows << ", " << columns.cols << ") and "
      << numbers.size() << " numbers; a window of " << capacity() << " snapshots of " << state_size_
      << " numbers writes (" << state_size_ << ", " << width << ") and " << count;
  detail::check_numbers(numbers);
  const double most[] = {static_cast<double>(slots_ - 1), static_cast<double>(capacity()),
                         numbers[1], 1.0};
  for (size_t i = 0; i < 4; ++i) detail::check_integer(numbers, i, 0.0, most[i]);
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < state_size_; ++i)
      KOOPCORE_REQUIRE(std::isfinite(columns(i, j))) << "the state has a column that is not finite";
  for (int64_t j = 0; j < width; ++j)
    std::copy_n(columns.col(j), state_size_, storage_.data() + j * state_size_);
  start_ = static_cast<int64_t>(numbers[0]);
  size_ = static_cast<int64_t>(numbers[1]);
  pending_ = static_cast<int64_t>(numbers[2]);
  reference_pending_ = numbers[3] == 1.0;
  std::copy(numbers.begin() + 4, numbers.end(), column_gram_.view().data);
}

template <class T>
int64_t SnapshotWindow<T>::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return size_;
}

template class SnapshotWindow<float>;
template class SnapshotWindow<double>;

}  // namespace koopcore
