#include "koopcore/streaming_dmd.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "koopcore/error.hpp"
#include "stream_units.hpp"

namespace koopcore {

using blas::Op;

namespace {

StreamingDmdOptions checked(const StreamingDmdOptions& o) {
  KOOPCORE_REQUIRE(!o.stream.center)
      << "center is for the singular value decomposition; an affine operator takes differences";
  KOOPCORE_REQUIRE(o.delays >= 1 && o.inputs >= 0)
      << "delays is " << o.delays << " and inputs " << o.inputs << "; they count from 1 and 0";
  KOOPCORE_REQUIRE(!o.differences || o.inputs == 0)
      << "inputs is " << o.inputs << " with differences: differences of inputs are not built";
  return o;
}

constexpr int64_t kMostBlocked = 129;  // LAPACK's blocks of columns are no wider, and one more

void set_zero(MatrixView<double> a) {
  for (int64_t j = 0; j < a.cols; ++j) std::fill_n(a.col(j), a.rows, 0.0);
}

void check_inputs(MatrixView<const double> inputs, int64_t rows, int64_t cols) {
  KOOPCORE_REQUIRE(inputs.rows == rows && (rows == 0 || inputs.cols == cols))
      << "inputs are (" << inputs.rows << ", " << inputs.cols << "); expected (" << rows << ", "
      << cols << "), a column for each state";
  for (int64_t j = 0; j < (rows == 0 ? 0 : cols); ++j)
    for (int64_t i = 0; i < rows; ++i)
      KOOPCORE_REQUIRE(std::isfinite(inputs(i, j)))
          << "inputs[" << i << ", " << j << "] is " << inputs(i, j) << "; nothing was recorded";
}

}  // namespace

template <class T>
StreamingDmd<T>::StreamingDmd(std::vector<int64_t> segment_sizes,
                              const StreamingDmdOptions& options)
    : options_(checked(options)), svd_(std::move(segment_sizes), options_.stream) {
  const int64_t width = lags() * stride(), block = options_.stream.block;
  if (options_.differences) previous_.resize(static_cast<size_t>(state_size()));
  history_ = Matrix<double>(width, width);
  tail_ = Matrix<double>(stride(), options_.delays);
  ages_.resize(static_cast<size_t>(block));
  ends_pair_.resize(static_cast<size_t>(block));
  pending_inputs_ = Matrix<double>(options_.inputs, block);
  stack_ = Matrix<double>(width + block, width);
  coordinates_ = Matrix<double>(stride(), options_.delays + block);
  // What keep_history() will need: once the basis has moved it must not fail for want of memory.
  work_.numbers.resize(static_cast<size_t>(kMostBlocked * width));
}

template <class T>
void StreamingDmd<T>::push(const T* const* segments, const double* inputs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (options_.inputs > 0)
    KOOPCORE_REQUIRE(inputs != nullptr)
        << "this stream takes " << options_.inputs << " inputs beside each state";
  check_inputs({inputs, options_.inputs, 1, options_.inputs}, options_.inputs, 1);
  push_state(segments, inputs);
}

// One state, by segments.
template <class T>
void StreamingDmd<T>::push_state(const T* const* segments, const double* inputs) {
  const std::vector<int64_t>& sizes = segment_sizes();
  const bool first = options_.differences && has_previous_ == 0;
  if (!first) svd_.require_room(1);
  svd_.largest_[0] = 0;
  int64_t row = 0;
  for (size_t s = 0; s < sizes.size(); ++s) {  // the first one is only looked at
    svd_.stage({segments[s], sizes[s], 1, 1, sizes[s]}, row,
               options_.differences && !first ? previous_.data() + row : nullptr);
    row += sizes[s];
  }
  if (first) {
    svd_.check_staged(1);
  } else {
    commit(1, inputs == nullptr
                  ? MatrixView<const double>{}
                  : MatrixView<const double>{inputs, options_.inputs, 1, options_.inputs});
  }
  ++seen_;
  if (!options_.differences) return;
  has_previous_ = 1;
  row = 0;
  for (size_t s = 0; s < sizes.size(); ++s) {
    std::copy_n(segments[s], sizes[s], previous_.data() + row);
    row += sizes[s];
  }
}

// Staged columns of one trajectory join the stream; the moments follow if that fills the block.
template <class T>
void StreamingDmd<T>::commit(int64_t count, View inputs) {
  const int64_t pending = svd_.pending_, basis = svd_.basis_size_;
  for (int64_t j = 0; j < count; ++j) {
    ages_[static_cast<size_t>(pending + j)] = std::min(options_.delays, age_ + j);
    for (int64_t i = 0; i < options_.inputs; ++i) pending_inputs_(i, pending + j) = inputs(i, j);
  }
  const int64_t next_age = std::min(options_.delays, age_ + count);
  note_inputs(pending + count);
  try {  // no forgetting on the way to a state without predecessor
    svd_.commit(count, age_ > 0 ? 1.0 : 0.0);
  } catch (...) {
    note_inputs(pending);
    throw;
  }
  if (svd_.pending_ == 0) follow_absorption(basis, pending + count);
  age_ = next_age;
}

// Inputs and states share a unit.
template <class T>
void StreamingDmd<T>::note_inputs(int64_t pending) {
  svd_.others_in_block_ = detail::largest_entry(
      std::as_const(pending_inputs_).view().block(0, 0, options_.inputs, pending));
}

template <class T>
void StreamingDmd<T>::push_block(StridedView<const T> block, View inputs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(block.rows == state_size())
      << "block has " << block.rows << " rows; the state has " << state_size() << " numbers";
  check_inputs(inputs, options_.inputs, block.cols);
  if (block.cols == 0) return;
  const int64_t room = options_.stream.block - svd_.pending_;
  if (options_.differences)
    svd_.check_block(block, has_previous_ == 1 ? previous_.data() : nullptr, true);
  else if (block.cols > room)
    svd_.check_block(block, nullptr, false);
  if (options_.differences) return push_differences(block);
  svd_.require_room(block.cols);
  for (int64_t first = 0; first < block.cols;) {
    const int64_t count = std::min(options_.stream.block - svd_.pending_, block.cols - first);
    std::fill_n(svd_.largest_.begin(), count, 0);
    svd_.stage({&block(0, first), block.rows, count, block.row_stride, block.col_stride}, 0,
               nullptr);
    commit(count, options_.inputs == 0 ? View{} : inputs.block(0, first, inputs.rows, count));
    seen_ += count;
    first += count;
  }
}

// Each column minus the one before it; all have been checked.
template <class T>
void StreamingDmd<T>::push_differences(StridedView<const T> block) {
  svd_.require_room(block.cols - (has_previous_ == 1 ? 0 : 1));
  for (int64_t j = 0; j < block.cols; ++j) {
    const StridedView<const T> x{&block(0, j), block.rows, 1, block.row_stride, block.col_stride};
    if (has_previous_ == 1) {
      svd_.largest_[0] = 0;
      svd_.stage(x, 0, previous_.data());
      commit(1, {});
    }
    for (int64_t i = 0; i < x.rows; ++i) previous_[static_cast<size_t>(i)] = x(i, 0);
    has_previous_ = 1;
    ++seen_;
  }
}

template <class T>
void StreamingDmd<T>::push_pairs(StridedView<const T> x, StridedView<const T> y, View inputs) {
  const std::lock_guard<std::mutex> lock(mutex_);
  KOOPCORE_REQUIRE(options_.delays == 1 && !options_.differences)
      << "pairs of states go with delays = 1 (here " << options_.delays
      << ") and without differences";
  KOOPCORE_REQUIRE(x.rows == state_size() && y.rows == state_size() && x.cols == y.cols)
      << "x is (" << x.rows << ", " << x.cols << ") and y (" << y.rows << ", " << y.cols
      << "); expected " << state_size() << " rows and equally many columns";
  check_inputs(inputs, options_.inputs, x.cols);
  svd_.check_block(x, nullptr, false);
  svd_.check_block(y, nullptr, false);
  svd_.require_room(2 * x.cols);
  for (int64_t j = 0; j < x.cols; ++j) {
    age_ = 0;
    for (const StridedView<const T>& side : {x, y}) {
      svd_.largest_[0] = 0;
      svd_.stage({&side(0, j), side.rows, 1, side.row_stride, side.col_stride}, 0, nullptr);
      commit(1, options_.inputs == 0 ? View{} : inputs.block(0, j, inputs.rows, 1));
      ++seen_;
    }
  }
  age_ = 0;
}

template <class T>
void StreamingDmd<T>::start_trajectory() {
  const std::lock_guard<std::mutex> lock(mutex_);
  age_ = 0;
  has_previous_ = 0;
}

// Rows of `stack`: what the history has become under the change of basis `transition`, then the
// trajectories that end in the block. `coordinates` of the columns they need: tail, then block.
template <class T>
int64_t StreamingDmd<T>::fill(View transition, int64_t pending, int64_t stride_to,
                              MatrixView<double> stack, MatrixView<double> coordinates) const {
  const int64_t kept = transition.rows, basis = transition.cols - pending;
  const int64_t delays = options_.delays, inputs = options_.inputs, past_rows = history_.rows();
  const View to_new = transition.block(0, 0, kept, basis);
  set_zero(stack);
  set_zero(coordinates);
  blas::gemm(Op::kNone, Op::kNone, 1.0, to_new, tail_.view().block(0, 0, basis, delays), 0.0,
             coordinates.block(0, 0, kept, delays));
  for (int64_t j = 0; j < delays; ++j)
    std::copy_n(tail_.view().col(j) + svd_.capacity_, inputs,
                coordinates.col(j) + stride_to - inputs);
  for (int64_t j = 0; j < pending; ++j) {
    const double weight = svd_.column_weights_[static_cast<size_t>(j)];
    for (int64_t i = 0; i < kept; ++i)
      coordinates(i, delays + j) = transition(i, basis + j) / weight;
    std::copy_n(pending_inputs_.view().col(j), inputs,
                coordinates.col(delays + j) + stride_to - inputs);
  }
  for (int64_t d = 0; d < lags(); ++d) {
    const View from = history_.view().block(0, d * stride(), past_rows, stride());
    const MatrixView<double> to = stack.block(0, d * stride_to, past_rows, stride_to);
    blas::gemm(Op::kNone, Op::kTranspose, svd_.past_scale_, from.block(0, 0, past_rows, basis),
               to_new, 0.0, to.block(0, 0, past_rows, kept));
    for (int64_t k = 0; k < inputs; ++k)
      for (int64_t i = 0; i < past_rows; ++i)
        to(i, stride_to - inputs + k) = svd_.past_scale_ * from(i, svd_.capacity_ + k);
  }
  int64_t row = past_rows;
  for (int64_t j = 0; j < pending; ++j) {
    if (!ends_pair_[static_cast<size_t>(j)]) continue;
    const double scale = svd_.column_weights_[static_cast<size_t>(j)] * svd_.block_scale_;
    for (int64_t d = 0; d < lags(); ++d)
      for (int64_t i = 0; i < stride_to; ++i)
        stack(row, d * stride_to + i) = coordinates(i, j + d) * scale;
    ++row;
  }
  return row;
}

template <class T>
void StreamingDmd<T>::follow_absorption(int64_t basis_before, int64_t pending) {
  const View transition =
      std::as_const(svd_.transition_).view().block(0, 0, svd_.basis_size_, basis_before + pending);
  const MatrixView<double> coordinates =
      coordinates_.view().block(0, 0, stride(), options_.delays + pending);
  sound_ = count_pairs(pending);
  const int64_t rows = fill(transition, pending, stride(), stack_.view(), coordinates);
  keep_history(rows);
  for (int64_t j = 0; j < options_.delays; ++j)
    std::copy_n(coordinates.col(pending + j), stride(), tail_.view().col(j));
  pairs_ = pairs_ * svd_.fading_ + pairs_in_block(pending);
}

// Which of the pending columns end a trajectory of full length without vanishing states. Returns
// what `sound_` becomes when they are absorbed.
template <class T>
int64_t StreamingDmd<T>::count_pairs(int64_t pending) {
  int64_t sound = sound_;
  for (int64_t j = 0; j < pending; ++j) {
    const auto at = static_cast<size_t>(j);
    const bool vanishing = svd_.vanishing_[at] != 0;
    ends_pair_[at] = !vanishing && std::min(ages_[at], sound) >= options_.delays;
    sound = vanishing ? 0 : std::min(options_.delays, sound + 1);
  }
  return sound;
}

template <class T>
double StreamingDmd<T>::pairs_in_block(int64_t pending) const {
  double sum = 0.0;
  for (int64_t j = 0; j < pending; ++j) {
    const double weight = svd_.column_weights_[static_cast<size_t>(j)];
    if (ends_pair_[static_cast<size_t>(j)]) sum += weight * weight;
  }
  return sum;
}

// history_ = triangular factor of the first rows of stack_.
template <class T>
void StreamingDmd<T>::keep_history(int64_t rows) {
  const int64_t width = history_.cols();
  blas::householder_r(stack_.view().block(0, 0, rows, width), work_);
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < width; ++i) history_(i, j) = i <= j ? stack_(i, j) : 0.0;
}

