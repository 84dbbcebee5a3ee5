#include <doctest/doctest.h>

#include "planted.hpp"

using namespace koopcore;
using namespace support;

namespace {

const std::vector<Complex> kValues = {
    {0.98, 0.0}, {0.9, 0.3}, {-0.7, 0.0}, {0.5, 0.8}};  // six directions

template <class T>
constexpr double kClose = sizeof(T) == 4 ? 1e-4 : 1e-8;

template <class T>
void check_spectrum(StreamingDmd<T>& stream, const std::vector<Complex>& expected,
                    double tolerance = kClose<T>, const DmdOptions& options = {}) {
  const auto fit = stream.fit(options);
  size_t count = 0;
  for (const Complex& value : expected) count += value.imag() > 0.0 ? 2 : 1;
  CHECK(fit.dmd.eigenvalues().size() == count);
  CHECK(spectral_error(fit.dmd.eigenvalues(), expected) < tolerance);
  for (size_t k = 0; k + 1 < fit.dmd.eigenvalues().size(); ++k)
    if (fit.dmd.eigenvalues()[k].imag() > 0.0)
      CHECK(fit.dmd.eigenvalues()[k + 1] == std::conj(fit.dmd.eigenvalues()[k]));
}

// A noisy series in few dimensions: the basis of a stream holds all of it.
template <class T>
Matrix<T> noisy(int64_t cols, unsigned seed) {
  Matrix<T> x = planted<T>(12, cols, {{0.995, 0.0}, {0.97, 0.2}}, seed);
  const Matrix<double> noise = random_matrix<double>(12, cols, seed + 1);
  for (int64_t j = 0; j < cols; ++j)
    for (int64_t i = 0; i < 12; ++i) x(i, j) += static_cast<T>(0.02 * noise(i, j));
  return x;
}

DmdOptions variant_of(Variant variant, double ridge = 0.0) {
  DmdOptions options;
  options.variant = variant;
  options.max_rank = 3;
  options.ridge = ridge;
  return options;
}

const std::vector<DmdOptions> kVariants = {
    variant_of(Variant::kStandard), variant_of(Variant::kTotalLeastSquares),
    variant_of(Variant::kForwardBackward), variant_of(Variant::kSymmetric),
    variant_of(Variant::kStandard, 0.01)};

}  // namespace

TEST_CASE_TEMPLATE("planted eigenvalues come back from any kind of stream", T, float, double) {
  for (const int64_t block : {1, 7, 16})
    for (const double forgetting : {1.0, 0.95})
      for (const int64_t delays : {1, 3})
        for (const bool differences : {false, true}) {
          CAPTURE(block);
          CAPTURE(forgetting);
          CAPTURE(delays);
          CAPTURE(differences);
          const Matrix<T> x = planted<T>(150, 60, kValues, 1, differences ? 2.0 : 0.0);
          StreamingDmdOptions options = dmd_options(6, 6, block, forgetting);
          options.delays = delays;
          options.differences = differences;
          StreamingDmd<T> stream({150}, options);
          stream.push_block(strided(x.view()));
          CHECK(stream.seen() == 60);
          // Forgetting weighs down what has decayed.
          check_spectrum(stream, kValues,
                         kClose<T> * (sizeof(T) == 4 && forgetting < 1.0 ? 20 : 1));
        }
}

TEST_CASE_TEMPLATE("delays tell more eigenvalues than there are numbers in a state", T, float,
                   double) {
  const Matrix<T> x = planted<T>(2, 60, {{0.99, 0.1}, {0.9, 0.4}}, 2);
  StreamingDmdOptions options = dmd_options(4, 0, 8);
  options.delays = 3;
  StreamingDmd<T> stream({2}, options);
  push_each(stream, x);
  check_spectrum(stream, {{0.99, 0.1}, {0.9, 0.4}}, 10.0 * kClose<T>);
}

TEST_CASE_TEMPLATE("all variants are those of the data at once", T, float, double) {
  const Matrix<T> x = noisy<T>(90, 3);
  for (const int64_t delays : {1, 2})
    for (const bool differences : {false, true}) {
      StreamingDmdOptions options = dmd_options(12, 0, 16);
      options.delays = delays;
      options.differences = differences;
      StreamingDmd<T> stream({12}, options);
      stream.push_block(strided(x.view()));
      Layout layout;
      layout.delays = delays;
      layout.affine = differences ? Affine::kDifferences : Affine::kNone;
      for (const DmdOptions& variant : kVariants) {
        const auto found = stream.fit(variant).dmd.eigenvalues();
        const auto expected = batch_eigenvalues(x, layout, variant);
        REQUIRE(found.size() == expected.size());
        CHECK(spectral_error(found, expected) < kClose<T>);
      }
    }
}

