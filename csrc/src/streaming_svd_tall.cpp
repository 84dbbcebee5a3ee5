// StreamingSvd: the two passes over its tall columns, slice by slice of rows. The rest:
// streaming_svd.cpp.

#include <algorithm>
#include <utility>

#include "koopcore/streaming_svd.hpp"
#include "parallel.hpp"
#include "combine_kernel.hpp"

namespace koopcore {
namespace {

constexpr int64_t kSums = SparseSignSketch::kSums;
constexpr int64_t kGroup = 64;  // slices begin where the sketch can

}  // namespace

template <class T>
void StreamingSvd<T>::make_workers(int64_t columns) {
  for (int i = 0; i < n_threads_; ++i) {
    const auto scratch = static_cast<size_t>(detail::combine_scratch(columns, columns));
    workers_.push_back({BlockScratch(columns), std::vector<T>(scratch)});
  }
}

template <class T>
int64_t StreamingSvd<T>::slice_rows() const {
  const int64_t even = (state_size_ + slices_ - 1) / slices_;
  return (even + kGroup - 1) / kGroup * kGroup;
}

// Gram matrix and sketch: every slice on its own, then added up in their order.
template <class T>
void StreamingSvd<T>::measure_locally() {
  const int64_t c = used(), p = pending_, rows = slice_rows();
  const MatrixView<double> sums = block_sketch_.view().block(0, 0, kSums, p);
  parallel_for(slices_, n_threads_, [&](int64_t s, int worker) {
    const int64_t first = s * rows, size = std::clamp<int64_t>(state_size_ - first, 0, rows);
    const MatrixView<const T> slice = used_columns().block(first, 0, size, c);
    gram<T>(strided(slice), slice_grams_.view().block(0, s * c, c, c),
            workers_[static_cast<size_t>(worker)].block);
    const MatrixView<double> own = slice_sums_.view().block(0, s * p, kSums, p);
    std::fill_n(own.data, kSums * p, 0.0);
    const SparseSignSketch sketch(options_.seed, options_.first_row + first);
    sketch.add<T>({storage().col(slot(0)) + first, size, p, 1, -state_size_}, own);
  });
  const int64_t newest = options_.block - p;
  for (int64_t j = 0; j < c; ++j)
    for (int64_t i = 0; i < c; ++i) {
      double sum = 0.0;
      for (int64_t s = 0; s < slices_; ++s)
        sum += slice_grams_(place_of(i) - newest, s * c + place_of(j) - newest);
      gram_(i, j) = sum;
    }
  std::fill_n(sums.data, kSums * p, 0.0);
  for (int64_t s = 0; s < slices_; ++s)
    for (int64_t k = 0; k < kSums * p; ++k) sums.data[k] += slice_sums_.view().col(s * p)[k];
}

// storage columns [at, at + count) = used columns * on_columns_, in place.
template <class T>
void StreamingSvd<T>::combine_columns(int64_t count, int64_t at) {
  const int64_t c = used(), newest = options_.block - pending_, rows = slice_rows();
  const MatrixView<double> placed = small_.view().block(0, 0, c, count);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < c; ++i) placed(place_of(i) - newest, j) = on_columns_(i, j);
  parallel_for(slices_, n_threads_, [&](int64_t s, int worker) {
    const int64_t first = s * rows, size = std::clamp<int64_t>(state_size_ - first, 0, rows);
    const MatrixView<const T> slice = used_columns().block(first, 0, size, c);
    const MatrixView<T> out = storage().block(first, at, size, count);
    Worker& own = workers_[static_cast<size_t>(worker)];
    // In the arithmetic of the basis: it is rounded to T anyway, and measured with the next block.
    detail::combine_rows<T, T, T>(slice, placed, out, own.combine.data());
  });
}

#define KOOPCORE_INSTANTIATE(T)                         \
  template void StreamingSvd<T>::make_workers(int64_t); \
  template int64_t StreamingSvd<T>::slice_rows() const; \
  template void StreamingSvd<T>::measure_locally();     \
  template void StreamingSvd<T>::combine_columns(int64_t, int64_t);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
