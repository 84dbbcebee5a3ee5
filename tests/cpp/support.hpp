#pragma once
// Planted systems and plain loops: what the tests compare the core with.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "koopcore/koopcore.hpp"

namespace support {

using koopcore::Matrix;
using koopcore::MatrixView;

template <class T>
Matrix<T> random_matrix(int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  Matrix<T> out(rows, cols);
  for (int64_t j = 0; j < cols; ++j)
    for (int64_t i = 0; i < rows; ++i) out(i, j) = static_cast<T>(normal(generator));
  return out;
}

/// Rounding of a float64 sum of n products of size about 1, in any order.
inline double sum_tolerance(int64_t n) {
  const double terms = static_cast<double>(n);
  return 4.0 * std::numeric_limits<double>::epsilon() * terms * std::sqrt(terms);
}

/// x^T y by plain loops in float64.
template <class T>
Matrix<double> plain_gram(const Matrix<T>& x, const Matrix<T>& y) {
  Matrix<double> out(x.cols(), y.cols());
  for (int64_t i = 0; i < x.cols(); ++i)
    for (int64_t j = 0; j < y.cols(); ++j)
      for (int64_t k = 0; k < x.rows(); ++k)
        out(i, j) += static_cast<double>(x(k, i)) * static_cast<double>(y(k, j));
  return out;
}

template <class A, class B>
double largest_difference(const A& a, const B& b) {
  double largest = 0.0;
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i)
      largest =
          std::max(largest, std::abs(static_cast<double>(a(i, j)) - static_cast<double>(b(i, j))));
  return largest;
}

template <class T>
Matrix<double> gram_of(koopcore::SnapshotWindow<T>& window, bool raw = false) {
  Matrix<double> g(window.size(), window.size());
  window.gram(g.view(), raw);
  return g;
}

/// Snapshots sum_k direction_k * rate_k^t, plus a fixed point.
template <class T>
Matrix<T> decaying_modes(int64_t rows, int64_t cols, const std::vector<double>& rates,
                         double fixed_point = 0.0) {
  const Matrix<double> directions =
      random_matrix<double>(rows, static_cast<int64_t>(rates.size()), 7);
  Matrix<T> out(rows, cols);
  for (int64_t t = 0; t < cols; ++t)
    for (int64_t i = 0; i < rows; ++i) {
      double value = fixed_point;
      for (size_t k = 0; k < rates.size(); ++k)
        value +=
            directions(i, static_cast<int64_t>(k)) * std::pow(rates[k], static_cast<double>(t));
      out(i, t) = static_cast<T>(value);
    }
  return out;
}

template <class T>
Matrix<double> gram_of(const Matrix<T>& x) {
  Matrix<double> g(x.cols(), x.cols());
  koopcore::gram<T>(koopcore::strided(x.view()), g.view());
  return g;
}

}  // namespace support
