#include <doctest/doctest.h>

#include "streams.hpp"

using namespace koopcore;
using namespace support;

namespace {

template <class T>
constexpr double kLoose = sizeof(T) == 4 ? 1e-5 : 1e-12;

StreamOptions options_of(int64_t rank, int64_t oversampling, int64_t block, double forgetting = 1.0,
                         bool center = false) {
  StreamOptions o;
  o.rank = rank;
  o.oversampling = oversampling;
  o.block = block;
  o.forgetting = forgetting;
  o.center = center;
  return o;
}

// The weighted (and centred) snapshots themselves.
struct Oracle {
  Matrix<double> data;
  std::vector<double> mean;
  double weight = 0.0, energy = 0.0;
  blas::Svd<double> svd;
};

template <class T>
Oracle oracle(const Matrix<T>& x, double forgetting, bool center) {
  Oracle out{Matrix<double>(x.rows(), x.cols()),
             std::vector<double>(static_cast<size_t>(x.rows())),
             0.0,
             0.0,
             {}};
  std::vector<double> weights;
  for (int64_t j = 0; j < x.cols(); ++j)
    weights.push_back(std::pow(forgetting, static_cast<double>(x.cols() - 1 - j)));
  for (const double w : weights) out.weight += w;
  for (int64_t j = 0; center && j < x.cols(); ++j)
    for (int64_t i = 0; i < x.rows(); ++i)
      out.mean[static_cast<size_t>(i)] +=
          weights[static_cast<size_t>(j)] / out.weight * static_cast<double>(x(i, j));
  for (int64_t j = 0; j < x.cols(); ++j)
    for (int64_t i = 0; i < x.rows(); ++i) {
      out.data(i, j) = std::sqrt(weights[static_cast<size_t>(j)]) *
                       (static_cast<double>(x(i, j)) - out.mean[static_cast<size_t>(i)]);
      out.energy += out.data(i, j) * out.data(i, j);
    }
  Matrix<double> copy = out.data;
  out.svd = blas::svd(copy.view());
  return out;
}

// |data - U U^T data| over |data|.
template <class T>
double missed(const Oracle& o, const Matrix<T>& u) {
  double square = 0.0;
  for (int64_t j = 0; j < o.data.cols(); ++j) {
    std::vector<double> rest(o.data.view().col(j), o.data.view().col(j) + o.data.rows());
    for (int64_t k = 0; k < u.cols(); ++k) {
      double part = 0.0;
      for (int64_t i = 0; i < u.rows(); ++i) part += static_cast<double>(u(i, k)) * o.data(i, j);
      for (int64_t i = 0; i < u.rows(); ++i)
        rest[static_cast<size_t>(i)] -= part * static_cast<double>(u(i, k));
    }
    for (const double value : rest) square += value * value;
  }
  return std::sqrt(square / o.energy);
}

template <class T>
void check_decomposition(StreamingSvd<T>& stream, const Oracle& o, int64_t rank, double tolerance) {
  const auto d = stream.decompose(rank);
  REQUIRE(static_cast<int64_t>(d.values.size()) == rank);
  for (size_t k = 0; k < d.values.size(); ++k)
    CHECK(std::abs(d.values[k] - o.svd.values[k]) < tolerance * o.svd.values[0]);
  CHECK(d.energy == doctest::Approx(o.energy).epsilon(tolerance));
  const Matrix<T> u = combined<T>(stream, d.coefficients, d.version);
  CHECK(deviation_from_orthonormal(u) < 20.0 * eps<T>());
  CHECK(missed(o, u) < tolerance);
}

}  // namespace

TEST_CASE_TEMPLATE("exact-rank streams are decomposed like the weighted snapshots", T, float,
                   double) {
  const Matrix<T> x = low_rank<T>(300, 53, 4, 0.0, 1);
  for (const bool center : {false, true})
    for (const double forgetting : {1.0, 0.95, 0.5})
      for (const int64_t block : {1, 5, 16, 64}) {
        CAPTURE(center);
        CAPTURE(forgetting);
        CAPTURE(block);
        StreamingSvd<T> stream({300}, options_of(4, 6, block, forgetting, center));
        stream.push_block(strided(x.view()));
        const Oracle o = oracle(x, forgetting, center);
        check_decomposition(stream, o, 4, kLoose<T>);
        CHECK(stream.weight() == doctest::Approx(o.weight).epsilon(1e-12));
        CHECK(stream.seen() == 53);
      }
}

