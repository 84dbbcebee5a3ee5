#pragma once
// Private: the loops of a window over the numbers of a state, compiled for each processor. `Stored`
// is what differences are kept in: T itself, or bfloat16 where T is float.

#include <cstdint>

#include "koopcore/bfloat16.hpp"

namespace koopcore::detail {

/// out = x - reference; false if some difference is not finite as it is stored.
template <class T, class Stored>
bool subtract(const T* x, const T* reference, Stored* out, int64_t size);

/// What `subtract` would return, with nothing written.
template <class T, class Stored>
bool differences_are_finite(const T* x, const T* reference, int64_t size);

/// The state of the last of `columns` becomes the reference of all of them. The rounding error of
/// the new reference goes into the differences, so that reference + difference stays.
template <class T, class Stored>
void rebase(T* reference, Stored* const* columns, int64_t count, int64_t size);

}  // namespace koopcore::detail
