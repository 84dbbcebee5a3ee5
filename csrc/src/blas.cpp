// The only file that knows Fortran names, integers and work arrays.

#include "koopcore/blas.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "koopcore/error.hpp"

#if defined(KOOPCORE_SCIPY_OPENBLAS)
#define KOOPCORE_FORTRAN(name) scipy_##name##_
#define KOOPCORE_OPENBLAS(name) scipy_openblas_##name
#else
#define KOOPCORE_FORTRAN(name) name##_
#define KOOPCORE_OPENBLAS(name) openblas_##name
#endif

extern "C" {
// The trailing size_t are the lengths of the character arguments, as Fortran compilers pass them.
void KOOPCORE_FORTRAN(dgemm)(const char*, const char*, const int*, const int*, const int*,
                             const double*, const double*, const int*, const double*, const int*,
                             const double*, double*, const int*, size_t, size_t);
void KOOPCORE_FORTRAN(dsyrk)(const char*, const char*, const int*, const int*, const double*,
                             const double*, const int*, const double*, double*, const int*, size_t,
                             size_t);
void KOOPCORE_FORTRAN(dsyevd)(const char*, const char*, const int*, double*, const int*, double*,
                              double*, const int*, int*, const int*, int*, size_t, size_t);
void KOOPCORE_FORTRAN(dgeev)(const char*, const char*, const int*, double*, const int*, double*,
                             double*, double*, const int*, double*, const int*, double*, const int*,
                             int*, size_t, size_t);
void KOOPCORE_FORTRAN(zgelsd)(const int*, const int*, const int*, std::complex<double>*, const int*,
                              std::complex<double>*, const int*, double*, const double*, int*,
                              std::complex<double>*, const int*, double*, int*, int*);
#if defined(KOOPCORE_HAS_OPENBLAS)
void KOOPCORE_OPENBLAS(set_num_threads)(int);
int KOOPCORE_OPENBLAS(get_num_threads)();
char* KOOPCORE_OPENBLAS(get_config)();
#endif
}

