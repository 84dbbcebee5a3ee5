// StreamingSvd: what it answers, and the sketch. The stream itself: streaming_svd.cpp.

#include <algorithm>
#include <cmath>
#include <utility>

#include "koopcore/error.hpp"
#include "koopcore/streaming_svd.hpp"
#include "stream_units.hpp"

namespace koopcore {

using blas::Op;
using detail::to_unit;

namespace {

constexpr int64_t kSums = SparseSignSketch::kSums;
// Singular values below this share of the largest are rounding of the small matrices.
constexpr double kResolved = 1e-14;
constexpr int64_t kCrossRows = 4096;
// The sketched error is a difference of sums of squares: this share of |X| is lost in rounding.
constexpr double kErrorFloor = 1e-7;

double dot(MatrixView<const double> a, MatrixView<const double> b) {
  double sum = 0.0;
  for (int64_t j = 0; j < a.cols; ++j)
    for (int64_t i = 0; i < a.rows; ++i) sum += a(i, j) * b(i, j);
  return sum;
}

}  // namespace

// Psi [U, D].
template <class T>
void StreamingSvd<T>::project_sketch() {
  const int64_t r = basis_size_, m = mean_columns(), q = data_columns_;
  const MatrixView<double> raw = sketch_scratch_.view().block(0, 0, kSums, m + pending_);
  if (m > 0) std::copy_n(mean_sketch_.view().data, kSums, raw.data);
  std::copy_n(block_sketch_.view().data, kSums * pending_, raw.col(m));
  std::copy_n(basis_sketch_.view().data, kSums * r, data_sketch_.view().data);
  blas::gemm(Op::kNone, Op::kNone, 1.0, raw, weights_.view().block(0, 0, m + pending_, q), 0.0,
             data_sketch_.view().block(0, r, kSums, q));
}

// The sketch follows the basis, by on_data_ and transition_, and counts the block.
template <class T>
void StreamingSvd<T>::move_sketch(int64_t kept) {
  const int64_t r = basis_size_, q = data_columns_;
  const double past = past_scale_ * past_scale_, block = block_scale_ * block_scale_;
  const MatrixView<const double> t = std::as_const(transition_).view();
  const MatrixView<const double> of_data = std::as_const(data_sketch_).view().block(0, r, kSums, q);
  const MatrixView<double> moved = sketch_scratch_.view().block(0, 0, kSums, kept);
  blas::gemm(Op::kNone, Op::kTranspose, past,
             std::as_const(cross_sketch_).view().block(0, 0, kSums, r), t.block(0, 0, kept, r), 0.0,
             moved);
  if (!plain_ || counted_)
    blas::gemm(Op::kNone, Op::kTranspose, block, of_data, t.block(0, r, kept, q), 1.0, moved);
  std::copy_n(moved.data, kSums * kept, cross_sketch_.view().data);
  blas::gemm(Op::kNone, Op::kNone, 1.0,
             std::as_const(data_sketch_).view().block(0, 0, kSums, r + q),
             std::as_const(on_data_).view().block(0, 0, r + q, kept), 0.0, moved);
  std::copy_n(moved.data, kSums * kept, basis_sketch_.view().data);
  sketch_energy_ *= past;
  energy_ *= past;
  if (plain_ && !counted_) return;
  sketch_energy_ += block * dot(of_data, of_data);
  for (int64_t j = 0; j < q; ++j) energy_ += block * std::max(0.0, data_gram_(r + j, r + j));
  if (!options_.center || plain_) return;
  const double share = block_weight_ / (weight_ * fading_ + block_weight_);
  for (int64_t i = 0; i < kSums; ++i) {
    double sum = (1.0 - share) * mean_sketch_(i, 0);
    for (int64_t j = 0; j < pending_; ++j) {
      const double w = column_weights_[static_cast<size_t>(j)];
      sum += share * w * w / block_weight_ * block_sketch_(i, j);
    }
    mean_sketch_(i, 0) = sum;
  }
}

// Singular values and left vectors of data_, which is spoiled.
template <class T>
int64_t StreamingSvd<T>::decompose_data() {
  const int64_t total = finder_.total(), columns = basis_size_ + data_columns_;
  const int64_t k = std::min(total, columns);
  blas::svd(data_.view().block(0, 0, total, columns), values_.data(),
            left_.view().block(0, 0, total, k), right_.view().block(0, 0, k, columns), work_);
  return k;
}

template <class T>
typename StreamingSvd<T>::Leading StreamingSvd<T>::leading(int64_t rank) {
  Leading out;
  if (used() == 0) return out;
  measure();
  weigh();
  project();
  project_sketch();
  const int64_t r = basis_size_, q = data_columns_, total = finder_.total();
  const int64_t found = decompose_data();
  while (out.count < std::min(found, rank) &&
         values_[static_cast<size_t>(out.count)] > kResolved * values_[0])
    ++out.count;
  out.values.assign(values_.begin(), values_.begin() + out.count);
  out.exponent = next_exponent_;
  const MatrixView<const double> w = std::as_const(left_).view().block(0, 0, total, out.count);
  blas::gemm(Op::kNone, Op::kNone, 1.0, finder_.directions(), w, 0.0,
             on_data_.view().block(0, 0, r + q, out.count));
  to_columns(0, out.count);
  out.on_columns = Matrix<double>(used(), out.count);
  for (int64_t j = 0; j < out.count; ++j)
    std::copy_n(on_columns_.view().col(j), used(), out.on_columns.view().col(j));
  // Moments of the sketch, in the coordinates of the leading directions.
  blas::gemm(Op::kTranspose, Op::kNone, 1.0, w, finder_.coordinates(), 0.0,
             transition_.view().block(0, 0, out.count, r + q));
  const double past = past_scale_ * past_scale_, block = block_scale_ * block_scale_;
  const MatrixView<const double> t = std::as_const(transition_).view();
  const MatrixView<const double> of_data = std::as_const(data_sketch_).view().block(0, r, kSums, q);
  out.cross = Matrix<double>(kSums, out.count);
  out.sketch = Matrix<double>(kSums, out.count);
  blas::gemm(Op::kNone, Op::kTranspose, past,
             std::as_const(cross_sketch_).view().block(0, 0, kSums, r), t.block(0, 0, out.count, r),
             0.0, out.cross.view());
  blas::gemm(Op::kNone, Op::kTranspose, block, of_data, t.block(0, r, out.count, q), 1.0,
             out.cross.view());
  blas::gemm(Op::kNone, Op::kNone, 1.0,
             std::as_const(data_sketch_).view().block(0, 0, kSums, r + q),
             std::as_const(on_data_).view().block(0, 0, r + q, out.count), 0.0, out.sketch.view());
  out.sketch_energy = past * sketch_energy_ + block * dot(of_data, of_data);
  out.others = std::max(others_ * past_scale_, others_in_block_ * block_scale_);
  out.energy = past * energy_;
  for (int64_t j = 0; j < q; ++j) out.energy += block * std::max(0.0, data_gram_(r + j, r + j));
  return out;
}

template <class T>
typename StreamingSvd<T>::Decomposition StreamingSvd<T>::decompose(int64_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(rank >= 0) << "rank is " << rank << "; it counts from 1 (0: as in the options)";
  Leading found = leading(rank == 0 ? options_.rank : rank);
  Decomposition out;
  out.version = version_;
  const double unit = to_unit(found.exponent);
  // |Psi (X - U c)|^2 summed over the snapshots, from its three moments.
  double square = found.sketch_energy - 2.0 * dot(found.sketch.view(), found.cross.view());
  for (int64_t j = 0; j < found.count; ++j) {
    const double value = found.values[static_cast<size_t>(j)];
    for (int64_t i = 0; i < kSums; ++i)
      square += value * value * found.sketch(i, j) * found.sketch(i, j);
    out.values.push_back(value * unit);
  }
  out.coefficients = std::move(found.on_columns);
  out.energy = found.energy * unit * unit;
  out.error = std::sqrt(std::max(square, kErrorFloor * kErrorFloor * found.energy)) * unit;
  return out;
}

template <class T>
std::vector<double> StreamingSvd<T>::mean_coefficients(int64_t* version) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<double> out(static_cast<size_t>(used()));
  *version = version_;
  if (!options_.center || seen_ == 0) return out;
  weigh();
  if (pending_ > 0)
    mean_weights(out.data());
  else
    out[static_cast<size_t>(basis_size_)] = 1.0;
  return out;
}

