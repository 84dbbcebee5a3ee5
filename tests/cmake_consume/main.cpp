// Watches a decaying state through a window and as a stream, forecasts it with the installed
// library, and checks the answers.

#include <cmath>
#include <cstdio>
#include <vector>

#include <koopcore/koopcore.hpp>

// The same forecast, 1000 steps ahead, from a stream of all states.
bool stream_agrees(const float* fixed_point) {
  koopcore::StreamingDmdOptions options;
  options.stream.rank = 1;
  options.differences = true;
  koopcore::StreamingDmd<float> stream({3}, options);
  for (int t = 0; t < 12; ++t) {
    float state[3];
    for (int i = 0; i < 3; ++i) state[i] = fixed_point[i] + std::pow(0.5f, static_cast<float>(t));
    const float* segments[] = {state};
    stream.push(segments);
  }
  const auto fit = stream.fit({});
  std::vector<double> steps = fit.dmd.forecast(1000.0);
  steps.back() -= 1.0;  // from the newest state, which is kept as it came
  koopcore::Matrix<double> coefficients(fit.lift.rows(), 1);
  for (int64_t j = 0; j < fit.lift.cols(); ++j)
    for (int64_t i = 0; i < fit.lift.rows(); ++i)
      coefficients(i, 0) += fit.unit * fit.lift(i, j) * steps[static_cast<size_t>(j)];
  float forecast[3];
  float* out[] = {forecast};
  stream.combine(coefficients.view(), fit.version, 1.0, out);
  for (int i = 0; i < 3; ++i)
    if (std::fabs(forecast[i] - fixed_point[i]) > 1e-4f) return false;
  return true;
}

int main() {
  koopcore::SnapshotWindow<float> window({3}, 5);
  const float fixed_point[] = {1.0f, -2.0f, 0.5f};
  for (int t = 0; t < 12; ++t) {
    float state[3];
    for (int i = 0; i < 3; ++i) state[i] = fixed_point[i] + std::pow(0.5f, static_cast<float>(t));
    const float* segments[] = {state};
    window.push(segments);
  }

  koopcore::Matrix<double> gram(window.size(), window.size());
  window.gram(gram.view());
  koopcore::Layout layout;
  layout.affine = koopcore::Affine::kDifferences;
  const koopcore::Dmd dmd(gram.view(), layout, {});
  const std::vector<double> coefficients = dmd.forecast(1000.0);

  float forecast[3];
  float* out[] = {forecast};
  window.combine(coefficients.data(), window.size(), out);
  for (int i = 0; i < 3; ++i)
    if (std::fabs(forecast[i] - fixed_point[i]) > 1e-4f) return 1;
  std::printf("forecast %.3f %.3f %.3f\n", forecast[0], forecast[1], forecast[2]);
  if (!stream_agrees(fixed_point)) return 3;
  try {
    koopcore::SnapshotWindow<double> refused({3}, 1);
  } catch (const koopcore::Error&) {
    return 0;
  }
  return 2;
}
