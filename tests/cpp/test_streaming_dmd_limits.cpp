// StreamingDmd: merging, resuming, row blocks, hard streams and refusals.

#include <doctest/doctest.h>

#include <thread>

#include "allocations.hpp"
#include "planted.hpp"

using namespace koopcore;
using namespace support;

namespace {

const std::vector<Complex> kValues = {{0.98, 0.0}, {0.9, 0.3}, {0.5, 0.8}};

template <class T>
constexpr double kClose = sizeof(T) == 4 ? 1e-4 : 1e-8;

StreamingDmdOptions varied(int kind) {
  StreamingDmdOptions options = dmd_options(5, 3, 8, 0.97);
  options.delays = kind == 1 ? 2 : 1;
  options.differences = kind == 2;
  options.inputs = kind == 3 ? 2 : 0;
  return options;
}

template <class T>
void feed(StreamingDmd<T>& stream, const Matrix<T>& x, int64_t first, int64_t last) {
  const int64_t inputs = stream.options().inputs;
  const Matrix<double> u = random_matrix<double>(inputs, x.cols(), 77);
  for (int64_t j = first; j < last; ++j) {
    const T* column = x.view().col(j);
    if (j == 21) stream.start_trajectory();
    stream.push(&column, inputs > 0 ? u.view().col(j) : nullptr);
  }
}

template <class Stream, class Call>
void check_refused(Stream& stream, const Call& call) {
  const auto before = stream.state();
  CHECK_THROWS_AS(call(), Error);
  CHECK(same_state(before, stream.state()));
}

}  // namespace

TEST_CASE_TEMPLATE("cuts into calls and questions in between leave no trace", T, float, double) {
  const Matrix<T> x = low_rank<T>(60, 50, 9, 0.1, 1);
  const Matrix<double> u = random_matrix<double>(2, 50, 2);
  for (int kind = 0; kind < 4; ++kind) {
    const StreamingDmdOptions options = varied(kind);
    StreamingDmd<T> quiet({60}, options);
    const MatrixView<const double> none;
    const auto inputs = [&](int64_t j, int64_t count) {
      return options.inputs > 0 ? std::as_const(u).view().block(0, j, 2, count) : none;
    };
    quiet.push_block(strided(x.view()), inputs(0, 50));
    for (const int64_t width : {1, 3, 8, 20}) {
      StreamingDmd<T> asked({60}, options);
      for (int64_t j = 0; j < 50; j += width) {
        const int64_t count = std::min(width, 50 - j);
        asked.push_block(columns_of(x, j, count), inputs(j, count));
        const auto m = asked.moments();
        (void)asked.decompose();
        if (m.pairs > 0.0 && options.inputs == 0) (void)asked.fit({});
      }
      CHECK(same_state(asked.state(), quiet.state()));
    }
  }
}

TEST_CASE_TEMPLATE("a restored stream goes on with the same bits", T, float, double) {
  const Matrix<T> x = low_rank<T>(60, 50, 9, 0.1, 3);
  for (int kind = 0; kind < 4; ++kind)
    for (const int64_t stop : {0, 1, 8, 13, 22, 30}) {
      StreamingDmd<T> whole({60}, varied(kind)), before({60}, varied(kind));
      StreamingDmd<T> after({60}, varied(kind));
      feed(whole, x, 0, 50);
      feed(before, x, 0, stop);
      feed(after, x, 3, 40);  // is forgotten
      const auto state = before.state();
      after.restore(state.columns.view(), state.numbers);
      CHECK(same_state(state, after.state()));
      feed(after, x, stop, 50);
      CHECK(same_state(whole.state(), after.state()));
    }
}

TEST_CASE_TEMPLATE("merged streams are one of two trajectories", T, float, double) {
  const Matrix<T> x = planted<T>(90, 60, kValues, 4);
  for (const int64_t delays : {1, 2})
    for (const bool differences : {false, true})
      for (const int64_t cut : {0, 5, 24, 43, 60}) {
        CAPTURE(delays);
        CAPTURE(differences);
        CAPTURE(cut);
        StreamingDmdOptions options = dmd_options(5, 5, 8);
        options.delays = delays;
        options.differences = differences;
        StreamingDmd<T> a({90}, options), b({90}, options), whole({90}, options);
        push_each(a, x, cut);
        push_each(b, x, 0, cut);
        push_each(whole, x, 0, cut);
        whole.start_trajectory();
        push_each(whole, x, cut);
        const auto untouched = b.state();
        a.merge(b);
        CHECK(same_state(untouched, b.state()));
        const auto fit = a.fit({}), expected = whole.fit({});
        CHECK(spectral_error(fit.dmd.eigenvalues(), kValues) < 3.0 * kClose<T>);
        CHECK(fit.dmd.eigenvalues().size() == 5);
        CHECK(a.moments().pairs == doctest::Approx(whole.moments().pairs));
        CHECK(fit.has_state == expected.has_state);
        if (!fit.has_state) continue;
        CHECK(distance(forecast_of(a, {}, 0.0), x, 59) < 1e3 * eps<T>());
        CHECK(distance(forecast_of(a, {}, -2.0), x, 57) < 1e3 * kClose<T>);
        // And it goes on: the next state follows on its newest one.
        push_each(a, planted<T>(90, 20, kValues, 4, 0.0, 60.0));
        CHECK(spectral_error(a.fit({}).dmd.eigenvalues(), kValues) < 3.0 * kClose<T>);
      }
}