TEST_CASE_TEMPLATE("pairs are those of the data at once", T, float, double) {
  const Matrix<T> x = random_matrix<T>(9, 40, 4), noise = random_matrix<T>(9, 40, 5);
  Matrix<T> y(9, 40), both(9, 80);
  for (int64_t j = 0; j < 40; ++j)
    for (int64_t i = 0; i < 9; ++i)
      y(i, j) = static_cast<T>(0.9) * x(i, j) - static_cast<T>(0.5) * x((i + 1) % 9, j) +
                static_cast<T>(0.05) * noise(i, j);
  std::copy_n(x.view().data, 9 * 40, both.view().data);
  std::copy_n(y.view().data, 9 * 40, both.view().col(40));
  Layout layout;
  layout.lag = 40;
  StreamingDmd<T> stream({9}, dmd_options(9, 0, 7));
  stream.push_pairs(columns_of(x, 0, 25), columns_of(y, 0, 25));
  stream.push_pairs(columns_of(x, 25, 15), columns_of(y, 25, 15));
  CHECK(stream.moments().pairs == doctest::Approx(40.0));
  for (DmdOptions variant : kVariants) {
    variant.max_rank = 9;
    const auto found = stream.fit(variant).dmd.eigenvalues();
    CHECK(spectral_error(found, batch_eigenvalues(both, layout, variant)) < kClose<T>);
  }
}

TEST_CASE_TEMPLATE("trajectories stay apart", T, float, double) {
  const Matrix<T> x = noisy<T>(75, 6);
  for (const int64_t delays : {1, 3}) {
    StreamingDmdOptions options = dmd_options(12, 0, 16);
    options.delays = delays;
    StreamingDmd<T> stream({12}, options);
    Layout layout;
    layout.delays = delays;
    const std::vector<int64_t> ends = {0, 20, 22, 50, 75};  // one too short for delays
    for (size_t k = 0; k + 1 < ends.size(); ++k) {
      stream.start_trajectory();
      stream.push_block(columns_of(x, ends[k], ends[k + 1] - ends[k]));
      for (int64_t a = ends[k]; a + delays < ends[k + 1]; ++a) layout.starts.push_back(a);
    }
    CHECK(stream.moments().pairs == doctest::Approx(static_cast<double>(layout.starts.size())));
    for (const DmdOptions& variant : kVariants)
      CHECK(spectral_error(stream.fit(variant).dmd.eigenvalues(),
                           batch_eigenvalues(x, layout, variant)) < kClose<T>);
  }
}

TEST_CASE_TEMPLATE("forecasts go on from the newest state", T, float, double) {
  for (const int64_t delays : {1, 2})
    for (const bool differences : {false, true})
      for (const int64_t count : {31, 32, 47}) {
        const Matrix<T> x =
            planted<T>(300, 60, {{0.99, 0.0}, {0.95, 0.25}}, 7, differences ? 5.0 : 0.0);
        StreamingDmdOptions options = dmd_options(3, 5, 16, 0.99);
        options.delays = delays;
        options.differences = differences;
        StreamingDmd<T> stream({200, 100}, options);
        StreamingDmd<T> whole({300}, options);
        for (int64_t j = 0; j < count; ++j) {
          const T* segments[] = {x.view().col(j), x.view().col(j) + 200};
          stream.push(segments);
          whole.push(segments);
        }
        REQUIRE(whole.fit({}).has_state);
        for (const int64_t horizon : {0, 1, 5, 12})
          CHECK(distance(forecast_of(whole, {}, static_cast<double>(horizon)), x,
                         count - 1 + horizon) < (sizeof(T) == 4 ? 2e-3 : 1e-9));
        CHECK(same_state(stream.state(), whole.state()));
      }
}

TEST_CASE_TEMPLATE("a new trajectory has no state to go on from until it is long enough", T, float,
                   double) {
  StreamingDmdOptions options = dmd_options(3, 5, 16);
  options.delays = 2;
  const Matrix<T> x = planted<T>(50, 30, {{0.99, 0.0}, {0.95, 0.25}}, 8);
  StreamingDmd<T> stream({50}, options);
  stream.push_block(columns_of(x, 0, 20));
  stream.start_trajectory();
  CHECK(!stream.fit({}).has_state);
  stream.push_block(columns_of(x, 10, 1));
  CHECK(!stream.fit({}).has_state);
  stream.push_block(columns_of(x, 11, 1));
  CHECK(stream.fit({}).has_state);
  CHECK(distance(forecast_of(stream, {}, 1.0), x, 12) < 1e3 * eps<T>());
}

