#pragma once
// Private: eigenvalues and what is done with them.

#include "koopcore/blas.hpp"
#include "koopcore/dmd.hpp"

namespace koopcore::detail {

struct Spectrum {
  std::vector<std::complex<double>> values;
  Matrix<std::complex<double>> vectors;
  Matrix<std::complex<double>> inverse;  ///< of the vectors, or empty where elimination finds none
};

/// Eigenvectors that can be used as coordinates. A defective operator is moved by about 1e-10 of
/// its norm first: powers of the moved operator are that close to its own, while its eigenvectors
/// are independent ("approximate diagonalisation").
template <class Scalar>
Spectrum diagonalise(const Matrix<Scalar>& op);

/// By falling modulus; of a conjugate pair the one with Im > 0 first.
void sort_spectrum(Spectrum& spectrum);

/// Moves eigenvalues to the nearest admissible ones; kUnitCircle drops zeros and their vectors.
void constrain(Spectrum& spectrum, Constraint constraint);

/// Moves an eigenvalue outside the unit circle to where a forecast uses it. Returns the factor of
/// the mode's weight: 0 where it is dropped; exact modes have one step with the eigenvalue as
/// fitted in them, which the factor corrects.
std::complex<double> stabilise(std::complex<double>& eigenvalue, Unstable unstable, bool exact);

/// lambda^exponent, with 0 to a negative power counted as 0: such a mode has no past.
std::complex<double> power(std::complex<double> lambda, double exponent);

/// 1 + lambda + ... + lambda^(h - 1) = (lambda^h - 1) / (lambda - 1) for any real h.
std::complex<double> geometric_sum(std::complex<double> lambda, double h);

}  // namespace koopcore::detail
