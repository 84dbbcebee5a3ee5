// StreamingSvd: hard streams, refusals, and what it must not do.

#include <doctest/doctest.h>

#include <thread>

#include "allocations.hpp"
#include "streams.hpp"

using namespace koopcore;
using namespace support;

namespace {

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

template <class T>
Matrix<T> constant(int64_t rows, int64_t cols, double value) {
  Matrix<T> out(rows, cols);
  std::fill_n(out.view().data, rows * cols, static_cast<T>(value));
  return out;
}

template <class Stream, class Call>
void check_refused(Stream& stream, const Call& call) {
  const auto before = stream.state();
  const int64_t seen = stream.seen();
  CHECK_THROWS_AS(call(), Error);
  CHECK(same_state(before, stream.state()));
  CHECK(stream.seen() == seen);
}

}  // namespace

TEST_CASE_TEMPLATE("an empty stream, one snapshot, and more rank than data", T, float, double) {
  StreamingSvd<T> stream({50}, options_of(10, 10, 4));
  CHECK(stream.decompose().values.empty());
  CHECK(stream.decompose().error == 0.0);
  const Matrix<T> x = random_matrix<T>(50, 3, 1);
  push_each(stream, x, 0, 1);
  const auto one = stream.decompose();
  REQUIRE(one.values.size() == 1);
  CHECK(one.values[0] == doctest::Approx(std::sqrt(plain_gram(x, x)(0, 0))));
  push_each(stream, x, 1, 3);
  CHECK(stream.decompose().values.size() == 3);
  push_each(stream, x);
  push_each(stream, x);
  CHECK(stream.decompose().values.size() == 3);
  // Fewer numbers than rank.
  StreamingSvd<T> small({3}, options_of(10, 10, 4, 0.9, true));
  push_each(small, random_matrix<T>(3, 30, 2));
  const auto d = small.decompose();
  CHECK(d.values.size() == 3);
  CHECK(deviation_from_orthonormal(combined<T>(small, d.coefficients, d.version)) <
        20.0 * eps<T>());
  StreamingSvd<T> single({1}, options_of(1, 0, 1));
  push_each(single, constant<T>(1, 5, 2.0));
  CHECK(single.decompose().values[0] == doctest::Approx(std::sqrt(20.0)));
}

TEST_CASE_TEMPLATE("zeros and constants", T, float, double) {
  for (const bool center : {false, true}) {
    StreamingSvd<T> stream({40}, options_of(3, 2, 4, 0.9, center));
    push_each(stream, Matrix<T>(40, 11));
    CHECK(stream.decompose().values.empty());
    CHECK(stream.decompose().energy == 0.0);
    push_each(stream, constant<T>(40, 22, 5.0));
    const auto d = stream.decompose();
    CHECK(d.values.size() == 1);
    CHECK(std::isfinite(d.error));
    CHECK(all_finite(stream.state()));
  }
  StreamingSvd<T> same({40}, options_of(3, 2, 4, 1.0, true));
  push_each(same, constant<T>(40, 22, 5.0));
  CHECK(same.decompose().values.empty());
}

TEST_CASE_TEMPLATE("sizes from the smallest to the largest", T, float, double) {
  const int top = sizeof(T) == 4 ? 126 : 480, low = sizeof(T) == 4 ? -90 : -420;
  for (const bool center : {false, true})
    for (const int exponent : {top - 10, low}) {
      const Matrix<T> x = low_rank<T>(60, 33, 3, 0.0, 3);
      Matrix<T> scaled = x;
      for (int64_t j = 0; j < 33; ++j)
        for (int64_t i = 0; i < 60; ++i) scaled(i, j) = std::ldexp(x(i, j), exponent);
      StreamingSvd<T> plain({60}, options_of(3, 3, 8, 0.9, center));
      StreamingSvd<T> stream({60}, options_of(3, 3, 8, 0.9, center));
      push_each(plain, x);
      push_each(stream, scaled);
      const auto a = plain.decompose(), b = stream.decompose();
      REQUIRE(b.values.size() == 3);
      for (size_t k = 0; k < 3; ++k)
        CHECK(b.values[k] == doctest::Approx(std::ldexp(a.values[k], exponent)).epsilon(1e-12));
      CHECK(all_finite(stream.state()));
    }
  // Denormals, and anything else that short, count as zero; a jump to the largest values is taken.
  StreamingSvd<T> stream({60}, options_of(3, 3, 8, 0.9));
  push_each(stream, constant<T>(60, 20, static_cast<double>(std::numeric_limits<T>::denorm_min())));
  CHECK(stream.decompose().values.empty());
  push_each(stream, constant<T>(60, 20, std::ldexp(1.0, top)));
  push_each(stream, constant<T>(60, 20, std::ldexp(1.0, low)));
  CHECK(stream.decompose().values.size() == 1);
  CHECK(all_finite(stream.state()));
}

