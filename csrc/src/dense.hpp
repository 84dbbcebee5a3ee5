#pragma once
// Private: small dense matrices, real and complex, in the vocabulary of the DMD sources.

#include <algorithm>
#include <complex>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "koopcore/blas.hpp"
#include "koopcore/matrix_view.hpp"

namespace koopcore::dense {

using blas::Op;
using Complex = std::complex<double>;

constexpr double kEps = std::numeric_limits<double>::epsilon();

inline size_t at(int64_t index) { return static_cast<size_t>(index); }

template <class Scalar>
Scalar conjugate(Scalar value) {
  if constexpr (std::is_same_v<Scalar, Complex>)
    return std::conj(value);
  else
    return value;
}

/// The complex value as a Scalar: real arithmetic keeps the real part.
template <class Scalar>
Scalar narrowed(Complex value) {
  if constexpr (std::is_same_v<Scalar, Complex>)
    return value;
  else
    return value.real();
}

template <class Scalar>
Matrix<Scalar> copy_of(MatrixView<const Scalar> view) {
  Matrix<Scalar> out(view.rows, view.cols);
  for (int64_t j = 0; j < view.cols; ++j) std::copy_n(view.col(j), view.rows, out.view().col(j));
  return out;
}

template <class Scalar>
Matrix<Complex> complex_of(const Matrix<Scalar>& a) {
  Matrix<Complex> out(a.rows(), a.cols());
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) out(i, j) = a(i, j);
  return out;
}

template <class Scalar>
Matrix<Scalar> narrowed(const Matrix<Complex>& a) {
  Matrix<Scalar> out(a.rows(), a.cols());
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) out(i, j) = narrowed<Scalar>(a(i, j));
  return out;
}

/// op(a) op(b)
template <class Scalar>
Matrix<Scalar> multiply(Op op_a, MatrixView<const Scalar> a, Op op_b, MatrixView<const Scalar> b) {
  Matrix<Scalar> out(op_a == Op::kNone ? a.rows : a.cols, op_b == Op::kNone ? b.cols : b.rows);
  blas::gemm(op_a, op_b, Scalar(1.0), a, b, Scalar(0.0), out.view());
  return out;
}

template <class Scalar>
Matrix<Scalar> multiply(Op op_a, const Matrix<Scalar>& a, Op op_b, const Matrix<Scalar>& b) {
  return multiply(op_a, a.view(), op_b, b.view());
}

template <class Scalar>
Matrix<Scalar> multiply(const Matrix<Scalar>& a, const Matrix<Scalar>& b) {
  return multiply(Op::kNone, a, Op::kNone, b);
}

/// a v for complex v; a real a is not made complex.
template <class Scalar>
Matrix<Complex> times_complex(const Matrix<Scalar>& a, const Matrix<Complex>& v) {
  if constexpr (std::is_same_v<Scalar, Complex>) {
    return multiply(a, v);
  } else {
    Matrix<double> parts(v.rows(), 2 * v.cols());  // real parts, then imaginary ones
    for (int64_t j = 0; j < v.cols(); ++j)
      for (int64_t i = 0; i < v.rows(); ++i) {
        parts(i, j) = v(i, j).real();
        parts(i, v.cols() + j) = v(i, j).imag();
      }
    const Matrix<double> product = multiply(a, parts);
    Matrix<Complex> out(a.rows(), v.cols());
    for (int64_t j = 0; j < v.cols(); ++j)
      for (int64_t i = 0; i < a.rows(); ++i) out(i, j) = {product(i, j), product(i, v.cols() + j)};
    return out;
  }
}

/// Columns indices[j] + offset of a.
template <class Scalar>
Matrix<Scalar> columns(const Matrix<Scalar>& a, const std::vector<int64_t>& indices,
                       int64_t offset = 0) {
  Matrix<Scalar> out(a.rows(), static_cast<int64_t>(indices.size()));
  for (int64_t j = 0; j < out.cols(); ++j)
    std::copy_n(a.view().col(indices[at(j)] + offset), a.rows(), out.view().col(j));
  return out;
}

/// Rows indices[i] + offset of a.
template <class Scalar>
Matrix<Scalar> rows(const Matrix<Scalar>& a, const std::vector<int64_t>& indices,
                    int64_t offset = 0) {
  Matrix<Scalar> out(static_cast<int64_t>(indices.size()), a.cols());
  for (int64_t j = 0; j < out.cols(); ++j)
    for (int64_t i = 0; i < out.rows(); ++i) out(i, j) = a(indices[at(i)] + offset, j);
  return out;
}

/// Moore-Penrose inverse; singular values up to rcond times the largest count as zero.
template <class Scalar>
Matrix<Scalar> pseudo_inverse(Matrix<Scalar> a, double rcond) {
  blas::Svd<Scalar> s = blas::svd(a.view());
  for (int64_t j = 0; j < s.right.cols(); ++j)
    for (int64_t i = 0; i < s.right.rows(); ++i) {
      const double sigma = s.values[at(i)];
      s.right(i, j) = sigma > rcond * s.values[0] ? s.right(i, j) / sigma : Scalar(0.0);
    }
  return multiply(Op::kAdjoint, s.right, Op::kAdjoint, s.left);
}

template <class Scalar>
bool all_finite(const Matrix<Scalar>& a) {
  const double* const numbers = reinterpret_cast<const double*>(a.view().data);
  const int64_t count = a.rows() * a.cols() * static_cast<int64_t>(sizeof(Scalar) / sizeof(double));
  uint64_t any = 0;  // no branch, so that it vectorises
  for (int64_t i = 0; i < count; ++i) {
    const double nothing = numbers[i] - numbers[i];  // or NaN
    uint64_t bits;
    std::memcpy(&bits, &nothing, sizeof(bits));
    any |= bits;
  }
  return any == 0;
}

template <class Scalar>
double frobenius_norm(const Matrix<Scalar>& a) {
  double sum = 0.0;
  for (int64_t j = 0; j < a.cols(); ++j)
    for (int64_t i = 0; i < a.rows(); ++i) sum += std::norm(a(i, j));
  return std::sqrt(sum);
}

}  // namespace koopcore::dense
