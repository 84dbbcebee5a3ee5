#include "small_inverse.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace koopcore {

using Complex = std::complex<double>;

// Real and imaginary parts lie apart, so that the inner loops vectorise.
Matrix<Complex> small_inverse(const Matrix<Complex>& matrix) {
  const int64_t r = matrix.rows(), width = 2 * r;
  if (matrix.cols() != r) return {};
  Matrix<double> re(width, r), im(width, r);  // row i of [matrix, identity] in column i
  for (int64_t i = 0; i < r; ++i) {
    for (int64_t j = 0; j < r; ++j) {
      re(j, i) = matrix(i, j).real();
      im(j, i) = matrix(i, j).imag();
    }
    re(r + i, i) = 1.0;
  }
  for (int64_t k = 0; k < r; ++k) {
    int64_t pivot = k;
    const auto size = [&](int64_t i) { return re(k, i) * re(k, i) + im(k, i) * im(k, i); };
    for (int64_t i = k + 1; i < r; ++i)
      if (size(i) > size(pivot)) pivot = i;
    const double square = size(pivot);
    if (!(square > 0.0)) return {};
    if (pivot != k)
      for (Matrix<double>* part : {&re, &im})
        std::swap_ranges(part->view().col(k), part->view().col(k) + width, part->view().col(pivot));
    double *pr = re.view().col(k), *pi = im.view().col(k);
    const double ir = pr[k] / square, ii = -pi[k] / square;
    for (int64_t j = k; j < width; ++j) {
      const double real = pr[j] * ir - pi[j] * ii;
      pi[j] = pr[j] * ii + pi[j] * ir;
      pr[j] = real;
    }
    for (int64_t i = 0; i < r; ++i) {
      if (i == k) continue;
      double *xr = re.view().col(i), *xi = im.view().col(i);
      const double fr = xr[k], fi = xi[k];
      for (int64_t j = k; j < width; ++j) {
        xr[j] -= fr * pr[j] - fi * pi[j];
        xi[j] -= fr * pi[j] + fi * pr[j];
      }
    }
  }
  Matrix<Complex> result(r, r);
  for (int64_t j = 0; j < r; ++j)
    for (int64_t i = 0; i < r; ++i) result(i, j) = {re(r + j, i), im(r + j, i)};
  return result;
}

double condition_bound(const Matrix<Complex>& matrix, const Matrix<Complex>& inverse) {
  if (inverse.rows() != matrix.rows()) return std::numeric_limits<double>::infinity();
  double squares = 0.0, of_inverse = 0.0;
  for (int64_t j = 0; j < matrix.cols(); ++j)
    for (int64_t i = 0; i < matrix.rows(); ++i) {
      squares += std::norm(matrix(i, j));
      of_inverse += std::norm(inverse(i, j));
    }
  return std::sqrt(squares * of_inverse);
}

}  // namespace koopcore