TEST_CASE("merging noisy streams adds their moments") {
  const Matrix<double> x = low_rank<double>(10, 60, 3, 0.1, 5);
  StreamingDmd<double> a({10}, varied(3)), b({10}, varied(3));
  feed(a, x, 0, 20);
  feed(b, x, 25, 60);
  const auto before = a.moments(), other = b.moments();
  a.merge(b);
  const auto merged = a.moments();
  // The state part of the rows' energy loses what the basis of eight cannot hold; inputs do not.
  const auto inputs = [](const StreamingDmd<double>::Moments& m) {
    double square = 0.0;
    for (int64_t j = m.lift.cols(); j < m.lift.cols() + 2; ++j)
      for (int64_t i = 0; i < m.rows.rows(); ++i) square += std::pow(m.rows(i, j) * m.unit, 2.0);
    return square;
  };
  CHECK(inputs(merged) == doctest::Approx(inputs(before) + inputs(other)));
  CHECK(merged.pairs == doctest::Approx(before.pairs + other.pairs));
}

TEST_CASE_TEMPLATE("row blocks of a state are the whole", T, float, double) {
  const int64_t n = 256, cut = 64;
  const Matrix<T> x = planted<T>(n, 45, kValues, 6);
  StreamingDmdOptions options = dmd_options(5, 3, 8);
  StreamingDmd<T> whole({n}, options);
  push_each(whole, x);
  options.stream.sharded = true;
  StreamingDmd<T> upper({cut}, options);
  options.stream.first_row = cut;
  StreamingDmd<T> lower({n - cut}, options);
  const auto exchange = [&] {
    Matrix<double> sum = upper.partial();
    const Matrix<double> other = lower.partial();
    for (int64_t j = 0; j < sum.cols(); ++j)
      for (int64_t i = 0; i < sum.rows(); ++i) sum(i, j) += other(i, j);
    upper.provide(sum.view());
    lower.provide(sum.view());
  };
  for (int64_t j = 0; j < 45; ++j) {
    const T* rows = x.view().col(j);
    upper.push(&rows);
    rows += cut;
    lower.push(&rows);
    if (upper.room() == 0) exchange();
  }
  CHECK_THROWS_AS(upper.fit({}), Error);
  exchange();
  const auto expected = whole.fit({}).dmd.eigenvalues();
  const auto found = upper.fit({}).dmd.eigenvalues();
  CHECK(found == lower.fit({}).dmd.eigenvalues());
  CHECK(spectral_error(found, kValues) < kClose<T>);
  CHECK(spectral_error(found, expected) < kClose<T>);
  const std::vector<double> top = forecast_of(upper, {}, 2.0), all = forecast_of(whole, {}, 2.0);
  for (size_t i = 0; i < top.size(); ++i) CHECK(std::abs(top[i] - all[i]) < 10.0 * kClose<T>);
}

TEST_CASE_TEMPLATE("forgetting follows a sudden change of dynamics", T, float, double) {
  const std::vector<Complex> before = {{0.99, 0.1}}, after = {{0.95, 0.3}};
  StreamingDmd<T> stream({70}, dmd_options(2, 8, 8, 0.9));
  push_each(stream, planted<T>(70, 300, before, 7));
  CHECK(spectral_error(stream.fit({}).dmd.eigenvalues(), before) < kClose<T>);
  // As large as what it follows on, as a rule of the stream: a new trajectory.
  Matrix<T> x = planted<T>(70, 60, after, 8);
  stream.start_trajectory();
  push_each(stream, x);
  DmdOptions options;
  options.max_rank = 2;
  CHECK(spectral_error(stream.fit(options).dmd.eigenvalues(), after) < 0.02);
}

