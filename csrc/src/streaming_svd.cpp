#include "koopcore/streaming_svd.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "koopcore/error.hpp"
#include "parallel.hpp"
#include "stream_units.hpp"

namespace koopcore {

using blas::Op;
using detail::to_unit;

namespace {

// Directions with less than this share of the largest singular value carry rounding only.
constexpr double kNegligible = 1e-15;
// Weights within a block do not fall below this: squares of short snapshots stay above underflow.
constexpr double kLeastWeight = 1e-40;
// Squares of lengths below which a snapshot counts as zero.
template <class T>
constexpr double kVanishing = sizeof(T) == 4 ? 0x1p-200 : 0x1p-860;
// Of ranks and blocks: what the small matrices are still made for.
// Rows are summed up slice by slice, whatever the number of threads, and so to the same bits.
constexpr int64_t kSliceRows = int64_t{1} << 15, kMostSlices = 8;
constexpr int64_t kMostColumns = int64_t{1} << 20;
constexpr int64_t kMostNumbers = int64_t{1} << 58;

int64_t total_size(const std::vector<int64_t>& sizes) {
  KOOPCORE_REQUIRE(!sizes.empty()) << "segment_sizes is empty; a state needs at least one segment";
  int64_t total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    KOOPCORE_REQUIRE(sizes[i] >= 1)
        << "segment_sizes[" << i << "] is " << sizes[i] << "; a segment needs at least one number";
    KOOPCORE_REQUIRE(sizes[i] <= kMostNumbers - total)
        << "segment_sizes add up to more than " << kMostNumbers << " numbers";
    total += sizes[i];
  }
  return total;
}

StreamOptions checked(StreamOptions o, bool single) {
  KOOPCORE_REQUIRE(o.rank >= 1 && o.oversampling >= 0 && o.block >= 1)
      << "rank is " << o.rank << ", oversampling " << o.oversampling << ", block " << o.block
      << "; they count from 1, 0 and 1";
  KOOPCORE_REQUIRE(o.rank <= kMostColumns && o.oversampling <= kMostColumns &&
                   o.block <= kMostColumns)
      << "rank is " << o.rank << ", oversampling " << o.oversampling << ", block " << o.block
      << "; each may be " << kMostColumns << " at most";
  KOOPCORE_REQUIRE(o.forgetting > 0.0 && o.forgetting <= 1.0)
      << "forgetting is " << o.forgetting << "; it is the share kept per snapshot, 0 < .. <= 1";
  KOOPCORE_REQUIRE(o.tolerance < 1.0) << "tolerance is " << o.tolerance << "; it must be below 1";
  if (!(o.tolerance >= 0.0)) o.tolerance = single ? 1e-6 : 3e-7;
  return o;
}

size_t storage_size(int64_t rows, int64_t columns) {
  KOOPCORE_REQUIRE(rows <= kMostNumbers / columns)
      << "a state of " << rows << " numbers held in " << columns << " columns is more than "
      << kMostNumbers << " numbers";
  return static_cast<size_t>(rows * columns);
}

}  // namespace

template <class T>
StreamingSvd<T>::StreamingSvd(std::vector<int64_t> segment_sizes, const StreamOptions& options)
    : segment_sizes_(std::move(segment_sizes)),
      state_size_(total_size(segment_sizes_)),
      options_(checked(options, sizeof(T) == 4)),
      // A row block cannot know the size of the whole state.
      capacity_(options_.sharded ? options_.rank + options_.oversampling
                                 : std::min(options_.rank + options_.oversampling, state_size_)),
      storage_columns_(options_.block + capacity_ + 2 * mean_columns()),
      n_threads_(threads_for(options_.n_threads)),
      slices_(std::clamp<int64_t>(state_size_ / kSliceRows, 1, kMostSlices)),
      sketch_(options_.seed, options_.first_row),
      storage_(storage_size(state_size_, storage_columns_)),
      ticks_(static_cast<size_t>(options_.block)),
      factor_(capacity_, capacity_),
      cross_sketch_(SparseSignSketch::kSums, capacity_),
      basis_sketch_(SparseSignSketch::kSums, capacity_),
      mean_sketch_(SparseSignSketch::kSums, 1),
      vanishing_(static_cast<size_t>(options_.block)),
      largest_(static_cast<size_t>(options_.block)),
      finder_(capacity_, options_.block + 1) {
  const int64_t b = options_.block, c = capacity_ + b + 1;
  for (Matrix<double>* m : {&gram_, &data_gram_, &data_, &left_, &right_, &small_, &on_data_,
                            &on_columns_, &transition_})
    *m = Matrix<double>(c, c);
  weights_ = Matrix<double>(b + 1, b + 1);
  block_sketch_ = Matrix<double>(SparseSignSketch::kSums, b);
  data_sketch_ = Matrix<double>(SparseSignSketch::kSums, c);
  sketch_scratch_ = Matrix<double>(SparseSignSketch::kSums, 2 * c);
  column_weights_.resize(static_cast<size_t>(b + 1));
  lengths_.resize(static_cast<size_t>(b + 1));
  values_.resize(static_cast<size_t>(c));
  slice_grams_ = Matrix<double>(c, c * slices_);
  slice_sums_ = Matrix<double>(SparseSignSketch::kSums, b * slices_);
  make_workers(c);
}

