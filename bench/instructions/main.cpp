// Runs one operation once where callgrind counts, after one run where it does not: what the first
// run allocates and decides is left out. Usage: instructions CASE, or none for the names.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "koopcore/koopcore.hpp"

namespace {

using namespace koopcore;
constexpr int64_t kRows = 20'000;

/// A planted system: column t is sum_k rate_k^t mode_k, and a little noise. The numbers come from
/// an integer sequence, the same on every machine.
Matrix<float> snapshots(int64_t rows, int64_t cols) {
  const double rates[] = {0.99, 0.97, 0.95, 0.92, 0.9, 0.85, 0.8, 0.7, 0.6, 0.4};
  uint64_t state = 1;
  const auto random = [&state] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) / 9007199254740992.0 - 0.5;
  };
  Matrix<float> x(rows, cols);
  for (int64_t i = 0; i < rows; ++i) {
    double terms[10];
    for (double& term : terms) term = random();
    for (int64_t t = 0; t < cols; ++t) {
      double sum = 1e-3 * random();
      for (int k = 0; k < 10; ++k) {
        sum += terms[k];
        terms[k] *= rates[k];
      }
      x(i, t) = static_cast<float>(sum);
    }
  }
  return x;
}

std::function<void()> gram_of(int64_t cols) {
  auto x = std::make_shared<Matrix<float>>(snapshots(kRows, cols));
  auto g = std::make_shared<Matrix<double>>(cols, cols);
  return [=] { gram<float>(strided<const float>(x->view()), g->view()); };
}

std::function<void()> fit() {
  auto x = std::make_shared<Matrix<float>>(snapshots(kRows, 64));
  auto g = std::make_shared<Matrix<double>>(64, 64);
  DmdOptions options;
  options.max_rank = 10;
  return [=] {
    gram<float>(strided<const float>(x->view()), g->view());
    Dmd(g->view(), {}, options);
  };
}

/// Sixteen snapshots into a full window of 16, and its Gram matrix once.
std::function<void()> push() {
  auto x = std::make_shared<Matrix<float>>(snapshots(kRows, 16));
  auto window = std::make_shared<SnapshotWindow<float>>(std::vector<int64_t>{kRows}, 16);
  auto g = std::make_shared<Matrix<double>>(16, 16);
  return [=] {
    for (int64_t t = 0; t < 16; ++t) {
      const float* segments[] = {x->view().col(t)};
      window->push(segments);
    }
    window->gram(g->view());
  };
}

std::function<void()> combine_window() {
  auto x = std::make_shared<Matrix<float>>(snapshots(kRows, 16));
  auto window = std::make_shared<SnapshotWindow<float>>(std::vector<int64_t>{kRows}, 16);
  window->push_block(strided<const float>(x->view()));
  auto out = std::make_shared<std::vector<float>>(kRows);
  return [=] {
    std::vector<double> coefficients(16, 0.125);
    float* segments[] = {out->data()};
    window->combine(coefficients.data(), 16, segments);
  };
}

std::function<void()> grouped() {
  auto x = std::make_shared<Matrix<float>>(snapshots(20 * 785, 64));
  DmdOptions options;
  options.max_rank = 10;
  return [=] {
    GroupedDmd(strided<const float>(x->view()), equal_segments(20 * 785, 785), {}, options, 1);
  };
}

/// One block of 16 snapshots with noise into a full basis of 20 + 10 directions.
std::function<void()> stream() {
  auto x = std::make_shared<Matrix<float>>(snapshots(kRows, 64));
  StreamingDmdOptions options;
  options.stream.rank = 20;
  options.stream.n_threads = 1;
  auto model = std::make_shared<StreamingDmd<float>>(std::vector<int64_t>{kRows}, options);
  model->push_block(strided<const float>(x->view()));
  auto next = std::make_shared<int64_t>(0);
  return [=] {
    model->push_block(strided<const float>(x->view().block(0, 16 * (*next)++, kRows, 16)));
  };
}

struct Case {
  const char* name;
  std::function<void()> (*make)();
};

const Case kCases[] = {
    {"push-m=16", push},
    {"gram-m=16", [] { return gram_of(16); }},
    {"gram-m=64", [] { return gram_of(64); }},
    {"combine-m=16", combine_window},
    {"fit-m=64", fit},
    {"grouped-20x785-m=64", grouped},
    {"streaming-dmd-k=20", stream},
};

}  // namespace

/// Callgrind counts while this runs: --toggle-collect=koopcore_counted.
extern "C" __attribute__((noinline)) void koopcore_counted(const std::function<void()>& operation) {
  operation();
}

int main(int argc, char** argv) {
  set_num_threads(1);
  for (const Case& c : kCases) {
    if (argc < 2) std::printf("%s\n", c.name);
    if (argc < 2 || std::strcmp(argv[1], c.name) != 0) continue;
    const std::function<void()> operation = c.make();
    operation();
    koopcore_counted(operation);
    return 0;
  }
  if (argc >= 2) std::fprintf(stderr, "no case %s; run without arguments for the names\n", argv[1]);
  return argc < 2 ? 0 : 1;
}
