#include "simd.hpp"

#include <cstdlib>
#include <string>

#include "koopcore/error.hpp"
#include "koopcore/runtime.hpp"

namespace koopcore {
namespace {

constexpr const char* kNames[] = {"base", "avx2", "avx512"};

simd::Level detected() {
#if defined(KOOPCORE_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return simd::Level::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return simd::Level::kAvx2;
#endif
  return simd::Level::kBase;
}

simd::Level demanded() {
  const char* const demand = std::getenv("KOOPCORE_SIMD");
  const simd::Level best = detected();
  if (demand == nullptr || *demand == '\0') return best;
  for (int i = 0; i <= static_cast<int>(best); ++i)
    if (std::string(demand) == kNames[i]) return static_cast<simd::Level>(i);
  KOOPCORE_REQUIRE(false) << "KOOPCORE_SIMD is '" << demand << "'; it must be base, avx2 or avx512,"
                          << " and this processor goes up to " << kNames[static_cast<int>(best)];
  return best;
}

}  // namespace

namespace simd {

Level level() {
  static const Level found = demanded();
  return found;
}

}  // namespace simd

const char* instruction_set() { return kNames[static_cast<int>(simd::level())]; }

}  // namespace koopcore
