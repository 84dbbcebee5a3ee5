#pragma once
// What the core takes of the machine: its number of threads, and the instruction set of its own
// loops.

namespace koopcore {

/// Threads that calls without a number of their own share: `n_threads` >= 1, or 0 for what the
/// environment says, which is also what holds at first: KOOPCORE_NUM_THREADS, else OMP_NUM_THREADS,
/// else the processors that the calling thread may run on. Results never depend on it. The threads
/// are the core's own and sleep between calls. Each may call the BLAS, which does best with one
/// thread then (blas::set_num_threads).
void set_num_threads(int n_threads);
int num_threads();

/// "avx512", "avx2" or "base": the best there is here, or what KOOPCORE_SIMD demands.
const char* instruction_set();

}  // namespace koopcore
