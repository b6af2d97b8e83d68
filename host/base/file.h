// SPDX-License-Identifier: Apache-2.0

// Reading files. Everything the host reads by path goes through here.
//
//   absl::StatusOr<std::string> pem = ReadFile("/etc/tls/cert.pem", 1 << 20);
//
//   const FileStamp stamp = StampOf(path);            // which version is there?
//   …                                                 // once it has rested
//   absl::StatusOr<FileContents> file = ReadUnchanged(path, stamp, limits);
//
// Only regular files are read. Opening never blocks, so a FIFO, a device or a socket in a file's
// place is an error and never a thread that hangs. What is there but cannot be reached (a dangling
// symlink, a directory, no permission) is not the same as a file that is absent.
//
// An error's message is the reason alone ("No such file or directory", "it is a directory, not a
// regular file"), for the caller to put the path and the purpose before it. Codes: NOT_FOUND,
// PERMISSION_DENIED, INVALID_ARGUMENT (no regular file, or above a limit), ABORTED (it is being
// changed), else UNAVAILABLE.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_BASE_FILE_H_
#define CALLOUT_HOST_BASE_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace callout::host {

// What tells one version of a file from another without reading it.
struct FileStamp {
  enum class Kind : uint8_t {
    kAbsent,    // there is no such name
    kRegular,   // a regular file, at the end of all symlinks
    kUnusable,  // something is there, and no regular file can be reached by it
  };
  Kind kind = Kind::kAbsent;
  int error = 0;    // kUnusable: errno of reaching it; 0: it is not a regular file
  mode_t mode = 0;  // with its type
  uid_t owner = 0;
  gid_t group = 0;
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t written_ns = 0;  // st_mtim
  int64_t changed_ns = 0;  // st_ctim

  bool absent() const { return kind == Kind::kAbsent; }
  bool regular() const { return kind == Kind::kRegular; }
  bool operator==(const FileStamp&) const = default;
};

// Of what `path` leads to now; "" is absent.
FileStamp StampOf(const std::string& path);

// Why the file of `stamp` cannot be read; OK if it is regular.
absl::Status CheckRegular(const FileStamp& stamp);

struct FileContents {
  std::string bytes;
  FileStamp stamp;  // taken from the open file
};

// The whole file.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// The same of anything that can be opened, also a FIFO or a terminal, which may block: for tools.
absl::StatusOr<std::string> ReadAnything(const std::string& path, size_t max_bytes);

// The first bytes of the file, at most `max_bytes`.
absl::StatusOr<FileContents> ReadStart(const std::string& path, size_t max_bytes);

// All bytes of the file, which is still the one of `stamp`, before and after.
absl::StatusOr<std::string> ReadUnchanged(const std::string& path, const FileStamp& stamp,
                                          size_t max_bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FILE_H_