// Gram matrix of the used columns, in the order basis, mean, snapshots; sketch of the snapshots.
template <class T>
void StreamingSvd<T>::measure() {
  if (options_.sharded) {
    KOOPCORE_REQUIRE(provided_) << "this is a row block: give provide() the sum of partial() over "
                                   "all of them first";
    return;
  }
  measure_locally();
  drop_vanishing();
}

// Products of very short snapshots underflow.
template <class T>
void StreamingSvd<T>::drop_vanishing() {
  for (int64_t j = 0; j < pending_; ++j) {
    const int64_t at = used() - pending_ + j;
    const double square = gram_(at, at);
    vanishing_[static_cast<size_t>(j)] = square > 0.0 && square < kVanishing<T>;
    if (square >= kVanishing<T>) continue;
    for (int64_t i = 0; i < used(); ++i) gram_(i, at) = gram_(at, i) = 0.0;
    std::fill_n(block_sketch_.view().col(j), SparseSignSketch::kSums, 0.0);
  }
}

template <class T>
int64_t StreamingSvd<T>::place_of(int64_t column) const {
  if (column < basis_size_) return basis_at() + column;
  column -= basis_size_;
  if (column < mean_columns()) return mean_at();
  return slot(column - mean_columns());
}

// What the pending snapshots count: the data columns D as combinations of mean and snapshots.
template <class T>
void StreamingSvd<T>::weigh() {
  const int64_t m = mean_columns(), p = pending_;
  fading_ = 1.0;
  if (!plain_) {
    for (int64_t j = p - 1; j >= 0; --j) {
      column_weights_[static_cast<size_t>(j)] = std::sqrt(fading_);
      fading_ *= std::pow(options_.forgetting, ticks_[static_cast<size_t>(j)]);
      fading_ = std::max(fading_, kLeastWeight);
    }
  }
  data_columns_ = p;
  for (int64_t j = 0; j <= p; ++j) std::fill_n(weights_.view().col(j), m + p, 0.0);
  for (int64_t j = 0; j < p; ++j) weights_(m + j, j) = column_weights_[static_cast<size_t>(j)];
  block_weight_ = 0.0;
  if (plain_) return;
  for (int64_t j = 0; j < p; ++j)
    block_weight_ +=
        column_weights_[static_cast<size_t>(j)] * column_weights_[static_cast<size_t>(j)];
  if (!options_.center || p == 0) return;
  // Centred in the block, and one more column for the step from the old mean to the block's.
  const double past = weight_ * fading_;
  data_columns_ = p + 1;
  const double step = std::sqrt(past * block_weight_ / (past + block_weight_));
  for (int64_t i = 0; i < p; ++i) {
    const double wi = column_weights_[static_cast<size_t>(i)];
    const double share = wi * wi / block_weight_;
    for (int64_t j = 0; j < p; ++j)
      weights_(m + i, j) -= column_weights_[static_cast<size_t>(j)] * share;
    weights_(m + i, p) = step * share;
  }
  weights_(0, p) = -step;
}

