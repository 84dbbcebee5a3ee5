// Dmd and ComplexDmd: the fit from a Gram matrix or a factor.

#include <pybind11/stl.h>

#include <utility>

#include "arrays.hpp"
#include "options.hpp"
#include "register.hpp"

namespace koopcore::bindings {
namespace {

const char* const kDmdDoc =
    R"(Dynamic mode decomposition from the Gram matrix (or a factor) of the snapshots.)";
const char* const kBasisDoc = R"(Coefficients (snapshots x directions) of the reduced basis.)";
const char* const kCoordinatesDoc = R"(All states in the reduced basis (directions x states).)";
const char* const kSpectralDoc = R"(All states in the modes (rank x states).)";
const char* const kSystemDoc =
    R"(Normal equations (matrix, rhs) of the amplitudes on states [first, first + count).)";
const char* const kForecastDoc =
    R"(Coefficients on the snapshots of the state `horizon` steps after the last one.)";
const char* const kPredictDoc =
    R"(Coefficients on the snapshots of states advanced by `steps`, given cross = snapshots^H @ states.)";
const char* const kSpectrumDoc =
    R"(The same reduction with other eigenvalues and modes (given in the reduced basis).)";
const char* const kRestrictedDoc = R"(The fit with these modes only.)";

template <class Scalar>
using InputArray = py::array_t<Scalar, py::array::f_style | py::array::forcecast>;

template <class Scalar>
BasicDmd<Scalar> make_dmd(const InputArray<Scalar>& gram, bool from_factor, int64_t lag,
                          int64_t delays, const std::string& affine, std::vector<int64_t> starts,
                          const std::string& variant, int64_t max_rank, double energy,
                          double tolerance, int64_t state_size, bool hard_threshold, double ridge,
                          const std::string& modes, const std::string& constraint,
                          const std::string& unstable) {
  const Matrix<Scalar> matrix = small_matrix<Scalar>(gram, "gram");
  const Layout layout{lag, delays, affine_named(affine), std::move(starts)};
  const DmdOptions options{variant_named(variant),
                           max_rank,
                           energy,
                           tolerance,
                           state_size,
                           hard_threshold,
                           ridge,
                           modes_named(modes),
                           constraint_named(constraint),
                           unstable_named(unstable)};
  const py::gil_scoped_release release;  // all arguments are unpacked
  if (from_factor) return BasicDmd<Scalar>::from_factor(matrix.view(), layout, options);
  return BasicDmd<Scalar>(matrix.view(), layout, options);
}

template <class Scalar>
void register_as(py::module_& m, const char* name) {
  using Fit = BasicDmd<Scalar>;
  using Complex = typename Fit::Complex;
  py::class_<Fit>(m, name, kDmdDoc)
      .def(py::init(&make_dmd<Scalar>), py::arg("gram"), py::kw_only(),
           py::arg("from_factor") = false, py::arg("lag") = 1, py::arg("delays") = 1,
           py::arg("affine") = "none", py::arg("starts") = std::vector<int64_t>(),
           py::arg("variant") = "standard", py::arg("max_rank") = 0, py::arg("energy") = 1.0,
           py::arg("tolerance") = -1.0, py::arg("state_size") = 0,
           py::arg("hard_threshold") = false, py::arg("ridge") = 0.0, py::arg("modes") = "auto",
           py::arg("constraint") = "none", py::arg("unstable") = "clip")
      .def_property_readonly("rank", &Fit::rank, "Modes kept.")
      .def_property_readonly(
          "eigenvalues", [](const Fit& d) { return to_array(d.eigenvalues()); },
          "Discrete-time eigenvalues as fitted, by falling modulus.")
      .def_property_readonly(
          "singular_values", [](const Fit& d) { return to_array(d.singular_values()); },
          "All singular values of X, falling.")
      .def(
          "basis_coefficients", [](const Fit& d) { return to_array(d.basis_coefficients()); },
          kBasisDoc)
      .def(
          "coordinates", [](const Fit& d) { return to_array(d.coordinates()); }, kCoordinatesDoc)
      .def(
          "spectral_coordinates", [](const Fit& d) { return to_array(d.spectral_coordinates()); },
          kSpectralDoc)
      .def(
          "mode_coefficients", [](const Fit& d) { return to_array(d.mode_coefficients()); },
          "Coefficients (snapshots x rank) of the modes.")
      .def(
          "amplitude_system",
          [](const Fit& d, int64_t first, int64_t count) {
            const auto system = d.amplitude_system(first, count);
            return py::make_tuple(to_array(system.matrix), to_array(system.rhs));
          },
          py::arg("first"), py::arg("count"), kSystemDoc)
      .def(
          "amplitudes",
          [](const Fit& d, int64_t first, int64_t count) {
            return to_array(d.amplitudes(first, count));
          },
          py::arg("first"), py::arg("count"), "Least-squares amplitudes of the modes.")
      .def(
          "forecast",
          [](const Fit& d, double horizon, int64_t origin) {
            return to_array(d.forecast(horizon, origin));
          },
          py::arg("horizon"), py::arg("origin") = Fit::kLast, kForecastDoc)
      .def(
          "predict",
          [](const Fit& d, const InputArray<Scalar>& cross, double steps) {
            return to_array(d.predict(small_matrix<Scalar>(cross, "cross").view(), steps));
          },
          py::arg("cross"), py::arg("steps"), kPredictDoc)
      .def(
          "with_spectrum",
          [](const Fit& d, const std::vector<Complex>& eigenvalues,
             const InputArray<Complex>& vectors, const std::vector<Complex>& start) {
            return d.with_spectrum(eigenvalues, small_matrix<Complex>(vectors, "vectors").view(),
                                   start);
          },
          py::arg("eigenvalues"), py::arg("vectors"), py::arg("start") = std::vector<Complex>(),
          kSpectrumDoc)
      .def("restricted", &Fit::restricted, py::arg("kept"), kRestrictedDoc);
}

}  // namespace

void register_dmd(py::module_& m) {
  register_as<double>(m, "Dmd");
  register_as<std::complex<double>>(m, "ComplexDmd");
}

}  // namespace koopcore::bindings
