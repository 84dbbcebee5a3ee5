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
// Values of 2^this and more are refused: sums of their squares could overflow.
constexpr int kLargest = 490;
template <class T>
constexpr typename Bits<T>::Word kTooLarge =
    sizeof(T) == 4 ? Bits<T>::exponent : detail::field_of<T>(sizeof(T) == 4 ? 0 : kLargest);

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

// Centred, the first snapshot becomes what all are held relative to. Null without `center`.
template <class T>
const T* StreamingSvd<T>::reference_for(StridedView<const T> x, int64_t row) {
  if (!options_.center) return nullptr;
  T* const reference = storage().col(storage_columns_ - 1) + row;
  if (seen_ == 0)
    for (int64_t i = 0; i < x.rows; ++i) reference[i] = x(i, 0);
  return reference;
}

template <class T>
void StreamingSvd<T>::check_staged(int64_t count) const {
  for (int64_t j = 0; j < count; ++j) {
    const auto largest = largest_[static_cast<size_t>(j)];
    KOOPCORE_REQUIRE(largest != Bits<T>::exponent)
        << "snapshot " << seen_ + j << " of the stream has a value that is not finite; "
        << "nothing was recorded";
    KOOPCORE_REQUIRE(largest < kTooLarge<T>)
        << "snapshot " << seen_ + j << " of the stream has a value of 2^" << kLargest
        << " or more, whose square could overflow; nothing was recorded";
  }
}

// The staged columns become pending snapshots, or an error names the first bad one.
template <class T>
void StreamingSvd<T>::commit(int64_t count, double first_tick) {
  check_staged(count);
  for (int64_t j = 0; j < count; ++j)
    ticks_[static_cast<size_t>(pending_ + j)] = j == 0 ? first_tick : 1.0;
  pending_ += count;
  seen_ += count;
  ++version_;
  provided_ = false;
  if (pending_ < options_.block || options_.sharded) return;
  try {
    absorb();
  } catch (...) {  // for want of memory; nothing has been overwritten by then
    pending_ -= count;
    seen_ -= count;
    throw;
  }
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
    const StridedView<const T> x{segments[i], segment_sizes_[i], 1, 1, segment_sizes_[i]};
    stage(x, row, reference_for(x, row));
    row += segment_sizes_[i];
  }
  commit(1, 1.0);
}

// What staging would find in a block that is too wide to be staged at once: in its columns minus
// `reference` (if there is one) or, `successive`, minus the column before them.
template <class T>
void StreamingSvd<T>::check_block(StridedView<const T> block, const T* reference,
                                  bool successive) const {
  const auto largest_of = [&](int64_t j, int64_t first, int64_t rows) {
    const bool from_block = successive && j > 0;
    const T* const before = from_block ? &block(0, j - 1) : reference;
    const int64_t stride = from_block ? block.row_stride : 1;
    auto largest = detail::exponent_field(T(0));
    for (int64_t i = first; i < first + rows; ++i) {
      const T value = block(i, j);
      const T kept = before == nullptr ? value : value - before[i * stride];
      largest = std::max(largest, detail::exponent_field(kept));
    }
    return largest;
  };
  auto largest = detail::exponent_field(T(0));
  for (int64_t row = 0; row < block.rows; row += kPanelRows)
    for (int64_t j = 0; j < block.cols; ++j)
      largest = std::max(largest, largest_of(j, row, std::min(kPanelRows, block.rows - row)));
  for (int64_t j = 0; largest >= kTooLarge<T> && j < block.cols; ++j)
    KOOPCORE_REQUIRE(largest_of(j, 0, block.rows) < kTooLarge<T>)
        << "column " << j << " of the block has a value that is not finite, or whose square "
        << "could overflow; nothing was recorded";
}

template <class T>
void StreamingSvd<T>::push_block(StridedView<const T> block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(block.rows == state_size_)
      << "block has " << block.rows << " rows; the state has " << state_size_ << " numbers";
  require_room(block.cols);
  if (block.cols == 0) return;
  const T* const reference = reference_for(block, 0);
  if (block.cols > options_.block - pending_) check_block(block, reference, false);
  for (int64_t first = 0; first < block.cols;) {
    const int64_t count = std::min(options_.block - pending_, block.cols - first);
    std::fill_n(largest_.begin(), count, 0);
    stage({&block(0, first), block.rows, count, block.row_stride, block.col_stride}, 0, reference);
    commit(count, 1.0);
    first += count;
  }
}

#define KOOPCORE_INSTANTIATE(T)                                                  \
  template void StreamingSvd<T>::push(const T* const*);                          \
  template void StreamingSvd<T>::push_block(StridedView<const T>);               \
  template void StreamingSvd<T>::stage(StridedView<const T>, int64_t, const T*); \
  template void StreamingSvd<T>::commit(int64_t, double);                        \
  template void StreamingSvd<T>::require_room(int64_t) const;                    \
  template void StreamingSvd<T>::check_staged(int64_t) const;                    \
  template void StreamingSvd<T>::check_block(StridedView<const T>, const T*, bool) const;
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