TEST_CASE_TEMPLATE("the mean fades like the snapshots", T, float, double) {
  Matrix<T> x = low_rank<T>(200, 40, 3, 0.1, 2);
  for (int64_t j = 0; j < 40; ++j)
    for (int64_t i = 0; i < 200; ++i)
      x(i, j) += static_cast<T>(100.0 + 0.01 * static_cast<double>(j));
  for (const double forgetting : {1.0, 0.9})
    for (const int64_t count : {1, 7, 8, 40}) {
      StreamingSvd<T> stream({200}, options_of(5, 5, 8, forgetting, true));
      stream.push_block(columns_of(x, 0, count));
      Matrix<T> part(200, count);
      std::copy_n(x.view().data, 200 * count, part.view().data);
      const Oracle o = oracle(part, forgetting, true);
      int64_t version = 0;
      const std::vector<double> c = stream.mean_coefficients(&version);
      Matrix<double> coefficients(static_cast<int64_t>(c.size()), 1);
      std::copy(c.begin(), c.end(), coefficients.view().data);
      const Matrix<T> mean = combined<T>(stream, coefficients, version, 1.0);
      for (int64_t i = 0; i < 200; ++i)
        REQUIRE(std::abs(static_cast<double>(mean(i, 0)) - o.mean[static_cast<size_t>(i)]) <
                400.0 * eps<T>());
      CHECK(stream.decompose().energy ==
            doctest::Approx(o.energy).epsilon(sizeof(T) == 4 ? 2e-3 : 1e-8));
    }
}

TEST_CASE_TEMPLATE("with noise the leading directions are those of all snapshots", T, float,
                   double) {
  const Matrix<T> x = low_rank<T>(400, 300, 5, 0.01, 3);
  for (const double forgetting : {1.0, 0.98}) {
    StreamingSvd<T> stream({400}, options_of(5, 10, 16, forgetting));
    stream.push_block(strided(x.view()));
    const Oracle o = oracle(x, forgetting, false);
    const auto d = stream.decompose();
    for (size_t k = 0; k < 5; ++k)
      CHECK(d.values[k] == doctest::Approx(o.svd.values[k]).epsilon(1e-3));
    double rest = o.energy;
    for (size_t k = 0; k < 5; ++k) rest -= o.svd.values[k] * o.svd.values[k];
    const Matrix<T> u = combined<T>(stream, d.coefficients, d.version);
    CHECK(missed(o, u) < 1.02 * std::sqrt(rest / o.energy));
    CHECK(d.energy == doctest::Approx(o.energy).epsilon(1e-5));
  }
}

TEST_CASE_TEMPLATE("the error estimate is near the true error over seeds", T, float, double) {
  for (const bool center : {false, true}) {
    const Matrix<T> x = low_rank<T>(300, 120, 6, 0.05, 4);
    const Oracle o = oracle(x, 0.99, center);
    double ratio = 0.0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      StreamOptions options = options_of(3, 8, 16, 0.99, center);
      options.seed = seed;
      StreamingSvd<T> stream({300}, options);
      stream.push_block(strided(x.view()));
      const auto d = stream.decompose();
      const double truth =
          missed(o, combined<T>(stream, d.coefficients, d.version)) * std::sqrt(o.energy);
      CHECK(d.error > truth / 2.0);
      CHECK(d.error < truth * 2.0);
      ratio += d.error / truth / 20.0;
    }
    CHECK(ratio == doctest::Approx(1.0).epsilon(0.15));
  }
}

