// StreamingDmd for float32 and float64.

#include <memory>

#include "options.hpp"
#include "register.hpp"
#include "streaming.hpp"

namespace koopcore::bindings {
namespace {

const char* const kDmdDoc = R"(Dynamic mode decomposition of a stream, in one pass.)";
const char* const kPairsDoc = R"(Append pairs of states, each a trajectory of its own.)";
const char* const kFitDoc = R"((dmd, lift, unit, has_state, version) of the stream.)";
const char* const kMomentsDoc =
    R"((rows, last, lift, unit, pairs, version): the stream in a few virtual trajectories.)";

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
  auto found = without_gil([&] { return stream.fit(options); });
  return py::make_tuple(std::move(found.dmd), to_array(found.lift), found.unit, found.has_state,
                        found.version);
}

template <class T>
void register_dmd_as(py::module_& m, const char* name) {
  using Stream = StreamingDmd<T>;
  py::class_<Stream> type(m, name, kDmdDoc);
  type.def(
          py::init([](std::vector<int64_t> sizes, int64_t delays, bool differences, int64_t inputs,
                      int64_t rank, int64_t oversampling, int64_t block, double forgetting,
                      double tolerance, bool center, uint64_t seed, int64_t first_row, bool sharded,
                      int n_threads) {
            return std::make_unique<Stream>(
                std::move(sizes),
                StreamingDmdOptions{stream_options(rank, oversampling, block, forgetting, tolerance,
                                                   center, seed, first_row, sharded, n_threads),
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
      .def(
          "moments",
          [](Stream& stream) {
            const auto m = without_gil([&] { return stream.moments(); });
            return py::make_tuple(to_array(m.rows), to_array(m.last), to_array(m.lift), m.unit,
                                  m.pairs, m.version);
          },
          kMomentsDoc);
  define_common<T>(type);
}

}  // namespace

void register_streaming_dmd(py::module_& m) {
  register_dmd_as<float>(m, "StreamingDmd32");
  register_dmd_as<double>(m, "StreamingDmd64");
}

}  // namespace koopcore::bindings
