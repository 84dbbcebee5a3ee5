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
void KOOPCORE_FORTRAN(zgemm)(const char*, const char*, const int*, const int*, const int*,
                             const std::complex<double>*, const std::complex<double>*, const int*,
                             const std::complex<double>*, const int*, const std::complex<double>*,
                             std::complex<double>*, const int*, size_t, size_t);
void KOOPCORE_FORTRAN(dsyrk)(const char*, const char*, const int*, const int*, const double*,
                             const double*, const int*, const double*, double*, const int*, size_t,
                             size_t);
void KOOPCORE_FORTRAN(dsyevd)(const char*, const char*, const int*, double*, const int*, double*,
                              double*, const int*, int*, const int*, int*, size_t, size_t);
void KOOPCORE_FORTRAN(zheevd)(const char*, const char*, const int*, std::complex<double>*,
                              const int*, double*, std::complex<double>*, const int*, double*,
                              const int*, int*, const int*, int*, size_t, size_t);
void KOOPCORE_FORTRAN(dgeev)(const char*, const char*, const int*, double*, const int*, double*,
                             double*, double*, const int*, double*, const int*, double*, const int*,
                             int*, size_t, size_t);
void KOOPCORE_FORTRAN(zgeev)(const char*, const char*, const int*, std::complex<double>*,
                             const int*, std::complex<double>*, std::complex<double>*, const int*,
                             std::complex<double>*, const int*, std::complex<double>*, const int*,
                             double*, int*, size_t, size_t);
void KOOPCORE_FORTRAN(dgesdd)(const char*, const int*, const int*, double*, const int*, double*,
                              double*, const int*, double*, const int*, double*, const int*, int*,
                              int*, size_t);
void KOOPCORE_FORTRAN(zgesdd)(const char*, const int*, const int*, std::complex<double>*,
                              const int*, double*, std::complex<double>*, const int*,
                              std::complex<double>*, const int*, std::complex<double>*, const int*,
                              double*, int*, int*, size_t);
void KOOPCORE_FORTRAN(dpotrf)(const char*, const int*, double*, const int*, int*, size_t);
void KOOPCORE_FORTRAN(dtrsm)(const char*, const char*, const char*, const char*, const int*,
                             const int*, const double*, const double*, const int*, double*,
                             const int*, size_t, size_t, size_t, size_t);
void KOOPCORE_FORTRAN(dgeqrf)(const int*, const int*, double*, const int*, double*, double*,
                              const int*, int*);
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

// The array with room for at least `size` numbers. Returns `size`, not what there is: LAPACK may
// choose its blocks by it, and a result must not depend on what the array was used for before.
template <class Number, class Size>
int grown(std::vector<Number>& array, Size size) {
  if (array.size() < static_cast<size_t>(size)) array.resize(static_cast<size_t>(size));
  return static_cast<int>(size);
}

template <class Scalar>
int64_t rows_of(Op op, MatrixView<const Scalar> a) {
  return op == Op::kNone ? a.rows : a.cols;
}
template <class Scalar>
int64_t cols_of(Op op, MatrixView<const Scalar> a) {
  return op == Op::kNone ? a.cols : a.rows;
}

template <class Scalar, class Routine>
void any_gemm(Routine routine, Op op_a, Op op_b, Scalar alpha, MatrixView<const Scalar> a,
              MatrixView<const Scalar> b, Scalar beta, MatrixView<Scalar> c) {
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
  routine(&ta, &tb, &m, &n, &k, &alpha, a.data, &lda, b.data, &ldb, &beta, c.data, &ldc, 1, 1);
}

}  // namespace

void gemm(Op op_a, Op op_b, double alpha, MatrixView<const double> a, MatrixView<const double> b,
          double beta, MatrixView<double> c) {
  any_gemm(&KOOPCORE_FORTRAN(dgemm), op_a, op_b, alpha, a, b, beta, c);
}