TEST_CASE_TEMPLATE("bad snapshots are refused, alone and anywhere in a block", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
  const T huge = sizeof(T) == 4 ? infinity : static_cast<T>(0x1p495);
  const Matrix<T> x = low_rank<T>(90, 40, 9, 0.1, 4);
  for (const bool center : {false, true})
    for (const int64_t start : {0, 3, 13}) {
      StreamingSvd<T> stream({90}, options_of(4, 2, 8, 0.9, center));
      push_each(stream, x, 0, start);
      for (const T value : {nan, infinity, -infinity, center ? nan : huge})
        for (const int64_t width : {1, 2, 5, 8, 30})
          for (const int64_t column : {int64_t{0}, width / 2, width - 1}) {
            Matrix<T> bad(90, width);
            std::copy_n(x.view().data, 90 * width, bad.view().data);
            bad(89, column) = value;
            check_refused(stream, [&] { stream.push_block(strided(bad.view())); });
          }
      std::vector<T> bad(90, T(1));
      bad[17] = nan;
      const T* segment = bad.data();
      check_refused(stream, [&] { stream.push(&segment); });
      StreamingSvd<T> quiet({90}, options_of(4, 2, 8, 0.9, center));
      push_each(quiet, x);
      push_each(stream, x, start);
      CHECK(same_state(quiet.state(), stream.state()));
    }
}

TEST_CASE("a centred block whose differences overflow is refused as a whole") {
  StreamingSvd<float> stream({10}, options_of(2, 1, 4, 1.0, true));
  Matrix<float> x = constant<float>(10, 9, 3e38);
  for (int64_t i = 0; i < 10; ++i) x(i, 8) = -3e38f;
  check_refused(stream, [&] { stream.push_block(strided(x.view())); });
  push_each(stream, x, 0, 3);
  check_refused(stream, [&] { stream.push_block(strided(x.view())); });
}

TEST_CASE("the basis stays orthonormal over 1e5 updates in float32") {
  const int64_t n = 64, period = 1000;
  const Matrix<float> x = low_rank<float>(n, period, 12, 0.02, 5);
  for (const bool center : {false, true}) {
    StreamingSvd<float> stream({n}, options_of(6, 4, 16, 0.999, center));
    for (int64_t k = 0; k < 100; ++k) stream.push_block(strided(x.view()));
    const auto state = stream.state();
    const auto size = static_cast<int64_t>(state.numbers[0]);
    REQUIRE(size == 10);
    Matrix<float> basis(n, size);
    const int64_t first = static_cast<int64_t>(state.numbers[1]) + (center ? 1 : 0);
    std::copy_n(state.columns.view().col(first), n * size, basis.view().data);
    CHECK(deviation_from_orthonormal(basis) < 1e-6);
    const auto d = stream.decompose();
    CHECK(deviation_from_orthonormal(combined<float>(stream, d.coefficients, d.version)) < 1e-6);
    CHECK(stream.seen() == 100 * period);
  }
}

