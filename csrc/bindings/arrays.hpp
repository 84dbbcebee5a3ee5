#pragma once
// How arrays of a caller become views: dtype and shape are checked here, with the argument's name,
// and nothing is ever copied or cast.

#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

#include "koopcore/koopcore.hpp"

namespace koopcore::bindings {

namespace py = pybind11;

template <class T>
constexpr const char* dtype_name() {
  return std::is_same_v<T, float> ? "float32" : "float64";
}

inline std::string shape_of(const py::array& array) {
  return py::str(array.attr("shape")).cast<std::string>();
}

template <class T>
bool has_dtype(const py::array& array) {
  return py::dtype::of<T>().equal(array.dtype());
}

template <class T>
void require_dtype(const py::array& array, const std::string& name) {
  if (!has_dtype<T>(array))
    throw py::type_error(name + " has dtype " + py::str(array.dtype()).cast<std::string>() +
                         "; expected " + dtype_name<T>());
}

/// A 2-D array of any strides, read in place.
template <class T>
StridedView<const T> matrix_argument(const py::array& array, const std::string& name) {
  require_dtype<T>(array, name);
  if (array.ndim() != 2)
    throw py::value_error(name + " must have 2 dimensions (n_features, n_snapshots), got shape " +
                          shape_of(array));
  const auto size = static_cast<py::ssize_t>(sizeof(T));
  if (array.strides(0) % size != 0 || array.strides(1) % size != 0)
    throw py::value_error(name +
                          " has strides that are no multiples of its item size; copy it first");
  return {static_cast<const T*>(array.data()), array.shape(0), array.shape(1),
          array.strides(0) / size, array.strides(1) / size};
}

/// Segments of one state: C-contiguous arrays of any shape. `writeable` for results.
template <class T>
std::vector<T*> segment_arguments(const py::sequence& arrays, const std::vector<int64_t>* sizes,
                                  const std::string& name, bool writeable) {
  std::vector<T*> segments;
  segments.reserve(arrays.size());
  if (sizes != nullptr && arrays.size() != sizes->size())
    throw py::value_error(name + " has " + std::to_string(arrays.size()) + " segments; expected " +
                          std::to_string(sizes->size()));
  for (size_t i = 0; i < arrays.size(); ++i) {
    const std::string label = name + "[" + std::to_string(i) + "]";
    const py::object item = arrays[i];
    if (!py::isinstance<py::array>(item))
      throw py::type_error(label + " is a " +
                           py::str(py::type::of(item).attr("__name__")).cast<std::string>() +
                           "; expected a NumPy array");
    const auto array = py::reinterpret_borrow<py::array>(item);
    require_dtype<T>(array, label);
    if ((array.flags() & py::array::c_style) == 0)
      throw py::value_error(label + " is not C-contiguous; pass numpy.ascontiguousarray(...)");
    if (sizes != nullptr && array.size() != (*sizes)[i])
      throw py::value_error(label + " has " + std::to_string(array.size()) + " numbers (shape " +
                            shape_of(array) + "); expected " + std::to_string((*sizes)[i]));
    if (writeable && !array.writeable())
      throw py::value_error(label + " is read-only; a result needs a writeable array");
    segments.push_back(const_cast<T*>(static_cast<const T*>(array.data())));
  }
  return segments;
}

using IndexArray = py::array_t<int64_t, py::array::c_style>;

/// Row ranges: an array (n_groups, 2) of start, stop.
inline std::vector<Segment> segments_argument(const IndexArray& array) {
  if (array.ndim() != 2 || array.shape(1) != 2)
    throw py::value_error("segments must have shape (n_groups, 2), got " + shape_of(array));
  std::vector<Segment> segments(static_cast<size_t>(array.shape(0)));
  const int64_t* values = array.data();
  for (size_t i = 0; i < segments.size(); ++i) segments[i] = {values[2 * i], values[2 * i + 1]};
  return segments;
}

/// A new column-major array and its view.
template <class T>
py::array_t<T, py::array::f_style> new_matrix(int64_t rows, int64_t cols) {
  return py::array_t<T, py::array::f_style>(std::vector<py::ssize_t>{rows, cols});
}

template <class T>
MatrixView<T> view_of(py::array_t<T, py::array::f_style>& array) {
  return {array.mutable_data(), array.shape(0), array.shape(1),
          std::max<int64_t>(array.shape(0), 1)};
}

/// A small float64 matrix: copied, whatever its order.
template <class T>
Matrix<T> small_matrix(const py::array_t<T, py::array::f_style | py::array::forcecast>& array,
                       const std::string& name) {
  if (array.ndim() != 2)
    throw py::value_error(name + " must have 2 dimensions, got shape " + shape_of(array));
  Matrix<T> result(array.shape(0), array.shape(1));
  std::copy_n(array.data(), array.size(), result.view().data);
  return result;
}

template <class T>
py::array_t<T, py::array::f_style> to_array(const Matrix<T>& matrix) {
  auto result = new_matrix<T>(matrix.rows(), matrix.cols());
  std::copy_n(matrix.view().data, matrix.rows() * matrix.cols(), result.mutable_data());
  return result;
}

template <class T>
py::array_t<T> to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace koopcore::bindings
