#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "allocations.hpp"
#include "support.hpp"

using namespace koopcore;
using support::gram_of;
using support::random_matrix;

namespace {

const std::string kFolder = "/tmp";

template <class T>
struct Case {
  std::vector<int64_t> sizes;
  int64_t capacity;
  WindowOptions options;

  int64_t rows() const {
    int64_t sum = 0;
    for (const int64_t size : sizes) sum += size;
    return sum;
  }
};

template <class T>
Case<T> of(std::vector<int64_t> sizes, int64_t capacity, bool bfloat16 = false,
           const std::string& folder = "", int n_threads = 1) {
  return {std::move(sizes), capacity, {bfloat16, folder, n_threads}};
}

// A state cut where its segments end, each in memory of its own.
template <class T>
class Cut {
 public:
  Cut(const std::vector<int64_t>& sizes, const T* state) {
    for (const int64_t size : sizes) {
      parts_.emplace_back(state, state + size);
      state += size;
    }
    for (std::vector<T>& part : parts_) pointers_.push_back(part.data());
  }
  T* const* segments() { return pointers_.data(); }
  std::vector<T> joined() const {
    std::vector<T> out;
    for (const std::vector<T>& part : parts_) out.insert(out.end(), part.begin(), part.end());
    return out;
  }

 private:
  std::vector<std::vector<T>> parts_;
  std::vector<T*> pointers_;
};

template <class T>
void push(SnapshotWindow<T>& window, const T* state) {
  window.push(Cut<T>(window.segment_sizes(), state).segments());
}

template <class T>
std::vector<T> combined(const SnapshotWindow<T>& window, const std::vector<double>& weights) {
  const std::vector<T> nothing(static_cast<size_t>(window.state_size()), T(-7));
  Cut<T> out(window.segment_sizes(), nothing.data());
  window.combine(weights.data(), static_cast<int64_t>(weights.size()), out.segments());
  return out.joined();
}

// Differences as they are stored, oldest first, and the reference behind them.
template <class T>
Matrix<T> stored(const SnapshotWindow<T>& window) {
  const auto state = window.state();
  const auto start = static_cast<int64_t>(state.numbers[0]);
  const int64_t slots = window.capacity() + 1;
  Matrix<T> out(window.state_size(), window.size() + 1);
  for (int64_t k = 0; k < window.size(); ++k)
    std::copy_n(state.columns.view().col(1 + (start + k) % slots), window.state_size(),
                out.view().col(k));
  std::copy_n(state.columns.view().col(0), window.state_size(), out.view().col(window.size()));
  return out;
}

template <class T>
std::vector<double> some_weights(int64_t count) {
  std::vector<double> weights(static_cast<size_t>(count));
  for (size_t k = 0; k < weights.size(); ++k)
    weights[k] = (k % 2 == 0 ? 1.0 : -0.7) * (1.0 + 0.1 * static_cast<double>(k));
  return weights;
}

template <class T>
std::vector<Case<T>> cases() {
  const std::vector<std::vector<int64_t>> states = {
      {1}, {3}, {1, 3, 2, 700, 1, 1, 64}, {65537}, {1, 65535, 65537, 3, 200}};
  std::vector<Case<T>> out;
  for (const auto& sizes : states) {
    out.push_back(of<T>(sizes, 3));
    out.push_back(of<T>(sizes, 3, false, kFolder));
    if (std::is_same_v<T, float>) out.push_back(of<T>(sizes, 3, true));
  }
  out.push_back(of<T>({5, 600011}, 16));  // a ring that is written past the caches
  if (std::is_same_v<T, float>) out.push_back(of<T>({5, 1200011}, 16, true, kFolder));
  return out;
}

}  // namespace

TEST_CASE("bfloat16 holds what it holds, rounds to nearest even and keeps NaN") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    BFloat16 number;
    number.bits = static_cast<uint16_t>(bits);
    const auto value = static_cast<float>(number);
    if (std::isnan(value))
      CHECK(std::isnan(static_cast<float>(BFloat16(value))));
    else
      REQUIRE(BFloat16(value).bits == number.bits);
  }
  CHECK(static_cast<float>(BFloat16(1.0f + 0x1p-8f)) == 1.0f);
  CHECK(static_cast<float>(BFloat16(1.0f + 0x1.8p-7f)) == 1.0f + 0x1p-6f);
  CHECK(static_cast<float>(BFloat16(1.0f + 0x1.1p-8f)) == 1.0f + 0x1p-7f);
  CHECK(std::isinf(static_cast<float>(BFloat16(3.4e38f))));
}

