#include <doctest/doctest.h>

#include "support.hpp"

using namespace koopcore;
using support::decaying_modes;
using support::gram_of;
using Complex = std::complex<double>;

namespace {

const std::vector<double> kRates = {0.95, 0.8, -0.5};

template <class Fit>
double eigenvalue_error(const Fit& fit, const std::vector<double>& rates) {
  REQUIRE(fit.rank() == static_cast<int64_t>(rates.size()));
  double worst = 0.0;
  for (const double rate : rates) {
    double nearest = 1e300;
    for (const Complex value : fit.eigenvalues())
      nearest = std::min(nearest, std::abs(value - rate));
    worst = std::max(worst, nearest);
  }
  return worst;
}

DmdOptions with_rank(int64_t rank, Variant variant = Variant::kStandard) {
  DmdOptions options;
  options.max_rank = rank;
  options.variant = variant;
  return options;
}

}  // namespace

TEST_CASE("every linear variant finds planted eigenvalues, from a Gram matrix and from a factor") {
  const Matrix<double> states = decaying_modes<double>(200, 14, kRates);
  const Matrix<double> g = gram_of(states);
  Matrix<double> r(14, 14);
  triangular_factor<double>(strided(states.view()), r.view());
  for (const Variant variant :
       {Variant::kStandard, Variant::kTotalLeastSquares, Variant::kForwardBackward}) {
    for (const int64_t delays : {1, 3}) {
      Layout layout;
      layout.delays = delays;
      const DmdOptions options = with_rank(3, variant);
      CHECK(eigenvalue_error(Dmd(g.view(), layout, options), kRates) < 1e-9);
      CHECK(eigenvalue_error(Dmd::from_factor(std::as_const(r).view(), layout, options), kRates) <
            1e-12);
    }
  }
}

TEST_CASE("the symmetric variant gives real eigenvalues of orthogonal modes") {
  Matrix<double> states(4, 10);
  for (int64_t t = 0; t < 10; ++t) {
    states(0, t) = std::pow(0.9, t);
    states(2, t) = 2.0 * std::pow(-0.4, t);
  }
  const Dmd dmd(gram_of(states).view(), {}, with_rank(2, Variant::kSymmetric));
  CHECK(eigenvalue_error(dmd, {0.9, -0.4}) < 1e-12);
  for (const Complex value : dmd.eigenvalues()) CHECK(value.imag() == 0.0);
}

TEST_CASE("a constant observable carries a fixed point") {
  const Matrix<double> all = decaying_modes<double>(60, 30, {0.9, 0.3}, 5.0);
  const Matrix<double> seen = decaying_modes<double>(60, 8, {0.9, 0.3}, 5.0);
  Layout layout;
  layout.affine = Affine::kConstant;
  const Dmd dmd(gram_of(seen).view(), layout, with_rank(3));
  CHECK(eigenvalue_error(dmd, {1.0, 0.9, 0.3}) < 1e-8);
  const std::vector<double> c = dmd.forecast(20.0);
  double value = 0.0;
  for (int64_t j = 0; j < 8; ++j) value += c[static_cast<size_t>(j)] * seen(3, j);
  CHECK(value == doctest::Approx(all(3, 27)).epsilon(1e-7));
}

TEST_CASE("pairs may be chosen and repeated") {
  const Matrix<double> states = decaying_modes<double>(50, 9, kRates);
  Layout layout;
  layout.starts = {0, 2, 2, 5, 7};
  CHECK(eigenvalue_error(Dmd(gram_of(states).view(), layout, with_rank(3)), kRates) < 1e-9);
}

TEST_CASE("complex snapshots: no conjugates are made up") {
  const std::vector<Complex> rates = {{0.5, 0.7}, {0.1, -0.6}};
  const Matrix<double> re = support::random_matrix<double>(40, 2, 1);
  const Matrix<double> im = support::random_matrix<double>(40, 2, 2);
  Matrix<Complex> states(40, 8), gram(8, 8);
  for (int64_t t = 0; t < 8; ++t)
    for (int64_t i = 0; i < 40; ++i)
      for (int64_t k = 0; k < 2; ++k)
        states(i, t) += Complex(re(i, k), im(i, k)) *
                        std::pow(rates[static_cast<size_t>(k)], static_cast<double>(t));
  blas::gemm(blas::Op::kAdjoint, blas::Op::kNone, Complex(1.0), std::as_const(states).view(),
             std::as_const(states).view(), Complex(0.0), gram.view());
  for (const Variant variant :
       {Variant::kStandard, Variant::kTotalLeastSquares, Variant::kForwardBackward}) {
    const ComplexDmd dmd(std::as_const(gram).view(), {}, with_rank(2, variant));
    REQUIRE(dmd.rank() == 2);
    CHECK(std::abs(dmd.eigenvalues()[0] - rates[0]) < 1e-10);
    CHECK(std::abs(dmd.eigenvalues()[1] - rates[1]) < 1e-10);
  }
}

TEST_CASE("constraints and unstable eigenvalues") {
  const Matrix<double> states = decaying_modes<double>(50, 8, {1.25, 0.5});
  const Matrix<double> g = gram_of(states);
  DmdOptions options = with_rank(2);
  options.constraint = Constraint::kStable;
  CHECK(eigenvalue_error(Dmd(g.view(), {}, options), {1.0, 0.5}) < 1e-9);
  options.constraint = Constraint::kUnitCircle;
  CHECK(eigenvalue_error(Dmd(g.view(), {}, options), {1.0, 1.0}) < 1e-9);
  options.constraint = Constraint::kNone;
  options.unstable = Unstable::kDrop;
  const std::vector<double> c = Dmd(g.view(), {}, options).forecast(60.0);
  double size = 0.0;
  for (int64_t j = 0; j < 8; ++j) size += c[static_cast<size_t>(j)] * states(2, j);
  CHECK(std::abs(size) < 1e-9);
}

TEST_CASE("a spectrum can be replaced and modes selected") {
  const Matrix<double> states = decaying_modes<double>(50, 8, {0.9, 0.5});
  const Dmd dmd(gram_of(states).view(), {}, with_rank(2));
  const Dmd one = dmd.restricted({1});
  CHECK(eigenvalue_error(one, {0.5}) < 1e-10);
  Matrix<Complex> vectors(2, 1);
  vectors(0, 0) = 1.0;
  const Dmd other = dmd.with_spectrum({{0.7, 0.0}}, std::as_const(vectors).view(), {{2.0, 0.0}});
  CHECK(eigenvalue_error(other, {0.7}) == 0.0);
  const std::vector<double> once = other.forecast(1.0), thrice = other.forecast(3.0);
  CHECK(thrice[3] == doctest::Approx(0.49 * once[3]));
}
