#pragma once
// Gram matrices of a few dozen columns, where dsyrk's packing costs as much as its arithmetic.

#include "koopcore/matrix_view.hpp"

namespace koopcore::detail {

/// The columns that are read next. They are short and far apart, so that the processor does not
/// fetch them ahead by itself; done bit by bit between products, it costs next to nothing.
class Ahead {
 public:
  Ahead() = default;
  template <class T>
  explicit Ahead(StridedView<const T> x)
      : column_(reinterpret_cast<const char*>(x.data)),
        bytes_(x.rows * static_cast<int64_t>(sizeof(T))),
        stride_(x.col_stride * static_cast<int64_t>(sizeof(T))),
        columns_(x.row_stride == 1 ? x.cols : 0) {}

  /// Asks for the next few cache lines, into the second-level cache.
  void fetch() {
    constexpr int64_t kLine = 64, kLines = 16;
    for (int64_t i = 0; i < kLines && columns_ > 0; ++i) {
      __builtin_prefetch(column_ + at_, 0, 2);
      at_ += kLine;
      if (at_ < bytes_) continue;
      at_ = 0;
      column_ += stride_;
      --columns_;
    }
  }

 private:
  const char* column_ = nullptr;
  int64_t bytes_ = 0, stride_ = 0, columns_ = 0, at_ = 0;
};

/// Upper triangle of g += x^T x (`transposed`: x x^T) where this is faster than dsyrk; returns
/// false, with g untouched, where it is not: by the number of columns or the processor.
bool add_small_gram(MatrixView<const double> x, bool transposed, MatrixView<double> g, Ahead ahead);

/// to[i] = from[i], in the widest vectors there are.
void widen(const float* from, double* to, int64_t size);

}  // namespace koopcore::detail
