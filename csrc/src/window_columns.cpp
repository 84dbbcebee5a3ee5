#include "window_columns.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "koopcore/error.hpp"
#include "combine_kernel.hpp"
#include "parallel.hpp"
#include "window_kernel.hpp"

namespace koopcore::detail {
namespace {

// Whole panels of the kernels, in every type.
constexpr int64_t kPanel = 1536;
// Numbers of a state that a thread takes at a time.
constexpr int64_t kSlice = 43 * kPanel;
constexpr int64_t kLine = 64;

// Columns begin at cache lines, an odd number of them apart, so that no power of two puts them all
// into one set of a cache.
int64_t stride_for(int64_t rows, int64_t item_size) {
  const int64_t per_line = kLine / item_size;
  return ((rows + per_line - 1) / per_line | 1) * per_line;
}

template <class T>
bool kept_in_bfloat16(const WindowOptions& options) {
  KOOPCORE_REQUIRE(!options.bfloat16 || (std::is_same_v<T, float>))
      << "bfloat16 storage is for float32 states, and these are float64";
  return options.bfloat16;
}

// Pointers to the rows from `at` on of the columns held, oldest first; none is allocated for the
// first few hundred.
template <class Stored>
class Rows {
 public:
  Rows(MatrixView<Stored> ring, const Held& held)
      : ring_(ring), held_(held), many_(static_cast<size_t>(held.size > kFew ? held.size : 0)) {}

  Stored* const* from(int64_t at) {
    Stored** const columns = held_.size > kFew ? many_.data() : few_;
    for (int64_t k = 0; k < held_.size; ++k) columns[k] = ring_.col(held_.slot(k)) + at;
    return columns;
  }

