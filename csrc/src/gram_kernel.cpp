#include "gram_kernel.hpp"

#include <type_traits>

#include "simd.hpp"

namespace koopcore::detail {
namespace {

using simd::Vector;

// Columns whose part of the panel stays in the second-level cache while all others pass by.
constexpr int64_t kBlock = 64;

template <class T>
struct Spaced {
  const T* data;
  int64_t ld;
  const T* operator()(int64_t column) const { return data + column * ld; }
};

template <class T>
struct Listed {
  const T* const* columns;
  int64_t row;
  const T* operator()(int64_t column) const { return columns[column] + row; }
};

// Products of columns i0.. and j0.. over some rows. `ahead`: what comes so many rows later in the
// columns from i0 on is asked for; 0 for nothing.
template <int kWidth, int kA, int kB, class Columns>
KOOPCORE_INLINE void tile(const Columns& columns, int64_t cols, int64_t rows, int64_t i0,
                          int64_t j0, int64_t ahead, double (&sums)[kA * kB]) {
  using Pack = typename Vector<kWidth>::Pack;
  decltype(columns(0)) left[kA], right[kB];
  for (int a = 0; a < kA; ++a) left[a] = columns(std::min(i0 + a, cols - 1));
  for (int b = 0; b < kB; ++b) right[b] = columns(std::min(j0 + b, cols - 1));
  Pack packs[kA * kB] = {};
  for (int64_t k = 0; k < rows; k += kWidth) {
    Pack l[kA];
    for (int a = 0; a < kA; ++a) simd::load(l[a], left[a] + k);
    if (ahead > 0)
      for (int a = 0; a < kA; ++a) __builtin_prefetch(left[a] + k + ahead);
    for (int b = 0; b < kB; ++b) {
      Pack r;
      simd::load(r, right[b] + k);
      for (int a = 0; a < kA; ++a) packs[b * kA + a] += l[a] * r;
    }
  }
  for (int at = 0; at < kA * kB; at += kWidth) {
    simd::transpose(packs + at);
    for (int i = 1; i < kWidth; ++i) packs[at] += packs[at + i];
    simd::store(sums + at, packs[at]);
  }
}

template <int kWidth, class Columns>
KOOPCORE_INLINE void add_tiles(const Columns& columns, int64_t cols, int64_t rows,
                               const Wanted& wanted, int64_t ahead, MatrixView<double> g) {
  constexpr int kA = 4, kB = kWidth == 8 ? 4 : 2;  // what the registers hold
  const auto [unused, i_end, j_begin] = wanted;
  for (int64_t block = j_begin / kB * kB; block < cols; block += kBlock)
    for (int64_t i = 0; i < std::min(i_end, block + kBlock); i += kA)
      for (int64_t j = std::max(i / kB * kB, block); j < std::min(cols, block + kBlock); j += kB) {
        double sums[kA * kB];
        tile<kWidth, kA, kB>(columns, cols, rows, i, j, i == j ? ahead : 0, sums);
        for (int64_t b = std::max<int64_t>(0, j_begin - j); b < std::min<int64_t>(kB, cols - j);
             ++b)
          for (int64_t a = 0; a < std::min({int64_t{kA}, i_end - i, j + b - i + 1}); ++a)
            g(i + a, j + b) += sums[b * kA + a];
      }
}

template <int kWidth>
KOOPCORE_INLINE void add_panel(MatrixView<const double> x, const Wanted& wanted,
                               MatrixView<double> g) {
  add_tiles<kWidth>(Spaced<double>{x.data, x.ld}, x.cols, x.rows, wanted, 0, g);
}

// Columns so few that what one chunk of rows has of them stays in the first-level cache.
template <int kWidth, class T>
KOOPCORE_INLINE void add_listed(const T* const* columns, int64_t row, int64_t rows,
                                const Wanted& wanted, MatrixView<double> g) {
  constexpr int64_t kChunk = 2048 / static_cast<int64_t>(sizeof(T));
  for (int64_t at = 0; at < rows; at += kChunk)
    add_tiles<kWidth>(Listed<T>{columns, row + at}, wanted.cols, std::min(kChunk, rows - at),
                      wanted, kChunk, g);
}

KOOPCORE_PER_WIDTH(run_panel,
                   (MatrixView<const double> x, const Wanted& wanted, MatrixView<double> g),
                   (x, wanted, g), add_panel)

#define KOOPCORE_LISTED(name, T)                                                                \
  KOOPCORE_PER_WIDTH(name,                                                                      \
                     (const T* const* columns, int64_t row, int64_t rows, const Wanted& wanted, \
                      MatrixView<double> g),                                                    \
                     (columns, row, rows, wanted, g), add_listed)                               \
  void run_listed(const T* const* columns, int64_t row, int64_t rows, const Wanted& wanted,     \
                  MatrixView<double> g) {                                                       \
    name(columns, row, rows, wanted, g);                                                        \
  }
KOOPCORE_LISTED(listed_bfloat16, BFloat16)
KOOPCORE_LISTED(listed_float, float)
KOOPCORE_LISTED(listed_double, double)

// Columns of `to` begin at multiples of kPanelStride. They are short, and far apart in x: what the
// next panel reads of each is asked for meanwhile.
template <int kWidth, class T>
KOOPCORE_INLINE void fill_columns(StridedView<const T> x, double* to) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < x.cols; ++j) {
    const T* const from = x.data + j * x.col_stride;
    double* const column = to + j * kPanelStride;
    int64_t i = 0;
    for (; i + kLine <= x.rows; i += kLine) {
      __builtin_prefetch(from + i + x.rows);
      for (int64_t k = 0; k < kLine; k += kWidth) {
        typename Vector<kWidth>::Pack values;
        simd::load(values, from + i + k);
        simd::store(column + i + k, values);
      }
    }
    for (; i < x.rows; ++i) column[i] = simd::widened(from[i]);
  }
}

