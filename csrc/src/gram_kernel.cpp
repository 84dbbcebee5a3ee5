#include "gram_kernel.hpp"

#include <algorithm>

#include "simd.hpp"

namespace koopcore::detail {
namespace {

using simd::Vector;

constexpr int64_t kMinColumns = 8, kMaxColumns = 160;

// Rows per sweep: what two tiles of columns leave of the first-level cache, or of the second for
// row-major blocks, which are read through once per tile.
constexpr int64_t kChunk = 512;

// Products of columns i0.. and j0.. over `rows` rows, a multiple of kWidth.
template <int kWidth, int kA, int kB>
KOOPCORE_INLINE void column_tile(MatrixView<const double> x, int64_t i0, int64_t j0,
                                 MatrixView<double> g) {
  using Pack = typename Vector<kWidth>::Pack;
  const double *left[kA], *right[kB];
  for (int a = 0; a < kA; ++a) left[a] = x.col(std::min(i0 + a, x.cols - 1));
  for (int b = 0; b < kB; ++b) right[b] = x.col(std::min(j0 + b, x.cols - 1));
  Pack sums[kA][kB] = {};
  for (int64_t k = 0; k < x.rows; k += kWidth) {
    Pack r[kB];
    for (int b = 0; b < kB; ++b) simd::load(r[b], right[b] + k);
    for (int a = 0; a < kA; ++a) {
      Pack l;
      simd::load(l, left[a] + k);
      for (int b = 0; b < kB; ++b) sums[a][b] += l * r[b];
    }
  }
  for (int a = 0; a < kA; ++a)
    for (int b = 0; b < kB; ++b)
      if (i0 + a <= j0 + b && j0 + b < x.cols) g(i0 + a, j0 + b) += simd::sum(sums[a][b]);
}

template <int kWidth, int kA, int kB>
KOOPCORE_INLINE void add_columns(MatrixView<const double> x, MatrixView<double> g, Ahead& ahead) {
  const int64_t whole = x.rows / kWidth * kWidth;
  for (int64_t row = 0; row < whole; row += kChunk) {
    const MatrixView<const double> chunk = x.block(row, 0, std::min(kChunk, whole - row), x.cols);
    for (int64_t i = 0; i < x.cols; i += kA)
      for (int64_t j = i / kB * kB; j < x.cols; j += kB) {
        column_tile<kWidth, kA, kB>(chunk, i, j, g);
        ahead.fetch();
      }
  }
  double values[kMaxColumns];
  for (int64_t row = whole; row < x.rows; ++row) {
    for (int64_t j = 0; j < x.cols; ++j) values[j] = x(row, j);
    for (int64_t j = 0; j < x.cols; ++j)
      for (int64_t i = 0; i <= j; ++i) g(i, j) += values[i] * values[j];
  }
}

// The same for row-major data: x holds a row in each column. Products of kA numbers of a row and
// kB packs of it; the last ones overlap those before them where the row's length is no multiple.
template <int kWidth, int kA, int kB>
KOOPCORE_INLINE void row_tile(MatrixView<const double> x, int64_t i0, int64_t j0,
                              MatrixView<double> g) {
  using Pack = typename Vector<kWidth>::Pack;
  const int64_t first = std::min(i0, x.rows - kA);
  int64_t at[kB];
  for (int b = 0; b < kB; ++b) at[b] = std::min(j0 + b * kWidth, x.rows - kWidth);
  Pack sums[kA][kB] = {};
  for (int64_t k = 0; k < x.cols; ++k) {
    const double* row = x.col(k);
    Pack r[kB];
    for (int b = 0; b < kB; ++b) simd::load(r[b], row + at[b]);
    for (int a = 0; a < kA; ++a)
      for (int b = 0; b < kB; ++b) sums[a][b] += row[first + a] * r[b];
  }
  for (int b = 0; b < kB; ++b)
    for (int a = 0; a < kA; ++a) {
      double lanes[kWidth];
      simd::store(lanes, sums[a][b]);
      for (int64_t l = 0; l < kWidth; ++l) {
        const int64_t i = first + a, j = at[b] + l;
        if (i >= i0 && j >= j0 + b * kWidth && i <= j) g(i, j) += lanes[l];
      }
    }
}

template <int kWidth, int kA, int kB>
KOOPCORE_INLINE void add_rows(MatrixView<const double> x, MatrixView<double> g) {
  for (int64_t k = 0; k < x.cols; k += kChunk) {
    const MatrixView<const double> chunk = x.block(0, k, x.rows, std::min(kChunk, x.cols - k));
    for (int64_t i = 0; i < x.rows; i += kA) {
      int64_t j = i / kWidth * kWidth;
      for (; x.rows - j > (kB - 1) * kWidth; j += kB * kWidth)
        row_tile<kWidth, kA, kB>(chunk, i, j, g);
      for (; j < x.rows; j += kWidth) row_tile<kWidth, kA, 1>(chunk, i, j, g);
    }
  }
}

KOOPCORE_INLINE void widen_each(const float* from, double* to, int64_t size) {
  for (int64_t i = 0; i < size; ++i) to[i] = static_cast<double>(from[i]);
}

KOOPCORE_PER_PROCESSOR(run_widen, (const float* from, double* to, int64_t size), (from, to, size),
                       widen_each)

#if defined(KOOPCORE_X86)
KOOPCORE_AVX512 void add_avx512(MatrixView<const double> x, bool transposed, MatrixView<double> g,
                                Ahead& ahead) {
  transposed ? add_rows<8, 8, 3>(x, g) : add_columns<8, 4, 4>(x, g, ahead);
}

KOOPCORE_AVX2 void add_avx2(MatrixView<const double> x, bool transposed, MatrixView<double> g,
                            Ahead& ahead) {
  transposed ? add_rows<4, 4, 3>(x, g) : add_columns<4, 4, 2>(x, g, ahead);
}
#endif

}  // namespace

void widen(const float* from, double* to, int64_t size) { run_widen(from, to, size); }

bool add_small_gram(MatrixView<const double> x, bool transposed, MatrixView<double> g,
                    Ahead ahead) {
  const int64_t columns = transposed ? x.rows : x.cols;
  if (columns < kMinColumns || columns > kMaxColumns) return false;
#if defined(KOOPCORE_X86)
  if (simd::level() == simd::Level::kBase) return false;
  simd::level() == simd::Level::kAvx512 ? add_avx512(x, transposed, g, ahead)
                                        : add_avx2(x, transposed, g, ahead);
  return true;
#else
  return false;
#endif
}

}  // namespace koopcore::detail