TEST_CASE_TEMPLATE("a window holds the differences, and its answers are those of what it holds", T,
                   float, double) {
  for (const Case<T>& one : cases<T>()) {
    const int64_t n = one.rows(), pushes = one.capacity + 2;
    CAPTURE(n);
    const Matrix<T> states = random_matrix<T>(n, pushes, 11);
    SnapshotWindow<T> window(one.sizes, one.capacity, one.options);
    for (int64_t t = 0; t < one.capacity; ++t) push(window, states.view().col(t));
    const Matrix<T> held = stored(window);
    if (!one.options.bfloat16) {
      for (int64_t t = 0; t < one.capacity; ++t)
        for (int64_t i = 0; i < n; ++i) REQUIRE(held(i, t) == states(i, t) - states(i, 0));
    }
    for (int64_t t = one.capacity; t < pushes; ++t) push(window, states.view().col(t));
    const Matrix<double> g = gram_of(window);
    const Matrix<T> now = stored(window);
    const Matrix<double> expected = support::plain_gram(now, now);
    const double scale = 16.0 * support::sum_tolerance(n);
    for (int64_t j = 0; j < one.capacity; ++j)
      for (int64_t i = 0; i < one.capacity; ++i)
        REQUIRE(std::abs(g(i, j) - expected(i, j)) <= scale);
    const std::vector<double> weights = some_weights<T>(one.capacity);
    const std::vector<T> out = combined(window, weights);
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0.0, size = 0.0;
      for (int64_t k = 0; k < one.capacity; ++k) {
        const double state =
            static_cast<double>(now(i, one.capacity)) + static_cast<double>(now(i, k));
        sum += weights[static_cast<size_t>(k)] * state;
        size += std::abs(weights[static_cast<size_t>(k)] * state);
      }
      const double rounding = std::abs(sum) * std::numeric_limits<T>::epsilon() + 1e-13 * size;
      REQUIRE(std::abs(static_cast<double>(out[static_cast<size_t>(i)]) - sum) <= rounding);
    }
  }
}

TEST_CASE("bfloat16 rounds each difference once, to the nearest") {
  const Matrix<float> states = random_matrix<float>(70001, 4, 12);
  SnapshotWindow<float> window({70001}, 5, {true, "", 1});
  for (int64_t t = 0; t < 4; ++t) push(window, states.view().col(t));
  const Matrix<float> held = stored(window);
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t i = 0; i < states.rows(); ++i)
      REQUIRE(held(i, t) == static_cast<float>(BFloat16(states(i, t) - states(i, 0))));
}

TEST_CASE("in bfloat16 the reference follows a drifting state, asked or not") {
  const int64_t n = 66000, capacity = 6;
  const Matrix<float> directions = random_matrix<float>(n, 2, 13);
  for (const int64_t every : {int64_t{1}, int64_t{4}, int64_t{1000}}) {
    SnapshotWindow<float> window({n}, capacity, {true, "", 2});
    std::vector<std::vector<float>> states;
    for (int64_t t = 0; t < 100; ++t) {
      std::vector<float> state(static_cast<size_t>(n));
      for (size_t i = 0; i < state.size(); ++i)
        state[i] = 1.0f + 0.01f * static_cast<float>(t) *
                              (1.0f + 0.1f * directions(static_cast<int64_t>(i), 0));
      push(window, state.data());
      if (t % every == every - 1) (void)gram_of(window);
      states.push_back(state);
    }
    for (int64_t k = 0; k < capacity; ++k) {
      std::vector<double> one(capacity, 0.0);
      one[static_cast<size_t>(k)] = 1.0;
      const std::vector<float> out = combined(window, one);
      const std::vector<float>& pushed = states[static_cast<size_t>(100 - capacity + k)];
      double square = 0.0;
      for (size_t i = 0; i < out.size(); ++i)
        square += std::pow(static_cast<double>(out[i] - pushed[i]), 2);
      // Two roundings of differences that are twice as long as the window at the most.
      const double window_length = 0.01 * (capacity - 1) * std::sqrt(1.01 * static_cast<double>(n));
      CHECK(std::sqrt(square) <= 0x1p-8 * 2.0 * window_length);
    }
  }
}

