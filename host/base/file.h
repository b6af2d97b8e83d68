// SPDX-License-Identifier: Apache-2.0

// Reading files, and writing. Everything the host reads by path goes through here.
//
//   absl::StatusOr<std::string> pem = ReadFile("/etc/tls/cert.pem", 1 << 20);
//
//   const FileStamp stamp = StampOf(path);            // which version is there?
//   …                                                 // once it has not changed for a while
//   absl::StatusOr<FileContents> file = ReadUnchanged(path, stamp, limits);
//
// Only regular files are read. Opening never blocks: a FIFO, a device or a socket is an error. A
// name that exists but leads to no readable file (a dangling symlink, a directory, no permission)
// is not the same as an absent file.
//
// An error's message has the reason only ("No such file or directory", "it is a directory, not a
// regular file"); the caller puts the path and the purpose before it. Codes: NOT_FOUND,
// PERMISSION_DENIED, INVALID_ARGUMENT (no regular file, or over a limit), ABORTED (the file is
// being changed), else UNAVAILABLE.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_BASE_FILE_H_
#define CALLOUT_HOST_BASE_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace callout::host {

// Distinguishes versions of a file without reading it.
struct FileStamp {
  enum class Kind : uint8_t {
    kAbsent,    // no such name exists
    kRegular,   // a regular file, at the end of all symlinks
    kUnusable,  // the name exists, but leads to no regular file
  };
  Kind kind = Kind::kAbsent;
  int error = 0;    // of kUnusable: the errno; 0: it is not a regular file
  mode_t mode = 0;  // including the type
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

// The stamp of the file at `path` now; "" is absent.
FileStamp StampOf(const std::string& path);

// An error that says why the file of `stamp` cannot be read; OK if it is regular.
absl::Status CheckRegular(const FileStamp& stamp);

struct FileContents {
  std::string bytes;
  FileStamp stamp;  // taken from the open file
};

// Reads the whole file.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// The same for any file, also a FIFO or a terminal, which may block. For command-line tools.
absl::StatusOr<std::string> ReadAnything(const std::string& path, size_t max_bytes);

// Reads the first bytes of the file, at most `max_bytes`.
absl::StatusOr<FileContents> ReadStart(const std::string& path, size_t max_bytes);

// Reads the whole file; ABORTED unless it has `stamp` before and after.
absl::StatusOr<std::string> ReadUnchanged(const std::string& path, const FileStamp& stamp,
                                          size_t max_bytes);

// Writes the bytes to the descriptor, whatever signals come. How many were written; if not all,
// errno says why.
size_t WriteAll(int fd, std::string_view bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FILE_H_
