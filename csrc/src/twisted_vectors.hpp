#pragma once
// Eigenvectors of a symmetric tridiagonal matrix, one per vector lane: made by twisted
// factorisation, orthonormalised, checked by their residuals, transformed back.

#include <cmath>
#include <cstdint>
#include <limits>

#include "simd.hpp"
#include "tridiagonalise.hpp"

namespace koopcore::detail {

// Vectors of T, row i of all lanes at z + i * lanes: of the factorisations of T - value that begin
// at both ends, the pair that meets in the smallest pivot gives T z = value z up to that pivot.
// `forward`, `backward`: size * lanes numbers each.
template <int kPacks>
KOOPCORE_INLINE void twisted_vectors(const double* diagonal, const double* beside, int64_t size,
                                     const double* values, double* forward, double* backward,
                                     double* z) {
  constexpr int lanes = kPacks * kWidth;
  const Pack zero = {}, one = zero + 1.0;
  Pack value[kPacks], above[kPacks], below[kPacks], least[kPacks], twist[kPacks];
  for (int p = 0; p < kPacks; ++p) {
    simd::load(value[p], values + p * kWidth);
    above[p] = diagonal[0] - value[p];
    below[p] = diagonal[size - 1] - value[p];
  }
  for (int64_t i = 0; i + 1 < size; ++i) {
    const int64_t k = size - 1 - i;
    for (int p = 0; p < kPacks; ++p) {
      const Pack down = beside[i] / above[p], up = beside[k - 1] / below[p];
      simd::store(forward + i * lanes + p * kWidth, down);
      simd::store(backward + k * lanes + p * kWidth, up);
      above[p] = (diagonal[i + 1] - value[p]) - beside[i] * down;
      below[p] = (diagonal[k - 1] - value[p]) - beside[k - 1] * up;
    }
  }
  for (int p = 0; p < kPacks; ++p) {
    least[p] = zero + std::numeric_limits<double>::infinity();
    twist[p] = zero;
  }
  for (int64_t i = 0; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      Pack pivot = diagonal[i] - value[p], factor;
      if (i > 0) {
        simd::load(factor, forward + (i - 1) * lanes + p * kWidth);
        pivot -= beside[i - 1] * factor;
      }
      if (i + 1 < size) {
        simd::load(factor, backward + (i + 1) * lanes + p * kWidth);
        pivot -= beside[i] * factor;
      }
      pivot = pivot < zero ? -pivot : pivot;
      twist[p] = pivot < least[p] ? zero + static_cast<double>(i) : twist[p];
      least[p] = pivot < least[p] ? pivot : least[p];
    }
  Pack entry[kPacks];
  for (int p = 0; p < kPacks; ++p) entry[p] = zero;
  for (int64_t i = size - 1; i >= 0; --i)
    for (int p = 0; p < kPacks; ++p) {
      Pack factor = zero;
      if (i + 1 < size) simd::load(factor, forward + i * lanes + p * kWidth);
      const Pack here = zero + static_cast<double>(i);
      entry[p] = here == twist[p] ? one : (here < twist[p] ? -factor * entry[p] : zero);
      simd::store(z + i * lanes + p * kWidth, entry[p]);
    }
  for (int p = 0; p < kPacks; ++p) simd::load(entry[p], z + p * kWidth);
  for (int64_t i = 1; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      Pack factor, set;
      simd::load(factor, backward + i * lanes + p * kWidth);
      simd::load(set, z + i * lanes + p * kWidth);
      const Pack here = zero + static_cast<double>(i);
      entry[p] = here > twist[p] ? -factor * entry[p] : set;
      simd::store(z + i * lanes + p * kWidth, entry[p]);
    }
}

// products = sum_i weights[i * step] z_i for rows from `first` on.
template <int kPacks>
KOOPCORE_INLINE void weighted_sum(const double* z, const double* weights, int64_t step,
                                  int64_t first, int64_t size, Pack* products) {
  constexpr int lanes = kPacks * kWidth;
  Pack odd[kPacks] = {};
  for (int p = 0; p < kPacks; ++p) products[p] = odd[p];
  int64_t i = first;
  for (; i + 1 < size; i += 2)
    for (int p = 0; p < kPacks; ++p) {
      Pack a, b;
      simd::load(a, z + i * lanes + p * kWidth);
      simd::load(b, z + (i + 1) * lanes + p * kWidth);
      products[p] += a * weights[i * step];
      odd[p] += b * weights[(i + 1) * step];
    }
  for (int p = 0; p < kPacks; ++p) {
    if (i < size) {
      Pack a;
      simd::load(a, z + i * lanes + p * kWidth);
      products[p] += a * weights[i * step];
    }
    products[p] += odd[p];
  }
}

// z_i -= weights[i * step] products for rows from `first` on. `weights` may lie in z.
template <int kPacks>
KOOPCORE_INLINE void subtract_outer(double* z, const double* weights, int64_t step, int64_t first,
                                    int64_t size, const Pack* products) {
  constexpr int lanes = kPacks * kWidth;
  for (int64_t i = first; i < size; ++i) {
    const double weight = weights[i * step];
    for (int p = 0; p < kPacks; ++p) {
      Pack value;
      double* at = z + i * lanes + p * kWidth;
      simd::load(value, at);
      value -= weight * products[p];
      simd::store(at, value);
    }
  }
}

template <int kPacks>
KOOPCORE_INLINE void normalise(double* z, int64_t size) {
  constexpr int lanes = kPacks * kWidth;
  Pack squares[kPacks] = {};
  for (int64_t i = 0; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      Pack entry;
      simd::load(entry, z + i * lanes + p * kWidth);
      squares[p] += entry * entry;
    }
  double scales[lanes];
  for (int p = 0; p < kPacks; ++p) simd::store(scales + p * kWidth, squares[p]);
  for (int l = 0; l < lanes; ++l) scales[l] = 1.0 / std::sqrt(scales[l]);
  for (int p = 0; p < kPacks; ++p) simd::load(squares[p], scales + p * kWidth);
  for (int64_t i = 0; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      Pack entry;
      double* at = z + i * lanes + p * kWidth;
      simd::load(entry, at);
      entry *= squares[p];
      simd::store(at, entry);
    }
}

// Gram-Schmidt from the first lane to the last, in place. Vectors of eigenvalues that are not close
// are nearly orthogonal, and once is enough; where one loses a hundredth of its square, twice is.
template <int kPacks>
KOOPCORE_INLINE void orthonormalise(double* z, int64_t size, int64_t count) {
  constexpr int lanes = kPacks * kWidth;
  normalise<kPacks>(z, size);
  bool again = true;
  for (int round = 0; again && round < 2; ++round) {
    again = false;
    for (int64_t l = 0; l < count; ++l) {
      Pack products[kPacks];
      double values[lanes];
      weighted_sum<kPacks>(z, z + l, lanes, 0, size, products);
      for (int p = 0; p < kPacks; ++p) simd::store(values + p * kWidth, products[p]);
      const double square = values[l];
      again = again || !(square > 0.99);
      for (int64_t k = 0; k < lanes; ++k) values[k] = k > l && k < count ? values[k] / square : 0.0;
      values[l] = 1.0 - 1.0 / std::sqrt(square);
      for (int p = 0; p < kPacks; ++p) simd::load(products[p], values + p * kWidth);
      subtract_outer<kPacks>(z, z + l, lanes, 0, size, products);
    }
  }
}

template <int kPacks>
KOOPCORE_INLINE double largest_residual(const double* diagonal, const double* beside, int64_t size,
                                        const double* values, const double* z, int64_t count) {
  constexpr int lanes = kPacks * kWidth;
  Pack squares[kPacks] = {};
  for (int64_t i = 0; i < size; ++i)
    for (int p = 0; p < kPacks; ++p) {
      Pack value, here, other;
      simd::load(value, values + p * kWidth);
      simd::load(here, z + i * lanes + p * kWidth);
      Pack residual = (diagonal[i] - value) * here;
      if (i > 0) {
        simd::load(other, z + (i - 1) * lanes + p * kWidth);
        residual += beside[i - 1] * other;
      }
      if (i + 1 < size) {
        simd::load(other, z + (i + 1) * lanes + p * kWidth);
        residual += beside[i] * other;
      }
      squares[p] += residual * residual;
    }
  double sums[lanes], largest = 0.0;
  for (int p = 0; p < kPacks; ++p) simd::store(sums + p * kWidth, squares[p]);
  for (int64_t l = 0; l < count; ++l)
    largest = sums[l] <= largest ? largest : sums[l];  // NaN stays
  return std::sqrt(largest);
}

// z = Q z, by rows as above.
template <int kPacks>
KOOPCORE_INLINE void transform_back(const double* reflectors, const double* taus, int64_t size,
                                    int64_t stride, double* z) {
  for (int64_t k = size - 2; k >= 0; --k) {
    Pack products[kPacks];
    const double* u = reflectors + k * stride;
    weighted_sum<kPacks>(z, u, 1, k + 1, size, products);
    for (int p = 0; p < kPacks; ++p) products[p] *= taus[k];
    subtract_outer<kPacks>(z, u, 1, k + 1, size, products);
  }
}

}  // namespace koopcore::detail
