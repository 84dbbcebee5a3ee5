#pragma once
// Random bits as a pure function of (seed, counter): Philox4x32-10 (Salmon, Moraes, Dror & Shaw
// 2011). There is no state to carry, so any thread, shard or batch that
// names the same counter sees the same bits.

#include <array>
#include <cstdint>

namespace koopcore {

/// 128 random bits for each counter, as four words.
std::array<uint32_t, 4> philox(uint64_t seed, uint64_t counter);

/// The full generator: 64-bit key and 128-bit counter, words in the order of the paper.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace koopcore
