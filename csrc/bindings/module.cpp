// koopcore._core: the compiled half of the Python package. Private; koopcore's own names are
// public.

#include <pybind11/pybind11.h>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"
#include "koopcore/runtime.hpp"
#include "register.hpp"

PYBIND11_MODULE(_core, m) {
  namespace py = pybind11;
  m.doc() = "Compiled core of koopcore.";
  m.attr("__version__") = KOOPCORE_VERSION;
  const auto error = py::register_exception<koopcore::Error>(m, "Error", PyExc_ValueError);
  error.attr("__module__") = "koopcore";
  error.attr("__doc__") =
      "Bad argument, non-finite data or a numerical failure in the compiled core.";
  koopcore::instruction_set();  // a wrong demand in the environment fails here, not in a fit
  // Rows are shared out over threads of koopcore's own. Those of OpenBLAS wait by turning in
  // circles, which costs whoever else wants the processor.
  koopcore::blas::set_num_threads(1);
  koopcore::bindings::register_runtime(m);
  koopcore::bindings::register_gram(m);
  koopcore::bindings::register_snapshot_window(m);
  koopcore::bindings::register_dmd(m);
  koopcore::bindings::register_grouped_dmd(m);
  koopcore::bindings::register_grouped_grams(m);
  koopcore::bindings::register_streaming_svd(m);
  koopcore::bindings::register_streaming_dmd(m);
}