TEST_CASE_TEMPLATE("1e5 updates of decaying data: all finite, the eigenvalues right", T, float,
                   double) {
  const Matrix<double> d = random_matrix<double>(25, 2, 9);
  for (const double rate : {1.0, 0.99, 0.9}) {
    StreamingDmd<T> stream({25}, dmd_options(2, 4, 16, 0.9));
    std::vector<T> state(25);
    for (int64_t t = 0; t < 100000; ++t) {
      const auto time = static_cast<double>(t);
      for (size_t i = 0; i < 25; ++i)
        state[i] = static_cast<T>(d(static_cast<int64_t>(i), 0) * std::pow(rate, time) +
                                  d(static_cast<int64_t>(i), 1) * std::pow(0.8 * rate, time));
      const T* segment = state.data();
      stream.push(&segment);
    }
    const auto fit = stream.fit({});
    // Where the memory is longer than the decay, both modes fade alike; else the faster dies out.
    const bool both = rate * rate < 0.9;
    CAPTURE(rate);
    REQUIRE(fit.dmd.eigenvalues().size() == (both ? 2 : 1));
    CHECK(std::abs(fit.dmd.eigenvalues()[0] - rate) < 1e-6);
    if (both) CHECK(std::abs(fit.dmd.eigenvalues()[1] - 0.8 * rate) < 1e-6);
    CHECK(std::isfinite(fit.unit));
    for (const double value : forecast_of(stream, {}, 3.0)) CHECK(std::isfinite(value));
    const auto end = stream.state();
    CHECK(all_finite(end));
    for (const double value : end.numbers) CHECK(std::abs(value) < 2e5);
    CHECK(end.numbers.size() < 1000);
  }
}

TEST_CASE_TEMPLATE("dead directions are no eigenvalues", T, float, double) {
  Matrix<T> x = planted<T>(100, 80, {{1.0, 0.0}, {0.99, 0.1}}, 10);
  for (int64_t j = 0; j < 80; ++j)
    for (int64_t i = 0; i < 50; ++i) x(i, j) = T(0);
  StreamingDmd<T> stream({100}, dmd_options(10, 10, 16));
  push_each(stream, x);
  const auto fit = stream.fit({});
  CHECK(fit.dmd.eigenvalues().size() == 3);
  CHECK(spectral_error(fit.dmd.eigenvalues(), {{1.0, 0.0}, {0.99, 0.1}}) < kClose<T>);
  StreamingDmd<T> zero({10}, dmd_options(3, 3, 4));
  push_each(zero, Matrix<T>(10, 11));
  CHECK(zero.fit({}).dmd.eigenvalues().empty());
  for (const double value : forecast_of(zero, {}, 1.0)) CHECK(value == 0.0);
  StreamingDmd<T> repeated({10}, dmd_options(3, 3, 4));
  Matrix<T> same(10, 11);
  std::fill_n(same.view().data, 110, T(2));
  push_each(repeated, same);
  REQUIRE(repeated.fit({}).dmd.eigenvalues().size() == 1);
  CHECK(std::abs(repeated.fit({}).dmd.eigenvalues()[0] - 1.0) < 10.0 * eps<T>());
}

TEST_CASE_TEMPLATE("bad states and inputs are refused and change nothing", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const Matrix<T> x = low_rank<T>(60, 40, 9, 0.1, 11);
  for (int kind = 0; kind < 4; ++kind)
    for (const int64_t start : {0, 3, 13}) {
      StreamingDmd<T> stream({60}, varied(kind));
      feed(stream, x, 0, start);
      const int64_t inputs = stream.options().inputs;
      const Matrix<double> u(inputs, 30);
      for (const int64_t width : {1, 5, 30})
        for (const int64_t column : {int64_t{0}, width - 1}) {
          Matrix<T> bad(60, width);
          std::copy_n(x.view().data, 60 * width, bad.view().data);
          bad(7, column) = nan;
          const auto beside = u.view().block(0, 0, inputs, width);
          check_refused(stream, [&] { stream.push_block(strided(bad.view()), beside); });
          if (kind == 0) {
            check_refused(stream,
                          [&] { stream.push_pairs(columns_of(x, 0, width), strided(bad.view())); });
            check_refused(stream,
                          [&] { stream.push_pairs(strided(bad.view()), columns_of(x, 0, width)); });
          }
        }
      std::vector<T> bad(60, nan);
      const T* segment = bad.data();
      check_refused(stream, [&] { stream.push(&segment, inputs > 0 ? u.view().data : nullptr); });
      if (inputs > 0) {
        const double wrong[] = {1.0, std::nan("")};
        segment = x.view().data;
        check_refused(stream, [&] { stream.push(&segment, wrong); });
        check_refused(stream, [&] { stream.push(&segment); });
        check_refused(stream, [&] { stream.push_block(columns_of(x, 0, 4)); });
      }
      StreamingDmd<T> quiet({60}, varied(kind));
      feed(quiet, x, 0, 40);
      feed(stream, x, start, 40);
      CHECK(same_state(quiet.state(), stream.state()));
    }
}

