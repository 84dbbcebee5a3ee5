#pragma once
// Products of tall columns. A few hundred rows of all columns are brought into a panel of float64
// that stays in the second-level cache, and multiplied there: a column is widened once and read
// many times.

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

/// The products wanted of some columns: those with i <= j, i < i_end, j >= j_begin.
struct Wanted {
  int64_t cols, i_end, j_begin;
};

/// g(i, j) += x_i . x_j over the rows of the panel.
void add_products(MatrixView<const double> panel, const Wanted& wanted, MatrixView<double> g);

/// A few columns can be multiplied where they lie, widened in registers at every use: there are so
/// few uses that a panel would cost more. Not so in vectors of less than eight numbers.
constexpr int64_t kFewColumns = 48;
bool better_in_place(int64_t cols);

/// The same over rows [row, row + rows) of listed columns; rows is a multiple of kPanelPadding.
template <class T>
void add_products(const T* const* columns, int64_t row, int64_t rows, const Wanted& wanted,
                  MatrixView<double> g);

}  // namespace koopcore::detail
