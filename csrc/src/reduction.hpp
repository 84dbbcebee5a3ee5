#pragma once
// Private: from the columns of S to the stacked states, and from those to a few directions.

#include "koopcore/dmd.hpp"

namespace koopcore::detail {

/// First differences of the columns where the layout asks for them, then `delays` of them stacked,
/// then the constant observable: as a Gram matrix of the states, and as a factor if there is one.
template <class Scalar>
struct States {
  Matrix<Scalar> gram;
  Matrix<Scalar> factor;  ///< empty, or gram = factor^H factor
  double constant = 0.0;  ///< square of the constant observable
};

template <class Scalar>
States<Scalar> make_states(Matrix<Scalar> gram, const Matrix<Scalar>& factor, const Layout& layout);

/// Gram matrix of the first differences s_{j+1} - s_j.
template <class Scalar>
Matrix<Scalar> difference_gram(const Matrix<Scalar>& g);

/// Leading directions of X (the pairs' first states): X * basis is orthonormal.
template <class Scalar>
struct Reduction {
  Matrix<Scalar> basis;        ///< pairs x directions
  Matrix<Scalar> coordinates;  ///< directions x states
  std::vector<double> sigma;   ///< of the directions kept
  /// Those the rank was chosen from: all, or the leading ones where the rank limits them.
  std::vector<double> singular_values;
  bool complete = true;  ///< whether that is all of them
  double energy = 0.0;   ///< sum of all sigma^2 of X
};

/// All singular values of X, or of [X; Y], from the Gram matrix of the states.
template <class Scalar>
std::vector<double> singular_values(const Matrix<Scalar>& gram, const Layout& layout, bool joint);

template <class Scalar>
Reduction<Scalar> reduce(const States<Scalar>& states, const Layout& layout,
                         const DmdOptions& options);

}  // namespace koopcore::detail
