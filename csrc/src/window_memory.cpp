#include "window_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>

#include "koopcore/error.hpp"
#include "koopcore/snapshot_window.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#define KOOPCORE_MAPS 1
#endif

namespace koopcore::detail {
namespace {

constexpr int64_t kHugePage = int64_t{1} << 21, kLine = 64;

std::align_val_t alignment_of(int64_t bytes) {
  return static_cast<std::align_val_t>(bytes >= 2 * kHugePage ? kHugePage : kLine);
}

// Huge pages where there is more than one: a fifth less time for a push into a ring that is larger
// than the caches.
void* zeroed(int64_t bytes) {
  void* const data = ::operator new(static_cast<size_t>(bytes), alignment_of(bytes));
#if defined(KOOPCORE_MAPS) && defined(MADV_HUGEPAGE)
  const int64_t whole = bytes / kHugePage * kHugePage;
  if (bytes >= 2 * kHugePage) madvise(data, static_cast<size_t>(whole), MADV_HUGEPAGE);
#endif
  std::memset(data, 0, static_cast<size_t>(bytes));
  return data;
}

#if defined(KOOPCORE_MAPS)

// "1,234,567": a number of bytes that one can read.
std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (size_t end = digits.size(); end > 3; end -= 3) digits.insert(end - 3, ",");
  return digits;
}

class File {
 public:
  File(const std::string& folder, int64_t bytes) : folder_(folder), bytes_(bytes) {
    check_folder();
    std::string path = folder + "/koopcore-window-XXXXXX";
    number_ = mkstemp(path.data());
    if (number_ < 0) fail(errno);
    unlink(path.c_str());
    fcntl(number_, F_SETFD, FD_CLOEXEC);
  }
  ~File() { close(number_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // A disk that is full later would end the process with a bus error.
  void reserve() const {
#if defined(__APPLE__)
    const std::string zeros(size_t{1} << 20, '\0');
    for (int64_t at = 0; at < bytes_;) {
      const auto size = static_cast<size_t>(std::min<int64_t>(bytes_ - at, 1 << 20));
      const ssize_t written = pwrite(number_, zeros.data(), size, at);
      if (written <= 0) fail(written < 0 ? errno : ENOSPC);
      at += written;
    }
#else
    if (ftruncate(number_, bytes_) != 0) fail(errno);
    const int code = posix_fallocate(number_, 0, bytes_);
    if (code != 0) fail(code);
#endif
  }

  void* map() const {
    void* const data =
        mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE, MAP_SHARED, number_, 0);
    if (data == MAP_FAILED) fail(errno);
    return data;
  }

 private:
  [[noreturn]] void fail(int code) const {
    throw FileError("memory_map='" + folder_ + "' must be a folder with room for a file of " +
                        grouped(bytes_) + " bytes: " + std::strerror(code),
                    code);
  }

  // Before any of it is taken: some file systems fill the disk before they find it too small.
  void check_folder() const {
    struct stat about;
    if (stat(folder_.c_str(), &about) != 0) fail(errno);
    if (!S_ISDIR(about.st_mode)) fail(ENOTDIR);
    struct statvfs disk;
    if (statvfs(folder_.c_str(), &disk) != 0) fail(errno);
    const double free = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    if (static_cast<double>(bytes_) > free) fail(ENOSPC);
  }

  std::string folder_;
  int64_t bytes_;
  int number_ = -1;
};

#endif

}  // namespace

WindowMemory::WindowMemory(int64_t bytes, const std::string& folder) : bytes_(bytes) {
  if (folder.empty()) {
    data_ = zeroed(bytes_);
    return;
  }
#if defined(KOOPCORE_MAPS)
  const File file(folder, bytes_);
  file.reserve();
  data_ = file.map();
  owner_ = getpid();
#else
  KOOPCORE_REQUIRE(false) << "memory_map='" << folder << "': this system has no mapped files";
#endif
}

WindowMemory::~WindowMemory() {
#if defined(KOOPCORE_MAPS)
  if (owner_ != 0) {
    munmap(data_, static_cast<size_t>(bytes_));
    return;
  }
#endif
  ::operator delete(data_, alignment_of(bytes_));
}

void WindowMemory::check_process() const {
#if defined(KOOPCORE_MAPS)
  KOOPCORE_REQUIRE(owner_ == 0 || owner_ == getpid())
      << "this memory-mapped window is that of process " << owner_
      << ", which was forked; make another one in the child";
#endif
}

}  // namespace koopcore::detail
