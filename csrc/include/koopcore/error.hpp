#pragma once
// Errors of the core: one exception type and one macro.
// A message says what was wrong, the value, and what would be right.

#include <sstream>
#include <stdexcept>
#include <string>

namespace koopcore {

/// Thrown for bad arguments, non-finite data and LAPACK failures.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

class Message {
 public:
  template <class Value>
  Message& operator<<(const Value& value) {
    stream_ << value;
    return *this;
  }
  std::string str() const { return stream_.str(); }

 private:
  std::ostringstream stream_;
};

// `&` binds weaker than `<<`, so the whole message is built before it is thrown.
struct Raise {
  [[noreturn]] void operator&(const Message& message) const { throw Error(message.str()); }
};

}  // namespace detail
}  // namespace koopcore

/// KOOPCORE_REQUIRE(rank > 0) << "rank must be positive, got " << rank;
#define KOOPCORE_REQUIRE(condition) \
  (condition) ? void(0) : ::koopcore::detail::Raise{} & ::koopcore::detail::Message {}
