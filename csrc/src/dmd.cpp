#include "koopcore/dmd.hpp"

#include <cmath>
#include <numeric>
#include <utility>

#include "dense.hpp"
#include "koopcore/error.hpp"
#include "reduction.hpp"
#include "small_inverse.hpp"
#include "snapshot_weights.hpp"
#include "spectrum.hpp"
#include "variants.hpp"

namespace koopcore {

using dense::at;
using dense::multiply;
using dense::Op;

namespace {

// Relative singular values below this count as zero when amplitudes and coordinates are solved for.
constexpr double kRcond = 1e-13;
// Up to this condition number of the eigenvectors their inverse comes from elimination.
constexpr double kWellConditioned = 1e4;

bool has_exact_modes(const DmdOptions& options) {
  return options.constraint == Constraint::kNone &&
         (options.variant == Variant::kStandard || options.variant == Variant::kTotalLeastSquares);
}

// Up to the condition number where elimination is as good as a decomposition, what that has found;
// `vectors` need not be square.
Matrix<std::complex<double>> inverse_of(const Matrix<std::complex<double>>& vectors,
                                        Matrix<std::complex<double>> eliminated) {
  if (condition_bound(vectors, eliminated) < kWellConditioned) return eliminated;
  return dense::pseudo_inverse(vectors, kRcond);
}

template <class Scalar>
void require_finite(const Matrix<Scalar>& a) {
  if (dense::all_finite(a)) return;
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i)
      KOOPCORE_REQUIRE(std::isfinite(std::abs(a(i, j))))
          << "the Gram matrix is not finite at (" << i << ", " << j
          << "): a snapshot holds NaN or infinity, or its squares overflow float64";
}

}  // namespace

template <class Scalar>
BasicDmd<Scalar>::BasicDmd(MatrixView<const Scalar> gram, const Layout& layout,
                           const DmdOptions& options)
    : BasicDmd(dense::copy_of(gram), {}, layout, options) {}

template <class Scalar>
BasicDmd<Scalar> BasicDmd<Scalar>::from_factor(MatrixView<const Scalar> factor,
                                               const Layout& layout, const DmdOptions& options) {
  Matrix<Scalar> f = dense::copy_of(factor);
  Matrix<Scalar> gram = multiply(Op::kAdjoint, f, Op::kNone, f);
  return BasicDmd(std::move(gram), std::move(f), layout, options);
}

template <class Scalar>
BasicDmd<Scalar>::BasicDmd(Matrix<Scalar> gram, Matrix<Scalar> factor, const Layout& layout,
                           const DmdOptions& options)
    : snapshots_(gram.cols()),
      layout_(layout),
      exact_(options.modes != Modes::kProjected && has_exact_modes(options)),
      joint_(options.variant == Variant::kTotalLeastSquares),
      unstable_(options.unstable) {
  check(gram, options);
  if (differences()) gram_ = gram;
  detail::States<Scalar> states = detail::make_states(std::move(gram), factor, layout_);
  if (layout_.starts.empty()) {
    layout_.starts.resize(at(std::max<int64_t>(0, states.gram.cols() - layout_.lag)));
    std::iota(layout_.starts.begin(), layout_.starts.end(), int64_t{0});
  }
  detail::Reduction<Scalar> reduced = detail::reduce(states, layout_, options);
  detail::ReducedOperator<Scalar> op = detail::fit_operator(reduced, layout_, options);
  constant_ = states.constant;
  states_gram_ = std::move(states.gram);
  basis_ = std::move(reduced.basis);
  action_ = std::move(op.action);
  coordinates_ = std::move(reduced.coordinates);
  singular_values_ = std::move(reduced.singular_values);
  all_singular_values_ = reduced.complete;

  detail::Spectrum spectrum = detail::diagonalise(op.matrix);
  if (options.constraint != Constraint::kNone) detail::constrain(spectrum, options.constraint);
  detail::sort_spectrum(spectrum);
  set_spectrum(std::move(spectrum.values), std::move(spectrum.vectors),
               std::move(spectrum.inverse));
}

