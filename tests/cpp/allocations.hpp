#pragma once
// Counts every allocation of the test program, for the promise that updates make none.

namespace support {

long allocations();
long allocated_bytes();  ///< of all allocations, freed or not

}  // namespace support