TEST_CASE_TEMPLATE("threads and files change no bit", T, float, double) {
  const std::vector<int64_t> sizes = {3, 65537, 1, 70000};
  const int64_t n = of<T>(sizes, 4).rows();
  Matrix<T> states = random_matrix<T>(n, 12, 14);
  for (int64_t t = 0; t < 12; ++t)  // far from the first one: the reference moves
    for (int64_t i = 0; i < n; ++i) states(i, t) = static_cast<T>(t > 0) * 10 + states(i, t) / 100;
  for (const bool bfloat16 : {false, true}) {
    if (bfloat16 && !std::is_same_v<T, float>) continue;
    SnapshotWindow<T> plain(sizes, 4, {bfloat16, "", 1});
    SnapshotWindow<T> two(sizes, 4, {bfloat16, "", 2}), five(sizes, 4, {bfloat16, "", 5});
    SnapshotWindow<T> mapped(sizes, 4, {bfloat16, kFolder, 2});
    for (int64_t t = 0; t < 12; ++t) {
      for (SnapshotWindow<T>* window : {&plain, &two, &five, &mapped})
        push(*window, states.view().col(t));
      if (t % 3 != 0) continue;
      const Matrix<double> g = gram_of(plain);
      const std::vector<T> out = combined(plain, some_weights<T>(plain.size()));
      for (SnapshotWindow<T>* window : {&two, &five, &mapped}) {
        REQUIRE(support::largest_difference(g, gram_of(*window)) == 0.0);
        REQUIRE(combined(*window, some_weights<T>(plain.size())) == out);
      }
    }
    const auto state = plain.state(), other = mapped.state();
    CHECK(support::largest_difference(state.columns, other.columns) == 0.0);
    CHECK(state.numbers == other.numbers);
    SnapshotWindow<T> resumed(sizes, 4, {bfloat16, kFolder, 1});
    resumed.restore(state.columns.view(), state.numbers);
    for (SnapshotWindow<T>* window : {&plain, &resumed}) push(*window, states.view().col(3));
    CHECK(support::largest_difference(gram_of(plain), gram_of(resumed)) == 0.0);
  }
}

TEST_CASE_TEMPLATE("segments and one vector give the same bits", T, float, double) {
  const std::vector<int64_t> sizes = {1, 3, 2, 700, 64, 65537, 1, 70000, 5};
  const int64_t n = of<T>(sizes, 4).rows();
  const Matrix<T> states = random_matrix<T>(n, 6, 17);
  SnapshotWindow<T> whole({n}, 4), split(sizes, 4);
  for (int64_t t = 0; t < 6; ++t)
    for (SnapshotWindow<T>* window : {&whole, &split}) push(*window, states.view().col(t));
  CHECK(support::largest_difference(gram_of(whole), gram_of(split)) == 0.0);
  CHECK(combined(whole, some_weights<T>(4)) == combined(split, some_weights<T>(4)));
}

TEST_CASE("denormal numbers keep their digits") {
  const float least = std::numeric_limits<float>::denorm_min();
  const std::vector<float> zero(100, 0.0f), small(100, 3.0f * 65536.0f * least);
  for (const bool bfloat16 : {false, true}) {
    SnapshotWindow<float> window({100}, 3, {bfloat16, "", 1});
    push(window, zero.data());
    push(window, small.data());
    CHECK(combined(window, {0.0, 1.0}) == small);
    const double length = static_cast<double>(small[0]);
    CHECK(gram_of(window)(1, 1) == doctest::Approx(100.0 * length * length).epsilon(1e-12));
  }
}

TEST_CASE("no window allocates after construction") {
  const int64_t n = 70000;
  const Matrix<float> states = random_matrix<float>(n, 3, 15);
  for (const WindowOptions& options :
       {WindowOptions{true, "", 1}, WindowOptions{false, kFolder, 1}, WindowOptions{true, "", 2}}) {
    SnapshotWindow<float> window({n}, 5, options);
    Matrix<double> g(5, 5);
    std::vector<float> out(static_cast<size_t>(n));
    float* const target = out.data();
    const double coefficients[] = {0.0, 0.0, 0.0, -1.0, 2.0};
    long before = 0;
    for (int64_t t = 0; t < 30; ++t) {
      if (t == 8) before = support::allocations();  // by now there are as many threads as ever
      const float* const state = states.view().col(t % 3);
      window.push(&state);
      if (t >= 5 && t % 3 == 0) window.gram(g.view());
      if (t >= 5) window.combine(coefficients, 5, &target);
    }
    CHECK(support::allocations() == before);
  }
}

