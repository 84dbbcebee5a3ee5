#pragma once
// Gram matrices over all rows: slices of the rows for the threads, panels within a slice.

#include <algorithm>

#include "gram_kernel.hpp"
#include "koopcore/gram.hpp"
#include "parallel.hpp"

namespace koopcore::detail {

/// Up to `count` rows from `first` on.
template <class T>
StridedView<const T> rows_of(StridedView<const T> x, int64_t first, int64_t count) {
  return {x.data + first * x.row_stride, std::clamp<int64_t>(x.rows - first, 0, count), x.cols,
          x.row_stride, x.col_stride};
}

inline void fill(MatrixView<double> g, double value) {
  for (int64_t j = 0; j < g.cols; ++j) std::fill_n(g.col(j), g.rows, value);
}

/// Pointers to a few columns.
template <class T>
struct FewColumns {
  const T* at[kFewColumns];
};

/// g += the products over rows [first, last). `columns` brings rows into panels by
/// fill(row, rows, panel), or lists its columns by list(few) if they can be read where they lie.
template <class Columns>
void add_panels(const Columns& columns, int64_t first, int64_t last, const Wanted& wanted,
                double* panel, MatrixView<double> g) {
  FewColumns<typename Columns::Number> few;
  if (better_in_place(wanted.cols) && columns.list(few)) {
    const int64_t whole = (last - first) / kPanelPadding * kPanelPadding;
    add_products(few.at, first, whole, wanted, g);
    first += whole;
  }
  const int64_t most = panel_rows(last - first, wanted.cols);
  for (int64_t row = first; row < last; row += most) {
    const int64_t rows = std::min(most, last - row);
    columns.fill(row, rows, panel);
    const int64_t padded = (rows + kPanelPadding - 1) / kPanelPadding * kPanelPadding;
    add_products({panel, padded, wanted.cols, kPanelStride}, wanted, g);
  }
}

/// g = the products over all rows, and nothing else of g: every slice on its own, then added up in
/// their order.
template <class Columns>
void add_slices(const Columns& columns, int64_t rows, const Wanted& wanted, GramWorkspace& work,
                int n_threads, MatrixView<double> g) {
  const int threads = std::min(threads_for(n_threads), static_cast<int>(work.slices()));
  work.prepare(threads);
  if (work.slices() == 1) {
    for (int64_t j = wanted.j_begin; j < wanted.cols; ++j)
      std::fill_n(g.col(j), std::min(wanted.i_end, j + 1), 0.0);
    return add_panels(columns, 0, rows, wanted, work.scratch(0).data(), g);
  }
  parallel_for(work.slices(), threads, [&](int64_t slice, int worker) {
    const MatrixView<double> partial = work.partial(slice, wanted.cols);
    fill(partial, 0.0);
    const int64_t first = slice * work.slice_rows();
    add_panels(columns, first, std::min(rows, first + work.slice_rows()), wanted,
               work.scratch(worker).data(), partial);
  });
  for (int64_t j = wanted.j_begin; j < wanted.cols; ++j)
    for (int64_t i = 0; i < std::min(wanted.i_end, j + 1); ++i) {
      double sum = 0.0;
      for (int64_t slice = 0; slice < work.slices(); ++slice)
        sum += work.partial(slice, wanted.cols)(i, j);
      g(i, j) = sum;
    }
}

}  // namespace koopcore::detail
