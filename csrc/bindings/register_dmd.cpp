// Dmd: the fit from a Gram matrix.

#include "arrays.hpp"
#include "register.hpp"

namespace koopcore::bindings {
namespace {

using DoubleArray = py::array_t<double, py::array::f_style | py::array::forcecast>;

const char* const kDmdDoc = R"(Dynamic mode decomposition from the Gram matrix of the snapshots.)";
const char* const kForecastDoc =
    R"(Coefficients on the snapshots of the state `horizon` steps after the last one.)";
const char* const kPredictDoc =
    R"(Coefficients on the snapshots of states advanced by `steps`, given cross = snapshots.T @ states.)";

Dmd make_dmd(const DoubleArray& gram, int64_t lag, int64_t max_rank, double energy,
             double tolerance, bool exact, bool affine, bool clip) {
  const Matrix<double> matrix = small_matrix<double>(gram, "gram");
  const DmdOptions options{max_rank, energy, tolerance,
                           exact,    affine, clip ? Unstable::kClip : Unstable::kKeep};
  const py::gil_scoped_release release;  // the array is unpacked
  return Dmd(matrix.view(), lag, options);
}

}  // namespace

void register_dmd(py::module_& m) {
  py::class_<Dmd>(m, "Dmd", kDmdDoc)
      .def(py::init(&make_dmd), py::arg("gram"), py::kw_only(), py::arg("lag") = 1,
           py::arg("max_rank") = 0, py::arg("energy") = 1.0, py::arg("tolerance") = -1.0,
           py::arg("exact") = true, py::arg("affine") = false, py::arg("clip") = true)
      .def_property_readonly("rank", &Dmd::rank, "Directions kept.")
      .def_property_readonly(
          "eigenvalues", [](const Dmd& d) { return to_array(d.eigenvalues()); },
          "Discrete-time eigenvalues as fitted, by falling modulus.")
      .def_property_readonly(
          "singular_values", [](const Dmd& d) { return to_array(d.singular_values()); },
          "All singular values of X, falling.")
      .def(
          "mode_coefficients", [](const Dmd& d) { return to_array(d.mode_coefficients()); },
          "Coefficients (snapshots x rank) of the modes.")
      .def(
          "amplitudes",
          [](const Dmd& d, bool whole_window) { return to_array(d.amplitudes(whole_window)); },
          py::arg("whole_window") = false, "Least-squares amplitudes of the modes.")
      .def(
          "forecast", [](const Dmd& d, double horizon) { return to_array(d.forecast(horizon)); },
          py::arg("horizon"), kForecastDoc)
      .def(
          "predict",
          [](const Dmd& d, const DoubleArray& cross, double steps) {
            return to_array(d.predict(small_matrix<double>(cross, "cross").view(), steps));
          },
          py::arg("cross"), py::arg("steps"), kPredictDoc);
}

}  // namespace koopcore::bindings
