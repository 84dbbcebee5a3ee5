#include <doctest/doctest.h>

#include "support.hpp"

using namespace koopcore;
using support::decaying_modes;
using support::gram_of;

namespace {

template <class T>
std::vector<double> combined(const Matrix<T>& states, const std::vector<double>& coefficients) {
  std::vector<double> out(static_cast<size_t>(states.rows()));
  for (int64_t j = 0; j < states.cols(); ++j)
    for (int64_t i = 0; i < states.rows(); ++i)
      out[static_cast<size_t>(i)] +=
          coefficients[static_cast<size_t>(j)] * static_cast<double>(states(i, j));
  return out;
}

Layout differences() {
  Layout layout;
  layout.affine = Affine::kDifferences;
  return layout;
}

double largest_error(const std::vector<double>& got, const Matrix<double>& expected,
                     int64_t column) {
  double worst = 0.0;
  for (int64_t i = 0; i < expected.rows(); ++i)
    worst = std::max(worst, std::abs(got[static_cast<size_t>(i)] - expected(i, column)));
  return worst;
}

}  // namespace

TEST_CASE_TEMPLATE("planted eigenvalues come back", T, float, double) {
  const std::vector<double> rates = {0.95, 0.8, -0.5};
  const Matrix<T> states = decaying_modes<T>(400, 12, rates);
  DmdOptions options;
  options.max_rank = 3;
  const Dmd dmd(gram_of(states).view(), {}, options);
  REQUIRE(dmd.rank() == 3);
  for (size_t k = 0; k < 3; ++k)
    CHECK(std::abs(dmd.eigenvalues()[k] - rates[k]) < (std::is_same_v<T, float> ? 1e-5 : 1e-10));
}

TEST_CASE("forecasts continue the series, exact and projected, at fractions too") {
  const std::vector<double> rates = {0.95, 0.6};
  const Matrix<double> all = decaying_modes<double>(50, 30, rates);
  const Matrix<double> seen = decaying_modes<double>(50, 8, rates);
  for (const bool exact : {true, false}) {
    DmdOptions options;
    options.max_rank = 2;
    options.modes = exact ? Modes::kExact : Modes::kProjected;
    const Dmd dmd(gram_of(seen).view(), {}, options);
    for (const int64_t horizon : {0, 1, 2, 22})
      CHECK(largest_error(combined(seen, dmd.forecast(static_cast<double>(horizon))), all,
                          7 + horizon) < 1e-9);
    const std::vector<double> half = combined(seen, dmd.forecast(2.5));
    const std::vector<double> before = combined(seen, dmd.forecast(2.0));
    CHECK(std::abs(half[0]) < std::abs(before[0]));
  }
}

TEST_CASE("affine forecasts reach the fixed point and keep the coefficients' sum at 1") {
  const std::vector<double> rates = {0.9, 0.3};
  const Matrix<double> all = decaying_modes<double>(60, 40, rates, 5.0);
  const Matrix<double> seen = decaying_modes<double>(60, 8, rates, 5.0);
  for (const bool exact : {true, false}) {
    DmdOptions options;
    options.max_rank = 2;
    options.modes = exact ? Modes::kExact : Modes::kProjected;
    const Dmd dmd(gram_of(seen).view(), differences(), options);
    for (const double horizon : {1.0, 32.0, 1e6}) {
      const std::vector<double> c = dmd.forecast(horizon);
      double sum = 0.0;
      for (const double value : c) sum += value;
      CHECK(sum == doctest::Approx(1.0));
      if (horizon <= 32.0)
        CHECK(largest_error(combined(seen, c), all, 7 + static_cast<int64_t>(horizon)) < 1e-8);
      else
        for (const double value : combined(seen, c))
          CHECK(value == doctest::Approx(5.0).epsilon(1e-7));
    }
  }
}

