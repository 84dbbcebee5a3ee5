// SnapshotWindow for float32 and float64.

#include <pybind11/stl.h>

#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "register.hpp"
#include "streaming.hpp"

namespace koopcore::bindings {
namespace {

const char* const kWindowDoc =
    R"(Ring buffer of the last snapshots of a state made of segments, with its Gram matrix.

bfloat16: the ring in half the memory; memory_map: a folder, the ring in a file there;
n_threads: of each call, 0 for those of koopcore.set_num_threads.)";
const char* const kPushDoc = R"(Append one snapshot: a sequence of C-contiguous segments.)";
const char* const kGramDoc =
    R"(Gram matrix of the snapshots minus the reference (raw=False) or of the snapshots, oldest first.)";
const char* const kCombineDoc =
    R"(Write sum_j coefficients[j] * snapshot_j, oldest first, to the segments of out.)";

template <class T>
void push(SnapshotWindow<T>& window, const py::sequence& segments) {
  const std::vector<T*> data =
      segment_arguments<T>(segments, &window.segment_sizes(), "segments", false);
  const py::gil_scoped_release release;  // all arrays are unpacked
  window.push(data.data());
}

template <class T>
py::array gram_matrix(SnapshotWindow<T>& window, bool raw) {
  auto result = new_matrix<double>(window.size(), window.size());
  const MatrixView<double> out = view_of(result);
  const py::gil_scoped_release release;
  window.gram(out, raw);
  return result;
}

template <class T>
void combine_into(const SnapshotWindow<T>& window,
                  const py::array_t<double, py::array::c_style>& coefficients,
                  const py::sequence& out) {
  if (coefficients.ndim() != 1 || coefficients.size() != window.size())
    throw py::value_error("coefficients must have shape (" + std::to_string(window.size()) +
                          ",), got " + shape_of(coefficients));
  const std::vector<T*> data = segment_arguments<T>(out, &window.segment_sizes(), "out", true);
  const double* weights = coefficients.data();
  const int64_t count = coefficients.size();
  const py::gil_scoped_release release;
  window.combine(weights, count, data.data());
}

template <class T>
void register_as(py::module_& m, const char* name) {
  using Window = SnapshotWindow<T>;
  py::class_<Window>(m, name, kWindowDoc)
      .def(py::init([](std::vector<int64_t> sizes, int64_t capacity, bool bfloat16,
                       const std::string& memory_map, int n_threads) {
             const WindowOptions options{bfloat16, memory_map, n_threads};
             return std::make_unique<Window>(std::move(sizes), capacity, options);
           }),
           py::arg("segment_sizes"), py::arg("capacity"), py::kw_only(),
           py::arg("bfloat16") = false, py::arg("memory_map") = "", py::arg("n_threads") = 0)
      .def("push", &push<T>, py::arg("segments"), kPushDoc)
      .def("gram", &gram_matrix<T>, py::arg("raw") = false, kGramDoc)
      .def("combine", &combine_into<T>, py::arg("coefficients"), py::arg("out"), kCombineDoc)
      .def("clear", &Window::clear, "Forget all snapshots.")
      .def(
          "state",
          [](const Window& window) {
            const auto state = window.state();
            return py::make_tuple(to_array(state.columns), to_array(state.numbers));
          },
          kStateDoc)
      .def("restore", &restore<T, Window>, py::arg("columns"), py::arg("numbers"),
           "Go on from a state.")
      .def_property_readonly("size", &Window::size, "Snapshots held.");
}

}  // namespace

void register_snapshot_window(py::module_& m) {
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const FileError& error) {  // by its number, Python finds FileNotFoundError and others
      PyErr_SetObject(PyExc_OSError, py::make_tuple(error.code(), error.what()).ptr());
    }
  });
  register_as<float>(m, "SnapshotWindow32");
  register_as<double>(m, "SnapshotWindow64");
}

}  // namespace koopcore::bindings
