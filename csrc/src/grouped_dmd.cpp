#include "koopcore/grouped_dmd.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"
#include "koopcore/gram.hpp"
#include "gram_slices.hpp"

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
  const auto before = [&](size_t a, size_t b) {
    return std::make_pair(segments[a].start, a) < std::make_pair(segments[b].start, b);
  };
  if (!std::is_sorted(order.begin(), order.end(), before))
    std::sort(order.begin(), order.end(), before);
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

int64_t groups_of(const std::vector<Segment>& segments) {
  return static_cast<int64_t>(segments.size());
}

template <class T>
StridedView<const T> rows_of(StridedView<const T> x, const Segment& segment) {
  return detail::rows_of(x, segment.start, segment.rows());
}

// The Gram matrices of segments on several threads, each with its own scratch.
template <class T>
class GramWorkers {
 public:
  GramWorkers(StridedView<const T> x, const std::vector<Segment>& segments, int n_threads)
      : x_(x), segments_(segments), scratch_(static_cast<size_t>(n_threads)) {}

  void gram(int64_t i, int worker, MatrixView<double> g) const {
    std::unique_ptr<BlockScratch>& own = scratch_[static_cast<size_t>(worker)];
    if (!own) own = std::make_unique<BlockScratch>(x_.cols);
    koopcore::gram<T>(rows_of(x_, segments_[static_cast<size_t>(i)]), g, *own);
  }

 private:
  StridedView<const T> x_;
  const std::vector<Segment>& segments_;
  mutable std::vector<std::unique_ptr<BlockScratch>> scratch_;
};

