#include "combine_kernel.hpp"

#include <algorithm>

#include "simd.hpp"

namespace koopcore::detail {
namespace {

constexpr int64_t kPanel = 256;  // rows at a time: what they become fits the second-level cache

// Columns are read a few cache lines at a time, one after the other: what comes next in each is
// asked for this many numbers before it is read.
template <class Stored>
constexpr int64_t kAhead = 1024 / static_cast<int64_t>(sizeof(Stored));

template <class T>
struct Spaced {
  const T* data;
  int64_t ld;
  const T* operator()(int64_t k) const { return data + k * ld; }
};

// Rows [row, row + kA * kWidth) of kB results from `sums` on. weights: a row for each column.
template <int kWidth, int kA, int kB, class Sum, class Columns>
KOOPCORE_INLINE void add_tile(const Columns& columns, int64_t count, int64_t row,
                              const Sum* weights, int64_t results,
                              typename simd::Vector<kWidth, Sum>::Pack (&sums)[kB][kA]) {
  using Pack = typename simd::Vector<kWidth, Sum>::Pack;
  for (int64_t k = 0; k < count; ++k) {
    const auto* const x = columns(k) + row;
    const Sum* const w = weights + k * results;
    for (int a = 0; a < kA; ++a) {
      Pack values;
      simd::load(values, x + a * kWidth);
      for (int b = 0; b < kB; ++b) sums[b][a] += values * w[b];
    }
  }
}

template <int kWidth, int kA, int kB, class Sum, class T, class Columns>
KOOPCORE_INLINE void tile(const Columns& columns, int64_t count, int64_t row, const Sum* weights,
                          int64_t results, T* out) {
  typename simd::Vector<kWidth, Sum>::Pack sums[kB][kA] = {};
  add_tile<kWidth, kA, kB, Sum>(columns, count, row, weights, results, sums);
  for (int b = 0; b < kB; ++b)
    for (int a = 0; a < kA; ++a) simd::store(out + b * kPanel + a * kWidth, sums[b][a]);
}

template <int kWidth, int kA, int kB, class Sum, class T, class Columns>
KOOPCORE_INLINE void tiles(const Columns& columns, int64_t count, int64_t row, const Sum* weights,
                           int64_t results, T* out) {
  int64_t j = 0;
  for (; j + kB <= results; j += kB)
    tile<kWidth, kA, kB>(columns, count, row, weights + j, results, out + j * kPanel);
  for (; j < results; ++j)
    tile<kWidth, kA, 1>(columns, count, row, weights + j, results, out + j * kPanel);
}

// Results of `rows` up to kPanel rows, of `left` that there are. kLanes: doubles in a vector.
template <int kLanes, class X, class Sum, class T>
KOOPCORE_INLINE void panel(Spaced<X> columns, int64_t rows, int64_t left, int64_t count,
                           const Sum* weights, int64_t results, T* out) {
  constexpr int kWidth = kLanes * static_cast<int>(sizeof(double) / sizeof(Sum));
  constexpr int kB = kLanes == 8 ? 6 : kLanes == 4 ? 3 : 2;  // what the registers hold
  int64_t row = 0;
  for (; row + 4 * kWidth <= rows; row += 4 * kWidth) {
    for (int64_t k = 0; k < count && row + kAhead<X> < left; ++k)
      for (int64_t i = 0; i < 4 * kWidth; i += 64 / static_cast<int64_t>(sizeof(X)))
        __builtin_prefetch(columns(k) + row + kAhead<X> + i);
    tiles<kWidth, 4, kB>(columns, count, row, weights, results, out + row);
  }
  for (; row + kWidth <= rows; row += kWidth)
    tiles<kWidth, 1, kB>(columns, count, row, weights, results, out + row);
  for (; row < rows; ++row)
    for (int64_t j = 0; j < results; ++j) {
      Sum sum = 0;
      for (int64_t k = 0; k < count; ++k)
        sum += static_cast<Sum>(columns(k)[row]) * weights[k * results + j];
      out[j * kPanel + row] = static_cast<T>(sum);
    }
}

// One result, straight from and to memory.
template <int kLanes, class T, class Stored>
KOOPCORE_INLINE void one_result(const T* base, double base_weight, const Stored* const* columns,
                                int64_t count, const double* weights, int64_t rows, T* out) {
  using Pack = typename simd::Vector<kLanes, double>::Pack;
  constexpr int kA = 4, kRows = kA * kLanes;
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    Pack sums[kA] = {};
    if (base != nullptr)
      for (int a = 0; a < kA; ++a) {
        simd::load(sums[a], base + row + a * kLanes);
        sums[a] *= base_weight;
      }
    for (int64_t k = 0; k < count; ++k) {
      const Stored* const x = columns[k] + row;
      const double weight = weights[k];
      for (int64_t i = 0; i < kRows; i += 64 / static_cast<int64_t>(sizeof(Stored)))
        __builtin_prefetch(x + kAhead<Stored> + i);
      for (int a = 0; a < kA; ++a) {
        Pack values;
        simd::load(values, x + a * kLanes);
        sums[a] += values * weight;
      }
    }
    for (int a = 0; a < kA; ++a) simd::store(out + row + a * kLanes, sums[a]);
  }
  for (; row < rows; ++row) {
    double sum = base == nullptr ? 0.0 : base_weight * static_cast<double>(base[row]);
    for (int64_t k = 0; k < count; ++k) sum += weights[k] * simd::widened(columns[k][row]);
    out[row] = static_cast<T>(sum);
  }
}

#define KOOPCORE_ONE_RESULT(name, T, Stored)                                               \
  KOOPCORE_PER_WIDTH(name,                                                                 \
                     (const T* base, double base_weight, const Stored* const* columns,     \
                      int64_t count, const double* weights, int64_t rows, T* out),         \
                     (base, base_weight, columns, count, weights, rows, out), one_result)  \
  void run(const T* base, double base_weight, const Stored* const* columns, int64_t count, \
           const double* weights, int64_t rows, T* out) {                                  \
    name(base, base_weight, columns, count, weights, rows, out);                           \
  }
KOOPCORE_ONE_RESULT(one_of_float, float, float)
KOOPCORE_ONE_RESULT(one_of_double, double, double)
KOOPCORE_ONE_RESULT(one_of_bfloat16, float, BFloat16)

#define KOOPCORE_PANEL(name, X, T, Sum)                                                      \
  KOOPCORE_PER_WIDTH(name,                                                                   \
                     (Spaced<X> columns, int64_t rows, int64_t left, int64_t count,          \
                      const Sum* weights, int64_t results, T* out),                          \
                     (columns, rows, left, count, weights, results, out), panel)             \
  void run(Spaced<X> columns, int64_t rows, int64_t left, int64_t count, const Sum* weights, \
           int64_t results, T* out) {                                                        \
    name(columns, rows, left, count, weights, results, out);                                 \
  }
KOOPCORE_PANEL(panel_single, float, float, float)
KOOPCORE_PANEL(panel_widening, float, float, double)
KOOPCORE_PANEL(panel_narrowing, double, float, double)
KOOPCORE_PANEL(panel_double, double, double, double)

}  // namespace