template <class T>
void StreamingSvd<T>::check_version(int64_t version, int64_t rows) const {
  KOOPCORE_REQUIRE(version == version_ && rows == used())
      << "the stream has moved on since these coefficients were made (version " << version
      << ", now " << version_ << "); ask for them again";
}

template <class T>
void StreamingSvd<T>::combine_locked(MatrixView<const double> coefficients, double reference,
                                     T* const* segments) {
  const int64_t c = used(), k = coefficients.cols, first = options_.block - pending_;
  Matrix<double> placed(c, k);
  for (int64_t j = 0; j < k; ++j)
    for (int64_t i = 0; i < c; ++i) placed(place_of(i) - first, j) = coefficients(i, j);
  int64_t row = 0;
  for (size_t s = 0; s < segment_sizes_.size(); ++s) {
    const int64_t rows = segment_sizes_[s];
    const MatrixView<T> out{segments[s], rows, k, rows};
    koopcore::combine<T>(strided(MatrixView<const T>(used_columns().block(row, 0, rows, c))),
                         std::as_const(placed).view(), out, n_threads_);
    if (options_.center && reference != 0.0)
      for (int64_t j = 0; j < k; ++j)
        for (int64_t i = 0; i < rows; ++i)
          out(i, j) += static_cast<T>(reference) * storage()(row + i, storage_columns_ - 1);
    row += rows;
  }
}

