#pragma once
// A loop over independent tasks on the caller's thread and a few that sleep between loops.

#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>

#include "koopcore/error.hpp"
#include "koopcore/runtime.hpp"

namespace koopcore {

/// How many threads a caller's n_threads stands for.
inline int threads_for(int n_threads) {
  KOOPCORE_REQUIRE(n_threads >= 0)
      << "n_threads must be at least 1, or 0 for koopcore::num_threads(); got " << n_threads;
  return n_threads > 0 ? n_threads : num_threads();
}

namespace detail {

/// What threads run together: `body(self, worker)` on each, until its tasks are all taken.
struct Loop {
  void (*body)(Loop& self, int worker);
};

/// Runs the loop on the caller as worker 0 and on up to n_threads - 1 others. Returns when all that
/// began have ended; those that wake too late are not waited for. While one loop has the threads,
/// another (of a second caller, or within the first) runs on its caller alone.
void run_on_threads(Loop& loop, int n_threads);

template <class Work>
struct TaskLoop : Loop {
  TaskLoop(int64_t n, const Work& function) : Loop{&TaskLoop::run}, count(n), work(function) {}

  static void run(Loop& self, int worker) { static_cast<TaskLoop&>(self).take(worker); }

  void take(int worker) {
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
  }

  const int64_t count;
  const Work& work;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  int64_t failed = std::numeric_limits<int64_t>::max();
};

}  // namespace detail

/// Calls work(i, worker) for i in [0, count), worker in [0, n_threads). Tasks are handed out in
/// order, one at a time. Once one has thrown no more are begun; of those that threw, the exception
/// of the lowest i reaches the caller, whatever the number of threads.
template <class Work>
void parallel_for(int64_t count, int n_threads, const Work& work) {
  if (n_threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) work(i, 0);
    return;
  }
  detail::TaskLoop<Work> loop(count, work);
  const int64_t most = count < n_threads ? count : n_threads;
  detail::run_on_threads(loop, static_cast<int>(most));
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace koopcore
