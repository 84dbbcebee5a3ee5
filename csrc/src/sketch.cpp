#include "koopcore/sketch.hpp"

#include <algorithm>

#include "koopcore/error.hpp"
#include "koopcore/rng.hpp"
#include "simd.hpp"

namespace koopcore {
namespace {

constexpr int64_t kSums = SparseSignSketch::kSums;
constexpr int64_t kGroup = 64;    // rows that one call of the generator serves
constexpr int64_t kPanel = 1024;  // rows whose signs are held at a time
constexpr int kTurn = 8;  // rotations are multiples of it: a vector is stored where one was loaded

struct Panel {
  double signs[kPanel];
  int rotations[kPanel / kSums];
};

void draw(uint64_t seed, int64_t first_row, int64_t rows, Panel& panel) {
  for (int64_t row = 0; row < rows; row += kGroup) {
    const auto bits = philox(seed, static_cast<uint64_t>((first_row + row) / kGroup));
    for (int64_t i = 0; i < kGroup; ++i)
      panel.signs[row + i] = (bits[static_cast<size_t>(i / 32)] >> (i % 32)) & 1u ? -1.0 : 1.0;
    panel.rotations[row / kSums] = static_cast<int>(bits[2] % (kSums / kTurn)) * kTurn;
    panel.rotations[row / kSums + 1] = static_cast<int>(bits[3] % (kSums / kTurn)) * kTurn;
  }
}

// sums[rotation + i] += sign_i x_i; the upper half is folded onto the lower one at the end.
template <class T>
KOOPCORE_INLINE void add_whole(const T* x, const Panel& panel, int64_t runs, double* sums) {
  for (int64_t run = 0; run < runs; ++run) {
    double* target = sums + panel.rotations[run];
    const double* signs = panel.signs + run * kSums;
    for (int64_t i = 0; i < kSums; ++i)
      target[i] += signs[i] * static_cast<double>(x[run * kSums + i]);
  }
}

KOOPCORE_PER_PROCESSOR(add_runs32, (const float* x, const Panel& panel, int64_t runs, double* sums),
                       (x, panel, runs, sums), add_whole)
KOOPCORE_PER_PROCESSOR(add_runs64,
                       (const double* x, const Panel& panel, int64_t runs, double* sums),
                       (x, panel, runs, sums), add_whole)

void add_runs(const float* x, const Panel& panel, int64_t runs, double* sums) {
  add_runs32(x, panel, runs, sums);
}
void add_runs(const double* x, const Panel& panel, int64_t runs, double* sums) {
  add_runs64(x, panel, runs, sums);
}

template <class T>
void add_column(StridedView<const T> x, int64_t row, int64_t rows, int64_t column,
                const Panel& panel, double* sums) {
  const int64_t runs = x.row_stride == 1 ? rows / kSums : 0;
  if (runs > 0) add_runs(&x(row, column), panel, runs, sums);
  for (int64_t i = runs * kSums; i < rows; ++i)
    sums[panel.rotations[i / kSums] + i % kSums] +=
        panel.signs[i] * static_cast<double>(x(row + i, column));
}

}  // namespace

SparseSignSketch::SparseSignSketch(uint64_t seed, int64_t first_row)
    : seed_(seed), first_row_(first_row) {
  KOOPCORE_REQUIRE(first_row >= 0 && first_row % kGroup == 0)
      << "first_row is " << first_row << "; row blocks begin at multiples of " << kGroup;
}

template <class T>
void SparseSignSketch::add(StridedView<const T> x, MatrixView<double> out) const {
  KOOPCORE_REQUIRE(out.rows == kSums && out.cols == x.cols)
      << "sketch: x has " << x.cols << " columns, out is (" << out.rows << ", " << out.cols
      << "); expected " << kSums << " rows";
  Panel panel;
  for (int64_t row = 0; row < x.rows; row += kPanel) {
    const int64_t rows = std::min(kPanel, x.rows - row);
    draw(seed_, first_row_ + row, rows, panel);
    for (int64_t j = 0; j < x.cols; ++j) {
      double sums[2 * kSums] = {};
      add_column(x, row, rows, j, panel, sums);
      for (int64_t i = 0; i < kSums; ++i) out(i, j) += sums[i] + sums[i + kSums];
    }
  }
}

template void SparseSignSketch::add<float>(StridedView<const float>, MatrixView<double>) const;
template void SparseSignSketch::add<double>(StridedView<const double>, MatrixView<double>) const;

}  // namespace koopcore