Dmd fit_series(MatrixView<const double> gram, const Layout& layout, DmdOptions options,
               int64_t rows) {
  options.state_size = rows;
  Dmd fit(gram, layout, options);
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
void grouped_gram(StridedView<const T> x, const std::vector<Segment>& segments,
                  MatrixView<double> grams, int n_threads) {
  const int64_t m = x.cols, groups = groups_of(segments);
  uncovered_rows(segments, x.rows);
  KOOPCORE_REQUIRE(grams.rows == m && grams.cols == groups * m)
      << "grams are (" << grams.rows << ", " << grams.cols << "); " << groups << " of (" << m
      << ", " << m << ") are expected";
  if (m == 0) return;
  const GramWorkers<T> workers(x, segments, threads_for(n_threads));
  parallel_for(groups, threads_for(n_threads), [&](int64_t i, int worker) {
    workers.gram(i, worker, grams.block(0, i * m, m, m));
  });
}

template <class T>
void grouped_combine(StridedView<const T> x, const std::vector<Segment>& segments,
                     MatrixView<const double> coefficients, T* out, int n_threads) {
  const int64_t groups = groups_of(segments);
  uncovered_rows(segments, x.rows);
  KOOPCORE_REQUIRE(coefficients.rows == x.cols && coefficients.cols == groups)
      << "coefficients are (" << coefficients.rows << ", " << coefficients.cols << "); expected ("
      << x.cols << ", " << groups << ")";
  std::vector<std::vector<double>> scratch(static_cast<size_t>(threads_for(n_threads)));
  parallel_for(groups, threads_for(n_threads), [&](int64_t i, int worker) {
    const Segment& segment = segments[static_cast<size_t>(i)];
    const MatrixView<T> rows{out + segment.start, segment.rows(), 1, segment.rows()};
    combine<T>(rows_of(x, segment), coefficients.block(0, i, x.cols, 1), rows,
               scratch[static_cast<size_t>(worker)]);
  });
}

GroupedDmd::GroupedDmd(int64_t rows, int64_t snapshots, std::vector<Segment> segments,
                       int n_threads)
    : rows_(rows),
      snapshots_(snapshots),
      n_threads_(threads_for(n_threads)),
      segments_(std::move(segments)),
      uncovered_(uncovered_rows(segments_, rows_)) {}

template <class T>
GroupedDmd::GroupedDmd(StridedView<const T> x, std::vector<Segment> segments, const Layout& layout,
                       const DmdOptions& options, int n_threads)
    : GroupedDmd(x.rows, x.cols, std::move(segments), n_threads) {
  const GramWorkers<T> workers(x, segments_, n_threads_);
  std::vector<Matrix<double>> grams(static_cast<size_t>(n_threads_));
  fit(layout, options, [&](int64_t i, int worker) {
    Matrix<double>& gram = grams[static_cast<size_t>(worker)];
    if (gram.cols() != snapshots_) gram = Matrix<double>(snapshots_, snapshots_);
    workers.gram(i, worker, gram.view());
    return std::as_const(gram).view();
  });
}

GroupedDmd GroupedDmd::from_grams(MatrixView<const double> grams, const std::vector<int64_t>& rows,
                                  const Layout& layout, const DmdOptions& options, int n_threads) {
  const int64_t m = grams.rows;
  KOOPCORE_REQUIRE(grams.cols == m * static_cast<int64_t>(rows.size()))
      << "grams are (" << m << ", " << grams.cols << "); " << rows.size() << " of (" << m << ", "
      << m << ") are expected, one for each number in rows";
  std::vector<Segment> segments;
  int64_t stop = 0;
  for (const int64_t count : rows) {
    segments.push_back({stop, stop + count});
    stop += count;
  }
  GroupedDmd grouped(stop, m, std::move(segments), n_threads);
  grouped.fit(layout, options, [&](int64_t i, int) { return grams.block(0, i * m, m, m); });
  return grouped;
}

// `gram_of(i, worker)` is the Gram matrix of group i, valid until this worker asks for the next.
template <class GramOf>
void GroupedDmd::fit(const Layout& layout, const DmdOptions& options, GramOf gram_of) {
  // What is wrong with the options or the number of snapshots is no fault of the first segment.
  fit_series(Matrix<double>(snapshots_, snapshots_).view(), layout, options, 1);

  std::vector<std::unique_ptr<Dmd>> fits(segments_.size());
  parallel_for(groups_of(segments_), n_threads_, [&](int64_t i, int worker) {
    const Segment& segment = segments_[static_cast<size_t>(i)];
    try {
      fits[static_cast<size_t>(i)] =
          std::make_unique<Dmd>(fit_series(gram_of(i, worker), layout, options, segment.rows()));
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
  std::vector<std::vector<double>> scratch(static_cast<size_t>(n_threads_));
  parallel_for(groups(), n_threads_, [&](int64_t i, int worker) {
    const Segment& segment = segments_[static_cast<size_t>(i)];
    koopcore::combine<T>(rows_of(x, segment), coefficients.block(0, i * k, snapshots_, k),
                         out.block(segment.start, 0, segment.rows(), k),
                         scratch[static_cast<size_t>(worker)]);
  });
  for (const Segment& segment : uncovered_)
    for (int64_t h = 0; h < k; ++h)
      for (int64_t row = segment.start; row < segment.stop; ++row)
        out(row, h) = x(row, snapshots_ - 1);
}

#define KOOPCORE_INSTANTIATE(T)                                                              \
  template void grouped_gram<T>(StridedView<const T>, const std::vector<Segment>&,           \
                                MatrixView<double>, int);                                    \
  template void grouped_combine<T>(StridedView<const T>, const std::vector<Segment>&,        \
                                   MatrixView<const double>, T*, int);                       \
  template GroupedDmd::GroupedDmd(StridedView<const T>, std::vector<Segment>, const Layout&, \
                                  const DmdOptions&, int);                                   \
  template void GroupedDmd::combine<T>(StridedView<const T>, MatrixView<const double>,       \
                                       MatrixView<T>) const;
KOOPCORE_INSTANTIATE(float)
KOOPCORE_INSTANTIATE(double)

}  // namespace koopcore
