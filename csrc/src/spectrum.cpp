#include "spectrum.hpp"

#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include "dense.hpp"
#include "small_inverse.hpp"

namespace koopcore::detail {

using dense::at;
using dense::Complex;
using dense::kEps;

namespace {

// An eigenvector matrix this close to singular belongs to a defective operator.
constexpr double kDefective = 1e-10;

bool is_defective(const Spectrum& spectrum) {
  const Matrix<Complex>& vectors = spectrum.vectors;
  if (condition_bound(vectors, spectrum.inverse) < 0.1 / kDefective) return false;
  Matrix<Complex> overwritten = vectors, unused(vectors.rows(), 1);
  return blas::least_squares(overwritten.view(), unused.view(), kDefective) < vectors.cols();
}

template <class Scalar>
Spectrum spectrum_of(Matrix<Scalar> op) {
  blas::Eigen eigen = blas::general_eigen(op.view());
  Matrix<Complex> inverse = small_inverse(eigen.vectors);
  return {std::move(eigen.values), std::move(eigen.vectors), std::move(inverse)};
}

void keep(Spectrum& spectrum, const std::vector<int64_t>& order) {
  std::vector<Complex> values;
  for (const int64_t from : order) values.push_back(spectrum.values[at(from)]);
  spectrum.values = std::move(values);
  spectrum.vectors = dense::columns(spectrum.vectors, order);
  spectrum.inverse =
      spectrum.vectors.rows() == spectrum.vectors.cols() && spectrum.inverse.rows() > 0
          ? dense::rows(spectrum.inverse, order)
          : Matrix<Complex>();
}

}  // namespace

template <class Scalar>
Spectrum diagonalise(const Matrix<Scalar>& op) {
  Spectrum spectrum = spectrum_of(op);
  // What rounding has made of an eigenvalue 0 would explode in negative powers.
  const double rounding = 4.0 * kEps * static_cast<double>(op.rows()) * dense::frobenius_norm(op);
  for (Complex& value : spectrum.values)
    if (std::abs(value) <= rounding) value = 0.0;
  if (!is_defective(spectrum)) return spectrum;
  const double size = kDefective * dense::frobenius_norm(op);
  std::minstd_rand generator;  // always the same sequence: fits are reproducible
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  Matrix<Scalar> moved = op;
  for (int64_t j = 0; j < op.cols(); ++j)
    for (int64_t i = 0; i < op.rows(); ++i) moved(i, j) += size * uniform(generator);
  return spectrum_of(std::move(moved));
}

void sort_spectrum(Spectrum& spectrum) {
  std::vector<int64_t> order(spectrum.values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return std::abs(spectrum.values[at(a)]) > std::abs(spectrum.values[at(b)]);
  });
  keep(spectrum, order);
}

void constrain(Spectrum& spectrum, Constraint constraint) {
  std::vector<int64_t> kept;
  for (size_t i = 0; i < spectrum.values.size(); ++i) {
    Complex& value = spectrum.values[i];
    const double modulus = std::abs(value);
    if (constraint == Constraint::kReal) value = value.real();
    if (constraint == Constraint::kStable && modulus > 1.0) value /= modulus;
    if (constraint == Constraint::kUnitCircle && modulus > 0.0) value /= modulus;
    if (constraint != Constraint::kUnitCircle || modulus > 0.0)
      kept.push_back(static_cast<int64_t>(i));
  }
  keep(spectrum, kept);
}

Complex stabilise(Complex& eigenvalue, Unstable unstable, bool exact) {
  const double modulus = std::abs(eigenvalue);
  if (modulus <= 1.0 || unstable == Unstable::kKeep) return 1.0;
  if (unstable == Unstable::kDrop) return 0.0;
  const double factor = unstable == Unstable::kClip ? 1.0 / modulus : 1.0 / (modulus * modulus);
  eigenvalue *= factor;
  return exact ? factor : 1.0;
}

Complex power(Complex lambda, double exponent) {
  if (exponent == 0.0) return 1.0;
  if (lambda == Complex(0.0)) return 0.0;
  return std::pow(lambda, exponent);
}

// Without the cancellation near lambda = 1, where training dynamics live.
Complex geometric_sum(Complex lambda, double h) {
  if (lambda == Complex(0.0)) return h > 0.0 ? 1.0 : 0.0;
  const Complex delta = lambda - 1.0;
  if (delta == Complex(0.0)) return h;
  if (std::abs(delta) > 0.5) return (power(lambda, h) - 1.0) / delta;
  const double log_modulus = 0.5 * std::log1p(2.0 * delta.real() + std::norm(delta));
  const double angle = std::arg(lambda);
  const double x = h * log_modulus, y = h * angle, half_sine = std::sin(0.5 * y);
  const Complex expm1{std::expm1(x) * std::cos(y) - 2.0 * half_sine * half_sine,
                      std::exp(x) * std::sin(y)};
  return expm1 / delta;
}

template Spectrum diagonalise(const Matrix<double>&);
template Spectrum diagonalise(const Matrix<Complex>&);

}  // namespace koopcore::detail