TEST_CASE("eigenvalues outside the unit circle are clipped in forecasts, unless kept") {
  const Matrix<double> seen = decaying_modes<double>(30, 6, {1.5});
  DmdOptions options;
  options.max_rank = 1;
  const Dmd clipped(gram_of(seen).view(), {}, options);
  CHECK(clipped.eigenvalues()[0].real() == doctest::Approx(1.5));
  for (const double horizon : {0.001, 1.0, 50.0})
    CHECK(combined(seen, clipped.forecast(horizon))[3] == doctest::Approx(seen(3, 5)));
  options.unstable = Unstable::kKeep;
  const Dmd kept(gram_of(seen).view(), {}, options);
  CHECK(combined(seen, kept.forecast(3.0))[3] == doctest::Approx(seen(3, 5) * std::pow(1.5, 3)));
}

TEST_CASE("the affine sum is right next to eigenvalue 1") {
  // Differences of constant length: eigenvalue 1, so h steps add h differences.
  Matrix<double> seen(3, 6);
  for (int64_t t = 0; t < 6; ++t)
    for (int64_t i = 0; i < 3; ++i) seen(i, t) = static_cast<double>((i + 1) * t);
  const Dmd dmd(gram_of(seen).view(), differences(), {});
  REQUIRE(dmd.rank() == 1);
  CHECK(combined(seen, dmd.forecast(1000.0))[1] == doctest::Approx(2.0 * 1005.0).epsilon(1e-9));
}

TEST_CASE("rank rules: integer, energy, tolerance, zero data") {
  const Matrix<double> states = decaying_modes<double>(300, 10, {0.9, 0.5, 0.1});
  const Matrix<double> g = gram_of(states);
  CHECK(Dmd(g.view(), {}, {}).rank() == 3);
  DmdOptions options;
  options.max_rank = 2;
  CHECK(Dmd(g.view(), {}, options).rank() == 2);
  options = {};
  options.energy = 0.5;
  CHECK(Dmd(g.view(), {}, options).rank() == 1);
  options = {};
  options.tolerance = 0.99;
  CHECK(Dmd(g.view(), {}, options).rank() == 1);
  const Matrix<double> zero(4, 4);
  const Dmd nothing(zero.view(), {}, {});
  CHECK(nothing.rank() == 0);
  CHECK(nothing.forecast(3.0) == std::vector<double>(4, 0.0));
  CHECK(Dmd(zero.view(), differences(), {}).forecast(3.0) ==
        std::vector<double>{0.0, 0.0, 0.0, 1.0});
}

TEST_CASE("predict advances states it has not seen, linear and affine") {
  const std::vector<double> rates = {0.9, 0.4};
  for (const bool affine : {false, true}) {
    const double fixed_point = affine ? 2.0 : 0.0;
    const Matrix<double> all = decaying_modes<double>(40, 20, rates, fixed_point);
    const Matrix<double> seen = decaying_modes<double>(40, 7, rates, fixed_point);
    DmdOptions options;
    options.max_rank = 2;
    const Dmd dmd(gram_of(seen).view(), affine ? differences() : Layout(), options);
    Matrix<double> state(40, 1), cross(7, 1);
    std::copy_n(all.view().col(12), 40, state.view().data);
    cross_gram<double>(strided(seen.view()), strided(state.view()), cross.view());
    const Matrix<double> c = dmd.predict(std::as_const(cross).view(), 3.0);
    CHECK(largest_error(combined(seen, {c.view().data, c.view().data + 7}), all, 15) < 1e-9);
  }
}

TEST_CASE("a defective operator is forecast all the same") {
  // x_t = (a + b t) 0.9^t: a Jordan block of size 2.
  const Matrix<double> ab = support::random_matrix<double>(30, 2, 3);
  Matrix<double> seen(30, 8);
  for (int64_t t = 0; t < 8; ++t)
    for (int64_t i = 0; i < 30; ++i)
      seen(i, t) =
          (ab(i, 0) + ab(i, 1) * static_cast<double>(t)) * std::pow(0.9, static_cast<double>(t));
  DmdOptions options;
  options.max_rank = 2;
  const Dmd dmd(gram_of(seen).view(), {}, options);
  const std::vector<double> next = combined(seen, dmd.forecast(5.0));
  CHECK(next[4] ==
        doctest::Approx((ab(4, 0) + 12.0 * ab(4, 1)) * std::pow(0.9, 12.0)).epsilon(1e-6));
}

