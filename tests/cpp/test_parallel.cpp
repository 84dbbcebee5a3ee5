#include <doctest/doctest.h>

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/src/parallel.hpp"

using namespace koopcore;

TEST_CASE("every task runs once, with a worker of its own number") {
  for (const int threads : {1, 2, 5})
    for (const int64_t count : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      std::atomic<bool> in_range{true};
      parallel_for(count, threads, [&](int64_t i, int worker) {
        ++runs[static_cast<size_t>(i)];
        if (worker < 0 || worker >= threads) in_range = false;
      });
      bool once = true;
      for (const auto& number : runs) once = once && number == 1;
      CHECK(once);
      CHECK(in_range);
    }
}

TEST_CASE("workers work side by side, and no two share a number") {
  std::atomic<int> waiting{0};
  std::vector<std::thread::id> ids(2);
  // Each task waits for the other: one thread alone would never end.
  parallel_for(2, 2, [&](int64_t, int worker) {
    ids[static_cast<size_t>(worker)] = std::this_thread::get_id();
    ++waiting;
    while (waiting < 2) std::this_thread::yield();
  });
  CHECK(ids[0] != ids[1]);
  CHECK(ids[0] == std::this_thread::get_id());
}

TEST_CASE("of exceptions that of the first task arrives, and the threads go on to serve") {
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::string message;
    try {
      parallel_for(100, 4, [](int64_t i, int) {
        if (i >= 3) throw Error("task " + std::to_string(i));
      });
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK(message == "task 3");
  }
}

TEST_CASE("loops within loops, and of several callers at once") {
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&total] {
      for (int repeat = 0; repeat < 100; ++repeat)
        parallel_for(4, 3,
                     [&](int64_t, int) { parallel_for(5, 3, [&](int64_t, int) { ++total; }); });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(total == 4 * 100 * 4 * 5);
}

TEST_CASE("threads_for: a number of one's own, the common one, or an error") {
  CHECK(threads_for(3) == 3);
  set_num_threads(2);
  CHECK(threads_for(0) == 2);
  set_num_threads(0);
  CHECK(threads_for(0) == num_threads());
  CHECK_THROWS_WITH_AS(threads_for(-1),
                       "n_threads must be at least 1, or 0 for koopcore::num_threads(); got -1",
                       Error);
}
