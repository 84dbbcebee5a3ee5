// Gram matrices and combinations.

#include "arrays.hpp"
#include "register.hpp"

namespace koopcore::bindings {
namespace {

const char* const kGramDoc = R"(Gram matrix x.T @ x in float64, read in place in row blocks.)";
const char* const kCrossGramDoc = R"(x.T @ y in float64, read in place in row blocks.)";
const char* const kFactorDoc =
    R"(Triangular R with R.T @ R = x.T @ x, to the accuracy of x itself (QR without Q).)";
const char* const kCombineDoc =
    R"(x @ coefficients, accumulated in float64; dtype of x, complex if the coefficients are.)";

template <class T>
py::array gram_of(const py::array& x) {
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  auto result = new_matrix<double>(view.cols, view.cols);
  const MatrixView<double> out = view_of(result);
  const py::gil_scoped_release release;  // all arrays are unpacked
  gram<T>(view, out);
  return result;
}

template <class T>
py::array triangular_factor_of(const py::array& x) {
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  auto result = new_matrix<double>(view.cols, view.cols);
  const MatrixView<double> out = view_of(result);
  const py::gil_scoped_release release;
  triangular_factor<T>(view, out);
  return result;
}

template <class T>
py::array cross_gram_of(const py::array& x, const py::array& y) {
  const StridedView<const T> left = matrix_argument<T>(x, "x"), right = matrix_argument<T>(y, "y");
  auto result = new_matrix<double>(left.cols, right.cols);
  const MatrixView<double> out = view_of(result);
  const py::gil_scoped_release release;
  cross_gram<T>(left, right, out);
  return result;
}

template <class T, class Coefficient, class Result>
py::array combine_of(const py::array& x, const py::array& coefficients) {
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  const Matrix<Coefficient> weights = small_matrix<Coefficient>(coefficients, "coefficients");
  auto result = new_matrix<Result>(view.rows, weights.cols());
  const MatrixView<Result> out = view_of(result);
  const py::gil_scoped_release release;
  combine<T>(view, weights.view(), out);
  return result;
}

template <class T>
py::array combine_any(const py::array& x, const py::array& coefficients) {
  if (coefficients.dtype().kind() == 'c')
    return combine_of<T, std::complex<double>, std::complex<T>>(x, coefficients);
  return combine_of<T, double, T>(x, coefficients);
}

}  // namespace

void register_gram(py::module_& m) {
  m.def(
      "gram",
      [](const py::array& x) {
        return has_dtype<float>(x) ? gram_of<float>(x) : gram_of<double>(x);
      },
      py::arg("x"), kGramDoc);
  m.def(
      "triangular_factor",
      [](const py::array& x) {
        return has_dtype<float>(x) ? triangular_factor_of<float>(x)
                                   : triangular_factor_of<double>(x);
      },
      py::arg("x"), kFactorDoc);
  m.def(
      "cross_gram",
      [](const py::array& x, const py::array& y) {
        return has_dtype<float>(x) ? cross_gram_of<float>(x, y) : cross_gram_of<double>(x, y);
      },
      py::arg("x"), py::arg("y"), kCrossGramDoc);
  m.def(
      "combine",
      [](const py::array& x, const py::array& c) {
        return has_dtype<float>(x) ? combine_any<float>(x, c) : combine_any<double>(x, c);
      },
      py::arg("x"), py::arg("coefficients"), kCombineDoc);
}

}  // namespace koopcore::bindings
