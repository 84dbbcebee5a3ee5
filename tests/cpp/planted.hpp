#pragma once
// Series with planted eigenvalues, and fits of streams beside those of the same data at once.

#include <complex>

#include "koopcore/dmd.hpp"
#include "streams.hpp"

namespace support {

using koopcore::Affine;
using koopcore::Dmd;
using koopcore::DmdOptions;
using koopcore::Layout;
using Complex = std::complex<double>;

inline StreamingDmdOptions dmd_options(int64_t rank, int64_t oversampling, int64_t block,
                                       double forgetting = 1.0) {
  StreamingDmdOptions o;
  o.stream.rank = rank;
  o.stream.oversampling = oversampling;
  o.stream.block = block;
  o.stream.forgetting = forgetting;
  return o;
}

/// Sum over k of Re(direction_k values_k^(t + first)) and a fixed point, for t < cols.
template <class T>
Matrix<T> planted(int64_t rows, int64_t cols, const std::vector<Complex>& values, unsigned seed,
                  double fixed_point = 0.0, double first = 0.0) {
  const Matrix<double> d =
      random_matrix<double>(rows, 2 * static_cast<int64_t>(values.size()), seed);
  Matrix<T> out(rows, cols);
  for (int64_t t = 0; t < cols; ++t) {
    std::vector<double> state(static_cast<size_t>(rows), fixed_point);
    for (size_t k = 0; k < values.size(); ++k) {
      const Complex power = std::pow(values[k], static_cast<double>(t) + first);
      const auto at = 2 * static_cast<int64_t>(k);
      for (int64_t i = 0; i < rows; ++i)
        state[static_cast<size_t>(i)] += d(i, at) * power.real() + d(i, at + 1) * power.imag();
    }
    for (int64_t i = 0; i < rows; ++i) out(i, t) = static_cast<T>(state[static_cast<size_t>(i)]);
  }
  return out;
}

/// Largest distance from an expected eigenvalue (with Im > 0: and its conjugate) to the nearest
/// found one.
inline double spectral_error(const std::vector<Complex>& found,
                             const std::vector<Complex>& expected) {
  double worst = 0.0;
  for (const Complex& value : expected)
    for (const Complex& wanted : {value, std::conj(value)}) {
      double best = 1e300;
      for (const Complex& candidate : found) best = std::min(best, std::abs(candidate - wanted));
      worst = std::max(worst, best);
    }
  return worst;
}

template <class T>
Matrix<double> widened(const Matrix<T>& x) {
  Matrix<double> out(x.rows(), x.cols());
  for (int64_t j = 0; j < x.cols(); ++j)
    for (int64_t i = 0; i < x.rows(); ++i) out(i, j) = static_cast<double>(x(i, j));
  return out;
}

template <class T>
std::vector<Complex> batch_eigenvalues(const Matrix<T>& x, Layout layout, DmdOptions options) {
  options.state_size = x.rows();
  return Dmd::from_factor(widened(x).view(), layout, options).eigenvalues();
}

/// The state `horizon` steps after the newest.
template <class T>
std::vector<double> forecast_of(StreamingDmd<T>& stream, const DmdOptions& options,
                                double horizon) {
  const auto fit = stream.fit(options);
  const bool differences = stream.options().differences;
  std::vector<double> c = fit.dmd.forecast(horizon);
  if (differences) c.back() -= 1.0;
  Matrix<double> coefficients(fit.lift.rows(), 1);
  for (int64_t j = 0; j < fit.lift.cols(); ++j)
    for (int64_t i = 0; i < fit.lift.rows(); ++i)
      coefficients(i, 0) += fit.lift(i, j) * c[static_cast<size_t>(j)] * fit.unit;
  const Matrix<T> x = combined<T>(stream, coefficients, fit.version, differences ? 1.0 : 0.0);
  return {x.view().data, x.view().data + x.rows()};
}

template <class T>
double distance(const std::vector<double>& state, const Matrix<T>& x, int64_t column) {
  double worst = 0.0;
  for (int64_t i = 0; i < x.rows(); ++i)
    worst = std::max(worst,
                     std::abs(state[static_cast<size_t>(i)] - static_cast<double>(x(i, column))));
  return worst;
}

}  // namespace support
