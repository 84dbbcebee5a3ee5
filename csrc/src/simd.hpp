#pragma once
// Vectors in the notation that GCC and Clang share, for the few loops that BLAS has no good routine
// for. A template on the width is compiled once per instruction set: everything it
// calls is inlined into a function that carries the target attribute, picked when it first runs.

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "koopcore/bfloat16.hpp"

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

template <int kWidth, class Number = double>
struct Vector {
  typedef Number Pack __attribute__((vector_size(kWidth * sizeof(Number))));
};

inline double widened(float value) { return static_cast<double>(value); }
inline double widened(double value) { return value; }
inline double widened(BFloat16 value) { return static_cast<double>(static_cast<float>(value)); }

template <class Pack>
constexpr int kLanesOf = sizeof(Pack) / sizeof(std::declval<Pack>()[0]);

// By reference: vectors as arguments or results would tie these to one calling convention.

// to = from, lane by lane, in the type of `to`. GCC makes four instructions of a conversion between
// eight floats and eight doubles, which the processor has one for: those are spelled out.
template <class From, class To>
KOOPCORE_INLINE void convert(const From& from, To& to) {
  to = __builtin_convertvector(from, To);
}

#if defined(KOOPCORE_X86) && !defined(__clang__)
KOOPCORE_INLINE void convert(const Vector<8, float>::Pack& from, Vector<8>::Pack& to) {
  asm("vcvtps2pd %1, %0" : "=v"(to) : "vm"(from));
}
KOOPCORE_INLINE void convert(const Vector<8>::Pack& from, Vector<8, float>::Pack& to) {
  asm("vcvtpd2ps %1, %0" : "=v"(to) : "v"(from));
}
#endif

/// As many numbers as the pack has lanes, in the pack's type.
template <class Pack, class Number>
KOOPCORE_INLINE void load(Pack& out, const Number* from) {
  typename Vector<kLanesOf<Pack>, Number>::Pack numbers;
  std::memcpy(&numbers, from, sizeof(numbers));
  convert(numbers, out);
}

template <class Pack>
KOOPCORE_INLINE void load(Pack& out, const BFloat16* from) {
  constexpr int lanes = kLanesOf<Pack>;
  typename Vector<lanes, uint16_t>::Pack halves;
  typename Vector<lanes, float>::Pack numbers;
  std::memcpy(&halves, from, sizeof(halves));
  const auto words = __builtin_convertvector(halves, typename Vector<lanes, uint32_t>::Pack) << 16;
  std::memcpy(&numbers, &words, sizeof(numbers));
  convert(numbers, out);
}

template <class Pack, class Number>
KOOPCORE_INLINE void store(Number* to, const Pack& values) {
  typename Vector<kLanesOf<Pack>, Number>::Pack numbers;
  convert(values, numbers);
  std::memcpy(to, &numbers, sizeof(numbers));
}

#if defined(__clang__) || __GNUC__ >= 12
#define KOOPCORE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define KOOPCORE_SHUFFLE(a, b, ...) \
  __builtin_shuffle(a, b, (int64_t __attribute__((vector_size(sizeof(a))))){__VA_ARGS__})
#endif

/// As many packs as one has lanes, as a square matrix.
KOOPCORE_INLINE void transpose(typename Vector<2>::Pack* rows) {
  const auto first = rows[0];
  rows[0] = KOOPCORE_SHUFFLE(first, rows[1], 0, 2);
  rows[1] = KOOPCORE_SHUFFLE(first, rows[1], 1, 3);
}

KOOPCORE_INLINE void transpose(typename Vector<4>::Pack* rows) {
  typename Vector<4>::Pack pairs[4];
  for (int i = 0; i < 4; i += 2) {
    pairs[i] = KOOPCORE_SHUFFLE(rows[i], rows[i + 1], 0, 4, 2, 6);
    pairs[i + 1] = KOOPCORE_SHUFFLE(rows[i], rows[i + 1], 1, 5, 3, 7);
  }
  for (int i = 0; i < 2; ++i) {
    rows[i] = KOOPCORE_SHUFFLE(pairs[i], pairs[i + 2], 0, 1, 4, 5);
    rows[i + 2] = KOOPCORE_SHUFFLE(pairs[i], pairs[i + 2], 2, 3, 6, 7);
  }
}

KOOPCORE_INLINE void transpose(typename Vector<8>::Pack* rows) {
  typename Vector<8>::Pack pairs[8], fours[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = KOOPCORE_SHUFFLE(rows[i], rows[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    pairs[i + 1] = KOOPCORE_SHUFFLE(rows[i], rows[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int k = 0; k < 2; ++k) {
      fours[i + k] = KOOPCORE_SHUFFLE(pairs[i + k], pairs[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      fours[i + k + 2] =
          KOOPCORE_SHUFFLE(pairs[i + k], pairs[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    rows[i] = KOOPCORE_SHUFFLE(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    rows[i + 4] = KOOPCORE_SHUFFLE(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
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

constexpr size_t kLine = 64 / sizeof(double);

/// The first number from `data` on that begins a cache line: a vector that spans two costs twice.
inline double* from_line(double* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return data + (kLine - address / sizeof(double) % kLine) % kLine;
}

/// Uninitialised numbers that begin at a cache line.
class Buffer {
 public:
  explicit Buffer(int64_t size) : values_(new double[static_cast<size_t>(size) + kLine]) {}

  double* data() const { return from_line(values_.get()); }

 private:
  std::unique_ptr<double[]> values_;
};

}  // namespace koopcore::simd

/// A function `name` that runs the inlined `body`, compiled for the processor it finds.
#if defined(KOOPCORE_X86)
#define KOOPCORE_DISPATCH(name, parameters, arguments, avx512, avx2, base) \
  KOOPCORE_AVX512 void name##_avx512 parameters { avx512 arguments; }      \
  KOOPCORE_AVX2 void name##_avx2 parameters { avx2 arguments; }            \
  void name##_base parameters { base arguments; }                          \
  void name parameters {                                                   \
    switch (simd::level()) {                                               \
      case simd::Level::kAvx512:                                           \
        return name##_avx512 arguments;                                    \
      case simd::Level::kAvx2:                                             \
        return name##_avx2 arguments;                                      \
      case simd::Level::kBase:                                             \
        return name##_base arguments;                                      \
    }                                                                      \
  }
#else
#define KOOPCORE_DISPATCH(name, parameters, arguments, avx512, avx2, base) \
  void name parameters { base arguments; }
#endif
#define KOOPCORE_PER_PROCESSOR(name, parameters, arguments, body) \
  KOOPCORE_DISPATCH(name, parameters, arguments, body, body, body)
/// The same for a body that is a template on the number of doubles in a vector.
#define KOOPCORE_PER_WIDTH(name, parameters, arguments, body) \
  KOOPCORE_DISPATCH(name, parameters, arguments, body<8>, body<4>, body<2>)
