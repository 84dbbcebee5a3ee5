#pragma once
// What the tests of both kinds of stream share.

#include <cstring>

#include "support.hpp"

namespace support {

using koopcore::StreamingDmd;
using koopcore::StreamingDmdOptions;
using koopcore::StreamingSvd;
using koopcore::StreamOptions;
using koopcore::StridedView;

template <class T>
double eps() {
  return static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <class T>
StridedView<const T> columns_of(const Matrix<T>& x, int64_t first, int64_t count) {
  return koopcore::strided(x.view().block(0, first, x.rows(), count));
}

template <class Stream, class T>
void push_each(Stream& stream, const Matrix<T>& x, int64_t first = 0, int64_t last = -1) {
  for (int64_t j = first; j < (last < 0 ? x.cols() : last); ++j) {
    const T* column = x.view().col(j);
    stream.push(&column);
  }
}

/// Rank `rank` and noise; singular values of the signal fall by half each.
template <class T>
Matrix<T> low_rank(int64_t rows, int64_t cols, int64_t rank, double noise, unsigned seed) {
  const Matrix<double> left = random_matrix<double>(rows, rank, seed);
  const Matrix<double> right = random_matrix<double>(cols, rank, seed + 1);
  const Matrix<double> rest = random_matrix<double>(rows, cols, seed + 2);
  Matrix<T> out(rows, cols);
  for (int64_t j = 0; j < cols; ++j)
    for (int64_t i = 0; i < rows; ++i) {
      double value = noise * rest(i, j);
      for (int64_t k = 0; k < rank; ++k)
        value += std::ldexp(left(i, k) * right(j, k), -static_cast<int>(k));
      out(i, j) = static_cast<T>(value);
    }
  return out;
}

template <class T>
bool same_bits(const Matrix<T>& a, const Matrix<T>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         (a.rows() * a.cols() == 0 ||
          std::memcmp(a.view().data, b.view().data,
                      sizeof(T) * static_cast<size_t>(a.rows() * a.cols())) == 0);
}

template <class State>
bool same_state(const State& a, const State& b) {
  return same_bits(a.columns, b.columns) && a.numbers.size() == b.numbers.size() &&
         std::memcmp(a.numbers.data(), b.numbers.data(), sizeof(double) * a.numbers.size()) == 0;
}

template <class State>
bool all_finite(const State& state) {
  for (const double value : state.numbers)
    if (!std::isfinite(value)) return false;
  for (int64_t j = 0; j < state.columns.cols(); ++j)
    for (int64_t i = 0; i < state.columns.rows(); ++i)
      if (!std::isfinite(state.columns(i, j))) return false;
  return true;
}

/// columns * coefficients of a stream whose state is one segment.
template <class T, class Stream>
Matrix<T> combined(Stream& stream, const Matrix<double>& coefficients, int64_t version,
                   double extra = 0.0) {
  Matrix<T> out(stream.state_size(), coefficients.cols());
  T* segments[] = {out.view().data};
  stream.combine(coefficients.view(), version, extra, segments);
  return out;
}

/// Largest deviation of x^T x from the identity.
template <class T>
double deviation_from_orthonormal(const Matrix<T>& x) {
  const Matrix<double> g = plain_gram(x, x);
  double worst = 0.0;
  for (int64_t j = 0; j < g.cols(); ++j)
    for (int64_t i = 0; i < g.rows(); ++i)
      worst = std::max(worst, std::abs(g(i, j) - (i == j ? 1.0 : 0.0)));
  return worst;
}

}  // namespace support
