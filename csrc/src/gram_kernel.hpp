#pragma once
// Products of tall columns. A few hundred rows of all columns are brought into a panel of float64
// that stays in the second-level cache, and multiplied there: a column is widened once and read
// many times. (Widening in registers, at every use, costs a tenth of the speed.)

#include <algorithm>
#include <cstdint>

#include "koopcore/bfloat16.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore::detail {

/// Rows of each panel of `cols` columns, where `rows` are cut into panels of about the same size.
int64_t panel_rows(int64_t rows, int64_t cols);

/// Numbers from one column of a panel to the next: no power of two, which would put all columns
/// into the same few sets of a cache.
constexpr int64_t kPanelStride = 408;

/// Columns of a panel are filled up with zeros to a multiple of this many rows.
constexpr int64_t kPanelPadding = 8;

/// to (x.rows x x.cols, then zeros) = x.
template <class T>
void fill_panel(StridedView<const T> x, double* to);
void fill_panel(StridedView<const BFloat16> x, double* to);

/// g(i, j) += x_i . x_j over the rows of the panel, for i <= j, i < i_end and j >= j_begin.
void add_products(MatrixView<const double> panel, int64_t i_end, int64_t j_begin,
                  MatrixView<double> g);

}  // namespace koopcore::detail
