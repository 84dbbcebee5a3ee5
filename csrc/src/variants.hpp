#pragma once
// Private: the operator on the reduced directions, one function per variant.

#include "reduction.hpp"

namespace koopcore::detail {

template <class Scalar>
struct ReducedOperator {
  Matrix<Scalar> matrix;  ///< directions x directions
  Matrix<Scalar> action;  ///< pairs x directions: A maps the basis to Y * action (exact modes only)
};

template <class Scalar>
ReducedOperator<Scalar> fit_operator(const Reduction<Scalar>& reduced, const Layout& layout,
                                     const DmdOptions& options);

}  // namespace koopcore::detail
