#include "reduction.hpp"

#include <cmath>
#include <numeric>
#include <utility>

#include "dense.hpp"
#include "koopcore/leading_eigen.hpp"

namespace koopcore::detail {

using dense::at;
using dense::kEps;
using dense::multiply;
using dense::Op;

namespace {

bool are_successive(const std::vector<int64_t>& starts) {
  for (size_t i = 1; i < starts.size(); ++i)
    if (starts[i] != starts[i - 1] + 1) return false;
  return !starts.empty();
}

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

// Singular values up to this times the largest are dropped.
double tolerance_for(int64_t pairs, const DmdOptions& options, bool from_factor) {
  const double resolved = static_cast<double>(pairs) * kEps;
  if (options.tolerance >= 0.0) return options.tolerance;
  return from_factor ? resolved : std::sqrt(resolved);
}

// How many leading directions of falling sigma the rank rules keep. `total`: the sum of all
// sigma^2; `blocks`: how many states are stacked in the matrix whose singular values these are.
int64_t choose_rank(const std::vector<double>& sigma, const DmdOptions& options, double tolerance,
                    double total, int64_t blocks) {
  const auto count = static_cast<int64_t>(sigma.size());
  if (count == 0 || sigma[0] == 0.0) return 0;
  double threshold = sigma[0] * tolerance;
  if (options.hard_threshold)
    threshold = std::max(threshold, hard_threshold(sigma, options.state_size * blocks));
  int64_t rank = 0;
  while (rank < count && sigma[at(rank)] > threshold) ++rank;
  if (options.max_rank > 0) rank = std::min(rank, options.max_rank);
  if (options.energy < 1.0) {
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

// Directions beyond the size of a state are rounding, whatever the tolerance.
int64_t most_directions(const Layout& layout, const DmdOptions& options, int64_t matrices) {
  if (options.state_size == 0) return std::numeric_limits<int64_t>::max();
  const int64_t constant = layout.affine == Affine::kConstant ? 1 : 0;
  return matrices * (options.state_size * layout.delays + constant);
}

template <class Scalar>
struct RightVectors {
  std::vector<double> sigma;  ///< falling
  Matrix<Scalar> vectors;     ///< columns
  Matrix<Scalar> left;        ///< of the factor; empty from a Gram matrix
};

// All pairs, or the `count` > 0 leading ones with sigma above tolerance times the largest.
template <class Scalar>
RightVectors<Scalar> from_gram(MatrixView<const Scalar> gram, int64_t count, double tolerance) {
  const int64_t p = gram.cols;
  if constexpr (std::is_same_v<Scalar, double>) {
    if (count > 0) {
      LeadingEigen leading = leading_symmetric_eigen(gram, count, tolerance * tolerance);
      RightVectors<Scalar> out{{}, std::move(leading.vectors), {}};
      for (const double value : leading.values)
        out.sigma.push_back(std::sqrt(std::max(0.0, value)));
      return out;
    }
  }
  Matrix<Scalar> all = dense::copy_of(gram);
  const std::vector<double> ascending = blas::symmetric_eigen(all.view());
  RightVectors<Scalar> out{{}, Matrix<Scalar>(p, p), {}};
  for (int64_t j = 0; j < p; ++j) {
    out.sigma.push_back(std::sqrt(std::max(0.0, ascending[at(p - 1 - j)])));
    std::copy_n(all.view().col(p - 1 - j), p, out.vectors.view().col(j));
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
Matrix<Scalar> leading(Matrix<Scalar> a, int64_t count) {
  if (count == a.cols()) return a;
  return dense::copy_of(std::as_const(a).view().block(0, 0, a.rows(), count));
}

// Rows starts of a: in place where they follow one another, else gathered in `own`.
template <class Scalar>
MatrixView<const Scalar> pair_rows(const Matrix<Scalar>& a, const Layout& layout,
                                   Matrix<Scalar>& own) {
  if (are_successive(layout.starts))
    return a.view().block(layout.starts.front(), 0, static_cast<int64_t>(layout.starts.size()),
                          a.cols());
  own = dense::rows(a, layout.starts);
  return std::as_const(own).view();
}

// The Gram matrix of the pairs' first states, or with offset = lag of their second ones.
template <class Scalar>
MatrixView<const Scalar> pair_gram(const Matrix<Scalar>& gram, const Layout& layout, int64_t offset,
                                   Matrix<Scalar>& own) {
  const auto pairs = static_cast<int64_t>(layout.starts.size());
  if (are_successive(layout.starts)) {
    const int64_t first = layout.starts.front() + offset;
    return gram.view().block(first, first, pairs, pairs);
  }
  own = Matrix<Scalar>(pairs, pairs);
  for (int64_t j = 0; j < pairs; ++j) {
    const Scalar* column = gram.view().col(layout.starts[at(j)] + offset) + offset;
    for (int64_t i = 0; i < pairs; ++i) own(i, j) = column[layout.starts[at(i)]];
  }
  return std::as_const(own).view();
}

// [X; Y]: as a factor, or as its Gram matrix X^H X + Y^H Y.
template <class Scalar>
Matrix<Scalar> joint_factor(const Matrix<Scalar>& factor, const Layout& layout) {
  const Matrix<Scalar> x = dense::columns(factor, layout.starts);
  const Matrix<Scalar> y = dense::columns(factor, layout.starts, layout.lag);
  Matrix<Scalar> both(x.rows() + y.rows(), x.cols());
  for (int64_t j = 0; j < x.cols(); ++j) {
    std::copy_n(x.view().col(j), x.rows(), both.view().col(j));
    std::copy_n(y.view().col(j), y.rows(), both.view().col(j) + x.rows());
  }
  return both;
}

template <class Scalar>
Matrix<Scalar> joint_gram(const Matrix<Scalar>& gram, const Layout& layout) {
  Matrix<Scalar> own;
  Matrix<Scalar> both = dense::copy_of(pair_gram(gram, layout, 0, own));
  const MatrixView<const Scalar> later = pair_gram(gram, layout, layout.lag, own);
  for (int64_t j = 0; j < both.cols(); ++j)
    for (int64_t i = 0; i < both.rows(); ++i) both(i, j) += later(i, j);
  return both;
}

template <class Scalar>
double trace(MatrixView<const Scalar> gram) {
  double sum = 0.0;
  for (int64_t i = 0; i < gram.cols; ++i) sum += std::abs(gram(i, i));
  return sum;
}

// The rank rules on X, or on [X; Y]: right singular vectors, and in `out` what they are chosen
// from.
template <class Scalar>
RightVectors<Scalar> leading_directions(const States<Scalar>& states, const Layout& layout,
                                        const DmdOptions& options, bool joint,
                                        Reduction<Scalar>& out) {
  const auto pairs = static_cast<int64_t>(layout.starts.size());
  const bool has_factor = states.factor.rows() > 0;
  const double tolerance = tolerance_for(pairs, options, has_factor);
  RightVectors<Scalar> right;
  double total = 0.0;
  if (has_factor) {
    right = from_factor(joint ? joint_factor(states.factor, layout)
                              : dense::columns(states.factor, layout.starts));
    total = std::inner_product(right.sigma.begin(), right.sigma.end(), right.sigma.begin(), 0.0);
  } else {
    Matrix<Scalar> own;
    if (joint) own = joint_gram(states.gram, layout);
    const MatrixView<const Scalar> gram =
        joint ? std::as_const(own).view() : pair_gram(states.gram, layout, 0, own);
    total = trace(gram);
    // The median that svht takes needs all of them.
    right = from_gram(gram, options.hard_threshold ? 0 : options.max_rank, tolerance);
  }
  out.singular_values = right.sigma;
  out.complete = static_cast<int64_t>(right.sigma.size()) == pairs;
  const int64_t rank =
      std::min(choose_rank(right.sigma, options, tolerance, total, layout.delays * (joint ? 2 : 1)),
               most_directions(layout, options, joint ? 2 : 1));
  right.vectors = leading(std::move(right.vectors), rank);
  right.sigma.resize(at(rank));
  return right;
}

// Total least squares: right singular vectors of X * weights; only what X does not have goes.
template <class Scalar>
RightVectors<Scalar> within(const States<Scalar>& states, const Layout& layout,
                            const DmdOptions& options, const Matrix<Scalar>& weights) {
  const bool has_factor = states.factor.rows() > 0;
  RightVectors<Scalar> right;
  if (has_factor) {
    right = from_factor(multiply(dense::columns(states.factor, layout.starts), weights));
  } else {
    Matrix<Scalar> own;
    const MatrixView<const Scalar> gram = pair_gram(states.gram, layout, 0, own);
    const Matrix<Scalar> image = multiply(Op::kNone, gram, Op::kNone, weights.view());
    const Matrix<Scalar> inner = multiply(Op::kAdjoint, weights, Op::kNone, image);
    right = from_gram(inner.view(), 0, 0.0);
  }
  const double tolerance = tolerance_for(static_cast<int64_t>(right.sigma.size()), {}, has_factor);
  const int64_t rank = std::min(choose_rank(right.sigma, {}, tolerance, 0.0, layout.delays),
                                most_directions(layout, options, 1));
  right.vectors = multiply(weights, leading(std::move(right.vectors), rank));
  right.sigma.resize(at(rank));
  return right;
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
States<Scalar> make_states(Matrix<Scalar> gram, const Matrix<Scalar>& factor,
                           const Layout& layout) {
  States<Scalar> states;
  if (layout.affine == Affine::kDifferences) gram = difference_gram(gram);
  states.gram = layout.delays > 1 ? stacked_gram(gram, layout.delays) : std::move(gram);
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
std::vector<double> singular_values(const Matrix<Scalar>& gram, const Layout& layout, bool joint) {
  Matrix<Scalar> own;
  if (joint) own = joint_gram(gram, layout);
  return from_gram(joint ? std::as_const(own).view() : pair_gram(gram, layout, 0, own), 0, 0.0)
      .sigma;
}

template <class Scalar>
Reduction<Scalar> reduce(const States<Scalar>& states, const Layout& layout,
                         const DmdOptions& options) {
  Reduction<Scalar> out;
  const bool joint = options.variant == Variant::kTotalLeastSquares;
  RightVectors<Scalar> right = leading_directions(states, layout, options, joint, out);
  if (joint) right = within(states, layout, options, right.vectors);
  for (const int64_t a : layout.starts) out.energy += std::abs(states.gram(a, a));
  const auto rank = static_cast<int64_t>(right.sigma.size());
  out.basis = std::move(right.vectors);
  out.sigma = std::move(right.sigma);
  for (int64_t j = 0; j < rank; ++j)
    for (int64_t i = 0; i < out.basis.rows(); ++i) out.basis(i, j) /= out.sigma[at(j)];
  if (states.factor.rows() > 0) {
    out.coordinates =
        multiply(Op::kAdjoint, leading(std::move(right.left), rank), Op::kNone, states.factor);
  } else {
    Matrix<Scalar> own;
    out.coordinates = multiply(Op::kAdjoint, std::as_const(out.basis).view(), Op::kNone,
                               pair_rows(states.gram, layout, own));
  }
  return out;
}

#define KOOPCORE_INSTANTIATE(S)                                                           \
  template Matrix<S> difference_gram<S>(const Matrix<S>&);                                \
  template States<S> make_states<S>(Matrix<S>, const Matrix<S>&, const Layout&);          \
  template std::vector<double> singular_values<S>(const Matrix<S>&, const Layout&, bool); \
  template Reduction<S> reduce<S>(const States<S>&, const Layout&, const DmdOptions&);
KOOPCORE_INSTANTIATE(double)
KOOPCORE_INSTANTIATE(std::complex<double>)

}  // namespace koopcore::detail
