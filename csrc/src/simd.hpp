#pragma once
// Vectors of doubles in the notation that GCC and Clang share, for the few loops that BLAS has no
// good routine for. A template on the width is compiled once per instruction set: everything it
// calls is inlined into a function that carries the target attribute, picked when it first runs.

#include <cstdint>
#include <cstring>
#include <memory>

#define KOOPCORE_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define KOOPCORE_X86 1
#define KOOPCORE_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma")))
#define KOOPCORE_AVX2 __attribute__((target("avx2,fma")))
#endif

namespace koopcore::simd {

enum class Level { kBase, kAvx2, kAvx512 };

/// What the processor has, or KOOPCORE_SIMD (base, avx2, avx512) demands; an Error if it demands
/// what is not there.
Level level();

template <int kWidth>
struct Vector {
  typedef double Pack __attribute__((vector_size(kWidth * 8)));
};

// By reference: vectors as arguments or results would tie these to one calling convention.
template <class Pack>
KOOPCORE_INLINE void load(Pack& out, const double* from) {
  std::memcpy(&out, from, sizeof(Pack));
}

template <class Pack>
KOOPCORE_INLINE void store(double* to, const Pack& values) {
  std::memcpy(to, &values, sizeof(Pack));
}

template <class Pack>
KOOPCORE_INLINE double sum(const Pack& values) {
  constexpr int width = static_cast<int>(sizeof(Pack) / sizeof(double));
  double lanes[width];
  store(lanes, values);
  for (int step = width / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  return lanes[0];
}

/// Uninitialised numbers that begin at a cache line: a vector that spans two costs twice.
class Buffer {
 public:
  explicit Buffer(int64_t size) : values_(new double[static_cast<size_t>(size) + kLine]) {}

  double* data() const {
    const auto address = reinterpret_cast<uintptr_t>(values_.get());
    return values_.get() + (kLine - address / sizeof(double) % kLine) % kLine;
  }

 private:
  static constexpr size_t kLine = 64 / sizeof(double);
  std::unique_ptr<double[]> values_;
};

}  // namespace koopcore::simd

/// A function `name` that runs the inlined `body`, compiled for the processor it finds.
#if defined(KOOPCORE_X86)
#define KOOPCORE_PER_PROCESSOR(name, parameters, arguments, body)   \
  KOOPCORE_AVX512 void name##_avx512 parameters { body arguments; } \
  KOOPCORE_AVX2 void name##_avx2 parameters { body arguments; }     \
  void name##_base parameters { body arguments; }                   \
  void name parameters {                                            \
    switch (simd::level()) {                                        \
      case simd::Level::kAvx512:                                    \
        return name##_avx512 arguments;                             \
      case simd::Level::kAvx2:                                      \
        return name##_avx2 arguments;                               \
      case simd::Level::kBase:                                      \
        return name##_base arguments;                               \
    }                                                               \
  }
#else
#define KOOPCORE_PER_PROCESSOR(name, parameters, arguments, body) \
  void name parameters { body arguments; }
#endif
