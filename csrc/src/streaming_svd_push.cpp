// StreamingSvd: how snapshots enter, checked while they are copied. The rest: streaming_svd.cpp.

#include <algorithm>

#include "koopcore/error.hpp"
#include "koopcore/streaming_svd.hpp"
#include "float_bits.hpp"
#include "simd.hpp"

namespace koopcore {

using detail::Bits;

namespace {

constexpr int64_t kPanelRows = 512;  // rows staged at a time: of all columns they fit the L1 cache
// Below 2^this a snapshot counts as zero; the square of a value of 2^500 is the largest taken.
template <class T>
constexpr int kSmallest = sizeof(T) == 4 ? -100 : -430;
template <class T>
constexpr int kLargest = sizeof(T) == 4 ? 128 : 500;

template <class T, class Word>
KOOPCORE_INLINE void copy_and_look(const T* x, int64_t stride, const T* reference, T* out,
                                   int64_t size, Word& largest) {
  Word seen = largest;
  for (int64_t i = 0; i < size; ++i) {
    const T value = reference == nullptr ? x[i * stride] : x[i * stride] - reference[i];
    const Word field = detail::exponent_field(value);
    seen = seen > field ? seen : field;
    out[i] = value;
  }
  largest = seen;
}

template <class T, class Word>
KOOPCORE_INLINE void copy_column(const T* x, int64_t stride, const T* reference, T* out,
                                 int64_t size, Word& largest) {
  if (stride == 1 && reference == nullptr)
    copy_and_look<T, Word>(x, 1, nullptr, out, size, largest);
  else
    copy_and_look<T, Word>(x, stride, reference, out, size, largest);
}

KOOPCORE_PER_PROCESSOR(copy_column32,
                       (const float* x, int64_t stride, const float* reference, float* out,
                        int64_t size, uint32_t& largest),
                       (x, stride, reference, out, size, largest), copy_column)
KOOPCORE_PER_PROCESSOR(copy_column64,
                       (const double* x, int64_t stride, const double* reference, double* out,
                        int64_t size, uint64_t& largest),
                       (x, stride, reference, out, size, largest), copy_column)

void copy_looking(const float* x, int64_t stride, const float* reference, float* out, int64_t size,
                  uint32_t& largest) {
  copy_column32(x, stride, reference, out, size, largest);
}
void copy_looking(const double* x, int64_t stride, const double* reference, double* out,
                  int64_t size, uint64_t& largest) {
  copy_column64(x, stride, reference, out, size, largest);
}

}  // namespace

// Copies rows of some columns, minus a reference if there is one, to the slots of the next pending
// snapshots, noting the largest value.
template <class T>
void StreamingSvd<T>::stage(StridedView<const T> x, int64_t row, const T* reference) {
  for (int64_t panel = 0; panel < x.rows; panel += kPanelRows) {
    const int64_t rows = std::min(kPanelRows, x.rows - panel);
    for (int64_t j = 0; j < x.cols; ++j)
      copy_looking(&x(panel, j), x.row_stride, reference == nullptr ? nullptr : reference + panel,
                   storage().col(slot(pending_ + j)) + row + panel, rows,
                   largest_[static_cast<size_t>(j)]);
  }
}

// Centred, the first snapshot becomes what all are held relative to.
template <class T>
void StreamingSvd<T>::stage_centred(StridedView<const T> x, int64_t row) {
  if (!options_.center) return stage(x, row, nullptr);
  T* const reference = storage().col(storage_columns_ - 1) + row;
  if (seen_ == 0)
    for (int64_t i = 0; i < x.rows; ++i) reference[i] = x(i, 0);
  stage(x, row, reference);
}

// The staged columns become pending snapshots, or an error names the first bad one.
template <class T>
void StreamingSvd<T>::commit(int64_t count, double first_tick) {
  for (int64_t j = 0; j < count; ++j) {
    const auto largest = largest_[static_cast<size_t>(j)];
    KOOPCORE_REQUIRE(largest != Bits<T>::exponent)
        << "snapshot " << seen_ + j << " of the stream has a value that is not finite; "
        << "nothing was recorded";
    KOOPCORE_REQUIRE(sizeof(T) == 4 || largest < detail::field_of<T>(kLargest<T>))
        << "snapshot " << seen_ + j << " of the stream has a value of 2^" << kLargest<T>
        << " or more, whose square could overflow; nothing was recorded";
  }
  for (int64_t j = 0; j < count; ++j) {
    if (largest_[static_cast<size_t>(j)] < detail::field_of<T>(kSmallest<T>))
      std::fill_n(storage().col(slot(pending_ + j)), state_size_, T(0));
    ticks_[static_cast<size_t>(pending_ + j)] = j == 0 ? first_tick : 1.0;
  }
  pending_ += count;
  seen_ += count;
  ++version_;
  provided_ = false;
  if (pending_ == options_.block && !options_.sharded) absorb();
}

template <class T>
void StreamingSvd<T>::require_room(int64_t count) const {
  KOOPCORE_REQUIRE(!options_.sharded || pending_ + count <= options_.block)
      << "a row block takes " << options_.block << " snapshots, then the sum of all row blocks' "
      << "partial() by provide(); it holds " << pending_ << " and " << count << " more came";
}

template <class T>
void StreamingSvd<T>::push(const T* const* segments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  require_room(1);
  largest_[0] = 0;
  int64_t row = 0;
  for (size_t i = 0; i < segment_sizes_.size(); ++i) {
    stage_centred({segments[i], segment_sizes_[i], 1, 1, segment_sizes_[i]}, row);
    row += segment_sizes_[i];
  }
  commit(1, 1.0);
}

// The largest exponent of a whole block, where it is too wide to be staged at once.
template <class T>
void StreamingSvd<T>::check_block(StridedView<const T> block) const {
  for (int64_t j = 0; j < block.cols; ++j)
    for (int64_t i = 0; i < block.rows; ++i) {
      const auto field = detail::exponent_field(block(i, j));
      KOOPCORE_REQUIRE(field != Bits<T>::exponent &&
                       (sizeof(T) == 4 || field < detail::field_of<T>(kLargest<T>)))
          << "block[" << i << ", " << j << "] is " << block(i, j)
          << ", not finite or with a square that could overflow; nothing was recorded";
    }
}

template <class T>
void StreamingSvd<T>::push_block(StridedView<const T> block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(block.rows == state_size_)
      << "block has " << block.rows << " rows; the state has " << state_size_ << " numbers";
  require_room(block.cols);
  if (block.cols > options_.block - pending_) check_block(block);
  for (int64_t first = 0; first < block.cols;) {
    const int64_t count = std::min(options_.block - pending_, block.cols - first);
    std::fill_n(largest_.begin(), count, 0);
    stage_centred({&block(0, first), block.rows, count, block.row_stride, block.col_stride}, 0);
    commit(count, 1.0);
    first += count;
  }
}

#define KOOPCORE_INSTANTIATE(T)                                                          \
  template void StreamingSvd<T>::push(const T* const*);                                  \
  template void StreamingSvd<T>::push_block(StridedView<const T>);                       \
  template void StreamingSvd<T>::stage(StridedView<const T>, int64_t, const T*);         \
  template void StreamingSvd<T>::commit(int64_t, double);                                \
  template void StreamingSvd<T>::require_room(int64_t) const;                            \
  template void StreamingSvd<T>::check_block(StridedView<const T>) const;
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
