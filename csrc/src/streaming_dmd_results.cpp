// StreamingDmd: fits, merging and its contents for files. The stream itself: streaming_dmd.cpp.

#include <algorithm>
#include <cmath>
#include <utility>

#include "koopcore/error.hpp"
#include "koopcore/streaming_dmd.hpp"
#include "stream_archive.hpp"
#include "stream_units.hpp"

namespace koopcore {

using blas::Op;
using detail::to_unit;

namespace {

// Rounding of the data leaves this much of a dead direction in the moments.
template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-6 : 1e-12;

bool row_is_zero(MatrixView<const double> a, int64_t row) {
  for (int64_t j = 0; j < a.cols; ++j)
    if (a(row, j) != 0.0) return false;
  return true;
}

// The upper triangle of a factored stack, without rows of zeros.
Matrix<double> triangle(MatrixView<const double> stack) {
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < stack.cols; ++i)
    if (!row_is_zero(stack.block(0, i, stack.rows, stack.cols - i), i)) kept.push_back(i);
  Matrix<double> out(static_cast<int64_t>(kept.size()), stack.cols);
  for (int64_t k = 0; k < out.rows(); ++k)
    for (int64_t j = kept[static_cast<size_t>(k)]; j < stack.cols; ++j)
      out(k, j) = stack(kept[static_cast<size_t>(k)], j);
  return out;
}

}  // namespace

template <class T>
typename StreamingDmd<T>::Moments StreamingDmd<T>::moments_locked() {
  Moments out;
  out.version = svd_.version_;
  if (svd_.used() == 0) return out;
  svd_.measure();
  svd_.weigh();
  svd_.project();
  const int64_t p = svd_.pending_, delays = options_.delays, inputs = options_.inputs;
  const View coordinates_of = svd_.finder_.coordinates(), e = svd_.finder_.directions();
  const int64_t total = coordinates_of.rows, to = total + inputs, width = lags() * to;
  Matrix<double> stack(std::max(history_.rows() + p, width), width);
  Matrix<double> coordinates(to, delays + p);
  count_pairs(p);
  fill(coordinates_of, p, to, stack.view(), coordinates.view());
  blas::householder_r(stack.view());
  out.rows = triangle(std::as_const(stack).view());
  if (age_ == delays) {
    out.last = Matrix<double>(to, delays);
    const double scale = to_unit(-svd_.next_exponent_);
    for (int64_t j = 0; j < delays; ++j)
      for (int64_t i = 0; i < to; ++i) out.last(i, j) = coordinates(i, p + j) * scale;
  }
  for (int64_t j = 0; j < total; ++j) std::copy_n(e.col(j), e.rows, svd_.on_data_.view().col(j));
  svd_.to_columns(0, total);
  out.lift = Matrix<double>(svd_.used(), total);
  for (int64_t j = 0; j < total; ++j)
    std::copy_n(svd_.on_columns_.view().col(j), svd_.used(), out.lift.view().col(j));
  out.unit = to_unit(svd_.next_exponent_);
  out.pairs = pairs_ * svd_.fading_ + pairs_in_block(p);
  return out;
}

template <class T>
typename StreamingDmd<T>::Moments StreamingDmd<T>::moments() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return moments_locked();
}

// The rows as trajectories in columns, the newest states last; differences are summed up again, so
// that the engine takes them itself.
template <class T>
Matrix<double> StreamingDmd<T>::virtual_columns(const Moments& m) const {
  const int64_t total = m.lift.cols(), first = options_.differences ? 1 : 0;
  const int64_t length = lags() + first, rows = std::max<int64_t>(m.rows.rows(), 1);
  const bool has_state = m.last.cols() > 0;
  Matrix<double> out(std::max<int64_t>(total, 1),
                     rows * length + (has_state ? options_.delays + first : 0));
  const auto put = [&](int64_t column, int64_t i, double value) {
    out(i, column) = value + (first == 1 ? out(i, column - 1) : 0.0);
  };
  for (int64_t k = 0; k < m.rows.rows(); ++k)
    for (int64_t d = 0; d < lags(); ++d)
      for (int64_t i = 0; i < total; ++i) put(k * length + first + d, i, m.rows(k, d * total + i));
  for (int64_t d = 0; d < m.last.cols(); ++d)
    for (int64_t i = 0; i < total; ++i) put(rows * length + first + d, i, m.last(i, d));
  return out;
}