TEST_CASE("what is not finite in bfloat16 is refused and changes nothing") {
  const Matrix<float> states = random_matrix<float>(70000, 5, 16);
  SnapshotWindow<float> window({70000}, 3, {true, "", 2});
  for (int64_t t = 0; t < 5; ++t) push(window, states.view().col(t));
  const Matrix<double> before = gram_of(window);
  std::vector<float> bad(70000, 1.0f);
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), 3.4e38f, -3.4e38f,
                            std::numeric_limits<float>::infinity()})
    for (const size_t at : {size_t{0}, size_t{65535}, size_t{69999}}) {
      bad[at] = value;
      CHECK_THROWS_AS(push(window, bad.data()), Error);
      Matrix<float> block = states;
      std::copy(bad.begin(), bad.end(), block.view().col(4));
      CHECK_THROWS_AS(window.push_block(strided(block.view())), Error);
      CHECK(support::largest_difference(before, gram_of(window)) == 0.0);
      const auto state = window.state();  // without what the refused one left
      window.restore(state.columns.view(), state.numbers);
      bad[at] = 1.0f;
    }
  SnapshotWindow<float> full({70000}, 3);
  bad[7] = 3.4e38f;
  push(full, states.view().col(0));
  push(full, bad.data());  // float32 holds it
  CHECK(full.size() == 2);
  const auto state = full.state();
  SnapshotWindow<float> other({70000}, 3, {true, "", 1});
  CHECK_THROWS_WITH_AS(other.restore(state.columns.view(), state.numbers),
                       doctest::Contains("none of bfloat16"), Error);
}

TEST_CASE("a block is refused as a whole where one difference overflows") {
  SnapshotWindow<double> window({2}, 3);
  const double most = std::numeric_limits<double>::max();
  Matrix<double> block(2, 3);
  block(0, 0) = most;
  block(1, 2) = 1.0;
  block(0, 2) = -most;
  CHECK_THROWS_WITH_AS(window.push_block(strided(block.view())), doctest::Contains("column 2"),
                       Error);
  CHECK(window.size() == 0);
}

TEST_CASE("options that cannot work are refused with their values") {
  using Options = WindowOptions;
  CHECK_THROWS_WITH_AS(SnapshotWindow<double>({3}, 4, Options{true, "", 0}),
                       "bfloat16 storage is for float32 states, and these are float64", Error);
  CHECK_THROWS_WITH_AS(SnapshotWindow<float>({3}, 4, Options{false, "", -1}),
                       doctest::Contains("got -1"), Error);
  const auto code_of = [](const std::string& folder, int64_t size) {
    try {
      SnapshotWindow<float> window({size}, 4, Options{false, folder, 0});
    } catch (const FileError& error) {
      CHECK(std::string(error.what()).find("memory_map='" + folder + "'") == 0);
      CHECK(std::string(error.what()).find(size == 3 ? " 320 bytes" : ",") != std::string::npos);
      return error.code();
    }
    return 0;
  };
  CHECK(code_of("/no/such/folder", 3) == ENOENT);
  CHECK(code_of("/dev/null", 3) == ENOTDIR);
  CHECK(code_of(kFolder, int64_t{1} << 50) == ENOSPC);
}

TEST_CASE("a forked child cannot write into its parent's file") {
  SnapshotWindow<float> window({100}, 3, {false, kFolder, 1});
  const std::vector<float> one(100, 1.0f), two(100, 2.0f);
  push(window, one.data());
  push(window, two.data());
  const pid_t child = fork();
  if (child == 0) {
    int refused = 0;
    try {
      push(window, one.data());
    } catch (const Error&) {
      ++refused;
    }
    try {
      (void)gram_of(window);
    } catch (const Error&) {
      ++refused;
    }
    _exit(refused == 2 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(combined(window, {0.0, 1.0}) == two);
  push(window, one.data());
  CHECK(combined(window, {0.0, 0.0, 1.0}) == one);
}
