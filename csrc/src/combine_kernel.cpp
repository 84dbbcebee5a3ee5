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

// Rows [row, row + kA * kWidth) of kB results. weights: a row for each column.
template <int kWidth, int kA, int kB, class Sum, class T, class X>
KOOPCORE_INLINE void tile(MatrixView<const X> x, int64_t row, const Sum* weights, int64_t results,
                          T* out) {
  using Pack = typename simd::Vector<kWidth, Sum>::Pack;
  Pack sums[kB][kA] = {};
  for (int64_t k = 0; k < x.cols; ++k) {
    const X* const column = x.col(k) + row;
    const Sum* const w = weights + k * results;
    for (int a = 0; a < kA; ++a) {
      Pack values;
      simd::load(values, column + a * kWidth);
      for (int b = 0; b < kB; ++b) sums[b][a] += values * w[b];
    }
  }
  for (int b = 0; b < kB; ++b)
    for (int a = 0; a < kA; ++a) simd::store(out + b * kPanel + a * kWidth, sums[b][a]);
}

template <int kWidth, int kA, int kB, class Sum, class T, class X>
KOOPCORE_INLINE void tiles(MatrixView<const X> x, int64_t row, const Sum* weights, int64_t results,
                           T* out) {
  int64_t j = 0;
  for (; j + kB <= results; j += kB)
    tile<kWidth, kA, kB>(x, row, weights + j, results, out + j * kPanel);
  for (; j < results; ++j) tile<kWidth, kA, 1>(x, row, weights + j, results, out + j * kPanel);
}

// Results of the first `rows` of x, up to kPanel. kLanes: doubles in a vector.
template <int kLanes, class X, class Sum, class T>
KOOPCORE_INLINE void panel(MatrixView<const X> x, int64_t rows, const Sum* weights, int64_t results,
                           T* out) {
  constexpr int kWidth = kLanes * static_cast<int>(sizeof(double) / sizeof(Sum));
  constexpr int kB = kLanes == 8 ? 6 : kLanes == 4 ? 3 : 2;  // what the registers hold
  int64_t row = 0;
  for (; row + 4 * kWidth <= rows; row += 4 * kWidth) {
    for (int64_t k = 0; k < x.cols && row + kAhead<X> < x.rows; ++k)
      for (int64_t i = 0; i < 4 * kWidth; i += 64 / static_cast<int64_t>(sizeof(X)))
        __builtin_prefetch(x.col(k) + row + kAhead<X> + i, 0, 2);  // into the second level
    tiles<kWidth, 4, kB>(x, row, weights, results, out + row);
  }
  for (; row + kWidth <= rows; row += kWidth)
    tiles<kWidth, 1, kB>(x, row, weights, results, out + row);
  for (; row < rows; ++row)
    for (int64_t j = 0; j < results; ++j) {
      Sum sum = 0;
      for (int64_t k = 0; k < x.cols; ++k)
        sum += static_cast<Sum>(x(row, k)) * weights[k * results + j];
      out[j * kPanel + row] = static_cast<T>(sum);
    }
}

// Rows of a panel of one result: what is asked for while one panel is read is the next one's, three
// quarters of a kilobyte ahead in each column. More lie too long in the cache, fewer come too late.
template <class Stored>
constexpr int64_t kOnePanel = 768 / static_cast<int64_t>(sizeof(Stored));

// sums[i] += the combination of a few columns, i in [0, rows), a multiple of a cache line. How many
// columns is known to the compiler: unrolled, more of their lines are on the way at once.
template <int kLanes, int kColumns, class Stored>
KOOPCORE_INLINE void add_columns(const Stored* const* columns, const double* weights, int64_t row,
                                 int64_t rows, double* sums) {
  using Pack = typename simd::Vector<kLanes, double>::Pack;
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(Stored));
  constexpr int kA = static_cast<int>(kLine) / kLanes;
  for (int64_t i = 0; i < rows; i += kLine) {
    Pack packs[kA];
    for (int a = 0; a < kA; ++a) simd::load(packs[a], sums + i + a * kLanes);
    for (int k = 0; k < kColumns; ++k) {
      const Stored* const x = columns[k] + row + i;
      __builtin_prefetch(x + kOnePanel<Stored>);
      for (int a = 0; a < kA; ++a) {
        Pack values;
        simd::load(values, x + a * kLanes);
        packs[a] += values * weights[k];
      }
    }
    for (int a = 0; a < kA; ++a) simd::store(sums + i + a * kLanes, packs[a]);
  }
}

// sums = weight * base
template <int kLanes, class T>
KOOPCORE_INLINE void start_from(const T* base, double weight, int64_t rows, double* sums) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < rows; i += kLine) {
    __builtin_prefetch(base + i + rows);
    for (int64_t k = i; k < i + kLine; k += kLanes) {
      typename simd::Vector<kLanes, double>::Pack values;
      simd::load(values, base + k);
      values *= weight;
      simd::store(sums + k, values);
    }
  }
}

// Rounded as the vectors are, so that a row's bits do not depend on how many follow it.
template <int kLanes>
KOOPCORE_INLINE double multiply_add(double a, double b, double sum) {
#if defined(__FP_FAST_FMA)
  constexpr bool kFused = true;
#else
  constexpr bool kFused = kLanes > 2;
#endif
  return kFused ? __builtin_fma(a, b, sum) : a * b + sum;
}

// One result, from memory to memory; its sums wait in the first-level cache.
template <int kLanes, class T, class Stored>
KOOPCORE_INLINE void one_result(const T* base, double base_weight, const Stored* const* columns,
                                int64_t count, const double* weights, int64_t rows, T* out) {
  constexpr int64_t kRows = kOnePanel<Stored>;
  alignas(64) double sums[kRows];
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    if (base == nullptr)
      std::fill_n(sums, kRows, 0.0);
    else
      start_from<kLanes>(base + row, base_weight, kRows, sums);
    int64_t k = 0;
    for (; k + 16 <= count; k += 16)
      add_columns<kLanes, 16>(columns + k, weights + k, row, kRows, sums);
    for (; k + 4 <= count; k += 4)
      add_columns<kLanes, 4>(columns + k, weights + k, row, kRows, sums);
    for (; k < count; ++k) add_columns<kLanes, 1>(columns + k, weights + k, row, kRows, sums);
    for (int64_t i = 0; i < kRows; ++i) out[row + i] = static_cast<T>(sums[i]);
  }
  for (; row < rows; ++row) {
    double sum = base == nullptr ? 0.0 : base_weight * static_cast<double>(base[row]);
    for (int64_t k = 0; k < count; ++k)
      sum = multiply_add<kLanes>(weights[k], simd::widened(columns[k][row]), sum);
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

#define KOOPCORE_PANEL(name, X, T, Sum)                                                         \
  KOOPCORE_PER_WIDTH(                                                                           \
      name, (MatrixView<const X> x, int64_t rows, const Sum* weights, int64_t results, T* out), \
      (x, rows, weights, results, out), panel)                                                  \
  void run(MatrixView<const X> x, int64_t rows, const Sum* weights, int64_t results, T* out) {  \
    name(x, rows, weights, results, out);                                                       \
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
    run(x.block(row, 0, x.rows - row, x.cols), rows, weights, c.cols, results);
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