TEST_CASE("a Gram matrix is refused wherever it is not finite") {
  const double infinity = std::numeric_limits<double>::infinity();
  const Matrix<double> good = gram_of(decaying_modes<double>(12, 7, {0.9, 0.5}));
  for (const double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()})
    for (const int64_t at : {0, 3, 48}) {
      Matrix<double> gram = good;
      Matrix<std::complex<double>> imaginary(7, 7);
      std::copy_n(good.view().data, 49, imaginary.view().data);
      gram.view().data[at] = bad;
      imaginary.view().data[at] = {0.0, bad};
      const std::string where =
          "not finite at (" + std::to_string(at % 7) + ", " + std::to_string(at / 7) + ")";
      CHECK_THROWS_WITH_AS(Dmd(gram.view(), {}, {}), doctest::Contains(where.c_str()), Error);
      CHECK_THROWS_WITH_AS(ComplexDmd(imaginary.view(), {}, {}), doctest::Contains(where.c_str()),
                           Error);
    }
  Matrix<double> tiny(7, 7), huge = good;  // denormal and large numbers are finite
  for (int64_t i = 0; i < 49; ++i) {
    tiny.view().data[i] = good.view().data[i] * 1e-310;
    huge.view().data[i] *= 1e290;
  }
  CHECK(Dmd(tiny.view(), {}, {}).rank() >= 2);
  CHECK(Dmd(huge.view(), {}, {}).rank() == 2);
}

TEST_CASE("bad input is refused with its values") {
  const Matrix<double> g = gram_of(decaying_modes<double>(20, 4, {0.9}));
  DmdOptions options;
  options.max_rank = 4;
  CHECK_THROWS_WITH_AS(Dmd(g.view(), {}, options), "rank=4 needs at least 5 snapshots, got 4",
                       Error);
  options = {};
  options.energy = 0.0;
  CHECK_THROWS_AS(Dmd(g.view(), {}, options), Error);
  options = {};
  options.tolerance = 1.0;
  CHECK_THROWS_AS(Dmd(g.view(), {}, options), Error);
  options = {};
  options.ridge = -1.0;
  CHECK_THROWS_AS(Dmd(g.view(), {}, options), Error);
  options = {};
  options.variant = Variant::kSymmetric;
  options.modes = Modes::kExact;
  CHECK_THROWS_AS(Dmd(g.view(), {}, options), Error);
  Layout layout = differences();
  layout.lag = 2;
  CHECK_THROWS_AS(Dmd(g.view(), layout, {}), Error);
  layout = {};
  layout.starts = {0, 3};
  CHECK_THROWS_WITH_AS(Dmd(g.view(), layout, {}),
                       "a pair starts at 3; of 4 snapshots they start in [0, 3)", Error);
  const Matrix<double> one(1, 1), two(2, 2), wide(2, 3), none(0, 0);
  CHECK_THROWS_WITH_AS(Dmd(one.view(), {}, {}), "a fit needs at least 2 snapshots, got 1", Error);
  CHECK_THROWS_WITH_AS(Dmd(two.view(), differences(), {}),
                       "a fit needs at least 3 snapshots, got 2", Error);
  CHECK_THROWS_AS(Dmd(wide.view(), {}, {}), Error);
  CHECK_THROWS_AS(Dmd(none.view(), {}, {}), Error);
  Matrix<double> bad = g;
  bad(2, 1) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(Dmd(bad.view(), {}, {}), Error);
  const Dmd dmd(g.view(), {}, {});
  CHECK_THROWS_AS(dmd.forecast(1.0, 4), Error);
  CHECK_THROWS_AS(dmd.amplitudes(0, 5), Error);
  CHECK_THROWS_AS(dmd.restricted({7}), Error);
  const Matrix<blas::Complex> vectors(5, 1);
  CHECK_THROWS_AS(dmd.with_spectrum({{0.5, 0.0}}, vectors.view(), {}), Error);
  CHECK_THROWS_AS(dmd.forecast(std::numeric_limits<double>::quiet_NaN()), Error);
  CHECK_THROWS_AS(dmd.predict(wide.view(), 1.0), Error);
  CHECK_THROWS_AS(dmd.predict(g.view(), 0.5), Error);
}