template <class Scalar>
void BasicDmd<Scalar>::check(const Matrix<Scalar>& gram, const DmdOptions& options) const {
  const Layout& l = layout_;
  KOOPCORE_REQUIRE(gram.rows() == gram.cols())
      << "gram must be square, got (" << gram.rows() << ", " << gram.cols() << ")";
  KOOPCORE_REQUIRE(l.lag >= 0 && l.delays >= 1)
      << "lag is " << l.lag << " and delays " << l.delays << "; they count from 0 and 1";
  KOOPCORE_REQUIRE(l.lag <= 1 || (l.affine != Affine::kDifferences && l.delays == 1))
      << "lag is " << l.lag << "; first differences and delays need a time series (lag 1)";
  const int64_t first_pair = 1 + (differences() ? 1 : 0) + (l.delays - 1) + l.lag;
  const int64_t available = snapshots_ - first_pair + 1;
  const int64_t given = l.starts.empty() ? available : static_cast<int64_t>(l.starts.size());
  KOOPCORE_REQUIRE(available >= 1)
      << "a fit needs at least " << first_pair << " snapshots, got " << snapshots_;
  for (const int64_t a : l.starts)
    KOOPCORE_REQUIRE(a >= 0 && a < available)
        << "a pair starts at " << a << "; of " << snapshots_ << " snapshots they start in [0, "
        << available << ")";
  KOOPCORE_REQUIRE(options.max_rank >= 0 && options.max_rank <= given)
      << "rank=" << options.max_rank << " needs at least " << options.max_rank + snapshots_ - given
      << " snapshots, got " << snapshots_;
  KOOPCORE_REQUIRE(options.energy > 0.0 && options.energy <= 1.0)
      << "the energy fraction must lie in (0, 1], got " << options.energy;
  KOOPCORE_REQUIRE(!(options.tolerance >= 1.0))
      << "the tolerance is relative to the largest singular value and must be below 1, got "
      << options.tolerance;
  KOOPCORE_REQUIRE(options.state_size >= 0 && (options.state_size > 0 || !options.hard_threshold))
      << "state_size is " << options.state_size
      << "; the hard threshold needs it, and it counts "
         "from 1 (0: unknown)";
  KOOPCORE_REQUIRE(options.ridge >= 0.0 && std::isfinite(options.ridge) &&
                   (options.ridge == 0.0 || options.variant == Variant::kStandard))
      << "ridge is " << options.ridge << "; it is at least 0 and belongs to the standard variant";
  KOOPCORE_REQUIRE(options.modes != Modes::kExact || has_exact_modes(options))
      << "exact modes do not exist for the forward-backward and the symmetric variant, nor with a "
         "constraint";
  require_finite(gram);
}

// Eigenvectors in the reduced basis become modes, their inverse, and the state to start from.
template <class Scalar>
void BasicDmd<Scalar>::set_spectrum(std::vector<Complex> values, Matrix<Complex> vectors,
                                    Matrix<Complex> eliminated) {
  eigenvalues_ = std::move(values);
  vectors_ = std::move(vectors);
  left_ = inverse_of(vectors_, std::move(eliminated));
  mode_weights_ = dense::times_complex(exact_ ? action_ : basis_, vectors_);
  start_ = mode_coordinates(states() - 1);
}

template <class Scalar>
std::vector<std::complex<double>> BasicDmd<Scalar>::mode_coordinates(int64_t state) const {
  std::vector<Complex> out(at(rank()));
  for (int64_t j = 0; j < left_.cols(); ++j)
    for (int64_t i = 0; i < rank(); ++i) out[at(i)] += left_(i, j) * coordinates_(j, state);
  return out;
}

