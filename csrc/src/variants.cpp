#include "variants.hpp"

#include <cmath>
#include <utility>

#include "dense.hpp"
#include "spectrum.hpp"

namespace koopcore::detail {

using dense::at;
using dense::Complex;
using dense::multiply;
using dense::Op;

namespace {

// Singular values of small matrices below this share of the largest count as zero.
constexpr double kSingular = 1e-10;
// Newton steps of the square root; where it converges, in three to five.
constexpr int kNewtonSteps = 30;
// Sums of two eigenvalues below this share of the largest are damped: the root is not unique there.
constexpr double kDamping = 1e-3;

// min |Y - A X|: U^H Y X^+ U, with (X X^H + ridge)^-1 where a ridge is asked for.
template <class Scalar>
ReducedOperator<Scalar> least_squares_operator(const Reduction<Scalar>& reduced,
                                               const Matrix<Scalar>& y, double ridge) {
  ReducedOperator<Scalar> out{{}, reduced.basis};
  const double alpha = ridge * reduced.energy / static_cast<double>(std::max<int64_t>(1, y.cols()));
  for (int64_t j = 0; j < out.action.cols() && alpha > 0.0; ++j) {
    const double square = reduced.sigma[at(j)] * reduced.sigma[at(j)];
    for (int64_t i = 0; i < out.action.rows(); ++i) out.action(i, j) *= square / (square + alpha);
  }
  out.matrix = multiply(y, out.action);
  return out;
}

Matrix<Complex> difference(const Matrix<Complex>& a, const Matrix<Complex>& b) {
  Matrix<Complex> out(a.rows(), a.cols());
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) out(i, j) = a(i, j) - b(i, j);
  return out;
}

// Newton step of R^2 = square at `root`, whose square misses by `residual`, in the eigenbasis of
// the iterate. Where two eigenvalues nearly cancel, the roots are a continuum, and the damped step
// stays close to where it is.
Matrix<Complex> newton_step(const Matrix<Complex>& root, const Matrix<Complex>& residual) {
  const Spectrum eigen = diagonalise(root);
  const Matrix<Complex> inverse = dense::pseudo_inverse(eigen.vectors, 1e-14);
  Matrix<Complex> step = multiply(inverse, multiply(residual, eigen.vectors));
  double largest = 0.0;
  for (const Complex value : eigen.values) largest = std::max(largest, std::abs(value));
  for (int64_t j = 0; j < step.cols(); ++j)
    for (int64_t i = 0; i < step.rows(); ++i) {
      const Complex sum = eigen.values[at(i)] + eigen.values[at(j)];
      const double damped = std::norm(sum) + kDamping * kDamping * largest * largest;
      step(i, j) *= damped > 0.0 ? std::conj(sum) / damped : Complex(0.0);
    }
  return multiply(eigen.vectors, multiply(step, inverse));
}

// The root of `square` nearest to `start`, by Newton's method with step halving. `start` itself
// where there is none within its own norm: with directions of mere noise, the inverse of their
// backward operator makes the square as large as it likes.
Matrix<Complex> square_root_near(const Matrix<Complex>& square, const Matrix<Complex>& start) {
  Matrix<Complex> root = start, residual = difference(square, multiply(root, root));
  for (int step = 0; step < kNewtonSteps; ++step) {
    const Matrix<Complex> update = newton_step(root, residual);
    bool improved = false;
    for (double length = 1.0; !improved && length > 0.05; length *= 0.5) {
      Matrix<Complex> tried = root;
      for (int64_t j = 0; j < root.cols(); ++j)
        for (int64_t i = 0; i < root.rows(); ++i) tried(i, j) += length * update(i, j);
      Matrix<Complex> missed = difference(square, multiply(tried, tried));
      improved = dense::frobenius_norm(missed) < dense::frobenius_norm(residual);
      if (improved) {
        root = std::move(tried);
        residual = std::move(missed);
      }
    }
    if (!improved) break;
  }
  const bool near = dense::frobenius_norm(difference(root, start)) <= dense::frobenius_norm(start);
  return near ? root : start;
}

// (A_f A_b^-1)^(1/2) with both operators in the basis of X. A dynamics that loses a direction
// (eigenvalue 0) cannot be run backward: the forward operator is kept then.
template <class Scalar>
Matrix<Scalar> forward_backward(const Matrix<Scalar>& forward, const Matrix<Scalar>& x,
                                const Matrix<Scalar>& y) {
  if (forward.cols() == 0) return forward;
  Matrix<Scalar> overwritten = forward;
  const std::vector<double> sigma = blas::svd(overwritten.view()).values;
  if (!(sigma.back() > kSingular * sigma.front())) return forward;
  const Matrix<Scalar> backward = multiply(x, dense::pseudo_inverse(y, kSingular * kSingular));
  const Matrix<Scalar> square =
      multiply(forward, dense::pseudo_inverse(backward, kSingular * kSingular));
  return dense::narrowed<Scalar>(
      square_root_near(dense::complex_of(square), dense::complex_of(forward)));
}

// min |C - A S| over Hermitian A, with C = U^H Y V and X = U S V^H.
template <class Scalar>
Matrix<Scalar> symmetric(const Reduction<Scalar>& reduced, const Matrix<Scalar>& y) {
  const std::vector<double>& sigma = reduced.sigma;
  const Matrix<Scalar> c = multiply(y, reduced.basis);  // C S^-1
  Matrix<Scalar> out(c.rows(), c.cols());
  for (int64_t j = 0; j < c.cols(); ++j)
    for (int64_t i = 0; i < c.rows(); ++i) {
      const double left = sigma[at(i)] * sigma[at(i)], right = sigma[at(j)] * sigma[at(j)];
      out(i, j) = (c(i, j) * right + dense::conjugate(c(j, i)) * left) / (left + right);
    }
  return out;
}

}  // namespace

template <class Scalar>
ReducedOperator<Scalar> fit_operator(const Reduction<Scalar>& reduced, const Layout& layout,
                                     const DmdOptions& options) {
  const Matrix<Scalar> y = dense::columns(reduced.coordinates, layout.starts, layout.lag);
  ReducedOperator<Scalar> out = least_squares_operator(reduced, y, options.ridge);
  if (options.variant == Variant::kForwardBackward)
    out.matrix =
        forward_backward(out.matrix, dense::columns(reduced.coordinates, layout.starts), y);
  if (options.variant == Variant::kSymmetric) out.matrix = symmetric(reduced, y);
  return out;
}

template ReducedOperator<double> fit_operator(const Reduction<double>&, const Layout&,
                                              const DmdOptions&);
template ReducedOperator<Complex> fit_operator(const Reduction<Complex>&, const Layout&,
                                               const DmdOptions&);

}  // namespace koopcore::detail