void gemm(Op op_a, Op op_b, Complex alpha, MatrixView<const Complex> a, MatrixView<const Complex> b,
          Complex beta, MatrixView<Complex> c) {
  any_gemm(&KOOPCORE_FORTRAN(zgemm), op_a, op_b, alpha, a, b, beta, c);
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

void symmetric_eigen(MatrixView<double> a, double* values, Workspace& work) {
  const char jobz = 'V', uplo = 'U';
  const int n = narrow(a.rows, "symmetric_eigen size"), lda = narrow(a.ld, "ld");
  if (n == 0) return;
  int info = 0, query = -1, int_size = 0;
  double size = 0.0;
  KOOPCORE_FORTRAN(dsyevd)
  (&jobz, &uplo, &n, a.data, &lda, values, &size, &query, &int_size, &query, &info, 1, 1);
  check_info(info, "dsyevd");
  const int lwork = grown(work.numbers, size), liwork = grown(work.integers, int_size);
  KOOPCORE_FORTRAN(dsyevd)
  (&jobz, &uplo, &n, a.data, &lda, values, work.numbers.data(), &lwork, work.integers.data(),
   &liwork, &info, 1, 1);
  check_info(info, "dsyevd");
}

std::vector<double> symmetric_eigen(MatrixView<double> a) {
  std::vector<double> values(static_cast<size_t>(a.rows));
  Workspace work;
  symmetric_eigen(a, values.data(), work);
  return values;
}

std::vector<double> symmetric_eigen(MatrixView<Complex> a) {
  const char jobz = 'V', uplo = 'U';
  const int n = narrow(a.rows, "symmetric_eigen size"), lda = narrow(a.ld, "ld");
  std::vector<double> values(static_cast<size_t>(n));
  if (n == 0) return values;
  int info = 0, query = -1, int_size = 0;
  double real_size = 0.0;
  Complex size;
  KOOPCORE_FORTRAN(zheevd)
  (&jobz, &uplo, &n, a.data, &lda, values.data(), &size, &query, &real_size, &query, &int_size,
   &query, &info, 1, 1);
  check_info(info, "zheevd");
  const int lwork = static_cast<int>(size.real()), lrwork = static_cast<int>(real_size);
  std::vector<Complex> work(static_cast<size_t>(lwork));
  std::vector<double> real_work(static_cast<size_t>(lrwork));
  std::vector<int> int_work(static_cast<size_t>(int_size));
  KOOPCORE_FORTRAN(zheevd)
  (&jobz, &uplo, &n, a.data, &lda, values.data(), work.data(), &lwork, real_work.data(), &lrwork,
   int_work.data(), &int_size, &info, 1, 1);
  check_info(info, "zheevd");
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

Eigen general_eigen(MatrixView<Complex> a) {
  const char none = 'N', vectors = 'V';
  const int n = narrow(a.rows, "general_eigen size"), lda = narrow(a.ld, "ld"), one = 1;
  Eigen result{std::vector<Complex>(static_cast<size_t>(n)), Matrix<Complex>(n, n)};
  if (n == 0) return result;
  Complex unused, size;
  int info = 0, lwork = -1;
  std::vector<double> real_work(static_cast<size_t>(2 * n));
  KOOPCORE_FORTRAN(zgeev)
  (&none, &vectors, &n, a.data, &lda, result.values.data(), &unused, &one,
   result.vectors.view().data, &n, &size, &lwork, real_work.data(), &info, 1, 1);
  check_info(info, "zgeev");
  lwork = static_cast<int>(size.real());
  std::vector<Complex> work(static_cast<size_t>(lwork));
  KOOPCORE_FORTRAN(zgeev)
  (&none, &vectors, &n, a.data, &lda, result.values.data(), &unused, &one,
   result.vectors.view().data, &n, work.data(), &lwork, real_work.data(), &info, 1, 1);
  check_info(info, "zgeev");
  return result;
}

void svd(MatrixView<double> a, double* values, MatrixView<double> left, MatrixView<double> right,
         Workspace& work) {
  const char thin = 'S';
  const int m = narrow(a.rows, "svd rows"), n = narrow(a.cols, "svd columns");
  const int k = std::min(m, n), lda = narrow(a.ld, "ld");
  KOOPCORE_REQUIRE(left.rows == m && left.cols == k && right.rows == k && right.cols == n)
      << "svd: a is (" << m << ", " << n << "), left (" << left.rows << ", " << left.cols
      << "), right (" << right.rows << ", " << right.cols << ")";
  const int ldu = narrow(left.ld, "ld"), ldv = narrow(right.ld, "ld");
  if (k == 0) return;
  double size = 0.0;
  int info = 0, lwork = -1, query = 0;
  KOOPCORE_FORTRAN(dgesdd)
  (&thin, &m, &n, a.data, &lda, values, left.data, &ldu, right.data, &ldv, &size, &lwork, &query,
   &info, 1);
  check_info(info, "dgesdd");
  lwork = grown(work.numbers, size);
  grown(work.integers, 8 * k);
  KOOPCORE_FORTRAN(dgesdd)
  (&thin, &m, &n, a.data, &lda, values, left.data, &ldu, right.data, &ldv, work.numbers.data(),
   &lwork, work.integers.data(), &info, 1);
  check_info(info, "dgesdd");
}

Svd<double> svd(MatrixView<double> a) {
  const int64_t k = std::min(a.rows, a.cols);
  Svd<double> out{Matrix<double>(a.rows, k), std::vector<double>(static_cast<size_t>(k)),
                  Matrix<double>(k, a.cols)};
  Workspace work;
  svd(a, out.values.data(), out.left.view(), out.right.view(), work);
  return out;
}

Svd<Complex> svd(MatrixView<Complex> a) {
  const char thin = 'S';
  const int m = narrow(a.rows, "svd rows"), n = narrow(a.cols, "svd columns");
  const int k = std::min(m, n), lda = narrow(a.ld, "ld"), ldu = std::max(m, 1),
            ldv = std::max(k, 1);
  Svd<Complex> out{Matrix<Complex>(m, k), std::vector<double>(static_cast<size_t>(k)),
                   Matrix<Complex>(k, n)};
  if (k == 0) return out;
  const int64_t larger = std::max(m, n);
  std::vector<int> int_work(static_cast<size_t>(8 * k));
  std::vector<double> real_work(static_cast<size_t>(k * (5 * k + 2 * larger + 7)));
  Complex size;
  int info = 0, lwork = -1;
  Complex *u = out.left.view().data, *vh = out.right.view().data;
  KOOPCORE_FORTRAN(zgesdd)
  (&thin, &m, &n, a.data, &lda, out.values.data(), u, &ldu, vh, &ldv, &size, &lwork,
   real_work.data(), int_work.data(), &info, 1);
  check_info(info, "zgesdd");
  lwork = static_cast<int>(size.real());
  std::vector<Complex> work(static_cast<size_t>(lwork));
  KOOPCORE_FORTRAN(zgesdd)
  (&thin, &m, &n, a.data, &lda, out.values.data(), u, &ldu, vh, &ldv, work.data(), &lwork,
   real_work.data(), int_work.data(), &info, 1);
  check_info(info, "zgesdd");
  return out;
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

bool cholesky(MatrixView<double> a) {
  const char uplo = 'U';
  const int n = narrow(a.rows, "cholesky size"), lda = narrow(a.ld, "ld");
  int info = 0;
  KOOPCORE_FORTRAN(dpotrf)(&uplo, &n, a.data, &lda, &info, 1);
  check_info(std::min(info, 0), "dpotrf");
  return info == 0;
}

void divide_by_upper(MatrixView<double> a, MatrixView<const double> r) {
  const char side = 'R', uplo = 'U', plain = 'N';
  const int m = narrow(a.rows, "trsm rows"), n = narrow(a.cols, "trsm columns");
  const int lda = narrow(a.ld, "ld of a"), ldr = narrow(r.ld, "ld of r");
  const double one = 1.0;
  if (m == 0 || n == 0) return;
  KOOPCORE_FORTRAN(dtrsm)
  (&side, &uplo, &plain, &plain, &m, &n, &one, r.data, &ldr, a.data, &lda, 1, 1, 1, 1);
}

void solve_lower(MatrixView<const double> r, MatrixView<double> a) {
  const char side = 'L', uplo = 'U', transposed = 'T', plain = 'N';
  const int m = narrow(a.rows, "trsm rows"), n = narrow(a.cols, "trsm columns");
  const int lda = narrow(a.ld, "ld of a"), ldr = narrow(r.ld, "ld of r");
  const double one = 1.0;
  if (m == 0 || n == 0) return;
  KOOPCORE_FORTRAN(dtrsm)
  (&side, &uplo, &transposed, &plain, &m, &n, &one, r.data, &ldr, a.data, &lda, 1, 1, 1, 1);
}

void householder_r(MatrixView<double> a, Workspace& work) {
  const int m = narrow(a.rows, "qr rows"), n = narrow(a.cols, "qr columns"),
            lda = narrow(a.ld, "ld");
  KOOPCORE_REQUIRE(m >= n) << "householder_r: (" << m << ", " << n
                           << ") has more columns than rows";
  if (n == 0) return;
  double size = 0.0, unused = 0.0;
  int info = 0, lwork = -1;
  KOOPCORE_FORTRAN(dgeqrf)(&m, &n, a.data, &lda, &unused, &size, &lwork, &info);
  check_info(info, "dgeqrf");
  grown(work.numbers, size + n);  // tau comes first
  lwork = static_cast<int>(size);
  double* tau = work.numbers.data();
  KOOPCORE_FORTRAN(dgeqrf)(&m, &n, a.data, &lda, tau, tau + n, &lwork, &info);
  check_info(info, "dgeqrf");
}

void householder_r(MatrixView<double> a) {
  Workspace work;
  householder_r(a, work);
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