template <class Scalar>
BasicDmd<Scalar> BasicDmd<Scalar>::with_spectrum(const std::vector<Complex>& eigenvalues,
                                                 MatrixView<const Complex> vectors,
                                                 const std::vector<Complex>& start) const {
  KOOPCORE_REQUIRE(vectors.rows == basis_.cols() &&
                   vectors.cols == static_cast<int64_t>(eigenvalues.size()) &&
                   (start.empty() || start.size() == eigenvalues.size()))
      << "with_spectrum: " << eigenvalues.size() << " eigenvalues, vectors (" << vectors.rows
      << ", " << vectors.cols << "), start " << start.size() << "; the basis has " << basis_.cols()
      << " directions";
  BasicDmd out = *this;
  out.exact_ = false;
  Matrix<Complex> own = dense::copy_of(vectors), inverse = small_inverse(own);
  out.set_spectrum(eigenvalues, std::move(own), std::move(inverse));
  if (!start.empty()) out.start_ = start;
  return out;
}

template <class Scalar>
BasicDmd<Scalar> BasicDmd<Scalar>::restricted(const std::vector<int64_t>& kept) const {
  std::vector<Complex> values;
  for (const int64_t i : kept) {
    KOOPCORE_REQUIRE(i >= 0 && i < rank())
        << "mode " << i << " does not exist; there are " << rank();
    values.push_back(eigenvalues_[at(i)]);
  }
  BasicDmd out = *this;
  Matrix<Complex> own = dense::columns(vectors_, kept), inverse = small_inverse(own);
  out.set_spectrum(std::move(values), std::move(own), std::move(inverse));
  return out;
}

template <class Scalar>
std::vector<double> BasicDmd<Scalar>::singular_values() const {
  if (all_singular_values_ || states_gram_.rows() == 0) return singular_values_;
  return detail::singular_values(states_gram_, layout_, joint_);
}

template <class Scalar>
void BasicDmd<Scalar>::release_workings() {
  for (Matrix<Scalar>* workings : {&gram_, &states_gram_, &basis_, &action_, &coordinates_})
    *workings = {};
  vectors_ = left_ = {};
}

template <class Scalar>
Matrix<Scalar> BasicDmd<Scalar>::basis_coefficients() const {
  return detail::on_snapshots(basis_, layout_, 0, snapshots_);
}

template <class Scalar>
Matrix<std::complex<double>> BasicDmd<Scalar>::spectral_coordinates() const {
  return multiply(left_, dense::complex_of(coordinates_));
}

template <class Scalar>
Matrix<std::complex<double>> BasicDmd<Scalar>::mode_coefficients() const {
  return detail::on_snapshots(mode_weights_, layout_, carrier(), snapshots_);
}

// x_cross = X^H x.
template <class Scalar>
std::vector<std::complex<double>> BasicDmd<Scalar>::coordinates_of(
    const std::vector<Scalar>& x_cross) const {
  std::vector<Complex> reduced(at(basis_.cols())), out(at(rank()));
  for (int64_t j = 0; j < basis_.cols(); ++j)
    for (int64_t i = 0; i < pairs(); ++i)
      reduced[at(j)] += dense::conjugate(basis_(i, j)) * x_cross[at(i)];
  for (int64_t j = 0; j < basis_.cols(); ++j)
    for (int64_t i = 0; i < rank(); ++i) out[at(i)] += left_(i, j) * reduced[at(j)];
  return out;
}

// Adds mode_weights * weights at the columns whose newest block carries the modes: of Y or of X.
template <class Scalar>
void BasicDmd<Scalar>::add_combination(const std::vector<Complex>& weights,
                                       Scalar* coefficients) const {
  Scalar* target = coefficients + carrier() + layout_.delays - 1;
  for (int64_t i = 0; i < pairs(); ++i) {
    Complex sum = 0.0;
    for (int64_t j = 0; j < rank(); ++j) sum += mode_weights_(i, j) * weights[at(j)];
    target[layout_.starts[at(i)]] += dense::narrowed<Scalar>(sum);
  }
}

