#pragma once
// Dynamic mode decomposition from the small Gram matrix of the snapshots, in its linear variants
// (Schmid 2010; exact modes: Tu et al. 2014; the others: see Variant).
// With X^T X = V S^2 V^T the operator on the leading directions is S^-1 V^T (X^T Y) V S^-1.
// Unlike the textbook forms no n-sized matrix is touched: modes and forecasts are returned as
// coefficients on the snapshots, to be combined by the caller in one pass over them.

#include <complex>
#include <utility>
#include <vector>

#include "koopcore/matrix_view.hpp"

namespace koopcore {

enum class Variant {
  kStandard,
  kTotalLeastSquares,  ///< noise in X and Y alike: projected onto the leading directions of [X; Y]
                       ///< (Dawson et al. 2016, Hemati et al. 2017)
  kForwardBackward,    ///< (A_f A_b^-1)^(1/2), both in the basis of X (Dawson et al. 2016); A_f
                       ///< where there is no such root near it, as with too high a rank
  kSymmetric,          ///< Procrustes with A = A^T (piDMD, Baddoo et al. 2023)
};

/// Dynamics x -> A x + b: fitted on first differences, or with a constant among the observables.
enum class Affine { kNone, kDifferences, kConstant };

/// Modes in the span of Y (exact) or of X (projected). kAuto: exact, where the variant has them and
/// no constraint has moved the eigenvalues away from them.
enum class Modes { kAuto, kExact, kProjected };

/// Every eigenvalue is moved to the nearest one that is admissible (kUnitCircle drops zeros).
enum class Constraint { kNone, kStable, kUnitCircle, kReal };

/// What happens in forecasts to eigenvalues outside the unit circle. `eigenvalues` keep them.
enum class Unstable { kClip, kReflect, kDrop, kKeep };

struct DmdOptions {
  Variant variant = Variant::kStandard;
  int64_t max_rank = 0;     ///< 0: no limit
  double energy = 1.0;      ///< keep the fewest directions with this share of the sum of sigma^2
  double tolerance = -1.0;  ///< drop sigma <= tolerance * sigma_max; negative: what the input
                            ///< resolves, sqrt(pairs * eps) from a Gram matrix, pairs * eps from a
                            ///< factor
  int64_t state_size = 0;   ///< numbers per snapshot: no more directions are kept; 0: unknown
  bool hard_threshold = false;  ///< that of Gavish & Donoho 2014, from the median of sigma; needs
                                ///< state_size
  double ridge = 0.0;           ///< (X X^T + ridge * trace / pairs)^-1; kStandard only
  Modes modes = Modes::kAuto;
  Constraint constraint = Constraint::kNone;
  Unstable unstable = Unstable::kClip;
};

/// Which columns belong together. The columns of S (with kDifferences: its first differences),
/// `delays` successive ones stacked, are the states z_0, z_1, ...; the pairs are (z_a, z_{a +
/// lag}).
struct Layout {
  int64_t lag = 1;  ///< 1: a time series; the number of pairs: separate matrices [X, Y]
  int64_t delays = 1;
  Affine affine = Affine::kNone;
  std::vector<int64_t> starts;  ///< the a's; repetitions weigh; empty: all there are
};

/// The fit of z_{a + lag} = A z_a. `Scalar` is double or std::complex<double>.
template <class Scalar>
class BasicDmd {
 public:
  using Complex = std::complex<double>;

  /// `gram` = S^H S (k x k). Cost O(k^3). Throws if it is not finite, if there is no pair, or if
  /// max_rank exceeds the number of pairs.
  BasicDmd(MatrixView<const Scalar> gram, const Layout& layout, const DmdOptions& options);

  /// From any F (q x k) with F^H F = S^H S, such as the triangular factor of S: sees singular
  /// values that the square of S has lost.
  static BasicDmd from_factor(MatrixView<const Scalar> factor, const Layout& layout,
                              const DmdOptions& options);

  int64_t snapshots() const { return snapshots_; }
  int64_t rank() const { return static_cast<int64_t>(eigenvalues_.size()); }
  /// Discrete-time, as fitted; by falling modulus, of a conjugate pair the one with Im > 0 first.
  /// The multiple eigenvalue of a defective operator appears as close, distinct ones.
  const std::vector<Complex>& eigenvalues() const { return eigenvalues_; }
  /// All singular values of X (total least squares: of [X; Y]) before truncation, falling.
  /// Where `max_rank` made the fit look at the leading ones only, the rest is computed here:
  /// O(k^3).
  std::vector<double> singular_values() const;

  /// Frees what the fit was made from, for those who hold thousands. After that only `rank`,
  /// `eigenvalues` and `forecast` from the last column may be called, and `singular_values`, which
  /// then are those the rank was chosen from.
  void release_workings();

