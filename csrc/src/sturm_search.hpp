#pragma once
// The largest eigenvalues of a symmetric tridiagonal matrix, one per vector lane: told apart by the
// signs of the pivots (Sturm counts), closed in on by Laguerre's steps, which take all other
// eigenvalues for one cluster: what those of a few modes above noise look like.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "simd.hpp"
#include "tridiagonalise.hpp"

namespace koopcore::detail {

// What is seen at kPacks * kWidth points.
template <int kPacks>
struct Looks {
  static constexpr int lanes = kPacks * kWidth;
  double point[lanes];
  double below[lanes];   // how many eigenvalues lie below
  double first[lanes];   // the sum of 1 / (point - eigenvalue)
  double second[lanes];  // that of its squares
};

template <int kPacks>
KOOPCORE_INLINE void sturm(const double* diagonal, const double* squares, int64_t size,
                           Looks<kPacks>& looks) {
  Pack x[kPacks], t[kPacks], z[kPacks], slope[kPacks];
  Pack count[kPacks] = {}, first[kPacks] = {}, second[kPacks] = {};
  const Pack zero = {}, one = zero + 1.0;
  for (int p = 0; p < kPacks; ++p) {
    simd::load(x[p], looks.point + p * kWidth);
    t[p] = z[p] = slope[p] = zero;
  }
  // z: the derivative of log |pivot|; slope: that of z.
  for (int64_t i = 0; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      const Pack pivot = (diagonal[i] - x[p]) - t[p];
      const Pack inverse = 1.0 / pivot;
      const Pack bend = t[p] * (slope[p] - z[p] * z[p]);
      z[p] = (t[p] * z[p] - 1.0) * inverse;
      slope[p] = bend * inverse - z[p] * z[p];
      first[p] += z[p];
      second[p] -= slope[p];
      count[p] += pivot < zero ? one : zero;
      t[p] = squares[i] * inverse;
    }
  for (int p = 0; p < kPacks; ++p) {
    simd::store(looks.below + p * kWidth, count[p]);
    simd::store(looks.first + p * kWidth, first[p]);
    simd::store(looks.second + p * kWidth, second[p]);
  }
}

struct Look {
  double point, below, first, second;
};

// The search of the eigenvalue with `rank` others below it.
struct Search {
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  Look low, high;
  double rank;
  double last = kNever;   // length of the last step of Laguerre
  double aimed = kNever;  // where it went
  double value = 0.0;
  bool open = true;

  void learn(const Look& look) {
    if (look.below > rank) {
      if (look.point < high.point) high = look;
    } else if (look.point > low.point) {
      low = look;
    }
  }

  // Where to look next; where that is nowhere, the value is found.
  double next(double size, double tolerance) {
    const double width = high.point - low.point;
    if (width <= 2.0 * tolerance) return found(low.point + 0.5 * width);
    const Step up = low.below == rank ? step_from(low, 1.0, size) : Step{};
    const Step down = high.below == rank + 1.0 ? step_from(high, -1.0, size) : Step{};
    const Step& step = up.doubt < down.doubt ? up : down;
    const double length = std::abs(step.length), target = step.from + step.length;
    if (step.doubt < kNever && target >= low.point && target <= high.point) {
      // The error after a step goes by the third power of the one before.
      const double ratio = step.from == aimed ? length / last : 1.0;
      if (step.alone && std::min(length, length * ratio * ratio * ratio) <= 0.1 * tolerance)
        return found(target);
      if (length < 0.5 * last && target > low.point && target < high.point) {
        last = length;
        return aimed = target;
      }
    }
    last = aimed = kNever;
    // By ratio as long as the size is unknown: eigenvalues fall over many orders of magnitude.
    const bool by_ratio = low.point > 0.0 && high.point > 8.0 * low.point;
    return by_ratio ? std::sqrt(low.point * high.point) : low.point + 0.5 * width;
  }

 private:
  struct Step {
    double from = 0.0, length = 0.0;
    double doubt = kNever;
    bool alone = false;  // whether the eigenvalue ahead outweighs the others, also the one behind
  };

  double found(double at) {
    open = false;
    return value = at;
  }

  // Laguerre's step towards the next eigenvalue upward or downward, never past it.
  static Step step_from(const Look& look, double direction, double size) {
    const double spread = (size - 1.0) * (size * look.second - look.first * look.first);
    const double length = size / (std::sqrt(std::max(spread, 0.0)) - direction * look.first);
    if (!(length > 0.0 && std::isfinite(length))) return {};
    const bool alone = std::abs(-direction * look.first * length - 1.0) < 0.5;
    return {look.point, direction * length, look.second * length * length, alone};
  }
};

// `values` falling.
template <int kPacks>
KOOPCORE_INLINE void find_values(const double* diagonal, const double* squares, int64_t size,
                                 double low, double high, double tolerance, int64_t count,
                                 double* values) {
  constexpr int lanes = kPacks * kWidth;
  constexpr int kMaxSteps = 200;
  Looks<kPacks> looks;
  Search searches[lanes];
  // The first look: a ladder of sizes from the resolution up to the bound.
  const double ratio = std::pow(std::max(high, tolerance) / (4.0 * tolerance), 1.0 / (lanes - 1));
  const double all = static_cast<double>(size);
  for (int l = 0; l < lanes; ++l) {
    searches[l].low = {low, -1.0, 0.0, 0.0};
    searches[l].high = {high, all + 1.0, 0.0, 0.0};
    searches[l].rank = all - 1.0 - l;
    looks.point[l] = l == 0 ? -4.0 * tolerance : 4.0 * tolerance * std::pow(ratio, l - 1);
  }
  bool open = true;
  for (int step = 0; open && step < kMaxSteps; ++step) {
    sturm<kPacks>(diagonal, squares, size, looks);
    open = false;
    for (int64_t l = 0; l < count; ++l)
      for (int64_t p = 0; p < (step == 0 ? lanes : count) && searches[l].open; ++p)
        searches[l].learn({looks.point[p], looks.below[p], looks.first[p], looks.second[p]});
    for (int64_t l = 0; l < count; ++l)
      if (searches[l].open) {
        looks.point[l] = searches[l].next(all, tolerance);
        open = open || searches[l].open;
      }
    for (int64_t l = count; l < lanes; ++l) looks.point[l] = looks.point[l % count];
  }
  for (int64_t l = 0; l < count; ++l) {
    const Search& s = searches[l];
    values[l] = s.open ? s.low.point + 0.5 * (s.high.point - s.low.point) : s.value;
  }
}

}  // namespace koopcore::detail
