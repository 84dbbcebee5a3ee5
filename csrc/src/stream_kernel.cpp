#include "stream_kernel.hpp"

#include <algorithm>
#include <cstring>

#include "simd.hpp"

namespace koopcore::detail {
namespace {

constexpr int64_t kPanel = 256;  // rows at a time: what they become fits the second-level cache

template <int kWidth>
struct Floats {
  typedef float Pack __attribute__((vector_size(kWidth * 4)));
};

// kA vectors of rows by kB results, over all columns of x.
template <int kWidth, int kA, int kB>
KOOPCORE_INLINE void tile(const float* x, int64_t ld, int64_t columns, const float* c,
                          int64_t results, float* out) {
  using Pack = typename Floats<kWidth>::Pack;
  Pack sums[kA][kB] = {};
  for (int64_t k = 0; k < columns; ++k) {
    Pack rows[kA];
    for (int a = 0; a < kA; ++a) std::memcpy(&rows[a], x + k * ld + a * kWidth, sizeof(Pack));
    const float* weights = c + k * results;
    for (int b = 0; b < kB; ++b)
      for (int a = 0; a < kA; ++a) sums[a][b] += rows[a] * weights[b];
  }
  for (int b = 0; b < kB; ++b)
    for (int a = 0; a < kA; ++a)
      std::memcpy(out + b * kPanel + a * kWidth, &sums[a][b], sizeof(Pack));
}

KOOPCORE_INLINE void one_row(const float* x, int64_t ld, int64_t columns, const float* c,
                             int64_t results, float* out) {
  for (int64_t j = 0; j < results; ++j) {
    float sum = 0.0f;
    for (int64_t k = 0; k < columns; ++k) sum += x[k * ld] * c[k * results + j];
    out[j * kPanel] = sum;
  }
}

template <int kWidth, int kA, int kB>
KOOPCORE_INLINE void panel_of(const float* x, int64_t ld, int64_t rows, int64_t columns,
                              const float* c, int64_t results, float* out) {
  int64_t row = 0;
  for (; row + kA * kWidth <= rows; row += kA * kWidth) {
    int64_t j = 0;
    for (; j + kB <= results; j += kB)
      tile<kWidth, kA, kB>(x + row, ld, columns, c + j, results, out + j * kPanel + row);
    for (; j < results; ++j)
      tile<kWidth, kA, 1>(x + row, ld, columns, c + j, results, out + j * kPanel + row);
  }
  for (; row < rows; ++row) one_row(x + row, ld, columns, c, results, out + row);
}

#if defined(KOOPCORE_X86)
KOOPCORE_AVX512 void panel_avx512(const float* x, int64_t ld, int64_t rows, int64_t columns,
                                  const float* c, int64_t results, float* out) {
  panel_of<16, 4, 6>(x, ld, rows, columns, c, results, out);
}
KOOPCORE_AVX2 void panel_avx2(const float* x, int64_t ld, int64_t rows, int64_t columns,
                              const float* c, int64_t results, float* out) {
  panel_of<8, 4, 3>(x, ld, rows, columns, c, results, out);
}
#endif

void panel(const float* x, int64_t ld, int64_t rows, int64_t columns, const float* c,
           int64_t results, float* out) {
#if defined(KOOPCORE_X86)
  if (simd::level() == simd::Level::kAvx512)
    return panel_avx512(x, ld, rows, columns, c, results, out);
  if (simd::level() == simd::Level::kAvx2) return panel_avx2(x, ld, rows, columns, c, results, out);
#endif
  panel_of<4, 4, 2>(x, ld, rows, columns, c, results, out);
}

}  // namespace

int64_t turn_scratch(int64_t columns) { return columns * columns + kPanel * columns; }

void turn(MatrixView<const float> x, MatrixView<const double> c, MatrixView<float> out,
          float* scratch) {
  float* const weights = scratch;  // a row for each column of x
  float* const results = scratch + c.rows * c.cols;
  for (int64_t k = 0; k < c.rows; ++k)
    for (int64_t j = 0; j < c.cols; ++j) weights[k * c.cols + j] = static_cast<float>(c(k, j));
  for (int64_t row = 0; row < x.rows; row += kPanel) {
    const int64_t rows = std::min(kPanel, x.rows - row);
    for (int64_t k = 0; k < x.cols && row + kPanel < x.rows; ++k)  // what comes next
      for (int64_t i = 0; i < kPanel; i += 16) __builtin_prefetch(x.col(k) + row + kPanel + i);
    panel(x.data + row, x.ld, rows, x.cols, weights, c.cols, results);
    for (int64_t j = 0; j < c.cols; ++j) std::copy_n(results + j * kPanel, rows, out.col(j) + row);
  }
}

}  // namespace koopcore::detail