// Row-major data: squares of kWidth rows and columns, transposed in registers.
template <int kWidth, class T>
KOOPCORE_INLINE void fill_rows(StridedView<const T> x, double* to) {
  using Pack = typename Vector<kWidth>::Pack;
  int64_t i = 0;
  for (; i + kWidth <= x.rows; i += kWidth) {
    int64_t j = 0;
    for (; j + kWidth <= x.cols; j += kWidth) {
      Pack square[kWidth];
      for (int r = 0; r < kWidth; ++r) simd::load(square[r], x.data + (i + r) * x.row_stride + j);
      simd::transpose(square);
      for (int c = 0; c < kWidth; ++c) simd::store(to + (j + c) * kPanelStride + i, square[c]);
    }
    for (; j < x.cols; ++j)
      for (int r = 0; r < kWidth; ++r)
        to[j * kPanelStride + i + r] = static_cast<double>(x.data[(i + r) * x.row_stride + j]);
  }
  for (; i < x.rows; ++i)
    for (int64_t j = 0; j < x.cols; ++j)
      to[j * kPanelStride + i] = static_cast<double>(x.data[i * x.row_stride + j]);
}

KOOPCORE_PER_WIDTH(fill_columns16, (StridedView<const BFloat16> x, double* to), (x, to),
                   fill_columns)
KOOPCORE_PER_WIDTH(fill_columns32, (StridedView<const float> x, double* to), (x, to), fill_columns)
KOOPCORE_PER_WIDTH(fill_columns64, (StridedView<const double> x, double* to), (x, to), fill_columns)
KOOPCORE_PER_WIDTH(fill_rows32, (StridedView<const float> x, double* to), (x, to), fill_rows)
KOOPCORE_PER_WIDTH(fill_rows64, (StridedView<const double> x, double* to), (x, to), fill_rows)

template <class T>
void pad(StridedView<const T> x, double* to) {
  const int64_t whole = (x.rows + kPanelPadding - 1) / kPanelPadding * kPanelPadding;
  for (int64_t j = 0; j < x.cols && whole > x.rows; ++j)
    std::fill_n(to + j * kPanelStride + x.rows, whole - x.rows, 0.0);
}

}  // namespace

int64_t panel_rows(int64_t rows, int64_t cols) {
  // A panel that fits the first-level cache is written several times as fast; but products of
  // columns that are too short cost more than that brings.
  constexpr int64_t kLeast = 128, kNumbers = 4096;
  const int64_t most = kLeast * cols <= kNumbers
                           ? std::clamp(kNumbers / std::max<int64_t>(cols, 1) / 2, kLeast,
                                        kPanelStride - kPanelPadding)
                           : kPanelStride - kPanelPadding;
  const int64_t panels = std::max<int64_t>(1, (rows + most - 1) / most);
  const int64_t even = (rows + panels - 1) / panels;
  return std::max(kPanelPadding, (even + kPanelPadding - 1) / kPanelPadding * kPanelPadding);
}

template <class T>
void fill_panel(StridedView<const T> x, double* to) {
  pad(x, to);
  constexpr bool single = std::is_same_v<T, float>;
  if (x.row_stride == 1) {
    if constexpr (single)
      fill_columns32(x, to);
    else
      fill_columns64(x, to);
  } else if (x.col_stride == 1) {
    if constexpr (single)
      fill_rows32(x, to);
    else
      fill_rows64(x, to);
  } else {
    for (int64_t j = 0; j < x.cols; ++j)
      for (int64_t i = 0; i < x.rows; ++i) to[j * kPanelStride + i] = static_cast<double>(x(i, j));
  }
}

template void fill_panel<float>(StridedView<const float>, double*);
template void fill_panel<double>(StridedView<const double>, double*);

void fill_panel(StridedView<const BFloat16> x, double* to) {
  pad(x, to);
  fill_columns16(x, to);
}

bool better_in_place(int64_t cols) {
  return cols <= kFewColumns && simd::level() == simd::Level::kAvx512;
}

void add_products(MatrixView<const double> panel, const Wanted& wanted, MatrixView<double> g) {
  run_panel(panel, wanted, g);
}

template <class T>
void add_products(const T* const* columns, int64_t row, int64_t rows, const Wanted& wanted,
                  MatrixView<double> g) {
  run_listed(columns, row, rows, wanted, g);
}

#define KOOPCORE_INSTANTIATE(T)                                                   \
  template void add_products<T>(const T* const*, int64_t, int64_t, const Wanted&, \
                                MatrixView<double>);
KOOPCORE_INSTANTIATE(BFloat16)
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore::detail
