#pragma once
// One function per category; module.cpp calls them all.

#include <pybind11/pybind11.h>

namespace koopcore::bindings {

void register_runtime(pybind11::module_& m);
void register_gram(pybind11::module_& m);
void register_snapshot_window(pybind11::module_& m);
void register_dmd(pybind11::module_& m);
void register_grouped_dmd(pybind11::module_& m);
void register_grouped_grams(pybind11::module_& m);
void register_streaming_svd(pybind11::module_& m);
void register_streaming_dmd(pybind11::module_& m);

}  // namespace koopcore::bindings