template <class T>
typename StreamingDmd<T>::Fit StreamingDmd<T>::fit(DmdOptions options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(options_.inputs == 0) << "a stream with " << options_.inputs
                                         << " inputs has no fit of states alone; take moments()";
  KOOPCORE_REQUIRE(!options.hard_threshold)
      << "the hard threshold counts snapshots, which a stream does not keep";
  const Moments m = moments_locked();
  const int64_t first = options_.differences ? 1 : 0;
  KOOPCORE_REQUIRE(m.pairs > 0.0) << "a fit needs at least " << lags() + first
                                  << " successive states, got " << seen_;
  const Matrix<double> columns = virtual_columns(m);
  Layout layout;
  layout.delays = options_.delays;
  layout.affine = options_.differences ? Affine::kDifferences : Affine::kNone;
  const int64_t length = lags() + first, rows = std::max<int64_t>(m.rows.rows(), 1);
  for (int64_t k = 0; k < rows; ++k) layout.starts.push_back(k * length);
  options.max_rank = options.max_rank > 0 ? std::min(options.max_rank, rows) : options_.stream.rank;
  options.max_rank = std::min(options.max_rank, rows);
  options.state_size = m.lift.cols();
  // The share is of the mean energy of a pair; the virtual ones are fewer and larger.
  options.ridge *= static_cast<double>(rows) / m.pairs;
  if (!(options.tolerance >= 0.0)) options.tolerance = kTolerance<T>;
  Fit out{Dmd::from_factor(columns.view(), layout, options),
          Matrix<double>(svd_.used(), columns.cols()), m.unit, m.last.cols() > 0, m.version};
  if (m.lift.cols() > 0)
    blas::gemm(Op::kNone, Op::kNone, 1.0, m.lift.view(), columns.view(), 0.0, out.lift.view());
  return out;
}

template <class T>
void StreamingDmd<T>::combine(View coefficients, int64_t version, double newest,
                              T* const* segments) {
  const std::lock_guard<std::mutex> lock(mutex_);
  svd_.check_version(version, coefficients.rows);
  svd_.combine_locked(coefficients, 0.0, segments);
  if (!options_.differences || newest == 0.0) return;
  int64_t row = 0;
  for (size_t s = 0; s < segment_sizes().size(); ++s) {
    const int64_t size = segment_sizes()[s];
    for (int64_t j = 0; j < coefficients.cols; ++j)
      for (int64_t i = 0; i < size; ++i)
        segments[s][i + j * size] +=
            static_cast<T>(newest) * previous_[static_cast<size_t>(row + i)];
    row += size;
  }
}

template <class T>
Matrix<double> StreamingDmd<T>::cross(StridedView<const T> x, int64_t version) {
  const std::lock_guard<std::mutex> lock(mutex_);
  svd_.check_version(version, svd_.used());
  return svd_.cross_locked(x);
}

template <class T>
typename StreamingSvd<T>::Decomposition StreamingDmd<T>::decompose(int64_t rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return svd_.decompose(rank);
}

template <class T>
int64_t StreamingDmd<T>::seen() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return seen_;
}

template <class T>
int64_t StreamingDmd<T>::room() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return svd_.room();
}

template <class T>
Matrix<double> StreamingDmd<T>::partial() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return svd_.partial();
}

template <class T>
void StreamingDmd<T>::provide(View total) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t basis = svd_.basis_size_, pending = svd_.pending_;
  svd_.provide(total);
  if (pending > 0 && svd_.pending_ == 0) follow_absorption(basis, pending);
}

