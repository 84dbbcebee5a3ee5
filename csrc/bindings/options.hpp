#pragma once
// Options by name: strings of Python become the enumerators of koopcore/dmd.hpp.

#include <pybind11/pybind11.h>

#include <string>
#include <utility>
#include <vector>

#include "koopcore/dmd.hpp"

namespace koopcore::bindings {

namespace py = pybind11;

// The enumerator that goes by this name; the message lists the names there are.
template <class Enum>
Enum choice(const std::string& argument, const std::string& value,
            const std::vector<std::pair<std::string, Enum>>& names) {
  std::string known;
  for (const auto& [name, enumerator] : names) {
    if (name == value) return enumerator;
    known += (known.empty() ? "'" : ", '") + name + "'";
  }
  throw py::value_error(argument + "='" + value + "' is not one of " + known);
}

inline Affine affine_named(const std::string& name) {
  return choice<Affine>("affine", name,
                        {{"none", Affine::kNone},
                         {"differences", Affine::kDifferences},
                         {"constant", Affine::kConstant}});
}

inline Variant variant_named(const std::string& name) {
  return choice<Variant>("variant", name,
                         {{"standard", Variant::kStandard},
                          {"tls", Variant::kTotalLeastSquares},
                          {"forward-backward", Variant::kForwardBackward},
                          {"symmetric", Variant::kSymmetric}});
}

inline Modes modes_named(const std::string& name) {
  return choice<Modes>(
      "modes", name,
      {{"auto", Modes::kAuto}, {"exact", Modes::kExact}, {"projected", Modes::kProjected}});
}

inline Constraint constraint_named(const std::string& name) {
  return choice<Constraint>("constraint", name,
                            {{"none", Constraint::kNone},
                             {"stable", Constraint::kStable},
                             {"unit_circle", Constraint::kUnitCircle},
                             {"real", Constraint::kReal}});
}

inline Unstable unstable_named(const std::string& name) {
  return choice<Unstable>("unstable", name,
                          {{"clip", Unstable::kClip},
                           {"reflect", Unstable::kReflect},
                           {"drop", Unstable::kDrop},
                           {"keep", Unstable::kKeep}});
}

}  // namespace koopcore::bindings
