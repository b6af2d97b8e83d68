#include "host/base/file_stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <cstring>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "host/base/owned_fd.h"

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

absl::Status CannotRead(const std::string& path, int error) {
  return absl::InvalidArgumentError(fmt::format("cannot read {}: {}", path, strerror(error)));
}

absl::Status Changing(const std::string& path) {
  return absl::AbortedError(fmt::format("{} is changing while it is read", path));
}

}  // namespace

FileStamp StampOf(const std::string& path) {
  struct stat status;
  return !path.empty() && stat(path.c_str(), &status) == 0 ? ToStamp(status) : FileStamp();
}

absl::StatusOr<std::string> ReadUnchanged(const std::string& path, const FileStamp& stamp,
                                          size_t bytes_max) {
  const OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (file.get() < 0) return errno == ENOENT ? Changing(path) : CannotRead(path, errno);
  if (StampOf(file.get()) != stamp) return Changing(path);
  if (static_cast<uint64_t>(stamp.size) > bytes_max) {
    return absl::InvalidArgumentError(
        fmt::format("{} has {} bytes; the limit is {}", path, stamp.size, bytes_max));
  }
  std::string bytes;
  const auto size = static_cast<size_t>(stamp.size);
  if (!ReadToEnd(file.get(), size, &bytes)) return CannotRead(path, errno);
  if (bytes.size() != size) return Changing(path);
  return StampOf(file.get()) == stamp ? absl::StatusOr<std::string>(std::move(bytes))
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
