#pragma once
// Many small operators at once: one Dmd per range of rows of a snapshot matrix (Schmid 2010).
// Each segment's m x m Gram matrix is formed and decomposed on its own, with its own rank.
// Unlike a loop of single fits, workers keep their scratch and share the segments out among
// threads.

#include <complex>
#include <cstdint>
#include <vector>

#include "koopcore/dmd.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore {

/// Rows [start, stop) of a snapshot matrix.
struct Segment {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t rows() const { return stop - start; }
};

/// Segments of `block` >= 1 rows; the last one is shorter where `block` does not divide `rows`.
std::vector<Segment> equal_segments(int64_t rows, int64_t block);

/// Gram matrix of each segment of `x`, group after group: grams is (x.cols x groups x.cols), both
/// triangles. Segments as for GroupedDmd; the data are not checked for NaN.
template <class T>
void grouped_gram(StridedView<const T> x, const std::vector<Segment>& segments,
                  MatrixView<double> grams, int n_threads = 0);

/// out[row] = sum_j coefficients(j, group) * x(row, j) for the rows of each segment, accumulated in
/// float64; the other rows of `out` (x.rows numbers) stay. Coefficients are (x.cols x groups). A
/// unit vector gives back the column to the bit.
template <class T>
void grouped_combine(StridedView<const T> x, const std::vector<Segment>& segments,
                     MatrixView<const double> coefficients, T* out, int n_threads = 0);

class GroupedDmd {
 public:
  /// Fits one operator per segment of `x`, a time series in columns (lag 1); its
  /// `state_size` is that of each segment. Segments come in any order and
  /// need not cover all rows; empty and overlapping ones are refused, and so is data that is not
  /// finite, by the number of its segment. `n_threads` = 0: as many as the BLAS of this core has.
  /// The result does not depend on the number of threads.
  template <class T>
  GroupedDmd(StridedView<const T> x, std::vector<Segment> segments, const Layout& layout,
             const DmdOptions& options, int n_threads = 0);

  /// The same from the Gram matrices (m x groups m) of data kept elsewhere: `rows[i]` numbers per
  /// state in group i, one segment below the other.
  static GroupedDmd from_grams(MatrixView<const double> grams, const std::vector<int64_t>& rows,
                               const Layout& layout, const DmdOptions& options, int n_threads = 0);

  int64_t groups() const { return static_cast<int64_t>(fits_.size()); }
  int64_t snapshots() const { return snapshots_; }
  const std::vector<Segment>& segments() const { return segments_; }
  int64_t rank(int64_t group) const { return fits_[static_cast<size_t>(group)].rank(); }
  /// As Dmd has them.
  const std::vector<std::complex<double>>& eigenvalues(int64_t group) const {
    return fits_[static_cast<size_t>(group)].eigenvalues();
  }
  /// Those above the tolerance, at most max_rank, falling.
  std::vector<double> singular_values(int64_t group) const {
    return fits_[static_cast<size_t>(group)].singular_values();
  }

  /// Coefficients on the snapshots, k = horizons.size() columns per group and group after group:
  /// (snapshots x groups k). Horizons as in Dmd::forecast.
  Matrix<double> forecast(const std::vector<double>& horizons) const;

  /// out = the states with these coefficients, column-major (x.rows x k), in one pass over x. Rows
  /// in no segment are those of the last snapshot. `x` has the shape of the fitted data.
  template <class T>
  void combine(StridedView<const T> x, MatrixView<const double> coefficients,
               MatrixView<T> out) const;

 private:
  GroupedDmd(int64_t rows, int64_t snapshots, std::vector<Segment> segments, int n_threads);
  template <class GramOf>
  void fit(const Layout& layout, const DmdOptions& options, GramOf gram_of);

  int64_t rows_;
  int64_t snapshots_;
  int n_threads_;
  std::vector<Segment> segments_;
  std::vector<Segment> uncovered_;  // rows in no segment
  std::vector<Dmd> fits_;
};

}  // namespace koopcore