template <class T>
void StreamingDmd<T>::merge(StreamingDmd& other) {
  KOOPCORE_REQUIRE(this != &other) << "merge: a stream cannot be merged with itself";
  const std::scoped_lock lock(mutex_, other.mutex_);
  const StreamingDmdOptions &a = options_, &b = other.options_;
  KOOPCORE_REQUIRE(a.delays == b.delays && a.differences == b.differences && a.inputs == b.inputs)
      << "merge: delays, differences or inputs differ";
  svd_.check_alike(other.svd_);
  absorb();
  const Moments theirs = other.moments_locked();
  const int64_t ours = svd_.basis_size_, our_exponent = svd_.exponent_;
  typename StreamingSvd<T>::Leading leading;
  const Matrix<double> map = svd_.merge_locked(other.svd_, &leading);
  const int64_t kept = svd_.basis_size_, total = theirs.lift.cols();
  // Their directions in ours: through the leading ones, which are what was merged.
  Matrix<double> to_ours(kept, total);
  blas::gemm(Op::kNone, Op::kTranspose, 1.0, map.view().block(0, ours, kept, leading.count),
             other.svd_.left_.view().block(0, 0, total, leading.count), 0.0, to_ours.view());
  const double past = to_unit(our_exponent - svd_.exponent_);
  const double new_ones = to_unit(leading.exponent - svd_.exponent_);
  Matrix<double> stack(history_.rows() + theirs.rows.rows(), history_.cols());
  append_rows(history_.view(), stride(), map.view().block(0, 0, kept, ours), past,
              stack.view().block(0, 0, history_.rows(), stack.cols()));
  append_rows(theirs.rows.view(), total + a.inputs, to_ours.view(), new_ones,
              stack.view().block(history_.rows(), 0, theirs.rows.rows(), stack.cols()));
  blas::householder_r(stack.view());
  for (int64_t j = 0; j < history_.cols(); ++j)
    for (int64_t i = 0; i < history_.rows(); ++i) history_(i, j) = i <= j ? stack(i, j) : 0.0;
  Matrix<double> tail = tail_;
  for (int64_t j = 0; j < a.delays; ++j) std::fill_n(tail_.view().col(j), svd_.capacity_, 0.0);
  blas::gemm(Op::kNone, Op::kNone, 1.0, map.view().block(0, 0, kept, ours),
             tail.view().block(0, 0, ours, a.delays), 0.0,
             tail_.view().block(0, 0, kept, a.delays));
  pairs_ += theirs.pairs;
  seen_ += other.seen_;
}

// Trajectories in rows, in another basis: every state of them by `to_new`, inputs as they are.
template <class T>
void StreamingDmd<T>::append_rows(View rows, int64_t stride_from, View to_new, double scale,
                                  MatrixView<double> out) const {
  const int64_t inputs = options_.inputs;
  for (int64_t d = 0; d < lags(); ++d) {
    blas::gemm(Op::kNone, Op::kTranspose, scale,
               rows.block(0, d * stride_from, rows.rows, to_new.cols), to_new, 0.0,
               out.block(0, d * stride(), rows.rows, to_new.rows));
    for (int64_t k = 0; k < inputs; ++k)
      for (int64_t i = 0; i < rows.rows; ++i)
        out(i, d * stride() + svd_.capacity_ + k) =
            scale * rows(i, (d + 1) * stride_from - inputs + k);
  }
}

template <class T>
template <class Archive>
void StreamingDmd<T>::archive(Archive& numbers) {
  for (int64_t* value : {&seen_, &age_, &has_previous_, &sound_}) numbers(*value);
  numbers(pairs_);
  for (int64_t j = 0; j < history_.cols(); ++j)
    for (int64_t i = 0; i <= j; ++i) numbers(history_(i, j));
  for (int64_t j = 0; j < tail_.cols(); ++j)
    for (int64_t i = 0; i < tail_.rows(); ++i) numbers(tail_(i, j));
  for (int64_t j = 0; j < svd_.pending_; ++j) {
    numbers(ages_[static_cast<size_t>(j)]);
    for (int64_t i = 0; i < options_.inputs; ++i) numbers(pending_inputs_(i, j));
  }
}

