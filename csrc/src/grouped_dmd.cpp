#include "koopcore/grouped_dmd.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"
#include "koopcore/gram.hpp"
#include "parallel.hpp"

namespace koopcore {
namespace {

// Checks the segments and returns the rows in none of them.
std::vector<Segment> uncovered_rows(const std::vector<Segment>& segments, int64_t rows) {
  KOOPCORE_REQUIRE(!segments.empty()) << "there are no segments; a fit needs at least one";
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    KOOPCORE_REQUIRE(0 <= s.start && s.start < s.stop && s.stop <= rows)
        << "segments[" << i << "] is (" << s.start << ", " << s.stop << "); the data have " << rows
        << " rows and a segment needs at least one of them: 0 <= "
        << "start < stop <= " << rows;
  }
  std::vector<size_t> order(segments.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::make_pair(segments[a].start, a) < std::make_pair(segments[b].start, b);
  });
  std::vector<Segment> uncovered;
  int64_t covered = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    const Segment& s = segments[order[k]];
    KOOPCORE_REQUIRE(s.start >= covered)
        << "segments[" << order[k - 1] << "] and segments[" << order[k] << "] both hold row "
        << s.start << "; a row can follow one operator only";
    if (s.start > covered) uncovered.push_back({covered, s.start});
    covered = s.stop;
  }
  if (covered < rows) uncovered.push_back({covered, rows});
  return uncovered;
}

int64_t longest(const std::vector<Segment>& segments) {
  int64_t rows = 0;
  for (const Segment& segment : segments) rows = std::max(rows, segment.rows());
  return rows;
}

template <class T>
StridedView<const T> rows_of(StridedView<const T> x, const Segment& segment) {
  return {x.data + segment.start * x.row_stride, segment.rows(), x.cols, x.row_stride,
          x.col_stride};
}

Dmd fit_series(const Matrix<double>& gram, const Layout& layout, DmdOptions options, int64_t rows) {
  options.state_size = rows;
  Dmd fit(gram.view(), layout, options);
  fit.release_workings();
  return fit;
}

}  // namespace

std::vector<Segment> equal_segments(int64_t rows, int64_t block) {
  KOOPCORE_REQUIRE(block >= 1) << "block must be at least 1 row, got " << block;
  std::vector<Segment> segments;
  for (int64_t start = 0; start < rows; start += block)
    segments.push_back({start, start + std::min(block, rows - start)});
  return segments;
}

template <class T>
GroupedDmd::GroupedDmd(StridedView<const T> x, std::vector<Segment> segments, const Layout& layout,
                       const DmdOptions& options, int n_threads)
    : rows_(x.rows),
      snapshots_(x.cols),
      n_threads_(threads_for(n_threads)),
      segments_(std::move(segments)),
      uncovered_(uncovered_rows(segments_, rows_)) {
  // What is wrong with the options or the number of snapshots is no fault of the first segment.
  fit_series(Matrix<double>(snapshots_, snapshots_), layout, options, 1);

  struct Worker {
    BlockScratch scratch;
    Matrix<double> gram;
  };
  const int64_t n_groups = static_cast<int64_t>(segments_.size());
  std::vector<std::unique_ptr<Worker>> workers(static_cast<size_t>(n_threads_));
  std::vector<std::unique_ptr<Dmd>> fits(segments_.size());
  parallel_for(n_groups, n_threads_, [&](int64_t i, int worker) {
    std::unique_ptr<Worker>& own = workers[static_cast<size_t>(worker)];
    if (!own)
      own.reset(new Worker{BlockScratch(longest(segments_), snapshots_),
                           Matrix<double>(snapshots_, snapshots_)});
    const Segment& segment = segments_[static_cast<size_t>(i)];
    try {
      // Likely what this worker takes next.
      const size_t next = static_cast<size_t>(i) + static_cast<size_t>(n_threads_);
      gram<T>(rows_of(x, segment), own->gram.view(), own->scratch,
              next < segments_.size() ? rows_of(x, segments_[next]) : StridedView<const T>{});
      fits[static_cast<size_t>(i)] =
          std::make_unique<Dmd>(fit_series(own->gram, layout, options, segment.rows()));
    } catch (const Error& error) {
      KOOPCORE_REQUIRE(false) << "segment " << i << " (rows " << segment.start << " to "
                              << segment.stop << "): " << error.what();
    }
  });
  fits_.reserve(fits.size());
  for (std::unique_ptr<Dmd>& fit : fits) fits_.push_back(std::move(*fit));
}

Matrix<double> GroupedDmd::forecast(const std::vector<double>& horizons) const {
  const int64_t k = static_cast<int64_t>(horizons.size());
  Matrix<double> coefficients(snapshots_, groups() * k);
  const MatrixView<double> out = coefficients.view();
  parallel_for(groups(), n_threads_, [&](int64_t i, int) {
    for (int64_t h = 0; h < k; ++h) {
      const std::vector<double> column =
          fits_[static_cast<size_t>(i)].forecast(horizons[static_cast<size_t>(h)]);
      std::copy(column.begin(), column.end(), out.col(i * k + h));
    }
  });
  return coefficients;
}

template <class T>
void GroupedDmd::combine(StridedView<const T> x, MatrixView<const double> coefficients,
                         MatrixView<T> out) const {
  KOOPCORE_REQUIRE(x.rows == rows_ && x.cols == snapshots_)
      << "x is (" << x.rows << ", " << x.cols << "); the fitted data are (" << rows_ << ", "
      << snapshots_ << ")";
  KOOPCORE_REQUIRE(coefficients.rows == snapshots_ && coefficients.cols == groups() * out.cols &&
                   out.rows == rows_)
      << "coefficients are (" << coefficients.rows << ", " << coefficients.cols << "), out ("
      << out.rows << ", " << out.cols << "); expected (" << snapshots_ << ", " << groups()
      << " k) and (" << rows_ << ", k)";
  const int64_t k = out.cols;
  std::vector<std::unique_ptr<BlockScratch>> scratch(static_cast<size_t>(n_threads_));
  parallel_for(groups(), n_threads_, [&](int64_t i, int worker) {
    std::unique_ptr<BlockScratch>& own = scratch[static_cast<size_t>(worker)];
    if (!own) own = std::make_unique<BlockScratch>(longest(segments_), snapshots_ + k);
    const Segment& segment = segments_[static_cast<size_t>(i)];
    koopcore::combine<T>(rows_of(x, segment), coefficients.block(0, i * k, snapshots_, k),
                         out.block(segment.start, 0, segment.rows(), k), *own);
  });
  for (const Segment& segment : uncovered_)
    for (int64_t h = 0; h < k; ++h)
      for (int64_t row = segment.start; row < segment.stop; ++row)
        out(row, h) = x(row, snapshots_ - 1);
}

#define KOOPCORE_INSTANTIATE(T)                                                              \
  template GroupedDmd::GroupedDmd(StridedView<const T>, std::vector<Segment>, const Layout&, \
                                  const DmdOptions&, int);                                   \
  template void GroupedDmd::combine<T>(StridedView<const T>, MatrixView<const double>,       \
                                       MatrixView<T>) const;
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
