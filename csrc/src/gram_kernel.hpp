#pragma once
// Gram matrices of a few dozen columns, where dsyrk's packing costs as much as its arithmetic.

#include "koopcore/matrix_view.hpp"

namespace koopcore::detail {

/// Upper triangle of g += x^T x (`transposed`: x x^T) where this is faster than dsyrk; returns
/// false, with g untouched, where it is not: by the number of columns or the processor.
bool add_small_gram(MatrixView<const double> x, bool transposed, MatrixView<double> g);

/// to[i] = from[i], in the widest vectors there are.
void widen(const float* from, double* to, int64_t size);

}  // namespace koopcore::detail
