// Gram matrices and combinations of many segments, for those who fit in between by themselves.

#include "arrays.hpp"
#include "register.hpp"

namespace koopcore::bindings {
namespace {

using Weights = py::array_t<double, py::array::c_style | py::array::forcecast>;

const char* const kEqualDoc =
    R"(Segments of `block` rows, the last one shorter: int64 array (n_groups, 2).)";
const char* const kGramsDoc =
    R"(Gram matrices (n_groups, m, m) of the m columns of x within each segment.)";
const char* const kCombineDoc =
    R"(Write x[rows] @ coefficients[group] to the rows of each segment in out; others stay.)";

IndexArray segments_of(int64_t rows, int64_t block) {
  const std::vector<Segment> segments = equal_segments(rows, block);
  IndexArray result({static_cast<py::ssize_t>(segments.size()), py::ssize_t{2}});
  for (size_t i = 0; i < segments.size(); ++i) {
    result.mutable_at(i, 0) = segments[i].start;
    result.mutable_at(i, 1) = segments[i].stop;
  }
  return result;
}

template <class T>
py::array grams_as(const py::array& x, const std::vector<Segment>& segments, int n_threads) {
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  const auto groups = static_cast<py::ssize_t>(segments.size());
  py::array_t<double> result({groups, view.cols, view.cols});
  const MatrixView<double> grams{result.mutable_data(), view.cols, view.cols * groups,
                                 std::max<int64_t>(view.cols, 1)};
  const py::gil_scoped_release release;  // the arrays are unpacked
  grouped_gram<T>(view, segments, grams, n_threads);
  return result;
}

template <class T>
void combine_as(const py::array& x, const std::vector<Segment>& segments,
                const Weights& coefficients, const py::array& out, int n_threads) {
  if (coefficients.ndim() != 2)
    throw py::value_error("coefficients must have shape (n_groups, m), got " +
                          shape_of(coefficients));
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  const std::vector<int64_t> size = {view.rows};
  T* const state = segment_arguments<T>(py::make_tuple(out), &size, "out", true)[0];
  const MatrixView<const double> weights{coefficients.data(), coefficients.shape(1),
                                         coefficients.shape(0),
                                         std::max<int64_t>(coefficients.shape(1), 1)};
  const py::gil_scoped_release release;  // all arrays are unpacked
  grouped_combine<T>(view, segments, weights, state, n_threads);
}

}  // namespace

void register_grouped_grams(py::module_& m) {
  m.def("equal_segments", &segments_of, py::arg("rows"), py::arg("block"), kEqualDoc);
  m.def(
      "grouped_grams",
      [](const py::array& x, const IndexArray& segments, int n_threads) {
        const std::vector<Segment> ranges = segments_argument(segments);
        return has_dtype<float>(x) ? grams_as<float>(x, ranges, n_threads)
                                   : grams_as<double>(x, ranges, n_threads);
      },
      py::arg("x"), py::arg("segments"), py::arg("n_threads") = 0, kGramsDoc);
  m.def(
      "grouped_combine",
      [](const py::array& x, const IndexArray& segments, const Weights& coefficients,
         const py::array& out, int n_threads) {
        const std::vector<Segment> ranges = segments_argument(segments);
        if (has_dtype<float>(x))
          combine_as<float>(x, ranges, coefficients, out, n_threads);
        else
          combine_as<double>(x, ranges, coefficients, out, n_threads);
      },
      py::arg("x"), py::arg("segments"), py::arg("coefficients"), py::arg("out"),
      py::arg("n_threads") = 0, kCombineDoc);
}

}  // namespace koopcore::bindings
