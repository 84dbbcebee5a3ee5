#pragma once
// Householder tridiagonalisation of a small symmetric matrix: one pass over what is left of it per
// column, where LAPACK makes two and a call for each.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "simd.hpp"

namespace koopcore::detail {

constexpr int kWidth = 8;
using Pack = simd::Vector<kWidth>::Pack;
// Squares below this, of numbers scaled to about 1, count as zero: their inverse would overflow.
constexpr double kNothing = 1e-200;

// a -= u w^T + w u^T, then product = a next, in one pass over the columns from `from` on. The three
// vectors are zero before `from`, so whole packs and groups of columns may begin earlier.
KOOPCORE_INLINE void update_and_multiply(double* a, int64_t stride, int64_t from, const double* u,
                                         const double* w, const double* next, double* product) {
  constexpr int kColumns = 4;
  const int64_t first = from / kWidth * kWidth;
  std::fill(product, product + stride, 0.0);
  for (int64_t j = from / kColumns * kColumns; j < stride; j += kColumns) {
    double uj[kColumns], wj[kColumns], nj[kColumns];
    for (int c = 0; c < kColumns; ++c) {
      uj[c] = u[j + c];
      wj[c] = w[j + c];
      nj[c] = next[j + c];
    }
    for (int64_t i = first; i < stride; i += kWidth) {
      Pack ui, wi, sum;
      simd::load(ui, u + i);
      simd::load(wi, w + i);
      simd::load(sum, product + i);
      for (int c = 0; c < kColumns; ++c) {
        Pack value;
        double* at = a + i + (j + c) * stride;
        simd::load(value, at);
        value -= ui * wj[c];
        value -= wi * uj[c];
        simd::store(at, value);
        sum += value * nj[c];
      }
      simd::store(product + i, sum);
    }
  }
}

KOOPCORE_INLINE double dot(const double* x, const double* y, int64_t first, int64_t stride) {
  Pack sums = {};
  for (int64_t i = first; i < stride; i += kWidth) {
    Pack xi, yi;
    simd::load(xi, x + i);
    simd::load(yi, y + i);
    sums += xi * yi;
  }
  return simd::sum(sums);
}

// Makes column k the reflector that clears it below row k + 1; returns the number left there.
KOOPCORE_INLINE double make_reflector(double* column, int64_t k, int64_t stride, double* tau) {
  std::fill(column, column + k + 1, 0.0);
  const double head = column[k + 1];
  column[k + 1] = 0.0;
  const double rest = dot(column, column, (k + 1) / kWidth * kWidth, stride);
  column[k + 1] = head;
  *tau = 0.0;
  if (rest < kNothing) {
    std::fill(column, column + stride, 0.0);
    return head;
  }
  const double norm = std::sqrt(head * head + rest), left = head > 0.0 ? -norm : norm;
  column[k + 1] = head - left;
  *tau = 1.0 / (norm * (norm + std::abs(head)));
  return left;
}

// a (stride x stride, zero beyond `size`) ends as the reflectors. `work`: three vectors.
KOOPCORE_INLINE void tridiagonalise(double* a, int64_t size, int64_t stride, double* taus,
                                    double* diagonal, double* beside, double* work) {
  double *u = work, *w = work + stride, *product = work + 2 * stride;
  std::fill(work, work + 3 * stride, 0.0);
  for (int64_t k = 0; k + 1 < size; ++k) {
    double* column = a + k * stride;
    // The update of the step before is applied to this column alone; the others wait for the pass.
    const double uk = u[k], wk = w[k];
    for (int64_t i = k / kWidth * kWidth; i < stride; i += kWidth) {
      Pack value, ui, wi;
      simd::load(value, column + i);
      simd::load(ui, u + i);
      simd::load(wi, w + i);
      value -= ui * wk;
      value -= wi * uk;
      simd::store(column + i, value);
    }
    diagonal[k] = column[k];
    u[k] = w[k] = 0.0;
    beside[k] = make_reflector(column, k, stride, &taus[k]);
    update_and_multiply(a, stride, k + 1, u, w, column, product);
    const int64_t first = (k + 1) / kWidth * kWidth;
    const double tau = taus[k], half = 0.5 * tau * tau * dot(product, column, first, stride);
    for (int64_t i = first; i < stride; ++i) {
      u[i] = column[i];
      w[i] = tau * product[i] - half * column[i];
    }
    std::fill(w + first, w + k + 1, 0.0);
  }
  const int64_t last = size - 1;
  diagonal[last] = a[last + last * stride] - 2.0 * u[last] * w[last];
}

}  // namespace koopcore::detail
