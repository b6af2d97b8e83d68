// SPDX-License-Identifier: Apache-2.0

#include "host/base/atomic_write.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "host/base/file.h"
#include "host/base/owned_fd.h"

namespace callout::host {
namespace {

// absl::ErrnoToStatus would put the reason behind the message, which is the reason.
absl::Status ErrorOf(int error) {
  return absl::Status(absl::ErrnoToStatusCode(error), strerror(error));
}

// So that the new name outlives a power failure.
absl::Status SyncDirectory(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path().string();
  const OwnedFd fd(
      open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd.get()) != 0) return ErrorOf(errno);
  return absl::OkStatus();
}

absl::Status WriteNew(const std::string& path, std::string_view contents) {
  // Another one's symlink of this name is not followed.
  unlink(path.c_str());
  const OwnedFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.get() < 0) return ErrorOf(errno);
  if (WriteAll(fd.get(), contents) != contents.size()) return ErrorOf(errno);
  return fsync(fd.get()) == 0 ? absl::OkStatus() : ErrorOf(errno);
}

}  // namespace

absl::Status WriteAtomically(const std::string& path, std::string_view contents) {
  const std::string fresh = path + ".new";
  absl::Status status = WriteNew(fresh, contents);
  if (status.ok() && rename(fresh.c_str(), path.c_str()) != 0) status = ErrorOf(errno);
  if (!status.ok()) {
    unlink(fresh.c_str());
    return status;
  }
  return SyncDirectory(path);
}

}  // namespace callout::host