// Coordinates of all data, past and new, in the basis extended by the new ones.
template <class T>
void StreamingSvd<T>::project() {
  const int64_t r = basis_size_, rest = mean_columns() + pending_, q = data_columns_, f = r;
  const MatrixView<double> g = gram_.view(), d = data_gram_.view();
  const MatrixView<const double> w = std::as_const(weights_).view().block(0, 0, rest, q);
  const MatrixView<double> product = small_.view().block(0, 0, r + rest, q);
  blas::gemm(Op::kNone, Op::kNone, 1.0, g.block(0, r, r + rest, rest), w, 0.0, product);
  for (int64_t j = 0; j < r; ++j) std::copy_n(g.col(j), r, d.col(j));
  for (int64_t j = 0; j < q; ++j) std::copy_n(product.col(j), r, d.col(r + j));
  blas::gemm(Op::kTranspose, Op::kNone, 1.0, w, product.block(r, 0, rest, q), 0.0,
             d.block(r, r, q, q));
  for (int64_t j = 0; j < q; ++j) {
    double square = 0.0;  // before any cancellation in w
    for (int64_t i = 0; i < rest; ++i) square += w(i, j) * w(i, j) * g(r + i, r + i);
    lengths_[static_cast<size_t>(j)] = std::sqrt(square);
  }
  finder_.find(d.block(0, 0, r + q, r + q), r, lengths_.data(), options_.tolerance);

  const MatrixView<const double> k = finder_.coordinates();
  const MatrixView<double> data = data_.view().block(0, 0, finder_.total(), f + q);
  blas::gemm(Op::kNone, Op::kNone, 1.0, k.block(0, 0, k.rows, r),
             std::as_const(factor_).view().block(0, 0, r, f), 0.0, data.block(0, 0, k.rows, f));
  choose_unit(detail::largest_entry(data.block(0, 0, k.rows, f)));
  for (int64_t j = 0; j < f; ++j)
    for (int64_t i = 0; i < k.rows; ++i) data(i, j) *= past_scale_;
  for (int64_t j = 0; j < q; ++j)
    for (int64_t i = 0; i < k.rows; ++i) data(i, f + j) = k(i, r + j) * block_scale_;
}

// A common unit for the past, which may have faded below all numbers, and the block. What of them
// lies outside the basis counts in the energies.
template <class T>
void StreamingSvd<T>::choose_unit(double past) {
  const double fade = std::sqrt(fading_);
  past = std::max({past, std::sqrt(energy_), others_});
  double block = others_in_block_;
  for (int64_t j = 0; j < data_columns_; ++j)
    block = std::max(block, lengths_[static_cast<size_t>(j)]);
  const int64_t of_past = detail::exponent_of(past * fade);
  int64_t of_block = detail::exponent_of(block);
  const bool past_counts = of_past != detail::kNone, block_counts = of_block != detail::kNone;
  if (block_counts) of_block += block_exponent_;
  next_exponent_ = exponent_;
  if (past_counts || block_counts)
    next_exponent_ = std::max(past_counts ? exponent_ + of_past : of_block,
                              block_counts ? of_block : exponent_ + of_past);
  past_scale_ = past_counts ? fade * to_unit(exponent_ - next_exponent_) : 0.0;
  block_scale_ = block_counts ? to_unit(block_exponent_ - next_exponent_) : 0.0;
}

template <class T>
void StreamingSvd<T>::absorb() {
  if (pending_ == 0) return;
  measure();
  weigh();
  project();
  project_sketch();
  if (finder_.total() > capacity_ || !finder_.independent())
    rotate();
  else
    append();
  if (!plain_) weight_ = weight_ * fading_ + block_weight_;
  others_ = std::max(others_ * past_scale_, others_in_block_ * block_scale_);
  others_in_block_ = 0.0;
  exponent_ = next_exponent_;
  pending_ = 0;
  provided_ = false;
  ++version_;
}

// The leading directions of everything become the basis.
template <class T>
void StreamingSvd<T>::rotate() {
  const int64_t total = finder_.total(), columns = basis_size_ + data_columns_;
  const int64_t most = std::min(decompose_data(), capacity_);
  int64_t kept = 0;
  while (kept < most && values_[static_cast<size_t>(kept)] > kNegligible * values_[0]) ++kept;
  const MatrixView<const double> w = std::as_const(left_).view().block(0, 0, total, kept);
  blas::gemm(Op::kNone, Op::kNone, 1.0, finder_.directions(), w, 0.0,
             on_data_.view().block(0, 0, columns, kept));
  blas::gemm(Op::kTranspose, Op::kNone, 1.0, w, finder_.coordinates(), 0.0,
             transition_.view().block(0, 0, kept, columns));
  for (int64_t j = 0; j < kept; ++j) {
    std::fill_n(factor_.view().col(j), capacity_, 0.0);
    factor_(j, j) = values_[static_cast<size_t>(j)];
  }
  write_basis(0, kept);
  move_sketch(kept);
  basis_size_ = kept;
}

