#pragma once
// Everything public, in reading order.

#include "koopcore/error.hpp"
#include "koopcore/runtime.hpp"
#include "koopcore/matrix_view.hpp"
#include "koopcore/bfloat16.hpp"
#include "koopcore/blas.hpp"
#include "koopcore/leading_eigen.hpp"
#include "koopcore/gram.hpp"
#include "koopcore/orthonormalize.hpp"
#include "koopcore/rng.hpp"
#include "koopcore/sketch.hpp"
#include "koopcore/range_finder.hpp"
#include "koopcore/snapshot_window.hpp"
#include "koopcore/dmd.hpp"
#include "koopcore/streaming_svd.hpp"
#include "koopcore/streaming_dmd.hpp"
#include "koopcore/grouped_dmd.hpp"
