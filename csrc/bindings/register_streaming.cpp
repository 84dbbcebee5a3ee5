// StreamingSvd and StreamingDmd for float32 and float64.

#include <pybind11/stl.h>

#include <utility>

#include "arrays.hpp"
#include "options.hpp"
#include "register.hpp"

namespace koopcore::bindings {
namespace {

const char* const kSvdDoc = R"(Singular value decomposition of a stream, in one pass.)";
const char* const kDmdDoc = R"(Dynamic mode decomposition of a stream, in one pass.)";
const char* const kPushDoc = R"(Append one snapshot: a sequence of C-contiguous segments.)";
const char* const kBlockDoc = R"(Append the columns of a matrix, oldest first, all or none.)";
const char* const kPairsDoc = R"(Append pairs of states, each a trajectory of its own.)";
const char* const kDecomposeDoc =
    R"((values, coefficients, energy, error, version): left singular vectors on the columns.)";
const char* const kMeanDoc = R"((coefficients, version) of the mean on the columns.)";
const char* const kFitDoc = R"((dmd, lift, unit, has_state, version) of the stream.)";
const char* const kMomentsDoc =
    R"((rows, last, lift, unit, pairs, version): the stream in a few virtual trajectories.)";
const char* const kCombineDoc =
    R"(Write columns @ coefficients to segments of shape (k, size) each.)";
const char* const kCrossDoc = R"(columns^T x for states in the columns of x.)";
const char* const kPartialDoc = R"(This row block's part of the sum that `provide` takes.)";
const char* const kProvideDoc = R"(Take the sum of `partial` over all row blocks.)";
const char* const kStateDoc = R"((columns, numbers): all there is.)";

using Small = py::array_t<double, py::array::f_style | py::array::forcecast>;

StreamOptions stream_options(int64_t rank, int64_t oversampling, int64_t block, double forgetting,
                             double tolerance, bool center, uint64_t seed, int64_t first_row,
                             bool sharded) {
  return {rank, oversampling, block, forgetting, tolerance, center, seed, first_row, sharded};
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
  Matrix<double> out;
  {
    const py::gil_scoped_release release;
    out = stream.cross(view, version);
  }
  return to_array(out);
}

template <class Stream>
py::tuple decomposition(Stream& stream, int64_t rank) {
  typename std::decay_t<decltype(stream.decompose(rank))> d;
  {
    const py::gil_scoped_release release;
    d = stream.decompose(rank);
  }
  return py::make_tuple(to_array(d.values), to_array(d.coefficients), d.energy, d.error, d.version);
}

template <class T, class Stream>
void restore(Stream& stream, const py::array& columns, const std::vector<double>& numbers) {
  const StridedView<const T> from = matrix_argument<T>(columns, "columns");
  if (from.rows > 0 && from.cols > 0 && (from.row_stride != 1 || from.col_stride < from.rows))
    throw py::value_error("columns must be column-major");
  stream.restore({from.data, from.rows, from.cols, std::max<int64_t>(from.col_stride, from.rows)},
                 numbers);
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
      .def("partial", [](Stream& s) { return to_array(s.partial()); }, kPartialDoc)
      .def(
          "provide",
          [](Stream& s, const Small& total) {
            s.provide(small_matrix<double>(total, "total").view());
          },
          py::arg("total"), kProvideDoc)
      .def("state",
           [](Stream& s) {
             auto state = s.state();
             return py::make_tuple(to_array(state.columns), to_array(state.numbers));
           },
           kStateDoc)
      .def("restore", &restore<T, Stream>, py::arg("columns"), py::arg("numbers"),
           "Go on from a state.")
      .def_property_readonly("seen", &Stream::seen, "Snapshots since the start.")
      .def_property_readonly("room", &Stream::room, "Snapshots that fit before `provide`.");
}

#define KOOPCORE_STREAM_ARGUMENTS                                                                 \
  py::arg("rank"), py::arg("oversampling"), py::arg("block"), py::arg("forgetting"),              \
      py::arg("tolerance"), py::arg("center"), py::arg("seed"), py::arg("first_row"),             \
      py::arg("sharded")

template <class T>
void register_svd(py::module_& m, const char* name) {
  using Stream = StreamingSvd<T>;
  py::class_<Stream> type(m, name, kSvdDoc);
  type.def(py::init([](std::vector<int64_t> sizes, int64_t rank, int64_t oversampling, int64_t block,
                       double forgetting, double tolerance, bool center, uint64_t seed,
                       int64_t first_row, bool sharded) {
             return std::make_unique<Stream>(
                 std::move(sizes), stream_options(rank, oversampling, block, forgetting, tolerance,
                                                  center, seed, first_row, sharded));
           }),
           py::arg("segment_sizes"), py::kw_only(), KOOPCORE_STREAM_ARGUMENTS)
      .def(
          "push",
          [](Stream& stream, const py::sequence& segments) {
            const std::vector<T*> data =
                segment_arguments<T>(segments, &stream.segment_sizes(), "x", false);
            const py::gil_scoped_release release;
            stream.push(data.data());
          },
          py::arg("segments"), kPushDoc)
      .def(
          "push_block",
          [](Stream& stream, const py::array& block) {
            const StridedView<const T> view = matrix_argument<T>(block, "X");
            const py::gil_scoped_release release;
            stream.push_block(view);
          },
          py::arg("block"), kBlockDoc)
      .def("mean",
           [](Stream& stream) {
             int64_t version = 0;
             const std::vector<double> c = stream.mean_coefficients(&version);
             return py::make_tuple(to_array(c), version);
           },
           kMeanDoc)
      .def_property_readonly("weight", &Stream::weight, "Sum of the snapshots' weights.");
  define_common<T>(type);
}

template <class T>
py::tuple fit(StreamingDmd<T>& stream, const std::string& variant, int64_t max_rank, double energy,
              double tolerance, double ridge, const std::string& modes,
              const std::string& constraint, const std::string& unstable) {
  DmdOptions options;
  options.variant = variant_named(variant);
  options.max_rank = max_rank;
  options.energy = energy;
  options.tolerance = tolerance;
  options.ridge = ridge;
  options.modes = modes_named(modes);
  options.constraint = constraint_named(constraint);
  options.unstable = unstable_named(unstable);
  auto found = [&] {
    const py::gil_scoped_release release;
    return stream.fit(options);
  }();
  return py::make_tuple(std::move(found.dmd), to_array(found.lift), found.unit, found.has_state,
                        found.version);
}

template <class T>
void register_dmd_as(py::module_& m, const char* name) {
  using Stream = StreamingDmd<T>;
  py::class_<Stream> type(m, name, kDmdDoc);
  type.def(py::init([](std::vector<int64_t> sizes, int64_t delays, bool differences, int64_t inputs,
                       int64_t rank, int64_t oversampling, int64_t block, double forgetting,
                       double tolerance, bool center, uint64_t seed, int64_t first_row,
                       bool sharded) {
             return std::make_unique<Stream>(
                 std::move(sizes),
                 StreamingDmdOptions{stream_options(rank, oversampling, block, forgetting, tolerance,
                                                    center, seed, first_row, sharded),
                                     delays, differences, inputs});
           }),
           py::arg("segment_sizes"), py::kw_only(), py::arg("delays"), py::arg("differences"),
           py::arg("inputs"), KOOPCORE_STREAM_ARGUMENTS)
      .def(
          "push",
          [](Stream& stream, const py::sequence& segments, const Small& inputs) {
            const std::vector<T*> data =
                segment_arguments<T>(segments, &stream.segment_sizes(), "x", false);
            const double* u = inputs.size() == 0 ? nullptr : inputs.data();
            const py::gil_scoped_release release;
            stream.push(data.data(), u);
          },
          py::arg("segments"), py::arg("inputs") = Small(0), kPushDoc)
      .def(
          "push_block",
          [](Stream& stream, const py::array& block, const Small& inputs) {
            const StridedView<const T> view = matrix_argument<T>(block, "X");
            const Matrix<double> u = small_matrix<double>(inputs, "inputs");
            const py::gil_scoped_release release;
            stream.push_block(view, u.view());
          },
          py::arg("block"), py::arg("inputs"), kBlockDoc)
      .def(
          "push_pairs",
          [](Stream& stream, const py::array& x, const py::array& y, const Small& inputs) {
            const StridedView<const T> from = matrix_argument<T>(x, "X");
            const StridedView<const T> to = matrix_argument<T>(y, "Y");
            const Matrix<double> u = small_matrix<double>(inputs, "inputs");
            const py::gil_scoped_release release;
            stream.push_pairs(from, to, u.view());
          },
          py::arg("x"), py::arg("y"), py::arg("inputs"), kPairsDoc)
      .def("start_trajectory", &Stream::start_trajectory, "The next state follows on none.")
      .def("fit", &fit<T>, py::kw_only(), py::arg("variant"), py::arg("max_rank"),
           py::arg("energy"), py::arg("tolerance"), py::arg("ridge"), py::arg("modes"),
           py::arg("constraint"), py::arg("unstable"), kFitDoc)
      .def("moments",
           [](Stream& stream) {
             const auto m = stream.moments();
             return py::make_tuple(to_array(m.rows), to_array(m.last), to_array(m.lift), m.unit,
                                   m.pairs, m.version);
           },
           kMomentsDoc);
  define_common<T>(type);
}

}  // namespace

void register_streaming(py::module_& m) {
  register_svd<float>(m, "StreamingSvd32");
  register_svd<double>(m, "StreamingSvd64");
  register_dmd_as<float>(m, "StreamingDmd32");
  register_dmd_as<double>(m, "StreamingDmd64");
}

}  // namespace koopcore::bindings
