#include "koopcore/dmd.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"

namespace koopcore {
namespace {

using blas::Op;
using Complex = std::complex<double>;

constexpr double kEps = std::numeric_limits<double>::epsilon();
// Relative singular values below this count as zero when amplitudes and coordinates are solved for.
constexpr double kRcond = 1e-13;
// An eigenvector matrix this close to singular belongs to a defective operator.
constexpr double kDefective = 1e-10;

// Gram matrix of the first differences s_{j+1} - s_j.
Matrix<double> difference_gram(const Matrix<double>& g) {
  const int64_t k = g.rows() - 1;
  Matrix<double> out(k, k);
  for (int64_t j = 0; j < k; ++j)
    for (int64_t i = 0; i < k; ++i)
      out(i, j) = (g(i + 1, j + 1) - g(i, j + 1)) - (g(i + 1, j) - g(i, j));
  return out;
}

Matrix<double> copy_of(MatrixView<const double> view) {
  Matrix<double> out(view.rows, view.cols);
  for (int64_t j = 0; j < view.cols; ++j) std::copy_n(view.col(j), view.rows, out.view().col(j));
  return out;
}

// How many leading directions of falling sigma^2 the rank rules keep.
int64_t choose_rank(const std::vector<double>& sigma, const DmdOptions& options) {
  const auto count = static_cast<int64_t>(sigma.size());
  if (count == 0 || sigma[0] == 0.0) return 0;
  const double tolerance =
      options.tolerance >= 0.0 ? options.tolerance : std::sqrt(static_cast<double>(count) * kEps);
  int64_t rank = 0;
  while (rank < count && sigma[static_cast<size_t>(rank)] > tolerance * sigma[0]) ++rank;
  if (options.max_rank > 0) rank = std::min(rank, options.max_rank);
  if (options.energy < 1.0) {
    const double total = std::inner_product(sigma.begin(), sigma.end(), sigma.begin(), 0.0);
    double kept = 0.0;
    int64_t needed = 0;
    while (needed < rank && kept < options.energy * total) {
      const double value = sigma[static_cast<size_t>(needed++)];
      kept += value * value;
    }
    rank = needed;
  }
  return rank;
}

bool is_defective(const Matrix<Complex>& vectors) {
  Matrix<Complex> overwritten = vectors, unused(vectors.rows(), 1);
  return blas::least_squares(overwritten.view(), unused.view(), kDefective) < vectors.cols();
}

// Eigenvectors that can be used as coordinates. A defective operator is moved by about 1e-10 of
// its norm first: powers of the moved operator are that close to its own, while its eigenvectors
// are independent ("approximate diagonalisation").
blas::Eigen diagonalise(const Matrix<double>& op) {
  Matrix<double> overwritten = op;
  blas::Eigen eigen = blas::general_eigen(overwritten.view());
  if (!is_defective(eigen.vectors)) return eigen;
  double norm = 0.0;
  for (int64_t j = 0; j < op.cols(); ++j)
    for (int64_t i = 0; i < op.rows(); ++i) norm += op(i, j) * op(i, j);
  std::minstd_rand generator;  // always the same sequence: fits are reproducible
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  overwritten = op;
  for (int64_t j = 0; j < op.cols(); ++j)
    for (int64_t i = 0; i < op.rows(); ++i)
      overwritten(i, j) += kDefective * std::sqrt(norm) * uniform(generator);
  return blas::general_eigen(overwritten.view());
}

// lambda^exponent, with 0 to a negative power counted as 0: such a mode has no past.
Complex power(Complex lambda, double exponent) {
  if (exponent == 0.0) return 1.0;
  if (lambda == Complex(0.0)) return 0.0;
  return std::pow(lambda, exponent);
}

// 1 + lambda + ... + lambda^(h - 1) = (lambda^h - 1) / (lambda - 1) for any real h, without the
// cancellation near lambda = 1, where training dynamics live.
Complex geometric_sum(Complex lambda, double h) {
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

// Coefficients on first differences become coefficients on the snapshots (out has one row more).
template <class Value>
void undo_differences(const Value* differences, int64_t count, Value* out) {
  std::fill_n(out, count + 1, Value(0));
  for (int64_t j = 0; j < count; ++j) {
    out[j] -= differences[j];
    out[j + 1] += differences[j];
  }
}

}  // namespace

Dmd::Dmd(MatrixView<const double> gram, int64_t lag, const DmdOptions& options)
    : snapshots_(gram.cols),
      columns_(options.affine ? gram.cols - 1 : gram.cols),
      lag_(lag),
      exact_(options.exact),
      affine_(options.affine),
      unstable_(options.unstable),
      snapshot_gram_(copy_of(gram)) {
  check(options);
  gram_ = affine_ ? difference_gram(snapshot_gram_) : snapshot_gram_;
  fit_operator(options);
  std::vector<double> last(static_cast<size_t>(pairs()));
  for (int64_t i = 0; i < pairs(); ++i) last[static_cast<size_t>(i)] = gram_(i, columns_ - 1);
  last_state_ = spectral_coordinates(last);
}

void Dmd::check(const DmdOptions& options) const {
  const Matrix<double>& g = snapshot_gram_;
  KOOPCORE_REQUIRE(g.rows() == g.cols())
      << "gram must be square, got (" << g.rows() << ", " << g.cols() << ")";
  KOOPCORE_REQUIRE(lag_ >= 1 && (lag_ == 1 || !affine_))
      << "lag is " << lag_
      << (affine_ ? "; affine dynamics need a time series (lag 1)" : "; it counts from 1");
  KOOPCORE_REQUIRE(pairs() >= 1) << "a fit needs at least " << snapshots_ - pairs() + 1
                                 << " snapshots, got " << snapshots_;
  KOOPCORE_REQUIRE(options.max_rank >= 0 && options.max_rank <= pairs())
      << "rank=" << options.max_rank << " needs at least "
      << options.max_rank + snapshots_ - pairs() << " snapshots, got " << snapshots_;
  KOOPCORE_REQUIRE(options.energy > 0.0 && options.energy <= 1.0)
      << "the energy fraction must lie in (0, 1], got " << options.energy;
  KOOPCORE_REQUIRE(!(options.tolerance >= 1.0))
      << "the tolerance is relative to the largest singular value and must be below 1, got "
      << options.tolerance;
  for (int64_t j = 0; j < g.cols(); ++j)
    for (int64_t i = 0; i < g.rows(); ++i)
      KOOPCORE_REQUIRE(std::isfinite(g(i, j)))
          << "the Gram matrix is not finite at (" << i << ", " << j
          << "): a snapshot holds NaN or infinity, or its squares overflow float64";
}

void Dmd::fit_operator(const DmdOptions& options) {
  const int64_t p = pairs();
  Matrix<double> vectors = copy_of(std::as_const(gram_).view().block(0, 0, p, p));
  const std::vector<double> ascending = blas::symmetric_eigen(vectors.view());
  for (int64_t i = p - 1; i >= 0; --i)
    singular_values_.push_back(std::sqrt(std::max(0.0, ascending[static_cast<size_t>(i)])));
  const int64_t r = choose_rank(singular_values_, options);

  basis_ = Matrix<double>(p, r);
  for (int64_t j = 0; j < r; ++j)
    for (int64_t i = 0; i < p; ++i)
      basis_(i, j) = vectors(i, p - 1 - j) / singular_values_[static_cast<size_t>(j)];

  Matrix<double> cross(r, p);  // basis^T (X^T Y)
  Matrix<double> projected(r, r);
  const MatrixView<const double> xy = std::as_const(gram_).view().block(0, lag_, p, p);
  blas::gemm(Op::kTranspose, Op::kNone, 1.0, basis_.view(), xy, 0.0, cross.view());
  blas::gemm(Op::kNone, Op::kNone, 1.0, cross.view(), basis_.view(), 0.0, projected.view());

  const blas::Eigen eigen = diagonalise(projected);
  std::vector<int64_t> order(static_cast<size_t>(r));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return std::abs(eigen.values[static_cast<size_t>(a)]) >
           std::abs(eigen.values[static_cast<size_t>(b)]);
  });
  eigenvectors_ = Matrix<Complex>(r, r);
  mode_weights_ = Matrix<Complex>(p, r);
  for (int64_t j = 0; j < r; ++j) {
    const int64_t from = order[static_cast<size_t>(j)];
    eigenvalues_.push_back(eigen.values[static_cast<size_t>(from)]);
    for (int64_t k = 0; k < r; ++k) {
      const Complex weight = eigenvectors_(k, j) = eigen.vectors(k, from);
      for (int64_t i = 0; i < p; ++i) mode_weights_(i, j) += basis_(i, k) * weight;
    }
  }
}