TEST_CASE_TEMPLATE("a stream that decays to nothing stays finite and bounded", T, float, double) {
  const Matrix<T> x = low_rank<T>(30, 4, 3, 0.1, 6);
  for (const bool center : {false, true}) {
    StreamingSvd<T> stream({30}, options_of(3, 2, 16, 0.9, center));
    const size_t length = stream.state().numbers.size();
    std::vector<T> state(30);
    double scale = 1.0;
    for (int64_t t = 0; t < 100000; ++t) {
      for (int64_t i = 0; i < 30; ++i)
        state[static_cast<size_t>(i)] = static_cast<T>(scale * static_cast<double>(x(i, t % 4)));
      const T* segment = state.data();
      stream.push(&segment);
      scale *= 0.97;
      if (t % 9973 == 0) {
        const auto d = stream.decompose();
        CHECK(std::isfinite(d.error));
        CHECK(std::isfinite(d.energy));
      }
    }
    const auto end = stream.state();
    CHECK(all_finite(end));
    CHECK(end.numbers.size() < length + 16 + 5 * (5 + 64) + 1);
    for (size_t i = 4; i < end.numbers.size(); ++i) CHECK(std::abs(end.numbers[i]) < 100.0);
    // And it lives on.
    push_each(stream, x);
    CHECK(stream.decompose(1).values[0] > 0.5);
  }
}

TEST_CASE("streams faded below all numbers merge like any others") {
  const Matrix<double> x = low_rank<double>(30, 20, 2, 0.0, 7);
  StreamingSvd<double> a({30}, options_of(2, 2, 8, 0.1)), b({30}, options_of(2, 2, 8, 0.1));
  push_each(a, x);
  push_each(b, x);
  push_each(b, Matrix<double>(30, 1000));  // 0.1^500 of it is left
  const auto alone = b.state();
  StreamingSvd<double> empty({30}, options_of(2, 2, 8, 0.1));
  empty.merge(b);
  CHECK(empty.state().numbers[0] == 2.0);
  const auto before = a.decompose();
  a.merge(b);
  const auto after = a.decompose();
  REQUIRE(after.values.size() == 2);
  for (size_t k = 0; k < 2; ++k) CHECK(after.values[k] == doctest::Approx(before.values[k]));
  b.merge(a);
  CHECK(b.decompose().values[0] == doctest::Approx(before.values[0]));
  CHECK(all_finite(b.state()));
  CHECK(all_finite(alone));
}

TEST_CASE_TEMPLATE("forgetting that leaves nothing keeps the newest snapshots", T, float, double) {
  const Matrix<T> x = random_matrix<T>(40, 50, 8);
  for (const bool center : {false, true}) {
    StreamingSvd<T> stream({40}, options_of(3, 2, 24, 1e-30, center));
    push_each(stream, x);
    CHECK(all_finite(stream.state()));
    const auto d = stream.decompose(1);
    REQUIRE(d.values.size() == 1);
    if (!center) CHECK(d.values[0] == doctest::Approx(std::sqrt(plain_gram(x, x)(49, 49))));
  }
}

TEST_CASE_TEMPLATE("pushes allocate nothing after the first blocks", T, float, double) {
  const int64_t n = 3000;
  const Matrix<T> x = low_rank<T>(n, 40, 12, 0.1, 9);
  for (const bool center : {false, true}) {
    StreamingSvd<T> stream({n / 2, n / 2}, options_of(4, 4, 8, 0.99, center));
    const auto once = [&] {
      stream.push_block(strided(x.view()));
      for (int64_t j = 0; j < 40; ++j) {
        const T* segments[] = {x.view().col(j), x.view().col(j) + n / 2};
        stream.push(segments);
      }
    };
    once();
    const long before = allocations();
    for (int k = 0; k < 3; ++k) once();
    CHECK(allocations() == before);
  }
}