  /// Orthonormal basis of the kept directions = stacked X * result; as coefficients on the columns
  /// of S (k x directions), its oldest block.
  Matrix<Scalar> basis_coefficients() const;
  /// All states z in that basis (directions x states).
  const Matrix<Scalar>& coordinates() const { return coordinates_; }
  /// All states in the modes: eigenfunction values (rank x states).
  Matrix<Complex> spectral_coordinates() const;

  /// Modes = S * result (k x rank), the oldest block of each. With kDifferences: of differences.
  Matrix<Complex> mode_coefficients() const;

  struct AmplitudeSystem {
    Matrix<Complex> matrix;    ///< rank x rank, Hermitian
    std::vector<Complex> rhs;  ///< rank
  };
  /// Normal equations of min_b sum_t |z_{first + t} - sum_i b_i lambda_i^t mode_i|^2, t < count.
  AmplitudeSystem amplitude_system(int64_t first, int64_t count) const;
  std::vector<Complex> amplitudes(int64_t first, int64_t count) const;

  /// Coefficients on S of the state `horizon` steps after the last column of S, or after the newest
  /// column of state z_origin (kLast: the last state). Horizon 0 is that column; fractions and
  /// negative times go by powers of the eigenvalues (an eigenvalue 0 has no past). `unstable` acts
  /// on positive horizons only.
  static constexpr int64_t kLast = -1;
  std::vector<Scalar> forecast(double horizon, int64_t origin = kLast) const;

  /// Coefficients on S (k x q) of q states advanced by `steps` >= 1, given cross = S^H states. With
  /// delays each state is `delays` columns of cross (k x delays q), oldest first.
  Matrix<Scalar> predict(MatrixView<const Scalar> cross, double steps) const;

  /// The same reduction with another spectrum: `vectors` (directions x q) are modes in the basis,
  /// `start` (q, or empty: from the last column) their coordinates at the last column. Modes are
  /// projected ones.
  BasicDmd with_spectrum(const std::vector<Complex>& eigenvalues, MatrixView<const Complex> vectors,
                         const std::vector<Complex>& start) const;

  /// The fit with these modes only.
  BasicDmd restricted(const std::vector<int64_t>& kept) const;

 private:
  BasicDmd(Matrix<Scalar> gram, Matrix<Scalar> factor, const Layout& layout,
           const DmdOptions& options);
  void check(const Matrix<Scalar>& gram, const DmdOptions& options) const;
  void set_spectrum(std::vector<Complex> values, Matrix<Complex> vectors,
                    Matrix<Complex> eliminated);
  std::vector<Complex> mode_coordinates(int64_t state) const;
  std::vector<Complex> coordinates_of(const std::vector<Scalar>& x_cross) const;
  std::pair<Matrix<Complex>, Matrix<Complex>> products(const Matrix<Complex>& weights) const;
  AmplitudeSystem reduced_system(int64_t first, int64_t count) const;
  void add_combination(const std::vector<Complex>& weights, Scalar* coefficients) const;
  int64_t carrier() const { return exact_ ? layout_.lag : 0; }
  int64_t pairs() const { return static_cast<int64_t>(layout_.starts.size()); }
  int64_t states() const { return states_gram_.cols(); }
  int64_t columns() const { return snapshots_ - (differences() ? 1 : 0); }
  bool differences() const { return layout_.affine == Affine::kDifferences; }

  int64_t snapshots_;  // columns of S
  Layout layout_;
  bool exact_;
  bool joint_;  // total least squares
  Unstable unstable_;
  double constant_ = 0.0;       // square of the constant observable
  Matrix<Scalar> gram_;         // of S, where that is not states_gram_ and differences need it
  Matrix<Scalar> states_gram_;  // of the stacked states z
  Matrix<Scalar> basis_;        // pairs x directions: the reduced basis is X * basis_
  Matrix<Scalar> action_;       // pairs x directions: A maps the basis to Y * action_
  Matrix<Scalar> coordinates_;  // directions x states
  std::vector<double> singular_values_;
  bool all_singular_values_ = true;
  std::vector<Complex> eigenvalues_;
  Matrix<Complex> vectors_;       // directions x rank: eigenvectors in the reduced basis
  Matrix<Complex> left_;          // rank x directions: their inverse
  Matrix<Complex> mode_weights_;  // pairs x rank: modes on the carrying columns
  std::vector<Complex> start_;    // spectral coordinates of the last state
};

using Dmd = BasicDmd<double>;
using ComplexDmd = BasicDmd<std::complex<double>>;

}  // namespace koopcore
