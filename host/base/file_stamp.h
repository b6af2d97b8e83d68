// Distinguishes versions of a file without reading it, and reads a file that others
// may be writing at the same time.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_BASE_FILE_STAMP_H_
#define CALLOUT_HOST_BASE_FILE_STAMP_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace callout::host {

struct FileStamp {
  bool exists = false;  // as a regular file, at the end of all symlinks
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t written_ns = 0;  // st_mtim
  int64_t changed_ns = 0;  // st_ctim

  bool operator==(const FileStamp&) const = default;
};

// Of the file that `path` leads to now; "" does not exist.
FileStamp StampOf(const std::string& path);

// All bytes of the file, if it matches `stamp` before and after.
// ABORTED: it is another version or is being written; retry later.
// INVALID_ARGUMENT: it cannot be read, or is larger than `bytes_max`.
absl::StatusOr<std::string> ReadUnchanged(const std::string& path, const FileStamp& stamp,
                                          size_t bytes_max);

// In hexadecimal.
std::string Sha256(const std::string& bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FILE_STAMP_H_