template <class T>
typename StreamingSvd<T>::State StreamingDmd<T>::state() {
  const std::lock_guard<std::mutex> lock(mutex_);
  typename StreamingSvd<T>::State of_svd = svd_.state();
  typename StreamingSvd<T>::State out{
      Matrix<T>(state_size(), of_svd.columns.cols() + (options_.differences ? 1 : 0)), {}};
  std::copy_n(of_svd.columns.view().data, state_size() * of_svd.columns.cols(),
              out.columns.view().data);
  if (options_.differences)
    std::copy(previous_.begin(), previous_.end(), out.columns.view().col(of_svd.columns.cols()));
  out.numbers = std::move(of_svd.numbers);
  detail::Writer writer{out.numbers};
  archive(writer);
  return out;
}

// What `archive` will read: the numbers behind those of the svd.
template <class T>
void StreamingDmd<T>::check_own_numbers(const std::vector<double>& numbers, int64_t first) const {
  detail::check_numbers(numbers);
  const auto at = static_cast<size_t>(first);
  const double delays = static_cast<double>(options_.delays);
  detail::check_integer(numbers, at, 0.0, 0x1p53);
  detail::check_integer(numbers, at + 1, 0.0, delays);
  detail::check_integer(numbers, at + 2, 0.0, options_.differences ? 1.0 : 0.0);
  detail::check_integer(numbers, at + 3, 0.0, delays);
  KOOPCORE_REQUIRE(numbers[at + 4] >= 0.0)
      << "number " << at + 4 << " of the state is " << numbers[at + 4] << "; it counts from 0";
  const auto step = static_cast<size_t>(1 + options_.inputs);
  for (size_t i = numbers.size(), k = static_cast<size_t>(numbers[1]); k > 0; --k)
    detail::check_integer(numbers, i -= step, 0.0, delays);
}

template <class T>
void StreamingDmd<T>::restore(MatrixView<const T> columns, const std::vector<double>& numbers) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const int64_t of_svd = StreamingSvd<T>::numbers_of_state(numbers);
  const int64_t pending = of_svd > 0 ? static_cast<int64_t>(numbers[1]) : 0;
  const int64_t width = history_.cols(), extra = options_.differences ? 1 : 0;
  const int64_t count = of_svd + 5 + width * (width + 1) / 2 + stride() * tail_.cols() +
                        pending * (1 + options_.inputs);
  KOOPCORE_REQUIRE(of_svd > 0 && count == static_cast<int64_t>(numbers.size()) &&
                   columns.cols >= extra && columns.rows == state_size())
      << "the state has columns (" << columns.rows << ", " << columns.cols << ") and "
      << numbers.size() << " numbers; a stream made with these options writes " << state_size()
      << " rows and " << count << " numbers";
  const MatrixView<const T> of_stream = columns.block(0, 0, columns.rows, columns.cols - extra);
  const std::vector<double> first(numbers.begin(), numbers.begin() + of_svd);
  svd_.check_state(of_stream, first);
  svd_.check_block(strided(columns), nullptr, false);
  check_own_numbers(numbers, of_svd);
  svd_.restore_locked(of_stream, first);
  if (extra == 1) std::copy_n(columns.col(columns.cols - 1), state_size(), previous_.begin());
  detail::Reader reader{numbers, static_cast<size_t>(of_svd)};
  archive(reader);
  note_inputs(svd_.pending_);
}

#define KOOPCORE_INSTANTIATE(T)                                                         \
  template typename StreamingDmd<T>::Moments StreamingDmd<T>::moments();                \
  template typename StreamingDmd<T>::Fit StreamingDmd<T>::fit(DmdOptions);              \
  template void StreamingDmd<T>::combine(View, int64_t, double, T* const*);             \
  template Matrix<double> StreamingDmd<T>::cross(StridedView<const T>, int64_t);        \
  template typename StreamingSvd<T>::Decomposition StreamingDmd<T>::decompose(int64_t); \
  template int64_t StreamingDmd<T>::seen() const;                                       \
  template int64_t StreamingDmd<T>::room() const;                                       \
  template Matrix<double> StreamingDmd<T>::partial();                                   \
  template void StreamingDmd<T>::provide(View);                                         \
  template void StreamingDmd<T>::merge(StreamingDmd<T>&);                               \
  template typename StreamingSvd<T>::State StreamingDmd<T>::state();                    \
  template void StreamingDmd<T>::restore(MatrixView<const T>, const std::vector<double>&);
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