 private:
  static constexpr int64_t kFew = 256;
  MatrixView<Stored> ring_;
  Held held_;
  Stored* few_[kFew];
  std::vector<Stored*> many_;
};

}  // namespace

template <class T>
WindowColumns<T>::WindowColumns(const std::vector<int64_t>& segment_sizes, int64_t slots,
                                const WindowOptions& options)
    : bfloat16_(kept_in_bfloat16<T>(options)),
      n_threads_(options.n_threads),
      state_size_(std::accumulate(segment_sizes.begin(), segment_sizes.end(), int64_t{0})),
      slots_(slots),
      stride_(stride_for(state_size_, bfloat16_ ? sizeof(BFloat16) : sizeof(T))),
      ring_(stride_ * slots_ * static_cast<int64_t>(bfloat16_ ? sizeof(BFloat16) : sizeof(T)),
            options.memory_map),
      reference_(state_size_ * static_cast<int64_t>(sizeof(T)), "") {
  threads_for(n_threads_);
  cut_into_slices(segment_sizes);
}

template <class T>
void WindowColumns<T>::cut_into_slices(const std::vector<int64_t>& segment_sizes) {
  int64_t at = 0;
  for (size_t s = 0; s < segment_sizes.size(); ++s)
    for (int64_t from = 0; from < segment_sizes[s];) {
      if (at % kSlice == 0) slices_.push_back(pieces_.size());
      const int64_t rows = std::min(segment_sizes[s] - from, kSlice - at % kSlice);
      pieces_.push_back({s, from, at, rows});
      from += rows;
      at += rows;
    }
  slices_.push_back(pieces_.size());
}

template <class T>
template <class Visit>
void WindowColumns<T>::for_each_piece(int64_t slice, const Visit& visit) const {
  const auto index = static_cast<size_t>(slice);
  for (size_t p = slices_[index]; p < slices_[index + 1]; ++p) visit(pieces_[p]);
}

template <class T>
template <class Work>
auto WindowColumns<T>::with_ring(const Work& work) const {
  if constexpr (std::is_same_v<T, float>)
    if (bfloat16_) return work(ring<BFloat16>());
  return work(ring<T>());
}

template <class T>
bool WindowColumns<T>::put(const T* const* segments, int64_t slot, bool first) {
  std::atomic<bool> finite{true};
  with_ring([&](auto ring) {
    parallel_for(slices(), threads_for(n_threads_), [&](int64_t slice, int) {
      for_each_piece(slice, [&](const Piece& piece) {
        const T* const segment = segments[piece.segment] + piece.from;
        T* const base = reference() + piece.at;
        if (first) std::copy_n(segment, piece.rows, base);
        if (!subtract(segment, base, ring.col(slot) + piece.at, piece.rows)) finite = false;
      });
    });
  });
  return finite;
}

template <class T>
bool WindowColumns<T>::would_take(const T* state, const T* other) const {
  std::atomic<bool> finite{true};
  const T* const base = other != nullptr ? other : reference();
  with_ring([&](auto ring) {
    using Stored = std::remove_reference_t<decltype(*ring.data)>;
    parallel_for(slices(), threads_for(n_threads_), [&](int64_t slice, int) {
      const int64_t at = slice * kSlice, rows = std::min(kSlice, state_size_ - at);
      if (!differences_are_finite<T, Stored>(state + at, base + at, rows)) finite = false;
    });
  });
  return finite;
}

template <class T>
void WindowColumns<T>::rebase(const Held& held) {
  with_ring([&](auto ring) {
    parallel_for(slices(), threads_for(n_threads_), [&](int64_t slice, int) {
      const int64_t at = slice * kSlice;
      detail::rebase(reference() + at, Rows(ring, held).from(at), held.size,
                     std::min(kSlice, state_size_ - at));
    });
  });
}

template <class T>
void WindowColumns<T>::combine(double base_weight, const double* weights, const Held& held,
                               T* const* segments) const {
  with_ring([&](auto ring) {
    using Stored = std::remove_reference_t<decltype(*ring.data)>;
    parallel_for(slices(), threads_for(n_threads_), [&](int64_t slice, int) {
      Rows rows(ring, held);
      const auto combine_rows = [&](int64_t at, int64_t count, T* out) {
        combine_columns<T, Stored>(reference() + at, base_weight, rows.from(at), held.size, weights,
                                   count, out);
      };
      const size_t first = slices_[static_cast<size_t>(slice)];
      const Piece& piece = pieces_[first];
      if (slices_[static_cast<size_t>(slice) + 1] == first + 1)
        combine_rows(piece.at, piece.rows, segments[piece.segment] + piece.from);
      else
        scatter(first, std::min(piece.at + kSlice, state_size_), combine_rows, segments);
    });
  });
}

// Segments of any size get the bits, and nearly the speed, of one long vector.
template <class T>
template <class Make>
void WindowColumns<T>::scatter(size_t first, int64_t end, const Make& make,
                               T* const* segments) const {
  T panel[kPanel];
  size_t p = first;
  for (int64_t at = pieces_[first].at; at < end; at += kPanel) {
    const int64_t rows = std::min(kPanel, end - at);
    make(at, rows, panel);
    for (int64_t done = 0; done < rows;) {
      const Piece& piece = pieces_[p];
      const int64_t inside = at + done - piece.at;
      const int64_t count = std::min(rows - done, piece.rows - inside);
      std::copy_n(panel + done, count, segments[piece.segment] + piece.from + inside);
      done += count;
      if (inside + count == piece.rows) ++p;
    }
  }
}

template <class T>
void WindowColumns<T>::gram(const Held& held, bool with_reference, int64_t known,
                            MatrixView<double> g, GramWorkspace& work) const {
  with_ring([&](auto ring) {
    using Stored = std::remove_reference_t<decltype(*ring.data)>;
    Rows rows(ring, held);
    gram_of_columns<T, Stored>(rows.from(0), held.size, with_reference ? reference() : nullptr,
                               state_size_, known, g, work, n_threads_);
  });
}

template <class T>
Matrix<T> WindowColumns<T>::to_matrix(const Held& held) const {
  Matrix<T> out(state_size_, slots_ + 1);
  std::copy_n(reference(), state_size_, out.view().col(0));
  with_ring([&](auto ring) {
    for (int64_t k = 0; k < held.size; ++k) {
      const auto* const column = ring.col(held.slot(k));
      std::transform(column, column + state_size_, out.view().col(held.slot(k) + 1),
                     [](auto stored) { return static_cast<T>(stored); });
    }
  });
  return out;
}

template <class T>
void WindowColumns<T>::assign(MatrixView<const T> columns) {
  with_ring([&](auto ring) {
    using Stored = std::remove_reference_t<decltype(*ring.data)>;
    for (int64_t j = 0; j < columns.cols; ++j)
      for (int64_t i = 0; i < state_size_; ++i) {
        const T value = columns(i, j);
        KOOPCORE_REQUIRE(std::isfinite(value)) << "the state has a column that is not finite";
        KOOPCORE_REQUIRE(j == 0 || static_cast<T>(Stored(value)) == value)
            << "the state has the number " << value
            << ", which is none of bfloat16: it is of a window with other storage";
      }
    for (int64_t j = 0; j < slots_; ++j)
      std::transform(columns.col(j + 1), columns.col(j + 1) + state_size_, ring.col(j),
                     [](T value) { return Stored(value); });
  });
  std::copy_n(columns.col(0), state_size_, reference());
}

template class WindowColumns<float>;
template class WindowColumns<double>;

}  // namespace koopcore::detail
