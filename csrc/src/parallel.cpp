#include "parallel.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define KOOPCORE_FORKS 1
#endif

namespace koopcore {
namespace {

// A positive number that begins the variable's value ("4" or OpenMP's "4,2"); 0 without one.
int number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  if (text == nullptr) return 0;
  const long value = std::strtol(text, nullptr, 10);
  return value >= 1 && value <= std::numeric_limits<int>::max() ? static_cast<int>(value) : 0;
}

int number_in_environment() {
  static const int number = [] {
    const int own = number_in("KOOPCORE_NUM_THREADS");
    return own > 0 ? own : number_in("OMP_NUM_THREADS");
  }();
  return number;
}

int processors() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::atomic<int> chosen{0};

// Threads that sleep until a loop comes. Never destroyed: at the end of the process they sleep.
class Pool {
 public:
  void run(detail::Loop& loop, int n_threads) {
    const std::unique_lock<std::mutex> mine(in_use_, std::try_to_lock);
    if (!mine.owns_lock()) return loop.body(loop, 0);
    offer(loop, n_threads);
    loop.body(loop, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    places_ = 0;
    ended_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  void offer(detail::Loop& loop, int n_threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    grow(n_threads - 1);
    loop_ = &loop;
    places_ = std::min(n_threads - 1, threads_);
    joined_ = 0;
    for (int i = 0; i < places_; ++i) begins_.notify_one();
  }

  void grow(int threads) {
    try {
      for (; threads_ < threads; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      // The system grants no more threads: those that run, and the caller, do all of it.
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      begins_.wait(lock, [this] { return places_ > 0; });
      --places_;
      ++active_;
      detail::Loop& loop = *loop_;
      const int worker = ++joined_;
      lock.unlock();
      loop.body(loop, worker);
      lock.lock();
      if (--active_ == 0) ended_.notify_one();
    }
  }

  std::mutex in_use_;  // by one loop at a time
  std::mutex mutex_;   // guards what follows
  std::condition_variable begins_, ended_;
  detail::Loop* loop_ = nullptr;
  int threads_ = 0, places_ = 0, joined_ = 0, active_ = 0;
};

std::atomic<Pool*> pool{nullptr};

// A forked child has none of the threads, and perhaps a locked mutex: it starts anew.
void forget_pool() { pool = nullptr; }

Pool& the_pool() {
#if defined(KOOPCORE_FORKS)
  static const int registered = pthread_atfork(nullptr, nullptr, &forget_pool);
  static_cast<void>(registered);
#endif
  Pool* found = pool;
  if (found == nullptr) {
    Pool* const fresh = new Pool;
    if (pool.compare_exchange_strong(found, fresh)) return *fresh;
    delete fresh;
  }
  return *found;
}

}  // namespace

void set_num_threads(int n_threads) {
  KOOPCORE_REQUIRE(n_threads >= 0)
      << "n_threads must be at least 1, or 0 for the default; got " << n_threads;
  chosen = n_threads;
}

int num_threads() {
  if (const int number = chosen; number > 0) return number;
  const int number = number_in_environment();
  return number > 0 ? number : processors();
}

namespace detail {

void run_on_threads(Loop& loop, int n_threads) { the_pool().run(loop, n_threads); }

}  // namespace detail
}  // namespace koopcore