TEST_CASE("a block whose differences overflow is refused as a whole") {
  StreamingDmd<float> stream({4}, varied(2));
  Matrix<float> x(4, 12);
  std::fill_n(x.view().data, 48, 3e38f);
  x(2, 11) = -3e38f;
  check_refused(stream, [&] { stream.push_block(strided(x.view())); });
  // Nor is a first state taken that hardly any could follow on.
  StreamingDmd<double> wide({4}, varied(2));
  const std::vector<double> huge(4, 1e200);
  const double* segment = huge.data();
  check_refused(wide, [&] { wide.push(&segment); });
  check_refused(wide, [&] { wide.push_block({segment, 4, 1, 1, 4}); });
}

TEST_CASE_TEMPLATE("a state that no stream wrote is refused", T, float, double) {
  const Matrix<T> x = low_rank<T>(20, 30, 5, 0.1, 12);
  for (int kind = 0; kind < 4; ++kind) {
    StreamingDmd<T> stream({20}, varied(kind));
    feed(stream, x, 0, 30);
    const auto good = stream.state();
    for (size_t i = 0; i < good.numbers.size(); ++i)
      for (const double value : {std::nan(""), 1e300, -std::numeric_limits<double>::infinity()}) {
        std::vector<double> numbers = good.numbers;
        numbers[i] = value;
        check_refused(stream, [&] { stream.restore(good.columns.view(), numbers); });
      }
    Matrix<T> columns = good.columns;
    columns(3, columns.cols() - 1) = std::numeric_limits<T>::infinity();
    check_refused(stream, [&] { stream.restore(columns.view(), good.numbers); });
    check_refused(stream, [&] { stream.restore(good.columns.view(), {}); });
    check_refused(stream, [&] { stream.restore({}, good.numbers); });
    StreamingDmd<T> other({20}, varied((kind + 1) % 4));
    check_refused(other, [&] { other.restore(good.columns.view(), good.numbers); });
  }
}

TEST_CASE_TEMPLATE("pushes allocate nothing after the first blocks", T, float, double) {
  const Matrix<T> x = low_rank<T>(500, 40, 12, 0.1, 13);
  for (int kind = 0; kind < 4; ++kind) {
    StreamingDmd<T> stream({500}, varied(kind));
    const Matrix<double> u(stream.options().inputs, 40);
    const auto once = [&] {
      stream.push_block(strided(x.view()), u.view());
      const T* segment = x.view().col(3);
      stream.push(&segment, u.rows() > 0 ? u.view().data : nullptr);
    };
    once();
    once();
    const long before = allocations();
    for (int k = 0; k < 5; ++k) once();
    CHECK(allocations() == before);
  }
}

TEST_CASE("one stream serves several threads, two merge both ways at once") {
  const Matrix<double> x = planted<double>(40, 20, kValues, 15);
  StreamingDmd<double> a({40}, varied(1)), b({40}, varied(1));
  push_each(a, x);
  push_each(b, x);
  const auto work = [&](StreamingDmd<double>& mine, StreamingDmd<double>& other) {
    for (int k = 0; k < 10; ++k) {
      mine.push_block(strided(x.view()));
      (void)mine.fit({});
      mine.start_trajectory();
      (void)other.seen();
      if (k % 5 == 0) mine.merge(other);
    }
  };
  std::thread first([&] { work(a, b); }), second([&] { work(b, a); }), third([&] { work(a, b); });
  first.join();
  second.join();
  third.join();
  CHECK(all_finite(a.state()));
  CHECK(a.seen() >= 420);
}

TEST_CASE("refusals name what is wrong") {
  StreamingDmdOptions options = dmd_options(2, 1, 4);
  options.stream.center = true;
  CHECK_THROWS_AS(StreamingDmd<float>({3}, options), Error);
  options = dmd_options(2, 1, 4);
  options.delays = 0;
  CHECK_THROWS_WITH_AS(StreamingDmd<float>({3}, options),
                       "delays is 0 and inputs 0; they count from 1 and 0", Error);
  options = dmd_options(2, 1, 4);
  options.differences = true;
  options.inputs = 1;
  CHECK_THROWS_AS(StreamingDmd<float>({3}, options), Error);
  StreamingDmd<float> stream({3}, varied(1)), with_inputs({3}, varied(3));
  const Matrix<float> x = random_matrix<float>(3, 4, 14);
  CHECK_THROWS_WITH_AS(stream.fit({}), "a fit needs at least 3 successive states, got 0", Error);
  CHECK_THROWS_AS(stream.push_pairs(strided(x.view()), strided(x.view())), Error);
  CHECK_THROWS_AS(with_inputs.fit({}), Error);
  DmdOptions hard;
  hard.hard_threshold = true;
  CHECK_THROWS_AS(stream.fit(hard), Error);
  CHECK_THROWS_AS(stream.merge(stream), Error);
  CHECK_THROWS_AS(stream.merge(with_inputs), Error);
}
