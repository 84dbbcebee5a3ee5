// Threads, instruction set, and what BLAS there is.

#include "koopcore/blas.hpp"
#include "koopcore/runtime.hpp"
#include "register.hpp"

// By this name threadpoolctl tells the module from others that are called _core, too.
extern "C" __attribute__((visibility("default"))) int koopcore_num_threads() {
  return koopcore::num_threads();
}

namespace koopcore::bindings {
namespace py = pybind11;
namespace {

const char* const kSetNumThreadsDoc =
    R"(Choose how many threads koopcore's calls share, for the whole process.

Parameters
----------
n_threads : int
    At least 1; or 0 for the default: KOOPCORE_NUM_THREADS in the environment, else
    OMP_NUM_THREADS, else the processors that the calling thread may run on.

Notes
-----
Results do not depend on it. The threads are koopcore's own and sleep between calls; no other
library in the process is touched. ``threadpoolctl.threadpool_limits`` limits them, too.)";
const char* const kInstructionSetDoc =
    R"(Instruction set of koopcore's own loops: 'avx512', 'avx2' or 'base', the best there is.

KOOPCORE_SIMD in the environment can demand a lower one.)";

}  // namespace

void register_runtime(py::module_& m) {
  m.def("set_num_threads", &set_num_threads, py::arg("n_threads"), kSetNumThreadsDoc);
  m.def("num_threads", &num_threads, "Threads that koopcore's calls share.");
  m.def("instruction_set", &instruction_set, kInstructionSetDoc);
  m.def("blas_name", &blas::library_name, "Name and build of the BLAS in use.");
}

}  // namespace koopcore::bindings
