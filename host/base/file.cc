// SPDX-License-Identifier: Apache-2.0

#include "host/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "host/base/owned_fd.h"

namespace callout::host {
namespace {

// Memory grows as bytes are read, so the size that a file claims costs nothing.
constexpr size_t kStepBytes = size_t{1} << 20;

int64_t ToNs(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileStamp ToStamp(const struct stat& status) {
  FileStamp stamp;
  stamp.kind = S_ISREG(status.st_mode) ? FileStamp::Kind::kRegular : FileStamp::Kind::kUnusable;
  stamp.mode = status.st_mode;
  stamp.owner = status.st_uid;
  stamp.group = status.st_gid;
  stamp.device = status.st_dev;
  stamp.inode = status.st_ino;
  stamp.size = status.st_size;
  stamp.written_ns = ToNs(status.st_mtim);
  stamp.changed_ns = ToNs(status.st_ctim);
  return stamp;
}

FileStamp Unreachable(int error) {
  FileStamp stamp;
  stamp.kind = FileStamp::Kind::kUnusable;
  stamp.error = error;
  return stamp;
}

FileStamp StampOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? ToStamp(status) : Unreachable(errno);
}

absl::Status ErrnoStatus(int error) {
  const char* text = strerror(error);
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(text);
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(text);
  return absl::UnavailableError(text);
}

absl::Status Changing() { return absl::AbortedError("it is being changed"); }

absl::Status TooLarge(size_t max_bytes) {
  return absl::InvalidArgumentError(fmt::format("it has more than {} bytes", max_bytes));
}

// Non-blocking, or opening a FIFO without a writer would wait for one. A regular file is read in
// the same way with and without.
OwnedFd OpenForReading(const std::string& path) {
  return OwnedFd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
}

// Reads the rest of the file, at most `max_bytes`. Also OK if there is more.
absl::Status ReadUpTo(int fd, size_t max_bytes, std::string* bytes) {
  size_t size = 0;
  while (size < max_bytes) {
    if (bytes->size() == size) {
      bytes->resize(std::min(max_bytes, size + std::max(size, kStepBytes)));
    }
    const ssize_t got = read(fd, bytes->data() + size, bytes->size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  bytes->resize(size);
  return absl::OkStatus();
}

// Opens the file if it is a regular one.
absl::StatusOr<std::pair<OwnedFd, FileStamp>> OpenRegular(const std::string& path) {
  OwnedFd file = OpenForReading(path);
  if (file.get() < 0) return ErrnoStatus(errno);
  const FileStamp stamp = StampOf(file.get());
  if (absl::Status status = CheckRegular(stamp); !status.ok()) return status;
  return std::pair(std::move(file), stamp);
}

absl::StatusOr<std::string> ReadAll(int fd, size_t max_bytes) {
  std::string bytes;
  if (absl::Status status = ReadUpTo(fd, max_bytes + 1, &bytes); !status.ok()) return status;
  if (bytes.size() > max_bytes) return TooLarge(max_bytes);
  return bytes;
}

std::string_view TypeName(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "of an unknown type";
}

}  // namespace

FileStamp StampOf(const std::string& path) {
  struct stat status;
  if (path.empty()) return {};
  if (stat(path.c_str(), &status) == 0) return ToStamp(status);
  const int error = errno;
  // A dangling symlink is not an absent file.
  const bool absent = error == ENOENT && lstat(path.c_str(), &status) != 0 && errno == ENOENT;
  return absent ? FileStamp() : Unreachable(error);
}

absl::Status CheckRegular(const FileStamp& stamp) {
  switch (stamp.kind) {
    case FileStamp::Kind::kRegular:
      return absl::OkStatus();
    case FileStamp::Kind::kAbsent:
      return ErrnoStatus(ENOENT);
    case FileStamp::Kind::kUnusable:
      break;
  }
  if (stamp.error == ENOENT) return absl::NotFoundError("it is a symlink to nothing");
  if (stamp.error != 0) return ErrnoStatus(stamp.error);
  return absl::InvalidArgumentError(
      fmt::format("it is {}, not a regular file", TypeName(stamp.mode)));
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  auto file = OpenRegular(path);
  if (!file.ok()) return file.status();
  if (static_cast<uint64_t>(file->second.size) > max_bytes) return TooLarge(max_bytes);
  return ReadAll(file->first.get(), max_bytes);
}

absl::StatusOr<std::string> ReadAnything(const std::string& path, size_t max_bytes) {
  const OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (file.get() < 0) return ErrnoStatus(errno);
  return ReadAll(file.get(), max_bytes);
}

absl::StatusOr<FileContents> ReadStart(const std::string& path, size_t max_bytes) {
  auto file = OpenRegular(path);
  if (!file.ok()) return file.status();
  FileContents start;
  start.stamp = file->second;
  absl::Status status = ReadUpTo(file->first.get(), max_bytes, &start.bytes);
  if (!status.ok()) return status;
  return start;
}

absl::StatusOr<std::string> ReadUnchanged(const std::string& path, const FileStamp& stamp,
                                          size_t max_bytes) {
  if (absl::Status status = CheckRegular(stamp); !status.ok()) return status;
  auto file = OpenRegular(path);
  if (!file.ok()) return absl::IsNotFound(file.status()) ? Changing() : file.status();
  if (file->second != stamp) return Changing();
  const auto size = static_cast<size_t>(stamp.size);
  if (size > max_bytes) {
    return absl::InvalidArgumentError(
        fmt::format("it has {} bytes, over the limit of {}", size, max_bytes));
  }
  std::string bytes;
  // Some file systems, as /proc, tell no size.
  if (absl::Status status = ReadUpTo(file->first.get(), size + 1, &bytes); !status.ok()) {
    return status;
  }
  const bool same = bytes.size() == size && StampOf(file->first.get()) == stamp;
  return same ? absl::StatusOr<std::string>(std::move(bytes)) : Changing();
}

size_t WriteAll(int fd, std::string_view bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t written = write(fd, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno != EINTR) break;
    if (written > 0) done += static_cast<size_t>(written);
  }
  return done;
}

}  // namespace callout::host