template <class Scalar>
std::vector<Scalar> BasicDmd<Scalar>::forecast(double horizon, int64_t origin) const {
  KOOPCORE_REQUIRE(std::isfinite(horizon)) << "horizon must be finite, got " << horizon;
  KOOPCORE_REQUIRE(origin == kLast || (origin >= 0 && origin < states()))
      << "origin is " << origin << "; there are " << states() << " states";
  const int64_t newest =
      origin == kLast ? snapshots_ - 1 : origin + layout_.delays - 1 + (differences() ? 1 : 0);
  std::vector<Scalar> result(at(snapshots_));
  if (horizon == 0.0) {
    result[at(newest)] = 1.0;
    return result;
  }
  std::vector<Complex> weights = origin == kLast ? start_ : mode_coordinates(origin);
  for (int64_t i = 0; i < rank(); ++i) {
    Complex lambda = eigenvalues_[at(i)];
    if (horizon > 0.0) weights[at(i)] *= detail::stabilise(lambda, unstable_, exact_);
    if (differences())
      weights[at(i)] *= detail::geometric_sum(lambda, horizon) * (exact_ ? 1.0 : lambda);
    else
      weights[at(i)] *= detail::power(lambda, exact_ ? horizon - 1.0 : horizon);
  }
  std::vector<Scalar> on_columns(at(columns()));
  add_combination(weights, on_columns.data());
  if (!differences()) return on_columns;
  detail::undo_differences(on_columns.data(), columns(), result.data());
  result[at(newest)] += 1.0;
  return result;
}

template <class Scalar>
Matrix<Scalar> BasicDmd<Scalar>::predict(MatrixView<const Scalar> cross, double steps) const {
  const int64_t delays = layout_.delays;
  KOOPCORE_REQUIRE(std::isfinite(steps) && steps >= 1.0)
      << "steps must be at least 1, got " << steps;
  KOOPCORE_REQUIRE(cross.rows == snapshots_ && cross.cols % delays == 0)
      << "cross is (" << cross.rows << ", " << cross.cols << "); the fit has " << snapshots_
      << " snapshots and " << delays << " per state";
  Matrix<Scalar> result(snapshots_, cross.cols / delays);
  // Affine: T^n(x) = T^n(s) + A^n (x - s) with s the last but one state, and T(s) the last.
  const int64_t anchor = snapshots_ - 1 - delays;
  const std::vector<Scalar> of_anchor =
      differences() ? forecast(steps - 1.0) : std::vector<Scalar>();
  std::vector<Scalar> x_cross(at(pairs())), on_columns;
  for (int64_t q = 0; q < result.cols(); ++q) {
    for (int64_t i = 0; i < pairs(); ++i) {
      Scalar sum = constant_;
      for (int64_t d = 0; d < delays; ++d) {
        const int64_t row = layout_.starts[at(i)] + d, col = q * delays + d;
        sum += differences() ? (cross(row + 1, col) - cross(row, col)) -
                                   (gram_(row + 1, anchor + d) - gram_(row, anchor + d))
                             : cross(row, col);
      }
      x_cross[at(i)] = sum;
    }
    std::vector<Complex> weights = coordinates_of(x_cross);
    for (int64_t i = 0; i < rank(); ++i) {
      Complex lambda = eigenvalues_[at(i)];
      weights[at(i)] *= detail::stabilise(lambda, unstable_, exact_);
      weights[at(i)] *= detail::power(lambda, exact_ ? steps - 1.0 : steps);
    }
    on_columns.assign(at(columns()), Scalar(0.0));
    add_combination(weights, on_columns.data());
    Scalar* out = result.view().col(q);
    if (differences()) {
      detail::undo_differences(on_columns.data(), columns(), out);
      for (int64_t i = 0; i < snapshots_; ++i) out[i] += of_anchor[at(i)];
    } else {
      std::copy(on_columns.begin(), on_columns.end(), out);
    }
  }
  return result;
}