Complex Dmd::stabilised(Complex eigenvalue) const {
  const double modulus = std::abs(eigenvalue);
  return unstable_ == Unstable::kClip && modulus > 1.0 ? eigenvalue / modulus : eigenvalue;
}

// x_cross = X^T x. Solves eigenvectors * a = basis^T x_cross.
std::vector<Complex> Dmd::spectral_coordinates(const std::vector<double>& x_cross) const {
  const int64_t r = rank();
  Matrix<Complex> solution(r, 1), vectors = eigenvectors_;
  for (int64_t j = 0; j < r; ++j)
    for (int64_t i = 0; i < pairs(); ++i)
      solution(j, 0) += basis_(i, j) * x_cross[static_cast<size_t>(i)];
  blas::least_squares(vectors.view(), solution.view(), kRcond);
  return {solution.view().data, solution.view().data + r};
}

// Adds Re(mode_weights * weights) at the rows of the columns that carry the modes: Y or X.
void Dmd::add_combination(const std::vector<Complex>& weights, double* coefficients) const {
  double* target = coefficients + (exact_ ? lag_ : 0);
  for (size_t j = 0; j < weights.size(); ++j)
    for (int64_t i = 0; i < pairs(); ++i)
      target[i] += (mode_weights_(i, static_cast<int64_t>(j)) * weights[j]).real();
}

