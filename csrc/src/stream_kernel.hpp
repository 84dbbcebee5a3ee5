#pragma once
// Private: the change of basis of a stream, on the spot.

#include "koopcore/matrix_view.hpp"

namespace koopcore::detail {

/// Numbers of scratch that `turn` needs for results of up to `columns` from as many columns.
int64_t turn_scratch(int64_t columns);

/// out = x c, where out may be columns of x, in float32 arithmetic: for a basis, which is rounded
/// to float32 anyway, and whose rounding is measured with the next block.
void turn(MatrixView<const float> x, MatrixView<const double> c, MatrixView<float> out,
          float* scratch);

}  // namespace koopcore::detail