TEST_CASE_TEMPLATE("inputs: moments give the operator on states and inputs", T, float, double) {
  // x' = a x + b u in two dimensions hidden in forty.
  const int64_t n = 40, steps = 50;
  const Matrix<double> q = random_matrix<double>(n, 2, 9), u = random_matrix<double>(1, steps, 10);
  Matrix<T> x(n, steps);
  double z[2] = {1.0, -1.0};
  for (int64_t t = 0; t < steps; ++t) {
    for (int64_t i = 0; i < n; ++i)
      x(i, t) = static_cast<T>(1e-6 * (q(i, 0) * z[0] + q(i, 1) * z[1]));
    const double next = 0.9 * z[0] + 0.2 * z[1] + u(0, t);
    z[1] = 0.7 * z[1] - 0.5 * u(0, t);
    z[0] = next;
  }
  StreamingDmdOptions options = dmd_options(2, 3, 8, 0.97);
  options.inputs = 1;
  StreamingDmd<T> stream({n}, options);
  stream.push_block(columns_of(x, 0, 29), u.view().block(0, 0, 1, 29));
  for (int64_t j = 29; j < steps; ++j) {
    const T* column = x.view().col(j);
    stream.push(&column, u.view().col(j));
  }
  const auto m = stream.moments();
  REQUIRE(m.lift.cols() == 2);
  REQUIRE(m.rows.cols() == 6);  // (x, u), then (x', u')
  REQUIRE(m.last.rows() == 3);
  Matrix<double> now(m.rows.rows(), 3), next(m.rows.rows(), 2);
  for (int64_t i = 0; i < now.rows(); ++i)
    for (int64_t j = 0; j < 3; ++j) {
      now(i, j) = m.rows(i, j) * (j < 2 ? 1e6 : 1.0);
      if (j < 2) next(i, j) = m.rows(i, 3 + j) * 1e6;
    }
  // Normal equations for [A B]^T, then the eigenvalues of A.
  Matrix<double> g = plain_gram(now, now), h = plain_gram(now, next), r = g;
  REQUIRE(blas::cholesky(r.view()));
  blas::solve_lower(r.view(), h.view());
  for (int64_t j = 0; j < 2; ++j)
    for (int64_t i = 2; i >= 0; --i) {
      for (int64_t k = i + 1; k < 3; ++k) h(i, j) -= r(i, k) * h(k, j);
      h(i, j) /= r(i, i);
    }
  Matrix<double> a(2, 2);
  for (int64_t j = 0; j < 2; ++j)
    for (int64_t i = 0; i < 2; ++i) a(i, j) = h(j, i);
  CHECK(spectral_error(blas::general_eigen(a.view()).values, {{0.9, 0.0}, {0.7, 0.0}}) < kClose<T>);
  CHECK(m.last(2, 0) * m.unit == doctest::Approx(u(0, steps - 1)));
}

TEST_CASE("inputs count while the state rests") {
  StreamingDmdOptions options = dmd_options(2, 1, 4, 0.5);
  options.inputs = 1;
  StreamingDmd<double> stream({5}, options);
  const Matrix<double> x = random_matrix<double>(5, 8, 11), u = random_matrix<double>(1, 8, 12);
  stream.push_block(strided(x.view()), u.view());
  for (int k = 0; k < 500; ++k) stream.push_block(strided(Matrix<double>(5, 8).view()), u.view());
  const auto m = stream.moments();
  double square = 0.0, expected = 0.0;
  for (int64_t i = 0; i < m.rows.rows(); ++i) {
    const double value = m.rows(i, m.lift.cols()) * m.unit;
    square += value * value;
  }
  for (int64_t t = 0; t < 60; ++t)
    expected += std::pow(0.5, static_cast<double>(t)) * std::pow(u(0, (14 - t % 8) % 8), 2.0);
  CHECK(square == doctest::Approx(expected));
  CHECK(m.pairs == doctest::Approx(2.0));
  CHECK(all_finite(stream.state()));
}

TEST_CASE_TEMPLATE("predictions and the decomposition agree with the basis", T, float, double) {
  const Matrix<T> x = planted<T>(80, 40, kValues, 13);
  StreamingDmd<T> stream({80}, dmd_options(6, 6, 16));
  StreamingSvd<T> svd({80}, dmd_options(6, 6, 16).stream);
  stream.push_block(strided(x.view()));
  svd.push_block(strided(x.view()));
  const auto a = stream.decompose(), b = svd.decompose();
  REQUIRE(a.values.size() == b.values.size());
  for (size_t k = 0; k < a.values.size(); ++k) CHECK(a.values[k] == doctest::Approx(b.values[k]));
  // predict: one step of the fit from any state of the series.
  const auto fit = stream.fit({});
  const Matrix<double> cross = stream.cross(columns_of(x, 10, 1), fit.version);
  Matrix<double> on_virtual(fit.lift.cols(), 1), coefficients(fit.lift.rows(), 1);
  blas::gemm(blas::Op::kTranspose, blas::Op::kNone, 1.0, fit.lift.view(), cross.view(), 0.0,
             on_virtual.view());
  const Matrix<double> c = fit.dmd.predict(on_virtual.view(), 1.0);
  blas::gemm(blas::Op::kNone, blas::Op::kNone, 1.0, fit.lift.view(), c.view(), 0.0,
             coefficients.view());
  const Matrix<T> next = combined<T>(stream, coefficients, fit.version);
  for (int64_t i = 0; i < 80; ++i)
    CHECK(std::abs(static_cast<double>(next(i, 0) - x(i, 11))) < 1e4 * eps<T>());
}
