#pragma once
// Private: where the snapshots of a window lie, in memory or in a file of its own.

#include <cstdint>
#include <string>

namespace koopcore::detail {

/// Bytes, all zero at first. With a folder they are those of a file there that has lost its name as
/// soon as it is open: the system removes it with the window, even if the process is killed.
class WindowMemory {
 public:
  WindowMemory(int64_t bytes, const std::string& folder);
  ~WindowMemory();
  WindowMemory(const WindowMemory&) = delete;
  WindowMemory& operator=(const WindowMemory&) = delete;

  void* data() const { return data_; }

  /// Throws in a forked child of the process that made the file: what the child writes would
  /// appear in its parent's window.
  void check_process() const;

 private:
  void* data_ = nullptr;
  int64_t bytes_;
  int64_t owner_ = 0;  // the process that made the file; 0: there is none
};

}  // namespace koopcore::detail
