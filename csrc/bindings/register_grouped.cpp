// GroupedDmd: many fits from one snapshot matrix.

#include <pybind11/stl.h>

#include "arrays.hpp"
#include "options.hpp"
#include "register.hpp"

namespace koopcore::bindings {
namespace {

using SmallStack = py::array_t<double, py::array::c_style | py::array::forcecast>;

const char* const kGroupedDoc =
    R"(One Dmd per segment of the rows of x; segments is an int64 array (n_groups, 2) of start, stop.)";
const char* const kFromGramsDoc =
    R"(The same from Gram matrices (n_groups, m, m); rows[i] numbers per state in group i.)";
const char* const kForecastDoc =
    R"(Coefficients (n_snapshots, n_groups * k) of the states at k horizons, group after group.)";
const char* const kCombineDoc =
    R"(States (n_features, k) with these coefficients; rows in no segment as in the last snapshot.)";

template <class T>
GroupedDmd fit_as(const py::array& x, std::vector<Segment> segments, const Layout& layout,
                  const DmdOptions& options, int n_threads) {
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  const py::gil_scoped_release release;  // the arrays are unpacked
  return GroupedDmd(view, std::move(segments), layout, options, n_threads);
}

DmdOptions options_named(const std::string& variant, int64_t max_rank, double energy,
                         double tolerance, bool hard_threshold, double ridge,
                         const std::string& modes, const std::string& constraint,
                         const std::string& unstable) {
  return {variant_named(variant),
          max_rank,
          energy,
          tolerance,
          0,
          hard_threshold,
          ridge,
          modes_named(modes),
          constraint_named(constraint),
          unstable_named(unstable)};
}

GroupedDmd make_grouped(const py::array& x, const IndexArray& segments, int n_threads,
                        int64_t delays, const std::string& affine, const std::string& variant,
                        int64_t max_rank, double energy, double tolerance, bool hard_threshold,
                        double ridge, const std::string& modes, const std::string& constraint,
                        const std::string& unstable) {
  const Layout layout{1, delays, affine_named(affine), {}};
  const DmdOptions options = options_named(variant, max_rank, energy, tolerance, hard_threshold,
                                           ridge, modes, constraint, unstable);
  std::vector<Segment> ranges = segments_argument(segments);
  return has_dtype<float>(x) ? fit_as<float>(x, std::move(ranges), layout, options, n_threads)
                             : fit_as<double>(x, std::move(ranges), layout, options, n_threads);
}

GroupedDmd from_grams(const SmallStack& grams, const std::vector<int64_t>& rows, int n_threads,
                      int64_t delays, const std::string& affine, const std::string& variant,
                      int64_t max_rank, double energy, double tolerance, bool hard_threshold,
                      double ridge, const std::string& modes, const std::string& constraint,
                      const std::string& unstable) {
  if (grams.ndim() != 3 || grams.shape(1) != grams.shape(2))
    throw py::value_error("grams must have shape (n_groups, m, m), got " + shape_of(grams));
  const Layout layout{1, delays, affine_named(affine), {}};
  const DmdOptions options = options_named(variant, max_rank, energy, tolerance, hard_threshold,
                                           ridge, modes, constraint, unstable);
  const int64_t m = grams.shape(1);  // symmetric: columns are rows
  const MatrixView<const double> side_by_side{grams.data(), m, m * grams.shape(0),
                                              std::max<int64_t>(m, 1)};
  const py::gil_scoped_release release;  // the arrays are unpacked
  return GroupedDmd::from_grams(side_by_side, rows, layout, options, n_threads);
}

// Calls define with `first` arguments and those of the options behind them.
template <class Define, class... First>
void with_options(const Define& define, First... first) {
  define(first..., py::arg("n_threads") = 0, py::arg("delays") = 1, py::arg("affine") = "none",
         py::arg("variant") = "standard", py::arg("max_rank") = 0, py::arg("energy") = 1.0,
         py::arg("tolerance") = -1.0, py::arg("hard_threshold") = false, py::arg("ridge") = 0.0,
         py::arg("modes") = "auto", py::arg("constraint") = "none", py::arg("unstable") = "clip");
}

// What the groups have, an array each.
template <class Get>
py::list per_group(const GroupedDmd& grouped, Get get) {
  py::list result;
  for (int64_t i = 0; i < grouped.groups(); ++i) result.append(to_array(get(i)));
  return result;
}

py::array forecast(const GroupedDmd& grouped, const std::vector<double>& horizons) {
  Matrix<double> result;
  {
    const py::gil_scoped_release release;
    result = grouped.forecast(horizons);
  }
  return to_array(result);
}

template <class T>
py::array combine_as(const GroupedDmd& grouped, const py::array& x,
                     const py::array_t<double, py::array::f_style>& coefficients) {
  if (coefficients.ndim() != 2 || coefficients.shape(1) % grouped.groups() != 0)
    throw py::value_error("coefficients must have shape (n_snapshots, n_groups * k), got " +
                          shape_of(coefficients));
  const StridedView<const T> view = matrix_argument<T>(x, "x");
  const MatrixView<const double> weights{coefficients.data(), coefficients.shape(0),
                                         coefficients.shape(1),
                                         std::max<int64_t>(coefficients.shape(0), 1)};
  auto result = new_matrix<T>(view.rows, weights.cols / grouped.groups());
  const MatrixView<T> out = view_of(result);
  const py::gil_scoped_release release;  // all arrays are unpacked
  grouped.combine<T>(view, weights, out);
  return result;
}

}  // namespace

void register_grouped_dmd(py::module_& m) {
  py::class_<GroupedDmd> type(m, "GroupedDmd", kGroupedDoc);
  with_options([&](auto... arguments) { type.def(py::init(&make_grouped), arguments...); },
               py::arg("x"), py::arg("segments"), py::kw_only());
  with_options(
      [&](auto... arguments) {
        type.def_static("from_grams", &from_grams, arguments..., kFromGramsDoc);
      },
      py::arg("grams"), py::arg("rows"), py::kw_only());
  type.def_property_readonly(
          "ranks",
          [](const GroupedDmd& g) {
            std::vector<int64_t> ranks;
            for (int64_t i = 0; i < g.groups(); ++i) ranks.push_back(g.rank(i));
            return to_array(ranks);
          },
          "Directions kept by each group.")
      .def_property_readonly(
          "eigenvalues",
          [](const GroupedDmd& g) {
            return per_group(g, [&](int64_t i) { return g.eigenvalues(i); });
          },
          "Discrete-time eigenvalues, an array per group.")
      .def_property_readonly(
          "singular_values",
          [](const GroupedDmd& g) {
            return per_group(g, [&](int64_t i) { return g.singular_values(i); });
          },
          "Singular values above the tolerance, at most max_rank of them, an array per group.")
      .def("forecast", &forecast, py::arg("horizons"), kForecastDoc)
      .def(
          "combine",
          [](const GroupedDmd& g, const py::array& x,
             const py::array_t<double, py::array::f_style>& c) {
            return has_dtype<float>(x) ? combine_as<float>(g, x, c) : combine_as<double>(g, x, c);
          },
          py::arg("x"), py::arg("coefficients"), kCombineDoc);
}

}  // namespace koopcore::bindings
