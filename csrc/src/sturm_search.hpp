#pragma once
// The largest eigenvalues of a symmetric tridiagonal matrix, one per vector lane: bracketed by the
// signs of the pivots (Sturm counts), closed in on by Newton steps.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "simd.hpp"
#include "tridiagonalise.hpp"

namespace koopcore::detail {

// For kPacks * kWidth points: how many eigenvalues lie below, and the derivative of log |det|.
template <int kPacks>
KOOPCORE_INLINE void sturm(const double* diagonal, const double* squares, int64_t size,
                           const double* points, double* below, double* slopes) {
  Pack x[kPacks], t[kPacks], z[kPacks], count[kPacks] = {}, slope[kPacks] = {};
  const Pack zero = {}, one = zero + 1.0;
  for (int p = 0; p < kPacks; ++p) {
    simd::load(x[p], points + p * kWidth);
    t[p] = zero;
    z[p] = zero;
  }
  for (int64_t i = 0; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      const Pack pivot = (diagonal[i] - x[p]) - t[p];
      const Pack inverse = 1.0 / pivot;
      z[p] = (t[p] * z[p] - 1.0) * inverse;
      slope[p] += z[p];
      count[p] += pivot < zero ? one : zero;
      t[p] = squares[i] * inverse;
    }
  for (int p = 0; p < kPacks; ++p) {
    simd::store(below + p * kWidth, count[p]);
    simd::store(slopes + p * kWidth, slope[p]);
  }
}

// The search of one eigenvalue: the interval that holds it and where to look next.
struct Search {
  double low, high, point, step;

  void bisect() {
    step = 0.5 * (high - low);
    // By ratio as long as the size is unknown: eigenvalues fall over many orders of magnitude.
    point = low > 0.0 && high > 8.0 * low ? std::sqrt(low * high) : low + step;
  }

  // After `point` has been evaluated: Newton, if it converges and stays inside; else bisection.
  void advance(double slope, double tolerance) {
    const double newton = -1.0 / slope, target = point + newton;
    const bool from_above = point >= high;
    if (std::abs(newton) < tolerance && point >= low && point <= high) {
      // Converged, maybe to a neighbour: look across, so that the interval closes if it is right.
      const double across = target + (from_above ? -tolerance : tolerance);
      if (across > low && across < high) {
        step = tolerance;
        point = across;
        return;
      }
    }
    if (target > low && target < high && std::abs(newton) < 0.5 * step) {
      step = std::abs(newton);
      point = target;
      return;
    }
    bisect();
  }
};

// `values` falling.
template <int kPacks>
KOOPCORE_INLINE void find_values(const double* diagonal, const double* squares, int64_t size,
                                 double low, double high, double tolerance, int64_t count,
                                 double* values) {
  constexpr int lanes = kPacks * kWidth;
  constexpr int kMaxSteps = 200;
  double points[lanes], below[lanes], slopes[lanes];
  Search searches[lanes];
  // The first look: a ladder of sizes from the resolution up to the bound.
  const double ratio = std::pow(std::max(high, tolerance) / (4.0 * tolerance), 1.0 / (lanes - 1));
  for (int l = 0; l < lanes; ++l) {
    searches[l] = {low, high, 0.0, high - low};
    points[l] = l == 0 ? -4.0 * tolerance : 4.0 * tolerance * std::pow(ratio, l - 1);
  }
  bool open = true;
  for (int step = 0; open && step < kMaxSteps; ++step) {
    sturm<kPacks>(diagonal, squares, size, points, below, slopes);
    // Every point says something about every eigenvalue.
    for (int64_t l = 0; l < count; ++l) {
      Search& s = searches[l];
      const double rank = static_cast<double>(size - 1 - l);
      for (int p = 0; p < lanes; ++p)
        if (below[p] > rank)
          s.high = std::min(s.high, points[p]);
        else
          s.low = std::max(s.low, points[p]);
    }
    open = false;
    for (int64_t l = 0; l < count; ++l) {
      Search& s = searches[l];
      if (s.high - s.low <= 2.0 * tolerance) continue;
      open = true;
      if (step == 0)
        s.bisect();
      else
        s.advance(slopes[l], tolerance);
      points[l] = s.point;
    }
    for (int64_t l = count; l < lanes; ++l) points[l] = points[l % count];
  }
  for (int64_t l = 0; l < count; ++l)
    values[l] = searches[l].low + 0.5 * (searches[l].high - searches[l].low);
}

}  // namespace koopcore::detail