namespace koopcore::blas {
namespace {

int narrow(int64_t size, const char* what) {
  KOOPCORE_REQUIRE(size >= 0 && size <= std::numeric_limits<int>::max())
      << what << " is " << size << ", but the linked BLAS counts in 32 bits";
  return static_cast<int>(size);
}

void check_info(int info, const char* routine) {
  KOOPCORE_REQUIRE(info == 0) << routine << " failed with info = " << info
                              << (info > 0 ? " (no convergence)" : " (bad argument)");
}

int64_t rows_of(Op op, MatrixView<const double> a) { return op == Op::kNone ? a.rows : a.cols; }
int64_t cols_of(Op op, MatrixView<const double> a) { return op == Op::kNone ? a.cols : a.rows; }

}  // namespace

void gemm(Op op_a, Op op_b, double alpha, MatrixView<const double> a, MatrixView<const double> b,
          double beta, MatrixView<double> c) {
  KOOPCORE_REQUIRE(rows_of(op_a, a) == c.rows && cols_of(op_b, b) == c.cols &&
                   cols_of(op_a, a) == rows_of(op_b, b))
      << "gemm: shapes do not match: (" << rows_of(op_a, a) << ", " << cols_of(op_a, a)
      << ") times (" << rows_of(op_b, b) << ", " << cols_of(op_b, b) << ") into (" << c.rows << ", "
      << c.cols << ")";
  const char ta = static_cast<char>(op_a), tb = static_cast<char>(op_b);
  const int m = narrow(c.rows, "gemm rows"), n = narrow(c.cols, "gemm columns");
  const int k = narrow(cols_of(op_a, a), "gemm inner size");
  const int lda = narrow(a.ld, "gemm ld of a"), ldb = narrow(b.ld, "gemm ld of b");
  const int ldc = narrow(c.ld, "gemm ld of c");
  if (m == 0 || n == 0) return;
  KOOPCORE_FORTRAN(dgemm)
  (&ta, &tb, &m, &n, &k, &alpha, a.data, &lda, b.data, &ldb, &beta, c.data, &ldc, 1, 1);
}

void syrk_add(Op op_a, MatrixView<const double> a, MatrixView<double> c) {
  KOOPCORE_REQUIRE(rows_of(op_a, a) == c.rows && c.rows == c.cols)
      << "syrk: op(a) has " << rows_of(op_a, a) << " rows, c is (" << c.rows << ", " << c.cols
      << ")";
  const char uplo = 'U', trans = static_cast<char>(op_a);
  const int n = narrow(c.rows, "syrk size"), k = narrow(cols_of(op_a, a), "syrk inner size");
  const int lda = narrow(a.ld, "syrk ld of a"), ldc = narrow(c.ld, "syrk ld of c");
  const double one = 1.0;
  if (n == 0 || k == 0) return;
  KOOPCORE_FORTRAN(dsyrk)
  (&uplo, &trans, &n, &k, &one, a.data, &lda, &one, c.data, &ldc, 1, 1);
}

std::vector<double> symmetric_eigen(MatrixView<double> a) {
  const char jobz = 'V', uplo = 'U';
  const int n = narrow(a.rows, "symmetric_eigen size"), lda = narrow(a.ld, "ld");
  std::vector<double> values(static_cast<size_t>(n));
  if (n == 0) return values;
  int info = 0, query = -1, int_size = 0;
  double size = 0.0;
  KOOPCORE_FORTRAN(dsyevd)
  (&jobz, &uplo, &n, a.data, &lda, values.data(), &size, &query, &int_size, &query, &info, 1, 1);
  check_info(info, "dsyevd");
  const int lwork = static_cast<int>(size);
  std::vector<double> work(static_cast<size_t>(lwork));
  std::vector<int> int_work(static_cast<size_t>(int_size));
  KOOPCORE_FORTRAN(dsyevd)
  (&jobz, &uplo, &n, a.data, &lda, values.data(), work.data(), &lwork, int_work.data(), &int_size,
   &info, 1, 1);
  check_info(info, "dsyevd");
  return values;
}

Eigen general_eigen(MatrixView<double> a) {
  const char none = 'N', vectors = 'V';
  const int n = narrow(a.rows, "general_eigen size"), lda = narrow(a.ld, "ld"), one = 1;
  Eigen result{std::vector<Complex>(static_cast<size_t>(n)), Matrix<Complex>(n, n)};
  if (n == 0) return result;
  std::vector<double> re(static_cast<size_t>(n)), im(static_cast<size_t>(n));
  Matrix<double> packed(n, n);
  double unused = 0.0, size = 0.0;
  int info = 0, lwork = -1;
  KOOPCORE_FORTRAN(dgeev)
  (&none, &vectors, &n, a.data, &lda, re.data(), im.data(), &unused, &one, packed.view().data, &n,
   &size, &lwork, &info, 1, 1);
  check_info(info, "dgeev");
  lwork = static_cast<int>(size);
  std::vector<double> work(static_cast<size_t>(lwork));
  KOOPCORE_FORTRAN(dgeev)
  (&none, &vectors, &n, a.data, &lda, re.data(), im.data(), &unused, &one, packed.view().data, &n,
   work.data(), &lwork, &info, 1, 1);
  check_info(info, "dgeev");
  // LAPACK packs a conjugate pair into two real columns: real part, imaginary part.
  for (int j = 0; j < n; ++j) {
    const size_t at = static_cast<size_t>(j);
    result.values[at] = {re[at], im[at]};
    for (int i = 0; i < n; ++i) {
      if (im[at] == 0.0) {
        result.vectors(i, j) = packed(i, j);
      } else if (im[at] > 0.0) {
        result.vectors(i, j) = {packed(i, j), packed(i, j + 1)};
        result.vectors(i, j + 1) = {packed(i, j), -packed(i, j + 1)};
      }
    }
  }
  return result;
}

int64_t least_squares(MatrixView<Complex> a, MatrixView<Complex> rhs, double rcond) {
  KOOPCORE_REQUIRE(a.rows == a.cols && rhs.rows == a.rows)
      << "least_squares: a is (" << a.rows << ", " << a.cols << "), rhs has " << rhs.rows
      << " rows";
  const int n = narrow(a.rows, "least_squares size"), nrhs = narrow(rhs.cols, "right-hand sides");
  const int lda = narrow(a.ld, "ld of a"), ldb = narrow(rhs.ld, "ld of rhs");
  if (n == 0 || nrhs == 0) return 0;
  std::vector<double> sigma(static_cast<size_t>(n));
  int effective_rank = 0, info = 0, lwork = -1, int_size = 0;
  Complex size;
  double real_size = 0.0;
  KOOPCORE_FORTRAN(zgelsd)
  (&n, &n, &nrhs, a.data, &lda, rhs.data, &ldb, sigma.data(), &rcond, &effective_rank, &size,
   &lwork, &real_size, &int_size, &info);
  check_info(info, "zgelsd");
  lwork = static_cast<int>(size.real());
  std::vector<Complex> work(static_cast<size_t>(lwork));
  std::vector<double> real_work(std::max<size_t>(1, static_cast<size_t>(real_size)));
  std::vector<int> int_work(std::max<size_t>(1, static_cast<size_t>(int_size)));
  KOOPCORE_FORTRAN(zgelsd)
  (&n, &n, &nrhs, a.data, &lda, rhs.data, &ldb, sigma.data(), &rcond, &effective_rank, work.data(),
   &lwork, real_work.data(), int_work.data(), &info);
  check_info(info, "zgelsd");
  return effective_rank;
}

#if defined(KOOPCORE_HAS_OPENBLAS)
void set_num_threads(int n_threads) {
  KOOPCORE_REQUIRE(n_threads >= 1) << "n_threads must be at least 1, got " << n_threads;
  KOOPCORE_OPENBLAS(set_num_threads)(n_threads);
}
int num_threads() { return KOOPCORE_OPENBLAS(get_num_threads)(); }
std::string library_name() { return KOOPCORE_OPENBLAS(get_config)(); }
#else
void set_num_threads(int n_threads) {
  KOOPCORE_REQUIRE(n_threads >= 1) << "n_threads must be at least 1, got " << n_threads;
}
int num_threads() { return 1; }
std::string library_name() { return "system BLAS"; }
#endif

}  // namespace koopcore::blas
