#include <doctest/doctest.h>

#include <thread>

#include "allocations.hpp"
#include "support.hpp"

using namespace koopcore;
using support::gram_of;
using support::random_matrix;

namespace {

template <class T>
void push(SnapshotWindow<T>& window, const T* state) {
  window.push(&state);
}

template <class T>
double eps() {
  return static_cast<double>(std::numeric_limits<T>::epsilon());
}

}  // namespace

TEST_CASE_TEMPLATE("the raw Gram matrix is that of the last snapshots, in time order", T, float,
                   double) {
  const int64_t n = 3000, capacity = 4;
  const Matrix<T> states = random_matrix<T>(n, 11, 1);
  SnapshotWindow<T> window({n}, capacity);
  for (int64_t t = 0; t < states.cols(); ++t) {
    push(window, states.view().col(t));
    if (t % 3 == 1) (void)gram_of(window);  // queries in between must not matter
    const int64_t held = std::min(t + 1, capacity);
    REQUIRE(window.size() == held);
    Matrix<T> expected(n, held);
    for (int64_t k = 0; k < held; ++k)
      std::copy_n(states.view().col(t + 1 - held + k), n, expected.view().col(k));
    const Matrix<double> g = gram_of(window, true);
    CHECK(support::largest_difference(g, support::plain_gram(expected, expected)) <
          support::sum_tolerance(n) + (std::is_same_v<T, float> ? 10.0 * eps<T>() * n : 0.0));
  }
}

TEST_CASE_TEMPLATE("segments, one vector and a block make the same window", T, float, double) {
  const Matrix<T> states = random_matrix<T>(10, 5, 2);
  SnapshotWindow<T> whole({10}, 3), split({2, 7, 1}, 3), block({10}, 3);
  for (int64_t t = 0; t < 5; ++t) {
    const T* state = states.view().col(t);
    push(whole, state);
    const T* segments[] = {state, state + 2, state + 9};
    split.push(segments);
  }
  block.push_block(strided(states.view()));
  const Matrix<double> g = gram_of(whole);
  CHECK(support::largest_difference(g, gram_of(split)) == 0.0);
  CHECK(support::largest_difference(g, gram_of(block)) < 1e-12);
}

TEST_CASE_TEMPLATE("combine gives the combination of the snapshots, to every segment", T, float,
                   double) {
  const int64_t n = 2500;  // more rows than one accumulation pass
  const Matrix<T> states = random_matrix<T>(n, 6, 3);
  SnapshotWindow<T> window({n - 7, 7}, 4);
  for (int64_t t = 0; t < 6; ++t) {
    const T* segments[] = {states.view().col(t), states.view().col(t) + n - 7};
    window.push(segments);
  }
  const double coefficients[] = {-0.5, 2.0, -3.0, 2.5};
  std::vector<T> first(static_cast<size_t>(n - 7)), second(7);
  T* out[] = {first.data(), second.data()};
  window.combine(coefficients, 4, out);
  for (int64_t i = 0; i < n; ++i) {
    double expected = 0.0;
    for (int64_t k = 0; k < 4; ++k)
      expected += coefficients[k] * static_cast<double>(states(i, 2 + k));
    const T value =
        i < n - 7 ? first[static_cast<size_t>(i)] : second[static_cast<size_t>(i - n + 7)];
    REQUIRE(std::abs(static_cast<double>(value) - expected) < 60.0 * eps<T>());
  }
}