TEST_CASE("one stream serves several threads, two merge both ways at once") {
  const Matrix<double> x = low_rank<double>(80, 20, 5, 0.1, 10);
  StreamingSvd<double> a({80}, options_of(3, 3, 8)), b({80}, options_of(3, 3, 8));
  push_each(a, x);
  push_each(b, x);
  const auto work = [&](StreamingSvd<double>& mine, StreamingSvd<double>& other) {
    for (int k = 0; k < 10; ++k) {
      push_each(mine, x);
      (void)mine.decompose();
      mine.push_block(strided(x.view()));
      other.weight();
      if (k % 5 == 0) mine.merge(other);
    }
  };
  std::thread first([&] { work(a, b); }), second([&] { work(b, a); }), third([&] { work(a, b); });
  first.join();
  second.join();
  third.join();
  CHECK(a.seen() >= 820);
  CHECK(all_finite(a.state()));
}

TEST_CASE_TEMPLATE("a state that no stream wrote is refused", T, float, double) {
  StreamingSvd<T> stream({20}, options_of(2, 1, 4, 0.9, true));
  push_each(stream, random_matrix<T>(20, 11, 11));
  const auto good = stream.state();
  const auto refuse = [&](size_t i, double value) {
    std::vector<double> numbers = good.numbers;
    numbers[i] = value;
    check_refused(stream, [&] { stream.restore(good.columns.view(), numbers); });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (size_t i = 0; i < good.numbers.size(); ++i)
    for (const double value : {nan, 1e300, -1e300, std::numeric_limits<double>::infinity()})
      refuse(i, value);
  for (const size_t i : {0, 1, 2, 3, 8}) refuse(i, 0.5);            // whole numbers
  for (const size_t i : {0, 1, 2, 4, 5, 6, 7, 8}) refuse(i, -1.0);  // from 0 on
  refuse(0, 4.0);
  refuse(1, 4.0);
  refuse(8, 2.0);
  std::vector<double> numbers = good.numbers;
  numbers.pop_back();
  check_refused(stream, [&] { stream.restore(good.columns.view(), numbers); });
  check_refused(stream, [&] { stream.restore(good.columns.view(), {}); });
  const MatrixView<const T> view = good.columns.view();
  check_refused(stream, [&] { stream.restore(view.block(0, 0, 19, view.cols), good.numbers); });
  check_refused(stream, [&] { stream.restore(view.block(0, 0, 20, view.cols - 1), good.numbers); });
  Matrix<T> columns = good.columns;
  columns(3, 2) = std::numeric_limits<T>::quiet_NaN();
  check_refused(stream, [&] { stream.restore(columns.view(), good.numbers); });
  stream.restore(good.columns.view(), good.numbers);
  CHECK(same_state(good, stream.state()));
}

TEST_CASE("numbers that are allowed but make no sense do no harm") {
  StreamingSvd<double> stream({20}, options_of(2, 1, 4, 0.9));
  push_each(stream, random_matrix<double>(20, 11, 12));
  const auto good = stream.state();
  for (size_t i = 4; i < good.numbers.size(); ++i)
    for (const double value : {0.0, 1e150, 1e-300}) {
      if (i >= 8 && i < 8 + static_cast<size_t>(good.numbers[1])) continue;
      std::vector<double> numbers = good.numbers;
      numbers[i] = value;
      stream.restore(good.columns.view(), numbers);
      push_each(stream, random_matrix<double>(20, 9, 13));
      (void)stream.decompose();
    }
  Matrix<double> columns(20, good.columns.cols());  // a basis of zeros
  stream.restore(columns.view(), good.numbers);
  push_each(stream, random_matrix<double>(20, 9, 13));
  CHECK(all_finite(stream.state()));
}

TEST_CASE("refusals name what is wrong") {
  using Svd = StreamingSvd<float>;
  CHECK_THROWS_WITH_AS(Svd({}, {}), "segment_sizes is empty; a state needs at least one segment",
                       Error);
  CHECK_THROWS_WITH_AS(Svd({3, -1}, {}),
                       "segment_sizes[1] is -1; a segment needs at least one number", Error);
  CHECK_THROWS_AS(Svd({int64_t{1} << 62, int64_t{1} << 62}, {}), Error);
  CHECK_THROWS_AS(Svd({int64_t{1} << 58}, {}), Error);
  CHECK_THROWS_WITH_AS(Svd({3}, options_of(0, 1, 4)),
                       "rank is 0, oversampling 1, block 4; they count from 1, 0 and 1", Error);
  CHECK_THROWS_AS(Svd({3}, options_of(1, -1, 4)), Error);
  CHECK_THROWS_AS(Svd({3}, options_of(1, 1, 0)), Error);
  CHECK_THROWS_AS(Svd({3}, options_of(int64_t{1} << 60, 1, 1)), Error);
  CHECK_THROWS_WITH_AS(Svd({3}, options_of(1, 1, 4, 0.0)),
                       "forgetting is 0; it is the share kept per snapshot, 0 < .. <= 1", Error);
  CHECK_THROWS_AS(Svd({3}, options_of(1, 1, 4, std::nan(""))), Error);
  StreamOptions odd = options_of(2, 1, 4);
  odd.first_row = 5;
  CHECK_THROWS_AS(Svd({3}, odd), Error);

  Svd stream({6}, options_of(2, 1, 4));
  const Matrix<float> x = random_matrix<float>(6, 5, 14), wrong(5, 2);
  CHECK_THROWS_WITH_AS(stream.push_block(strided(wrong.view())),
                       "block has 5 rows; the state has 6 numbers", Error);
  push_each(stream, x);
  const auto d = stream.decompose();
  CHECK_THROWS_AS(stream.decompose(-1), Error);
  CHECK_THROWS_AS(stream.cross(columns_of(wrong, 0, 1), d.version), Error);
  push_each(stream, x, 0, 1);
  CHECK_THROWS_AS(combined<float>(stream, d.coefficients, d.version), Error);
  CHECK_THROWS_AS(stream.cross(columns_of(x, 0, 1), d.version), Error);
  CHECK_THROWS_WITH_AS(stream.partial(), "partial() is for row blocks; this stream is whole",
                       Error);
  CHECK_THROWS_AS(stream.provide(d.coefficients.view()), Error);
  CHECK_THROWS_AS(stream.merge(stream), Error);
}

TEST_CASE("streams made differently do not merge, and stay as they were") {
  const Matrix<double> x = random_matrix<double>(64, 9, 15);
  StreamingSvd<double> stream({64}, options_of(2, 1, 4));
  push_each(stream, x);
  const auto refuse = [&](const StreamOptions& options, std::vector<int64_t> sizes = {64}) {
    StreamingSvd<double> other(std::move(sizes), options);
    check_refused(stream, [&] { stream.merge(other); });
  };
  refuse(options_of(3, 0, 4));
  refuse(options_of(2, 2, 4));
  refuse(options_of(2, 1, 4, 0.9));
  refuse(options_of(2, 1, 4, 1.0, true));
  refuse(options_of(2, 1, 4), {32, 32});
  StreamOptions seeded = options_of(2, 1, 4);
  seeded.seed = 1;
  refuse(seeded);
  StreamOptions moved = options_of(2, 1, 4);
  moved.first_row = 64;
  refuse(moved);
}

TEST_CASE("row blocks wait for the sum, and take no sum that is not finite") {
  StreamOptions options = options_of(2, 1, 4);
  options.sharded = true;
  StreamingSvd<double> part({64}, options);
  const Matrix<double> x = random_matrix<double>(64, 9, 16);
  check_refused(part, [&] { part.push_block(columns_of(x, 0, 5)); });
  push_each(part, x, 0, 4);
  check_refused(part, [&] { push_each(part, x, 4, 5); });
  Matrix<double> sum = part.partial();
  sum(1, 1) = std::nan("");
  check_refused(part, [&] { part.provide(sum.view()); });
  check_refused(part, [&] { part.provide(sum.view().block(0, 0, 3, 3)); });
  part.provide(part.partial().view());
  CHECK(part.room() == 4);
  CHECK_THROWS_AS(part.decompose(), Error);  // the basis has moved
  part.provide(part.partial().view());
  CHECK(part.decompose().values.size() == 2);
}
