#pragma once
// Dynamic mode decomposition from a Gram matrix alone (Schmid 2010; exact modes: Tu et al. 2014).
// With X^T X = V S^2 V^T the projected operator is S^-1 V^T (X^T Y) V S^-1.
// Unlike the textbook form no n-sized matrix is touched: modes and forecasts are returned as
// coefficients on the snapshots, to be combined by the caller in one pass over them.

#include <complex>
#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// What happens in a forecast to eigenvalues outside the unit circle. `eigenvalues` stay as fitted.
enum class Unstable { kClip, kKeep };

struct DmdOptions {
  int64_t max_rank = 0;     ///< 0: no limit
  double energy = 1.0;      ///< keep the fewest directions with this share of the sum of sigma^2
  double tolerance = -1.0;  ///< drop sigma <= tolerance * sigma_max; negative: sqrt(columns * eps),
                            ///< the least that a float64 Gram matrix resolves
  bool exact = true;        ///< modes and forecasts in the span of Y; otherwise projected (of X)
  bool affine = false;      ///< dynamics x -> A x + b: fitted on first differences
  Unstable unstable = Unstable::kClip;
};

/// The fit of y_j = A x_j for columns S of one snapshot matrix: x_j = S[:, j], y_j = S[:, j + lag].
/// A time series has lag 1; separate pairs [X, Y] have lag = number of pairs.
class Dmd {
 public:
  /// `gram` = S^T S (k x k). Cost O(k^3). Throws if it is not finite, if fewer than one pair
  /// (two with `affine`: three snapshots) is given, or if max_rank exceeds the number of pairs.
  Dmd(MatrixView<const double> gram, int64_t lag, const DmdOptions& options);

  int64_t snapshots() const { return snapshots_; }
  int64_t rank() const { return static_cast<int64_t>(eigenvalues_.size()); }
  /// Discrete-time, as fitted; by falling modulus, of a conjugate pair the one with Im > 0 first.
  /// The multiple eigenvalue of a defective operator appears as close, distinct ones.
  const std::vector<std::complex<double>>& eigenvalues() const { return eigenvalues_; }
  /// All singular values of X, before truncation, falling.
  const std::vector<double>& singular_values() const { return singular_values_; }

  /// Modes = S * result (k x rank). With `affine` they are the modes of the differences.
  Matrix<std::complex<double>> mode_coefficients() const;

  /// Least-squares amplitudes of the modes on S[:, 0] or, with `whole_window`, on all of the
  /// series sum_i b_i lambda_i^j mode_i (pairs: on the X part). With `affine`, of the differences.
  std::vector<std::complex<double>> amplitudes(bool whole_window) const;

  /// Coefficients on S of the state `horizon` >= 0 steps after the last column of S. Horizon 0 is
  /// that column; fractions interpolate by powers of the eigenvalues (real part).
  std::vector<double> forecast(double horizon) const;

  /// Coefficients on S (k x q) of q states advanced by `steps` >= 1, given cross = S^T states.
  Matrix<double> predict(MatrixView<const double> cross, double steps) const;

 private:
  using Complex = std::complex<double>;
  int64_t pairs() const { return columns_ - lag_; }
  void fit_operator(const DmdOptions& options);
  void check(const DmdOptions& options) const;
  Complex stabilised(Complex eigenvalue) const;
  std::vector<Complex> spectral_coordinates(const std::vector<double>& x_cross) const;
  void add_combination(const std::vector<Complex>& weights, double* coefficients) const;

  int64_t snapshots_;  // columns of S
  int64_t columns_;    // of the fitted matrix: S, or its first differences
  int64_t lag_;
  bool exact_;
  bool affine_;
  Unstable unstable_;
  Matrix<double> snapshot_gram_;
  Matrix<double> gram_;   // of the fitted matrix
  Matrix<double> basis_;  // V S^-1: the reduced basis is X * basis_
  std::vector<double> singular_values_;
  std::vector<Complex> eigenvalues_;
  Matrix<Complex> eigenvectors_;     // of the projected operator
  Matrix<Complex> mode_weights_;     // basis_ * eigenvectors_
  std::vector<Complex> last_state_;  // spectral coordinates of the last column
};

}  // namespace koopcore