std::vector<double> Dmd::forecast(double horizon) const {
  KOOPCORE_REQUIRE(std::isfinite(horizon) && horizon >= 0.0)
      << "horizon must be finite and at least 0, got " << horizon;
  std::vector<double> on_snapshots(static_cast<size_t>(snapshots_));
  if (horizon == 0.0) {
    on_snapshots.back() = 1.0;
    return on_snapshots;
  }
  std::vector<Complex> weights = last_state_;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Complex lambda = stabilised(eigenvalues_[i]);
    if (affine_)
      weights[i] *= geometric_sum(lambda, horizon) * (exact_ ? 1.0 : lambda);
    else
      weights[i] *= power(lambda, exact_ ? horizon - 1.0 : horizon);
  }
  std::vector<double> on_columns(static_cast<size_t>(columns_));
  add_combination(weights, on_columns.data());
  if (!affine_) return on_columns;
  undo_differences(on_columns.data(), columns_, on_snapshots.data());
  on_snapshots.back() += 1.0;
  return on_snapshots;
}

Matrix<double> Dmd::predict(MatrixView<const double> cross, double steps) const {
  KOOPCORE_REQUIRE(std::isfinite(steps) && steps >= 1.0)
      << "steps must be at least 1, got " << steps;
  KOOPCORE_REQUIRE(cross.rows == snapshots_)
      << "cross has " << cross.rows << " rows; the fit has " << snapshots_ << " snapshots";
  Matrix<double> result(snapshots_, cross.cols);
  // Affine: T^n(x) = T^n(s) + A^n (x - s) with s the last but one snapshot, and T(s) the last.
  const int64_t anchor = snapshots_ - 2;
  const std::vector<double> of_anchor = affine_ ? forecast(steps - 1.0) : std::vector<double>();
  std::vector<double> x_cross(static_cast<size_t>(pairs())), on_columns, on_snapshots;
  for (int64_t q = 0; q < cross.cols; ++q) {
    for (int64_t i = 0; i < pairs(); ++i) {
      const Matrix<double>& g = snapshot_gram_;
      x_cross[static_cast<size_t>(i)] =
          affine_ ? (cross(i + 1, q) - cross(i, q)) - (g(i + 1, anchor) - g(i, anchor))
                  : cross(i, q);
    }
    std::vector<Complex> weights = spectral_coordinates(x_cross);
    for (size_t i = 0; i < weights.size(); ++i)
      weights[i] *= power(stabilised(eigenvalues_[i]), exact_ ? steps - 1.0 : steps);
    on_columns.assign(static_cast<size_t>(columns_), 0.0);
    add_combination(weights, on_columns.data());
    double* out = result.view().col(q);
    if (affine_) {
      undo_differences(on_columns.data(), columns_, out);
      for (int64_t i = 0; i < snapshots_; ++i) out[i] += of_anchor[static_cast<size_t>(i)];
    } else {
      std::copy(on_columns.begin(), on_columns.end(), out);
    }
  }
  return result;
}

