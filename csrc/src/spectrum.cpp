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

bool is_defective(const Matrix<Complex>& vectors) {
  if (condition_bound(vectors, small_inverse(vectors)) < 0.1 / kDefective) return false;
  Matrix<Complex> overwritten = vectors, unused(vectors.rows(), 1);
  return blas::least_squares(overwritten.view(), unused.view(), kDefective) < vectors.cols();
}

void keep(blas::Eigen& eigen, const std::vector<int64_t>& order) {
  std::vector<Complex> values;
  for (const int64_t from : order) values.push_back(eigen.values[at(from)]);
  eigen.vectors = dense::columns(eigen.vectors, order);
  eigen.values = std::move(values);
}

}  // namespace

template <class Scalar>
blas::Eigen diagonalise(const Matrix<Scalar>& op) {
  Matrix<Scalar> overwritten = op;
  blas::Eigen eigen = blas::general_eigen(overwritten.view());
  // What rounding has made of an eigenvalue 0 would explode in negative powers.
  const double rounding = 4.0 * kEps * static_cast<double>(op.rows()) * dense::frobenius_norm(op);
  for (Complex& value : eigen.values)
    if (std::abs(value) <= rounding) value = 0.0;
  if (!is_defective(eigen.vectors)) return eigen;
  const double size = kDefective * dense::frobenius_norm(op);
  std::minstd_rand generator;  // always the same sequence: fits are reproducible
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  overwritten = op;
  for (int64_t j = 0; j < op.cols(); ++j)
    for (int64_t i = 0; i < op.rows(); ++i) overwritten(i, j) += size * uniform(generator);
  return blas::general_eigen(overwritten.view());
}

void sort_spectrum(blas::Eigen& eigen) {
  std::vector<int64_t> order(eigen.values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return std::abs(eigen.values[at(a)]) > std::abs(eigen.values[at(b)]);
  });
  keep(eigen, order);
}

void constrain(blas::Eigen& eigen, Constraint constraint) {
  std::vector<int64_t> kept;
  for (size_t i = 0; i < eigen.values.size(); ++i) {
    Complex& value = eigen.values[i];
    const double modulus = std::abs(value);
    if (constraint == Constraint::kReal) value = value.real();
    if (constraint == Constraint::kStable && modulus > 1.0) value /= modulus;
    if (constraint == Constraint::kUnitCircle && modulus > 0.0) value /= modulus;
    if (constraint != Constraint::kUnitCircle || modulus > 0.0)
      kept.push_back(static_cast<int64_t>(i));
  }
  keep(eigen, kept);
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

template blas::Eigen diagonalise(const Matrix<double>&);
template blas::Eigen diagonalise(const Matrix<Complex>&);

}  // namespace koopcore::detail
