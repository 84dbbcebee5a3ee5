#pragma once
// A loop over independent tasks on the caller's thread and a few more.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "koopcore/blas.hpp"
#include "koopcore/error.hpp"

namespace koopcore {

/// How many threads a caller's n_threads stands for.
inline int threads_for(int n_threads) {
  KOOPCORE_REQUIRE(n_threads >= 0)
      << "n_threads must be at least 1, or 0 for the threads of the BLAS; got " << n_threads;
  return n_threads > 0 ? n_threads : blas::num_threads();
}

/// Calls work(i, worker) for i in [0, count), worker in [0, n_threads). Tasks are handed out in
/// order, one at a time. Once one has thrown no more are begun; of those that threw, the exception
/// of the lowest i reaches the caller, whatever the number of threads.
template <class Work>
void parallel_for(int64_t count, int n_threads, const Work& work) {
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  int64_t failed = count;
  const auto run = [&](int worker) {
    for (int64_t i = next++; i < count; i = next++) {
      try {
        work(i, worker);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
        next = count;
      }
    }
  };
  std::vector<std::thread> threads;
  try {
    for (int worker = 1; worker < std::min<int64_t>(n_threads, count); ++worker)
      threads.emplace_back(run, worker);
  } catch (const std::system_error&) {
    // The system grants no more threads: those that run, and the caller, do all of it.
  }
  run(0);
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace koopcore
