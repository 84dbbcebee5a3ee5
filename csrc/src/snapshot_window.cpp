#include "koopcore/snapshot_window.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "koopcore/error.hpp"
#include "stream_archive.hpp"
#include "window_columns.hpp"

namespace koopcore {
namespace {

// The reference moves to the newest snapshot once it lies farther away than this times the
// diameter of the window (squared): beyond, differences between snapshots lose float32 digits.
// Those of bfloat16 are so few that the reference stays close.
constexpr double kDriftSquared = 1000.0, kDriftSquaredBFloat16 = 2.0;

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

int64_t checked_capacity(int64_t capacity) {
  KOOPCORE_REQUIRE(capacity >= 2) << "capacity is " << capacity
                                  << "; a window needs at least 2 snapshots";
  return capacity;
}

}  // namespace

template <class T>
SnapshotWindow<T>::SnapshotWindow(std::vector<int64_t> segment_sizes, int64_t capacity,
                                  const WindowOptions& options)
    : segment_sizes_(std::move(segment_sizes)),
      state_size_(total_size(segment_sizes_)),
      capacity_(checked_capacity(capacity)),
      columns_(new detail::WindowColumns<T>(segment_sizes_, slots(), options)),
      column_gram_(slots() + 1, slots() + 1),
      found_(slots(), slots()),
      work_(state_size_, slots()) {}

template <class T>
SnapshotWindow<T>::~SnapshotWindow() = default;

template <class T>
void SnapshotWindow<T>::append(const T* const* segments) {
  columns_->check_process();
  KOOPCORE_REQUIRE(columns_->put(segments, column_of(size_) - 1, size_ == 0))
      << "the snapshot has a value that is not finite (or overflows when the "
         "reference is subtracted); it was not recorded";
  if (size_ == capacity_)
    start_ = (start_ + 1) % slots();
  else
    ++size_;
  pending_ = std::min(pending_ + 1, size_);
  raw_pending_ = std::min(raw_pending_ + 1, size_);
  if (columns_->bfloat16() && pending_ == capacity_) update(false);
}

template <class T>
void SnapshotWindow<T>::push(const T* const* segments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  append(segments);
}

template <class T>
void SnapshotWindow<T>::push_block(StridedView<const T> block) {
  KOOPCORE_REQUIRE(block.rows == state_size_ && block.row_stride == 1 && segment_sizes_.size() == 1)
      << "block has " << block.rows << " rows with stride " << block.row_stride
      << "; this window of " << segment_sizes_.size() << " segment(s) takes " << state_size_
      << " contiguous numbers per snapshot";
  const std::lock_guard<std::mutex> lock(mutex_);
  const T* const reference = size_ == 0 ? block.data : nullptr;
  for (int64_t j = 0; j < block.cols; ++j) {
    const T* const state = block.data + j * block.col_stride;
    KOOPCORE_REQUIRE(columns_->would_take(state, reference))
        << "column " << j << " of block has a value that is not finite (or overflows when the "
        << "reference is subtracted); nothing was recorded";
  }
  for (int64_t j = 0; j < block.cols; ++j) {
    const T* const state = block.data + j * block.col_stride;
    append(&state);
  }
}

// Column 0 of the Gram matrix is the reference's: it is brought up to date only where raw products
// are asked for, since those of differences do without.
template <class T>
void SnapshotWindow<T>::update_pending(bool raw) {
  const bool with_reference = raw && raw_pending_ > 0;
  if (pending_ == 0 && !with_reference) return;
  const int64_t known = size_ - pending_, columns = size_ + (with_reference ? 1 : 0);
  const MatrixView<double> found = found_.view().block(0, 0, columns, columns);
  columns_->gram({start_, size_, slots()}, with_reference, known, found, work_);
  const auto place = [&](int64_t k) { return k < size_ ? column_of(k) : 0; };
  for (int64_t j = known; j < columns; ++j)
    for (int64_t i = 0; i <= j; ++i)
      column_gram_(place(i), place(j)) = column_gram_(place(j), place(i)) = found(i, j);
  pending_ = 0;
  if (with_reference) raw_pending_ = 0;
}

template <class T>
void SnapshotWindow<T>::update(bool raw) {
  const bool moved = pending_ > 0;
  update_pending(raw);
  if (!moved || !drifted()) return;
  columns_->rebase({start_, size_, slots()});
  pending_ = raw_pending_ = size_;
  update_pending(raw);
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
  const double most = columns_->bfloat16() ? kDriftSquaredBFloat16 : kDriftSquared;
  // A diameter so large could overflow in a difference from the new reference.
  constexpr double large = 0.25 * static_cast<double>(std::numeric_limits<T>::max());
  return size_ > 1 && distance > most * diameter && std::sqrt(diameter) < large;
}

template <class T>
void SnapshotWindow<T>::gram(MatrixView<double> out, bool raw) {
  const std::lock_guard<std::mutex> lock(mutex_);
  columns_->check_process();
  KOOPCORE_REQUIRE(out.rows == size_ && out.cols == size_)
      << "out is (" << out.rows << ", " << out.cols << "); the window holds " << size_
      << " snapshots";
  update(raw);
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
  columns_->check_process();
  KOOPCORE_REQUIRE(count == size_)
      << "got " << count << " coefficients; the window holds " << size_ << " snapshots";
  columns_->combine(sum_of(coefficients, size_), coefficients, {start_, size_, slots()}, segments);
}

template <class T>
void SnapshotWindow<T>::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  start_ = size_ = pending_ = raw_pending_ = 0;
}

template <class T>
typename SnapshotWindow<T>::State SnapshotWindow<T>::state() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  columns_->check_process();
  State out{columns_->to_matrix({start_, size_, slots()}), {}};
  for (const int64_t value : {start_, size_, pending_, raw_pending_})
    out.numbers.push_back(static_cast<double>(value));
  const double* const gram = column_gram_.view().data;
  out.numbers.insert(out.numbers.end(), gram, gram + (slots() + 1) * (slots() + 1));
  return out;
}

template <class T>
void SnapshotWindow<T>::restore(MatrixView<const T> columns, const std::vector<double>& numbers) {
  const std::lock_guard<std::mutex> lock(mutex_);
  columns_->check_process();
  const int64_t width = slots() + 1, count = 4 + width * width;
  KOOPCORE_REQUIRE(columns.rows == state_size_ && columns.cols == width &&
                   static_cast<int64_t>(numbers.size()) == count)
      << "the state has columns (" << columns.rows << ", " << columns.cols << ") and "
      << numbers.size() << " numbers; a window of " << capacity() << " snapshots of " << state_size_
      << " numbers writes (" << state_size_ << ", " << width << ") and " << count;
  detail::check_numbers(numbers);
  const double most[] = {static_cast<double>(slots() - 1), static_cast<double>(capacity()),
                         numbers[1], numbers[1]};
  for (size_t i = 0; i < 4; ++i) detail::check_integer(numbers, i, 0.0, most[i]);
  columns_->assign(columns);
  start_ = static_cast<int64_t>(numbers[0]);
  size_ = static_cast<int64_t>(numbers[1]);
  pending_ = static_cast<int64_t>(numbers[2]);
  raw_pending_ = std::max(static_cast<int64_t>(numbers[3]), pending_);
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
