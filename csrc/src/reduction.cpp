#include "reduction.hpp"

#include <cmath>
#include <numeric>
#include <utility>

#include "dense.hpp"

namespace koopcore::detail {

using dense::at;
using dense::kEps;
using dense::multiply;
using dense::Op;

namespace {

template <class Scalar>
Matrix<Scalar> stacked_gram(const Matrix<Scalar>& g, int64_t delays) {
  const int64_t count = g.cols() - delays + 1;
  Matrix<Scalar> out(count, count);
  for (int64_t d = 0; d < delays; ++d)
    for (int64_t j = 0; j < count; ++j)
      for (int64_t i = 0; i < count; ++i) out(i, j) += g(i + d, j + d);
  return out;
}

// The factor's columns, differenced and stacked, with one more row for the constant.
template <class Scalar>
Matrix<Scalar> stacked_factor(const Matrix<Scalar>& factor, const Layout& layout, double constant) {
  const bool differences = layout.affine == Affine::kDifferences;
  const int64_t q = factor.rows(), columns = factor.cols() - (differences ? 1 : 0);
  Matrix<Scalar> out(q * layout.delays + (constant > 0.0 ? 1 : 0), columns - layout.delays + 1);
  for (int64_t j = 0; j < out.cols(); ++j) {
    for (int64_t d = 0; d < layout.delays; ++d)
      for (int64_t i = 0; i < q; ++i)
        out(d * q + i, j) =
            differences ? factor(i, j + d + 1) - factor(i, j + d) : factor(i, j + d);
    if (constant > 0.0) out(q * layout.delays, j) = std::sqrt(constant);
  }
  return out;
}

// Median singular value times this is the optimal hard threshold where the noise is unknown;
// aspect = smaller / larger side (Gavish & Donoho 2014, eq. 5).
double svht_coefficient(double aspect) {
  return ((0.56 * aspect - 0.95) * aspect + 1.82) * aspect + 1.43;
}

double hard_threshold(const std::vector<double>& sigma, int64_t rows) {
  const auto columns = static_cast<int64_t>(sigma.size());
  const int64_t smaller = std::min(rows, columns), larger = std::max(rows, columns);
  const double median =
      0.5 * (sigma[at((smaller - 1) / 2)] + sigma[at(smaller / 2)]);  // sigma falls
  return svht_coefficient(static_cast<double>(smaller) / static_cast<double>(larger)) * median;
}

// How many leading directions of falling sigma the rank rules keep. `blocks`: how many states are
// stacked in the matrix whose singular values these are.
int64_t choose_rank(const std::vector<double>& sigma, const DmdOptions& options, bool from_factor,
                    int64_t blocks) {
  const auto count = static_cast<int64_t>(sigma.size());
  if (count == 0 || sigma[0] == 0.0) return 0;
  const double resolved = static_cast<double>(count) * kEps;
  double threshold =
      sigma[0] * (options.tolerance >= 0.0 ? options.tolerance
                                           : (from_factor ? resolved : std::sqrt(resolved)));
  if (options.svht_rows > 0)
    threshold = std::max(threshold, hard_threshold(sigma, options.svht_rows * blocks));
  int64_t rank = 0;
  while (rank < count && sigma[at(rank)] > threshold) ++rank;
  if (options.max_rank > 0) rank = std::min(rank, options.max_rank);
  if (options.energy < 1.0) {
    const double total = std::inner_product(sigma.begin(), sigma.end(), sigma.begin(), 0.0);
    double kept = 0.0;
    int64_t needed = 0;
    while (needed < rank && kept < options.energy * total) {
      const double value = sigma[at(needed++)];
      kept += value * value;
    }
    rank = needed;
  }
  return rank;
}

template <class Scalar>
struct RightVectors {
  std::vector<double> sigma;  ///< falling
  Matrix<Scalar> vectors;     ///< columns
  Matrix<Scalar> left;        ///< of the factor; empty from a Gram matrix
};

template <class Scalar>
RightVectors<Scalar> from_gram(Matrix<Scalar> gram) {
  const int64_t p = gram.cols();
  const std::vector<double> ascending = blas::symmetric_eigen(gram.view());
  RightVectors<Scalar> out{{}, Matrix<Scalar>(p, p), {}};
  for (int64_t j = 0; j < p; ++j) {
    out.sigma.push_back(std::sqrt(std::max(0.0, ascending[at(p - 1 - j)])));
    std::copy_n(gram.view().col(p - 1 - j), p, out.vectors.view().col(j));
  }
  return out;
}

template <class Scalar>
RightVectors<Scalar> from_factor(Matrix<Scalar> factor) {
  blas::Svd<Scalar> svd = blas::svd(factor.view());
  Matrix<Scalar> vectors(svd.right.cols(), svd.right.rows());
  for (int64_t j = 0; j < vectors.cols(); ++j)
    for (int64_t i = 0; i < vectors.rows(); ++i) vectors(i, j) = dense::conjugate(svd.right(j, i));
  svd.values.resize(at(factor.cols()), 0.0);  // fewer rows than columns: the rest is zero
  return {std::move(svd.values), std::move(vectors), std::move(svd.left)};
}

template <class Scalar>
Matrix<Scalar> leading(const Matrix<Scalar>& a, int64_t count) {
  return dense::copy_of(a.view().block(0, 0, a.rows(), count));
}

template <class Scalar>
Matrix<Scalar> pair_gram(const States<Scalar>& states, const Layout& layout, int64_t offset) {
  return dense::rows(dense::columns(states.gram, layout.starts, offset), layout.starts, offset);
}

// Leading right-singular space of [X; Y], by the rank rules.
template <class Scalar>
Matrix<Scalar> joint_directions(const States<Scalar>& states, const Layout& layout,
                                const DmdOptions& options, std::vector<double>& sigma) {
  RightVectors<Scalar> right;
  if (states.factor.rows() > 0) {
    const Matrix<Scalar> x = dense::columns(states.factor, layout.starts);
    const Matrix<Scalar> y = dense::columns(states.factor, layout.starts, layout.lag);
    Matrix<Scalar> both(x.rows() + y.rows(), x.cols());
    for (int64_t j = 0; j < x.cols(); ++j) {
      std::copy_n(x.view().col(j), x.rows(), both.view().col(j));
      std::copy_n(y.view().col(j), y.rows(), both.view().col(j) + x.rows());
    }
    right = from_factor(std::move(both));
  } else {
    Matrix<Scalar> both = pair_gram(states, layout, 0);
    const Matrix<Scalar> later = pair_gram(states, layout, layout.lag);
    for (int64_t j = 0; j < both.cols(); ++j)
      for (int64_t i = 0; i < both.rows(); ++i) both(i, j) += later(i, j);
    right = from_gram(std::move(both));
  }
  sigma = right.sigma;
  const int64_t rank = choose_rank(sigma, options, states.factor.rows() > 0, 2 * layout.delays);
  return leading(right.vectors, rank);
}

// Right singular vectors of X * weights (of X, where weights is empty).
template <class Scalar>
RightVectors<Scalar> directions_of_x(const States<Scalar>& states, const Layout& layout,
                                     const Matrix<Scalar>* weights) {
  if (states.factor.rows() > 0) {
    Matrix<Scalar> x = dense::columns(states.factor, layout.starts);
    return from_factor(weights == nullptr ? std::move(x) : multiply(x, *weights));
  }
  Matrix<Scalar> xx = pair_gram(states, layout, 0);
  if (weights != nullptr) xx = multiply(Op::kAdjoint, *weights, Op::kNone, multiply(xx, *weights));
  return from_gram(std::move(xx));
}

}  // namespace

template <class Scalar>
Matrix<Scalar> difference_gram(const Matrix<Scalar>& g) {
  const int64_t k = g.rows() - 1;
  Matrix<Scalar> out(k, k);
  for (int64_t j = 0; j < k; ++j)
    for (int64_t i = 0; i < k; ++i)
      out(i, j) = (g(i + 1, j + 1) - g(i, j + 1)) - (g(i + 1, j) - g(i, j));
  return out;
}

template <class Scalar>
States<Scalar> make_states(const Matrix<Scalar>& gram, const Matrix<Scalar>& factor,
                           const Layout& layout) {
  States<Scalar> states;
  const bool differences = layout.affine == Affine::kDifferences;
  states.gram = stacked_gram(differences ? difference_gram(gram) : gram, layout.delays);
  if (layout.affine == Affine::kConstant) {
    // As large as a state is on average: neither drowned by the data nor drowning them.
    for (int64_t j = 0; j < states.gram.cols(); ++j)
      states.constant += std::abs(states.gram(j, j)) / static_cast<double>(states.gram.cols());
    for (int64_t j = 0; j < states.gram.cols(); ++j)
      for (int64_t i = 0; i < states.gram.rows(); ++i) states.gram(i, j) += states.constant;
  }
  if (factor.rows() > 0) states.factor = stacked_factor(factor, layout, states.constant);
  return states;
}

template <class Scalar>
Reduction<Scalar> reduce(const States<Scalar>& states, const Layout& layout,
                         const DmdOptions& options) {
  Reduction<Scalar> out;
  const bool joint = options.variant == Variant::kTotalLeastSquares;
  const bool has_factor = states.factor.rows() > 0;
  Matrix<Scalar> weights;
  if (joint) weights = joint_directions(states, layout, options, out.all_singular_values);
  const RightVectors<Scalar> right = directions_of_x(states, layout, joint ? &weights : nullptr);
  DmdOptions inner = options;
  if (joint) {  // the rank is chosen; only directions that X does not have at all go
    inner = {};
  } else {
    out.all_singular_values = right.sigma;
  }
  const int64_t rank = choose_rank(right.sigma, inner, has_factor, layout.delays);
  out.basis = leading(right.vectors, rank);
  if (joint) out.basis = multiply(weights, out.basis);
  out.sigma.assign(right.sigma.begin(), right.sigma.begin() + rank);
  for (int64_t j = 0; j < rank; ++j)
    for (int64_t i = 0; i < out.basis.rows(); ++i) out.basis(i, j) /= out.sigma[at(j)];
  out.coordinates =
      has_factor
          ? multiply(Op::kAdjoint, leading(right.left, rank), Op::kNone, states.factor)
          : multiply(Op::kAdjoint, out.basis, Op::kNone, dense::rows(states.gram, layout.starts));
  return out;
}

#define KOOPCORE_INSTANTIATE(S)                                                         \
  template Matrix<S> difference_gram<S>(const Matrix<S>&);                              \
  template States<S> make_states<S>(const Matrix<S>&, const Matrix<S>&, const Layout&); \
  template Reduction<S> reduce<S>(const States<S>&, const Layout&, const DmdOptions&);
KOOPCORE_INSTANTIATE(double)
KOOPCORE_INSTANTIATE(std::complex<double>)

}  // namespace koopcore::detail