TEST_CASE_TEMPLATE("after 10,000 pushes of a drifting state the window equals a fresh one", T,
                   float, double) {
  const int64_t n = 50, capacity = 6;
  const Matrix<double> direction = random_matrix<double>(n, 2, 4);
  SnapshotWindow<T> window({n}, capacity), fresh({n}, capacity);
  std::vector<T> state(static_cast<size_t>(n));
  for (int64_t t = 0; t < 10000; ++t) {
    for (int64_t i = 0; i < n; ++i)
      state[static_cast<size_t>(i)] =
          static_cast<T>(1e-2 * static_cast<double>(t) * direction(i, 0) +
                         1e-2 * std::sin(0.7 * static_cast<double>(t)) * direction(i, 1));
    push(window, state.data());
    if (t % 5 == 0) (void)gram_of(window);
    if (t >= 10000 - capacity) push(fresh, state.data());
  }
  // Distances between snapshots do not depend on the reference.
  const Matrix<double> a = gram_of(window), b = gram_of(fresh);
  for (int64_t j = 1; j < capacity; ++j) {
    const double in_window = a(0, 0) + a(j, j) - 2.0 * a(0, j);
    const double in_fresh = b(0, 0) + b(j, j) - 2.0 * b(0, j);
    CHECK(in_window == doctest::Approx(in_fresh).epsilon(std::is_same_v<T, float> ? 1e-3 : 1e-10));
  }
  CHECK(a(5, 5) < 1000.0 * (a(0, 0) + a(5, 5) - 2.0 * a(0, 5)));  // it has moved its reference
}

TEST_CASE_TEMPLATE("moving the reference loses nothing of the snapshots", T, float, double) {
  // One far outlier first, then tiny changes: the reference must move.
  const int64_t n = 20;
  const Matrix<T> noise = random_matrix<T>(n, 5, 5);
  SnapshotWindow<T> window({n}, 4);
  std::vector<std::vector<T>> states;
  for (int64_t t = 0; t < 5; ++t) {
    std::vector<T> state(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i)
      state[static_cast<size_t>(i)] =
          static_cast<T>(t == 0 ? 1.0 : 2.0) + static_cast<T>(1e-3) * noise(i, t);
    states.push_back(state);
    push(window, state.data());
  }
  (void)gram_of(window);
  std::vector<T> out(static_cast<size_t>(n));
  T* segments[] = {out.data()};
  for (size_t k = 0; k < 4; ++k) {
    double coefficients[4] = {0.0, 0.0, 0.0, 0.0};
    coefficients[k] = 1.0;
    window.combine(coefficients, 4, segments);
    for (size_t i = 0; i < out.size(); ++i)
      REQUIRE(std::abs(static_cast<double>(out[i] - states[k + 1][i])) <= 2.0 * eps<T>());
  }
}

TEST_CASE("push, gram and combine allocate nothing after construction") {
  const int64_t n = 20000;
  const Matrix<float> states = random_matrix<float>(n, 3, 6);
  SnapshotWindow<float> window({n / 2, n / 2}, 5);
  Matrix<double> g(5, 5);
  std::vector<float> out(static_cast<size_t>(n));
  float* targets[] = {out.data(), out.data() + n / 2};
  const double coefficients[] = {0.0, 0.0, 0.0, -1.0, 2.0};
  const long before = support::allocations();
  for (int64_t t = 0; t < 40; ++t) {
    const float* segments[] = {states.view().col(t % 3), states.view().col(t % 3) + n / 2};
    window.push(segments);
    if (t >= 5 && t % 3 == 0) window.gram(g.view());
    if (t >= 5) window.combine(coefficients, 5, targets);
  }
  window.clear();
  CHECK(support::allocations() == before);
}

TEST_CASE_TEMPLATE("a snapshot that is not finite is refused and changes nothing", T, float,
                   double) {
  const Matrix<T> states = random_matrix<T>(8, 7, 7);
  SnapshotWindow<T> window({8}, 3);
  std::vector<T> bad(8, T(1));
  bad[5] = std::numeric_limits<T>::quiet_NaN();
  CHECK_THROWS_AS(push<T>(window, bad.data()), Error);
  CHECK(window.size() == 0);
  for (int64_t t = 0; t < 7; ++t) {
    push(window, states.view().col(t));
    const Matrix<double> before = gram_of(window, true);
    bad[5] = t % 2 == 0 ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
    CHECK_THROWS_AS(push<T>(window, bad.data()), Error);
    CHECK(support::largest_difference(before, gram_of(window, true)) == 0.0);
  }
  Matrix<T> block = states;
  block(3, 4) = bad[5];
  const Matrix<double> before = gram_of(window, true);
  CHECK_THROWS_AS(window.push_block(strided(block.view())), Error);
  CHECK(support::largest_difference(before, gram_of(window, true)) == 0.0);
}

