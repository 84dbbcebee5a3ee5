// StreamingSvd for float32 and float64.

#include <memory>

#include "register.hpp"
#include "streaming.hpp"

namespace koopcore::bindings {
namespace {

const char* const kSvdDoc = R"(Singular value decomposition of a stream, in one pass.)";
const char* const kMeanDoc = R"((coefficients, version) of the mean on the columns.)";

template <class T>
void register_svd(py::module_& m, const char* name) {
  using Stream = StreamingSvd<T>;
  py::class_<Stream> type(m, name, kSvdDoc);
  type.def(py::init([](std::vector<int64_t> sizes, int64_t rank, int64_t oversampling,
                       int64_t block, double forgetting, double tolerance, bool center,
                       uint64_t seed, int64_t first_row, bool sharded, int n_threads) {
             return std::make_unique<Stream>(
                 std::move(sizes), stream_options(rank, oversampling, block, forgetting, tolerance,
                                                  center, seed, first_row, sharded, n_threads));
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
      .def(
          "mean",
          [](Stream& stream) {
            int64_t version = 0;
            const std::vector<double> c = stream.mean_coefficients(&version);
            return py::make_tuple(to_array(c), version);
          },
          kMeanDoc)
      .def_property_readonly("weight", &Stream::weight, "Sum of the snapshots' weights.");
  define_common<T>(type);
}

}  // namespace

void register_streaming_svd(py::module_& m) {
  register_svd<float>(m, "StreamingSvd32");
  register_svd<double>(m, "StreamingSvd64");
}

}  // namespace koopcore::bindings