TEST_CASE_TEMPLATE("how a stream is cut into calls leaves no trace", T, float, double) {
  const int64_t n = 700;
  const Matrix<T> x = low_rank<T>(n, 61, 9, 0.1, 5);
  std::vector<T> row_major(static_cast<size_t>(n * 61));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < 61; ++j) row_major[static_cast<size_t>(61 * i + j)] = x(i, j);
  for (const bool center : {false, true}) {
    const StreamOptions options = options_of(5, 2, 8, 0.97, center);
    StreamingSvd<T> singly({n}, options), split({300, 400}, options), rows({n}, options);
    for (int64_t j = 0; j < 61; ++j) {
      const T* column = x.view().col(j);
      singly.push(&column);
      const T* segments[] = {column, column + 300};
      split.push(segments);
    }
    const auto expected = singly.state();
    CHECK(same_state(expected, split.state()));
    rows.push_block({row_major.data(), n, 61, 61, 1});
    CHECK(same_state(expected, rows.state()));
    for (const int64_t width : {2, 7, 8, 9, 30, 61}) {
      StreamingSvd<T> blocks({n}, options);
      for (int64_t j = 0; j < 61; j += width)
        blocks.push_block(columns_of(x, j, std::min(width, 61 - j)));
      CHECK(same_state(expected, blocks.state()));
    }
  }
}

TEST_CASE_TEMPLATE("questions in between change nothing", T, float, double) {
  const Matrix<T> x = low_rank<T>(300, 45, 9, 0.1, 6);
  for (const bool center : {false, true}) {
    StreamingSvd<T> asked({300}, options_of(5, 2, 8, 0.97, center));
    StreamingSvd<T> quiet({300}, options_of(5, 2, 8, 0.97, center));
    for (int64_t j = 0; j < 45; ++j) {
      push_each(asked, x, j, j + 1);
      push_each(quiet, x, j, j + 1);
      const auto d = asked.decompose(1 + j % 7);
      int64_t version = 0;
      (void)combined<T>(asked, d.coefficients, d.version);
      (void)asked.cross(columns_of(x, 0, 3), d.version);
      (void)asked.mean_coefficients(&version);
      (void)asked.weight();
      if (j % 4 == 0) (void)asked.state();
    }
    CHECK(same_state(asked.state(), quiet.state()));
  }
}

TEST_CASE_TEMPLATE("a restored stream goes on with the same bits", T, float, double) {
  const Matrix<T> x = low_rank<T>(300, 70, 9, 0.1, 7);
  for (const bool center : {false, true})
    for (const int64_t stop : {0, 1, 8, 33}) {
      const StreamOptions options = options_of(5, 2, 8, 0.97, center);
      StreamingSvd<T> whole({300}, options), before({300}, options), after({300}, options);
      push_each(whole, x);
      push_each(before, x, 0, stop);
      push_each(after, x, 5, 30);  // is forgotten
      const auto state = before.state();
      after.restore(state.columns.view(), state.numbers);
      CHECK(same_state(after.state(), state));
      push_each(after, x, stop);
      CHECK(same_state(after.state(), whole.state()));
      CHECK(after.decompose().error == whole.decompose().error);
    }
}

TEST_CASE_TEMPLATE("merged streams are one", T, float, double) {
  const Matrix<T> x = low_rank<T>(250, 60, 4, 0.0, 8);
  for (const bool center : {false, true})
    for (const int64_t cut : {0, 1, 20, 33, 60}) {
      CAPTURE(center);
      CAPTURE(cut);
      StreamingSvd<T> a({250}, options_of(4, 6, 7, 1.0, center));
      StreamingSvd<T> b({250}, options_of(4, 6, 16, 1.0, center));
      push_each(a, x, 0, cut);
      push_each(b, x, cut);
      const auto untouched = b.state();
      a.merge(b);
      CHECK(same_state(untouched, b.state()));
      const Oracle o = oracle(x, 1.0, center);
      check_decomposition(a, o, 4, kLoose<T>);
      CHECK(a.seen() == 60);
      CHECK(a.weight() == doctest::Approx(60.0));
      // The sketch has been merged too: the error of rank 2 is known as well as unmerged.
      StreamingSvd<T> whole({250}, options_of(4, 6, 7, 1.0, center));
      push_each(whole, x);
      CHECK(a.decompose(2).error ==
            doctest::Approx(whole.decompose(2).error).epsilon(sizeof(T) == 4 ? 1e-3 : 1e-8));
    }
}

