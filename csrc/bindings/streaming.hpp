#pragma once
// What the two kinds of stream have in common for Python.

#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace koopcore::bindings {

inline const char* const kPushDoc = R"(Append one snapshot: a sequence of C-contiguous segments.)";
inline const char* const kBlockDoc =
    R"(Append the columns of a matrix, oldest first, all or none.)";
inline const char* const kDecomposeDoc =
    R"((values, coefficients, energy, error, version): left singular vectors on the columns.)";
inline const char* const kCombineDoc =
    R"(Write columns @ coefficients to segments of shape (k, size) each.)";
inline const char* const kCrossDoc = R"(columns^T x for states in the columns of x.)";
inline const char* const kPartialDoc = R"(This row block's part of the sum that `provide` takes.)";
inline const char* const kProvideDoc = R"(Take the sum of `partial` over all row blocks.)";
inline const char* const kStateDoc = R"((columns, numbers): all there is.)";

using Small = py::array_t<double, py::array::f_style | py::array::forcecast>;

inline StreamOptions stream_options(int64_t rank, int64_t oversampling, int64_t block,
                                    double forgetting, double tolerance, bool center, uint64_t seed,
                                    int64_t first_row, bool sharded, int n_threads) {
  return {rank,   oversampling, block,     forgetting, tolerance,
          center, seed,         first_row, sharded,    n_threads};
}

// The result of work that touches no Python object.
template <class Work>
auto without_gil(const Work& work) {
  const py::gil_scoped_release release;
  return work();
}

template <class T, class Stream>
void combine_into(Stream& stream, const Small& coefficients, int64_t version, double extra,
                  const py::sequence& out) {
  const Matrix<double> c = small_matrix<double>(coefficients, "coefficients");
  std::vector<int64_t> sizes = stream.segment_sizes();
  for (int64_t& size : sizes) size *= c.cols();
  const std::vector<T*> segments = segment_arguments<T>(out, &sizes, "out", true);
  const py::gil_scoped_release release;
  stream.combine(c.view(), version, extra, segments.data());
}

template <class T, class Stream>
py::object cross_of(Stream& stream, const py::array& x, int64_t version) {
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  return to_array(without_gil([&] { return stream.cross(view, version); }));
}

template <class Stream>
py::tuple decomposition(Stream& stream, int64_t rank) {
  const auto d = without_gil([&] { return stream.decompose(rank); });
  return py::make_tuple(to_array(d.values), to_array(d.coefficients), d.energy, d.error, d.version);
}

template <class T, class Stream>
void restore(Stream& stream, const py::array& columns, const std::vector<double>& numbers) {
  const StridedView<const T> from = matrix_argument<T>(columns, "columns");
  // Strides mean something only where there is more than one row or column.
  const bool several = from.rows > 0 && from.cols > 1;
  if ((from.rows > 1 && from.cols > 0 && from.row_stride != 1) ||
      (several && from.col_stride < from.rows))
    throw py::value_error("columns must be column-major");
  stream.restore({from.data, from.rows, from.cols, several ? from.col_stride : from.rows}, numbers);
}

// What both kinds of stream have.
template <class T, class Stream>
void define_common(py::class_<Stream>& type) {
  type.def("decompose", &decomposition<Stream>, py::arg("rank") = 0, kDecomposeDoc)
      .def("combine", &combine_into<T, Stream>, py::arg("coefficients"), py::arg("version"),
           py::arg("extra"), py::arg("out"), kCombineDoc)
      .def("cross", &cross_of<T, Stream>, py::arg("x"), py::arg("version"), kCrossDoc)
      .def("merge", &Stream::merge, py::arg("other"), py::call_guard<py::gil_scoped_release>(),
           "Add what another stream has seen.")
      .def(
          "partial", [](Stream& s) { return to_array(without_gil([&] { return s.partial(); })); },
          kPartialDoc)
      .def(
          "provide",
          [](Stream& s, const Small& total) {
            const Matrix<double> sum = small_matrix<double>(total, "total");
            const py::gil_scoped_release release;
            s.provide(sum.view());
          },
          py::arg("total"), kProvideDoc)
      .def(
          "state",
          [](Stream& s) {
            const auto state = without_gil([&] { return s.state(); });
            return py::make_tuple(to_array(state.columns), to_array(state.numbers));
          },
          kStateDoc)
      .def("restore", &restore<T, Stream>, py::arg("columns"), py::arg("numbers"),
           "Go on from a state.")
      .def_property_readonly("seen", &Stream::seen, "Snapshots since the start.")
      .def_property_readonly("room", &Stream::room, "Snapshots that fit before `provide`.");
}

#define KOOPCORE_STREAM_ARGUMENTS                                                     \
  py::arg("rank"), py::arg("oversampling"), py::arg("block"), py::arg("forgetting"),  \
      py::arg("tolerance"), py::arg("center"), py::arg("seed"), py::arg("first_row"), \
      py::arg("sharded"), py::arg("n_threads")

}  // namespace koopcore::bindings