template <class T>
void StreamingDmd<T>::absorb() {
  const int64_t pending = svd_.pending_, basis = svd_.basis_size_;
  if (pending == 0) return;
  svd_.absorb();
  follow_absorption(basis, pending);
}

#define KOOPCORE_INSTANTIATE(T)                                                                \
  template StreamingDmd<T>::StreamingDmd(std::vector<int64_t>, const StreamingDmdOptions&);    \
  template void StreamingDmd<T>::push(const T* const*, const double*);                         \
  template void StreamingDmd<T>::push_block(StridedView<const T>, View);                       \
  template void StreamingDmd<T>::push_pairs(StridedView<const T>, StridedView<const T>, View); \
  template void StreamingDmd<T>::start_trajectory();                                           \
  template int64_t StreamingDmd<T>::fill(View, int64_t, int64_t, MatrixView<double>,           \
                                         MatrixView<double>) const;                            \
  template int64_t StreamingDmd<T>::count_pairs(int64_t);                                      \
  template double StreamingDmd<T>::pairs_in_block(int64_t) const;                              \
  template void StreamingDmd<T>::note_inputs(int64_t);                                         \
  template void StreamingDmd<T>::follow_absorption(int64_t, int64_t);                          \
  template void StreamingDmd<T>::keep_history(int64_t);                                        \
  template void StreamingDmd<T>::absorb();
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