TEST_CASE_TEMPLATE("row blocks of a state are the whole", T, float, double) {
  const int64_t n = 384, cut = 128;
  const Matrix<T> x = low_rank<T>(n, 43, 8, 0.05, 9);
  for (const bool center : {false, true}) {
    StreamOptions options = options_of(4, 4, 8, 0.98, center);
    StreamingSvd<T> whole({n}, options);
    push_each(whole, x);
    options.sharded = true;
    StreamingSvd<T> upper({cut}, options);
    options.first_row = cut;
    StreamingSvd<T> lower({n - cut}, options);
    const auto exchange = [&] {
      Matrix<double> sum = upper.partial();
      const Matrix<double> other = lower.partial();
      for (int64_t j = 0; j < sum.cols(); ++j)
        for (int64_t i = 0; i < sum.rows(); ++i) sum(i, j) += other(i, j);
      upper.provide(sum.view());
      lower.provide(sum.view());
    };
    for (int64_t j = 0; j < 43; ++j) {
      const T* rows = x.view().col(j);
      upper.push(&rows);
      rows += cut;
      lower.push(&rows);
      if (upper.room() == 0) exchange();
    }
    CHECK_THROWS_AS(upper.decompose(), Error);
    exchange();
    const auto a = whole.decompose(), b = upper.decompose(), c = lower.decompose();
    for (size_t k = 0; k < 4; ++k) {
      CHECK(b.values[k] == doctest::Approx(a.values[k]).epsilon(100.0 * eps<T>()));
      CHECK(b.values[k] == c.values[k]);
    }
    CHECK(b.error == doctest::Approx(a.error).epsilon(1e-3));
    CHECK(b.energy == doctest::Approx(a.energy).epsilon(100.0 * eps<T>()));
    const Matrix<T> u = combined<T>(whole, a.coefficients, a.version);
    const Matrix<T> top = combined<T>(upper, b.coefficients, b.version);
    const Matrix<T> bottom = combined<T>(lower, c.coefficients, c.version);
    for (int64_t k = 0; k < 4; ++k) {
      double inner = 0.0;
      for (int64_t i = 0; i < n; ++i)
        inner += static_cast<double>(u(i, k)) *
                 static_cast<double>(i < cut ? top(i, k) : bottom(i - cut, k));
      CHECK(std::abs(inner) == doctest::Approx(1.0).epsilon(1e3 * eps<T>()));
    }
  }
}

TEST_CASE_TEMPLATE("cross gives inner products, centred relative to the reference", T, float,
                   double) {
  const int64_t n = 9000;  // more rows than a panel
  Matrix<T> x = low_rank<T>(n, 5, 2, 0.1, 10);
  for (int64_t j = 0; j < 5; ++j)
    for (int64_t i = 0; i < n; ++i) x(i, j) += T(3);
  for (const bool center : {false, true}) {
    StreamingSvd<T> stream({n}, options_of(3, 3, 8, 1.0, center));
    push_each(stream, x, 0, 3);
    const auto d = stream.decompose();
    const Matrix<double> cross = stream.cross(columns_of(x, 3, 2), d.version);
    const Matrix<T> u = combined<T>(stream, d.coefficients, d.version);
    for (int64_t k = 0; k < u.cols(); ++k)
      for (int64_t q = 0; q < 2; ++q) {
        double expected = 0.0, got = 0.0;
        for (int64_t i = 0; i < n; ++i)
          expected +=
              static_cast<double>(u(i, k)) *
              (static_cast<double>(x(i, 3 + q)) - (center ? static_cast<double>(x(i, 0)) : 0.0));
        for (int64_t i = 0; i < cross.rows(); ++i) got += d.coefficients(i, k) * cross(i, q);
        CHECK(std::abs(got - expected) < 1e5 * eps<T>());
      }
  }
}