// M^H M and M^H Z for M = weights on the columns that carry the modes, Z the states.
template <class Scalar>
std::pair<Matrix<std::complex<double>>, Matrix<std::complex<double>>> BasicDmd<Scalar>::products(
    const Matrix<Complex>& weights) const {
  const Matrix<Scalar> rows = dense::rows(states_gram_, layout_.starts, carrier());
  const Matrix<Scalar> square = dense::columns(rows, layout_.starts, carrier());
  return {multiply(Op::kAdjoint, weights, Op::kNone, multiply(dense::complex_of(square), weights)),
          multiply(Op::kAdjoint, weights, Op::kNone, dense::complex_of(rows))};
}

template <class Scalar>
typename BasicDmd<Scalar>::AmplitudeSystem BasicDmd<Scalar>::amplitude_system(int64_t first,
                                                                              int64_t count) const {
  KOOPCORE_REQUIRE(first >= 0 && count >= 1 && first + count <= states())
      << "states [" << first << ", " << first + count << ") do not exist; there are " << states();
  // With M the modes and powers_jt = lambda_j^t.
  const auto [inner, seen] = products(mode_weights_);
  const int64_t r = rank();
  Matrix<Complex> powers(r, count);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t j = 0; j < r; ++j)
      powers(j, t) = t == 0 ? Complex(1.0) : powers(j, t - 1) * eigenvalues_[at(j)];
  AmplitudeSystem system{Matrix<Complex>(r, r), std::vector<Complex>(at(r))};
  for (int64_t j = 0; j < r; ++j) {
    for (int64_t t = 0; t < count; ++t)
      system.rhs[at(j)] += std::conj(powers(j, t)) * seen(j, first + t);
    for (int64_t i = 0; i < r; ++i) {
      Complex overlap = 0.0;
      for (int64_t t = 0; t < count; ++t) overlap += std::conj(powers(i, t)) * powers(j, t);
      system.matrix(i, j) = inner(i, j) * overlap;
    }
  }
  return system;
}

// The same for c = W b: W the eigenvectors, W Lambda^t W^-1 in place of the powers.
template <class Scalar>
typename BasicDmd<Scalar>::AmplitudeSystem BasicDmd<Scalar>::reduced_system(int64_t first,
                                                                            int64_t count) const {
  const auto [inner, seen] = products(dense::complex_of(exact_ ? action_ : basis_));
  AmplitudeSystem system{Matrix<Complex>(rank(), rank()), std::vector<Complex>(at(rank()))};
  Matrix<Complex> scaled = vectors_;
  for (int64_t t = first; t < first + count; ++t) {
    const Matrix<Complex> power = multiply(scaled, left_);
    const Matrix<Complex> term = multiply(Op::kAdjoint, power, Op::kNone, multiply(inner, power));
    for (int64_t j = 0; j < rank(); ++j)
      for (int64_t i = 0; i < rank(); ++i) {
        system.matrix(i, j) += term(i, j);
        system.rhs[at(i)] += std::conj(power(j, i)) * seen(j, t);
        scaled(i, j) *= eigenvalues_[at(j)];
      }
  }
  return system;
}

template <class Scalar>
std::vector<std::complex<double>> BasicDmd<Scalar>::amplitudes(int64_t first, int64_t count) const {
  AmplitudeSystem system = amplitude_system(first, count);
  // Modes that are nearly parallel have no inverse to the square of their condition: what they are
  // made of is solved for, and the inverse of their vectors comes last.
  const bool parallel =
      vectors_.rows() == vectors_.cols() && condition_bound(vectors_, left_) >= kWellConditioned;
  if (parallel) system = reduced_system(first, count);
  Matrix<Complex> solution(rank(), 1);
  std::copy(system.rhs.begin(), system.rhs.end(), solution.view().data);
  blas::least_squares(system.matrix.view(), solution.view(), kRcond);
  if (parallel) solution = multiply(left_, solution);
  return {solution.view().data, solution.view().data + rank()};
}

template class BasicDmd<double>;
template class BasicDmd<std::complex<double>>;

}  // namespace koopcore