TEST_CASE("constant and zero states stay finite") {
  SnapshotWindow<float> window({4}, 3);
  const std::vector<float> constant(4, 3.0f);
  for (int t = 0; t < 10; ++t) push(window, constant.data());
  const Matrix<double> g = gram_of(window), raw = gram_of(window, true);
  CHECK(g(0, 2) == 0.0);
  CHECK(raw(1, 2) == doctest::Approx(36.0));
}

TEST_CASE("one window serves several threads") {
  SnapshotWindow<double> window({100}, 4);
  const std::vector<double> state(100, 1.0);
  std::vector<std::thread> threads;
  for (int k = 0; k < 4; ++k)
    threads.emplace_back([&] {
      for (int t = 0; t < 200; ++t) push(window, state.data());
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(gram_of(window, true)(3, 3) == doctest::Approx(100.0));
}

TEST_CASE("bad sizes are refused with their values") {
  CHECK_THROWS_WITH_AS(SnapshotWindow<float>({}, 4),
                       "segment_sizes is empty; a state needs at least one segment", Error);
  CHECK_THROWS_WITH_AS(SnapshotWindow<float>({3, 0}, 4),
                       "segment_sizes[1] is 0; a segment needs at least one number", Error);
  CHECK_THROWS_WITH_AS(SnapshotWindow<float>({3}, -2),
                       "capacity is -2; a window needs at least 2 snapshots", Error);
  SnapshotWindow<float> window({3}, 4);
  Matrix<double> g(2, 2);
  CHECK_THROWS_AS(window.gram(g.view()), Error);
  float out[3];
  float* segments[] = {out};
  const double coefficients[] = {1.0};
  CHECK_THROWS_WITH_AS(window.combine(coefficients, 1, segments),
                       "got 1 coefficients; the window holds 0 snapshots", Error);
}

TEST_CASE_TEMPLATE("a restored window goes on with the same bits", T, float, double) {
  const int64_t n = 700, capacity = 5;
  const Matrix<T> states = random_matrix<T>(n, 30, 8);
  for (int64_t taken = 1; taken < 12; ++taken) {
    SnapshotWindow<T> whole({n}, capacity), resumed({n}, capacity);
    for (int64_t t = 0; t < taken; ++t) {
      push(whole, states.view().col(t));
      if (t % 4 == 3) (void)gram_of(whole);
    }
    const auto state = whole.state();
    push(resumed, states.view().col(29));
    resumed.restore(state.columns.view(), state.numbers);
    for (int64_t t = taken; t < taken + 9; ++t) {
      push(whole, states.view().col(t));
      push(resumed, states.view().col(t));
      REQUIRE(support::largest_difference(gram_of(whole), gram_of(resumed)) == 0.0);
    }
  }
}

TEST_CASE("a window refuses a state that is not one of its own, and stays as it was") {
  SnapshotWindow<double> window({6}, 3);
  const Matrix<double> states = random_matrix<double>(6, 4, 9);
  for (int64_t t = 0; t < 4; ++t) push(window, states.view().col(t));
  const Matrix<double> before = gram_of(window, true);
  const auto good = window.state();
  for (const size_t at : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{5}})
    for (const double value : {-1e300, 0.5, std::numeric_limits<double>::quiet_NaN()}) {
      if (at == 5 && value == 0.5) continue;  // any number will do for the Gram matrix
      auto bad = good.numbers;
      bad[at] = value;
      CHECK_THROWS_AS(window.restore(good.columns.view(), bad), Error);
    }
  CHECK_THROWS_AS(window.restore(good.columns.view(), {1.0, 2.0}), Error);
  Matrix<double> spoiled = good.columns;
  spoiled(2, 1) = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(window.restore(spoiled.view(), good.numbers), Error);
  CHECK(support::largest_difference(before, gram_of(window, true)) == 0.0);
}
