#include "tridiagonal_lanes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.hpp"
#include "sturm_search.hpp"
#include "tridiagonalise.hpp"
#include "twisted_vectors.hpp"

namespace koopcore::detail {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon();

int64_t padded(int64_t size) { return (size + kWidth - 1) / kWidth * kWidth; }

// What the vectors are made from and into.
struct VectorTask {
  const double *diagonal, *beside, *reflectors, *taus;
  int64_t size, stride;
  const double* values;  // as many as lanes, the last one repeated
  int64_t count;
  double tolerance;
  double *forward, *backward, *z;
  bool verified;
};

template <int kPacks>
KOOPCORE_INLINE void make_vectors(VectorTask& t) {
  twisted_vectors<kPacks>(t.diagonal, t.beside, t.size, t.values, t.forward, t.backward, t.z);
  orthonormalise<kPacks>(t.z, t.size, t.count);
  const double residual =
      largest_residual<kPacks>(t.diagonal, t.beside, t.size, t.values, t.z, t.count);
  t.verified = residual <= t.tolerance;
  if (t.verified) transform_back<kPacks>(t.reflectors, t.taus, t.size, t.stride, t.z);
}

KOOPCORE_PER_PROCESSOR(run_tridiagonalise,
                       (double* a, int64_t size, int64_t stride, double* taus, double* diagonal,
                        double* beside, double* work),
                       (a, size, stride, taus, diagonal, beside, work), tridiagonalise)

struct ValueTask {
  const double *diagonal, *squares;
  int64_t size;
  double low, high, tolerance;
  int64_t count;
  double* values;
};

template <int kPacks>
KOOPCORE_INLINE void find(ValueTask& t) {
  find_values<kPacks>(t.diagonal, t.squares, t.size, t.low, t.high, t.tolerance, t.count, t.values);
}

KOOPCORE_PER_PROCESSOR(find_1, (ValueTask & t), (t), find<1>)
KOOPCORE_PER_PROCESSOR(find_2, (ValueTask & t), (t), find<2>)
KOOPCORE_PER_PROCESSOR(find_4, (ValueTask & t), (t), find<4>)
KOOPCORE_PER_PROCESSOR(make_1, (VectorTask & t), (t), make_vectors<1>)
KOOPCORE_PER_PROCESSOR(make_2, (VectorTask & t), (t), make_vectors<2>)
KOOPCORE_PER_PROCESSOR(make_4, (VectorTask & t), (t), make_vectors<4>)

int64_t lanes_for(int64_t count) { return count <= 8 ? 8 : count <= 16 ? 16 : 32; }

}  // namespace

Tridiagonal::Tridiagonal(MatrixView<const double> a, double scale)
    : size_(a.rows),
      stride_(padded(size_)),
      reflectors_(stride_ * stride_),
      taus_(static_cast<size_t>(stride_)),
      diagonal_(static_cast<size_t>(stride_)),
      beside_(static_cast<size_t>(stride_)),
      norm_(0.0) {
  double* const columns = reflectors_.data();
  for (int64_t j = 0; j < size_; ++j) {
    double* const column = columns + j * stride_;
    for (int64_t i = 0; i < size_; ++i) column[i] = scale * a(i, j);
    std::fill(column + size_, column + stride_, 0.0);
  }
  std::fill(columns + size_ * stride_, columns + stride_ * stride_, 0.0);
  simd::Buffer work(3 * stride_);
  run_tridiagonalise(columns, size_, stride_, taus_.data(), diagonal_.data(), beside_.data(),
                     work.data());
  for (int64_t i = 0; i < size_; ++i)
    norm_ = std::max(norm_, std::abs(diagonal_[static_cast<size_t>(i)]) + radius(i));
}

// Sum of the entries beside diagonal entry i.
double Tridiagonal::radius(int64_t i) const {
  return (i > 0 ? std::abs(beside_[static_cast<size_t>(i - 1)]) : 0.0) +
         (i + 1 < size_ ? std::abs(beside_[static_cast<size_t>(i)]) : 0.0);
}

std::vector<double> Tridiagonal::leading_values(int64_t count) const {
  const double tolerance = 2.0 * kEps * norm_;
  double low = norm_, high = -norm_;
  for (int64_t i = 0; i < size_; ++i) {
    const double center = diagonal_[static_cast<size_t>(i)];
    low = std::min(low, center - radius(i));
    high = std::max(high, center + radius(i));
  }
  // A coupling of nothing would make 0 * infinity of a pivot that is 0.
  const double least = kEps * kEps * 1e-6 * norm_ * norm_;
  std::vector<double> squares(beside_.size()), values(static_cast<size_t>(count));
  for (size_t i = 0; i < squares.size(); ++i) squares[i] = std::max(beside_[i] * beside_[i], least);
  ValueTask task{diagonal_.data(),       squares.data(), size_, low - 2.0 * tolerance,
                 high + 2.0 * tolerance, tolerance,      count, values.data()};
  const int64_t lanes = lanes_for(count);
  lanes == 8 ? find_1(task) : lanes == 16 ? find_2(task) : find_4(task);
  return values;
}

bool Tridiagonal::vectors(const std::vector<double>& values, double tolerance,
                          MatrixView<double> out) const {
  const int64_t count = static_cast<int64_t>(values.size()), lanes = lanes_for(count);
  const int64_t numbers = size_ * lanes;
  std::vector<double> lane_values = values;
  simd::Buffer work(3 * numbers);
  lane_values.resize(static_cast<size_t>(lanes), values.back());
  VectorTask task{diagonal_.data(),
                  beside_.data(),
                  reflectors_.data(),
                  taus_.data(),
                  size_,
                  stride_,
                  lane_values.data(),
                  count,
                  tolerance * norm_,
                  work.data(),
                  work.data() + numbers,
                  work.data() + 2 * numbers,
                  false};
  lanes == 8 ? make_1(task) : lanes == 16 ? make_2(task) : make_4(task);
  for (int64_t l = 0; l < count; ++l)
    for (int64_t i = 0; i < size_; ++i) out(i, l) = task.z[i * lanes + l];
  return task.verified;
}

}  // namespace koopcore::detail
