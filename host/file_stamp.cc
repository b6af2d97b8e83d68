#include "host/file_stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"

namespace callout::host {
namespace {

int64_t ToNs(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileStamp ToStamp(const struct stat& status) {
  if (!S_ISREG(status.st_mode)) return {};
  return {true,           status.st_dev,        status.st_ino,
          status.st_size, ToNs(status.st_mtim), ToNs(status.st_ctim)};
}

FileStamp StampOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? ToStamp(status) : FileStamp();
}

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

absl::Status CannotRead(const std::string& path, int error) {
  return absl::InvalidArgumentError(fmt::format("cannot read {}: {}", path, strerror(error)));
}

absl::Status Changing(const std::string& path) {
  return absl::AbortedError(fmt::format("{} is being changed", path));
}

}  // namespace

FileStamp StampOf(const std::string& path) {
  struct stat status;
  return !path.empty() && stat(path.c_str(), &status) == 0 ? ToStamp(status) : FileStamp();
}

absl::StatusOr<std::string> ReadUnchanged(const std::string& path, const FileStamp& stamp,
                                          size_t bytes_max) {
  const OpenFile file(path);
  if (file.fd() < 0) return errno == ENOENT ? Changing(path) : CannotRead(path, errno);
  if (StampOf(file.fd()) != stamp) return Changing(path);
  if (static_cast<uint64_t>(stamp.size) > bytes_max) {
    return absl::InvalidArgumentError(
        fmt::format("{} has {} bytes; at most {} are taken", path, stamp.size, bytes_max));
  }
  std::string bytes(static_cast<size_t>(stamp.size), '\0');
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t got = read(file.fd(), bytes.data() + at, bytes.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return CannotRead(path, errno);
    if (got == 0) return Changing(path);
    at += static_cast<size_t>(got);
  }
  return StampOf(file.fd()) == stamp ? absl::StatusOr<std::string>(std::move(bytes))
                                     : Changing(path);
}

std::string Sha256(const std::string& bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) != 1) return "";
  const absl::string_view view(reinterpret_cast<const char*>(digest), size);
  return absl::BytesToHexString(view);
}

}  // namespace callout::host
