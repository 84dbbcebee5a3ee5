#pragma once
// Linear combinations of tall columns: out = columns * weights, row after row in registers.

#include <cstdint>

#include "koopcore/bfloat16.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore::detail {

/// out[i] = base_weight * base[i] + sum_k weights[k] * columns[k][i], accumulated in float64.
/// `base` may be null, and `out` may be one of the columns.
template <class T, class Stored>
void combine_columns(const T* base, double base_weight, const Stored* const* columns, int64_t count,
                     const double* weights, int64_t rows, T* out);

/// Numbers of scratch that `combine_rows` needs.
int64_t combine_scratch(int64_t columns, int64_t results);

/// out = x c, accumulated in Sum; `out` may be columns of x itself.
template <class X, class T, class Sum>
void combine_rows(MatrixView<const X> x, MatrixView<const double> c, MatrixView<T> out,
                  Sum* scratch);

}  // namespace koopcore::detail