template <class T, class Stored>
void combine_columns(const T* base, double base_weight, const Stored* const* columns, int64_t count,
                     const double* weights, int64_t rows, T* out) {
  run(base, base_weight, columns, count, weights, rows, out);
}

int64_t combine_scratch(int64_t columns, int64_t results) { return (columns + kPanel) * results; }

template <class X, class T, class Sum>
void combine_rows(MatrixView<const X> x, MatrixView<const double> c, MatrixView<T> out,
                  Sum* scratch) {
  Sum* const weights = scratch;  // a row for each column of x
  T* const results = reinterpret_cast<T*>(scratch + c.rows * c.cols);
  for (int64_t k = 0; k < c.rows; ++k)
    for (int64_t j = 0; j < c.cols; ++j) weights[k * c.cols + j] = static_cast<Sum>(c(k, j));
  for (int64_t row = 0; row < x.rows; row += kPanel) {
    const int64_t rows = std::min(kPanel, x.rows - row);
    run(Spaced<X>{x.data + row, x.ld}, rows, x.rows - row, x.cols, weights, c.cols, results);
    for (int64_t j = 0; j < c.cols; ++j) std::copy_n(results + j * kPanel, rows, out.col(j) + row);
  }
}

template void combine_columns<float, float>(const float*, double, const float* const*, int64_t,
                                            const double*, int64_t, float*);
template void combine_columns<float, BFloat16>(const float*, double, const BFloat16* const*,
                                               int64_t, const double*, int64_t, float*);
template void combine_columns<double, double>(const double*, double, const double* const*, int64_t,
                                              const double*, int64_t, double*);
#define KOOPCORE_INSTANTIATE(X, T, Sum)                                                \
  template void combine_rows<X, T, Sum>(MatrixView<const X>, MatrixView<const double>, \
                                        MatrixView<T>, Sum*);
KOOPCORE_INSTANTIATE(float, float, float)
KOOPCORE_INSTANTIATE(float, float, double)
KOOPCORE_INSTANTIATE(double, float, double)
KOOPCORE_INSTANTIATE(double, double, double)

}  // namespace koopcore::detail