template <class T>
void StreamingSvd<T>::combine(MatrixView<const double> coefficients, int64_t version,
                              double reference, T* const* segments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_version(version, coefficients.rows);
  combine_locked(coefficients, reference, segments);
}

// In panels of rows, so that the differences from the reference take no memory to speak of.
template <class T>
void StreamingSvd<T>::cross_with_differences(StridedView<const T> x, MatrixView<double> out) {
  const T* const reference = storage().col(storage_columns_ - 1);
  Matrix<T> steps(std::min(kCrossRows, x.rows), x.cols);
  Matrix<double> sum(out.rows, out.cols);
  for (int64_t row = 0; row < x.rows; row += kCrossRows) {
    const int64_t rows = std::min(kCrossRows, x.rows - row);
    const MatrixView<T> panel = steps.view().block(0, 0, rows, x.cols);
    for (int64_t j = 0; j < x.cols; ++j)
      for (int64_t i = 0; i < rows; ++i) panel(i, j) = x(row + i, j) - reference[row + i];
    cross_gram<T>(strided(MatrixView<const T>(used_columns().block(row, 0, rows, out.rows))),
                  strided(panel), sum.view());
    for (int64_t j = 0; j < out.cols; ++j)
      for (int64_t i = 0; i < out.rows; ++i) out(i, j) += sum(i, j);
  }
}

template <class T>
Matrix<double> StreamingSvd<T>::cross_locked(StridedView<const T> x) {
  const int64_t c = used(), first = options_.block - pending_;
  KOOPCORE_REQUIRE(x.rows == state_size_)
      << "x has " << x.rows << " rows; the state has " << state_size_ << " numbers";
  Matrix<double> placed(c, x.cols), out(c, x.cols);
  if (options_.center)
    cross_with_differences(x, placed.view());
  else
    cross_gram<T>(strided(MatrixView<const T>(used_columns())), x, placed.view());
  for (int64_t j = 0; j < x.cols; ++j)
    for (int64_t i = 0; i < c; ++i) out(i, j) = placed(place_of(i) - first, j);
  return out;
}

template <class T>
Matrix<double> StreamingSvd<T>::cross(StridedView<const T> x, int64_t version) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_version(version, used());
  return cross_locked(x);
}

#define KOOPCORE_INSTANTIATE(T)                                                                 \
  template void StreamingSvd<T>::project_sketch();                                              \
  template void StreamingSvd<T>::move_sketch(int64_t);                                          \
  template int64_t StreamingSvd<T>::decompose_data();                                           \
  template typename StreamingSvd<T>::Leading StreamingSvd<T>::leading(int64_t);                 \
  template typename StreamingSvd<T>::Decomposition StreamingSvd<T>::decompose(int64_t);         \
  template std::vector<double> StreamingSvd<T>::mean_coefficients(int64_t*);                    \
  template void StreamingSvd<T>::check_version(int64_t, int64_t) const;                         \
  template void StreamingSvd<T>::combine(MatrixView<const double>, int64_t, double, T* const*); \
  template void StreamingSvd<T>::combine_locked(MatrixView<const double>, double, T* const*);   \
  template Matrix<double> StreamingSvd<T>::cross(StridedView<const T>, int64_t);                \
  template Matrix<double> StreamingSvd<T>::cross_locked(StridedView<const T>);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