// The basis stays, new directions go behind it.
template <class T>
void StreamingSvd<T>::append() {
  const int64_t r = basis_size_, total = finder_.total(), q = data_columns_;
  const MatrixView<const double> e = finder_.directions(), k = finder_.coordinates();
  const MatrixView<double> on_data = on_data_.view(), t = transition_.view();
  for (int64_t j = 0; j < total; ++j) {
    std::fill_n(on_data.col(j), r + q, 0.0);
    if (j < r)
      on_data(j, j) = 1.0;
    else
      std::copy_n(e.col(j), r + q, on_data.col(j));
  }
  for (int64_t j = 0; j < r; ++j) {
    std::fill_n(t.col(j), total, 0.0);
    t(j, j) = 1.0;
  }
  for (int64_t j = 0; j < q; ++j) std::copy_n(k.col(r + j), total, t.col(r + j));
  // From coordinates in the orthonormal directions to those in the basis as it is stored.
  const MatrixView<double> top = small_.view().block(0, 0, r, q);
  blas::gemm(Op::kNone, Op::kNone, 1.0, e.block(0, 0, r, r), k.block(0, r, r, q), 0.0, top);
  for (int64_t j = 0; j < q; ++j) std::copy_n(top.col(j), r, t.col(r + j));
  // factor factor^T = sum of past and new: the triangular factor of their transpose.
  const MatrixView<double> stack = data_.view().block(0, 0, r + q, total);
  for (int64_t i = 0; i < total; ++i) {
    for (int64_t j = 0; j < r; ++j) stack(j, i) = i < r ? factor_(i, j) * past_scale_ : 0.0;
    for (int64_t j = 0; j < q; ++j) stack(r + j, i) = t(i, r + j) * block_scale_;
  }
  blas::householder_r(stack, work_);
  for (int64_t j = 0; j < total; ++j)
    for (int64_t i = 0; i < total; ++i) factor_(i, j) = i >= j ? stack(j, i) : 0.0;
  write_basis(r, total);
  move_sketch(total);
  basis_size_ = total;
}

// Writes the new basis columns [first, count) and, centred, the new mean.
template <class T>
void StreamingSvd<T>::write_basis(int64_t first, int64_t count) {
  const bool moves = options_.center && !plain_;
  to_columns(first, count);
  if (first == 0 && moves) {  // one pass for both: the mean lies before the basis
    mean_weights(on_columns_.view().col(count));
    move_last_column_first(count);
    combine_columns(count + 1, mean_at());
    return;
  }
  if (count > first) combine_columns(count - first, basis_at() + first);
  if (!moves) return;
  mean_weights(on_columns_.view().col(0));
  combine_columns(1, mean_at());
}

// on_columns_ = coefficients of the columns [first, count) of on_data_, on basis, mean, snapshots.
template <class T>
void StreamingSvd<T>::to_columns(int64_t first, int64_t count) {
  const int64_t r = basis_size_, rest = mean_columns() + pending_, q = data_columns_;
  for (int64_t j = first; j < count; ++j)
    std::copy_n(on_data_.view().col(j), r, on_columns_.view().col(j - first));
  blas::gemm(Op::kNone, Op::kNone, 1.0, weights_.view().block(0, 0, rest, q),
             on_data_.view().block(r, first, q, count - first), 0.0,
             on_columns_.view().block(r, 0, rest, count - first));
}

template <class T>
void StreamingSvd<T>::mean_weights(double* out) const {
  const int64_t r = basis_size_;
  const double share = block_weight_ / (weight_ * fading_ + block_weight_);
  std::fill_n(out, r, 0.0);
  out[r] = 1.0 - share;
  for (int64_t j = 0; j < pending_; ++j) {
    const double w = column_weights_[static_cast<size_t>(j)];
    out[r + 1 + j] = share * w * w / block_weight_;
  }
}

template <class T>
void StreamingSvd<T>::move_last_column_first(int64_t last) {
  const int64_t c = used();
  const MatrixView<double> m = on_columns_.view();
  for (int64_t j = last; j > 0; --j) std::swap_ranges(m.col(j), m.col(j) + c, m.col(j - 1));
}

#define KOOPCORE_INSTANTIATE(T)                                                       \
  template StreamingSvd<T>::StreamingSvd(std::vector<int64_t>, const StreamOptions&); \
  template int64_t StreamingSvd<T>::place_of(int64_t) const;                          \
  template void StreamingSvd<T>::measure();                                           \
  template void StreamingSvd<T>::drop_vanishing();                                    \
  template void StreamingSvd<T>::weigh();                                             \
  template void StreamingSvd<T>::project();                                           \
  template void StreamingSvd<T>::absorb();                                            \
  template void StreamingSvd<T>::mean_weights(double*) const;                         \
  template void StreamingSvd<T>::to_columns(int64_t, int64_t);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
