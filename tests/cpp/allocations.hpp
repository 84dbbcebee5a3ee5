#pragma once
// Counts every allocation of the test program, for the promise that updates make none.

namespace support {

long allocations();

}  // namespace support