Matrix<Complex> Dmd::mode_coefficients() const {
  Matrix<Complex> result(snapshots_, rank());
  std::vector<Complex> on_columns(static_cast<size_t>(columns_));
  for (int64_t j = 0; j < rank(); ++j) {
    std::fill(on_columns.begin(), on_columns.end(), Complex(0.0));
    std::copy_n(mode_weights_.view().col(j), pairs(), on_columns.begin() + (exact_ ? lag_ : 0));
    if (affine_)
      undo_differences(on_columns.data(), columns_, result.view().col(j));
    else
      std::copy(on_columns.begin(), on_columns.end(), result.view().col(j));
  }
  return result;
}

std::vector<Complex> Dmd::amplitudes(bool whole_window) const {
  const int64_t p = pairs(), r = rank(), carrier = exact_ ? lag_ : 0;
  // A time series is matched on all its columns, pairs on their X part.
  const int64_t targets = whole_window ? (lag_ == 1 ? columns_ : p) : 1;
  // With M the modes: inner = M^H M, seen = M^H S[:, targets], powers_jk = lambda_j^k.
  Matrix<Complex> half(p, r), inner(r, r), seen(r, targets), powers(r, targets);
  for (int64_t j = 0; j < r; ++j) {
    for (int64_t i = 0; i < p; ++i)
      for (int64_t k = 0; k < p; ++k)
        half(i, j) += gram_(carrier + i, carrier + k) * mode_weights_(k, j);
    for (int64_t k = 0; k < targets; ++k) {
      powers(j, k) = k == 0 ? 1.0 : powers(j, k - 1) * eigenvalues_[static_cast<size_t>(j)];
      for (int64_t i = 0; i < p; ++i)
        seen(j, k) += std::conj(mode_weights_(i, j)) * gram_(carrier + i, k);
    }
  }
  // Normal equations of sum_k |s_k - M diag(lambda^k) b|^2.
  Matrix<Complex> system(r, r), solution(r, 1);
  for (int64_t j = 0; j < r; ++j)
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t k = 0; k < p; ++k) inner(i, j) += std::conj(mode_weights_(k, i)) * half(k, j);
      Complex overlap = 0.0;
      for (int64_t k = 0; k < targets; ++k) overlap += std::conj(powers(i, k)) * powers(j, k);
      system(i, j) = inner(i, j) * overlap;
    }
  for (int64_t j = 0; j < r; ++j)
    for (int64_t k = 0; k < targets; ++k) solution(j, 0) += std::conj(powers(j, k)) * seen(j, k);
  blas::least_squares(system.view(), solution.view(), kRcond);
  return {solution.view().data, solution.view().data + r};
}

}  // namespace koopcore
