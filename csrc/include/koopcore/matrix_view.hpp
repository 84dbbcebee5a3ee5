#pragma once
// Matrices without ownership: column-major MatrixView, any-stride StridedView, and Matrix, the
// small owning one for m x m results. None of them checks its indices.

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace koopcore {

/// Column-major: element (i, j) is data[i + j * ld].
template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;

  T& operator()(int64_t i, int64_t j) const { return data[i + j * ld]; }
  T* col(int64_t j) const { return data + j * ld; }

  MatrixView block(int64_t row, int64_t col_, int64_t n_rows, int64_t n_cols) const {
    return {data + row + col_ * ld, n_rows, n_cols, ld};
  }

  /// A read-only view is wanted almost everywhere; let it follow by itself.
  operator MatrixView<const T>() const { return {data, rows, cols, ld}; }
};

/// Element (i, j) is data[i * row_stride + j * col_stride]: column-major, row-major and sliced
/// arrays of a caller, read in place.
template <class T>
struct StridedView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 1;
  int64_t col_stride = 0;

  T& operator()(int64_t i, int64_t j) const { return data[i * row_stride + j * col_stride]; }
};

template <class T>
StridedView<const T> strided(MatrixView<T> view) {
  return {view.data, view.rows, view.cols, 1, view.ld};
}

/// Owning, column-major, zero-initialised.
template <class T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(int64_t rows, int64_t cols)
      : rows_(rows), cols_(cols), values_(static_cast<std::size_t>(rows * cols)) {}

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  T& operator()(int64_t i, int64_t j) { return values_[static_cast<std::size_t>(i + j * rows_)]; }
  const T& operator()(int64_t i, int64_t j) const {
    return values_[static_cast<std::size_t>(i + j * rows_)];
  }
  MatrixView<T> view() { return {values_.data(), rows_, cols_, rows_ > 0 ? rows_ : 1}; }
  MatrixView<const T> view() const { return {values_.data(), rows_, cols_, rows_ > 0 ? rows_ : 1}; }

 private:
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  std::vector<T> values_;
};

}  // namespace koopcore
