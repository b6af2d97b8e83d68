// SPDX-License-Identifier: Apache-2.0

#include "host/record/record_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "host/base/file.h"

namespace callout::host {

std::string RecordFile::Older(size_t number) const {
  return fmt::format("{}.{}", options_.path, number);
}

// The last one goes, or with files = 1 the current one.
void RecordFile::Rotate() const {
  for (size_t number = options_.files - 1; number > 0; --number) {
    const std::string from = number == 1 ? options_.path : Older(number - 1);
    rename(from.c_str(), Older(number).c_str());
  }
  if (options_.files <= 1) unlink(options_.path.c_str());
}

absl::Status RecordFile::Create() {
  struct stat there = {};
  int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_CREAT | O_EXCL;
  regular_ = true;
  if (lstat(options_.path.c_str(), &there) == 0) {
    if (S_ISREG(there.st_mode)) {
      there.st_size > 0 ? Rotate() : static_cast<void>(unlink(options_.path.c_str()));
    } else {
      regular_ = false;
      flags &= ~(O_CREAT | O_EXCL);
    }
  }
  constexpr mode_t kMode = 0600;
  fd_ = OwnedFd(open(options_.path.c_str(), flags, kMode));
  size_ = 0;
  if (fd_.get() >= 0) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("cannot create {}: {}", options_.path, strerror(errno)));
}

absl::Status RecordFile::Open() {
  if (fd_.get() >= 0) return absl::OkStatus();
  return Create();
}

// All of it, or nothing.
absl::Status RecordFile::Write(std::string_view bytes) {
  const size_t written = WriteAll(fd_.get(), bytes);
  if (written == bytes.size()) {
    size_ += written;
    return absl::OkStatus();
  }
  const int error = errno;
  if (written > 0) {
    const auto end = static_cast<off_t>(size_);
    // What cannot be taken back leaves a damaged file behind, and a new one is begun.
    if (ftruncate(fd_.get(), end) != 0 || lseek(fd_.get(), end, SEEK_SET) != end) fd_ = OwnedFd();
  }
  return absl::UnavailableError(
      fmt::format("cannot write to {}: {}", options_.path, strerror(error)));
}

absl::Status RecordFile::Append(std::string_view frames) {
  if (absl::Status status = Open(); !status.ok()) return status;
  if (size_ > 0 && !Fits(frames.size()) && regular_) {
    fd_ = OwnedFd();
    if (absl::Status status = Create(); !status.ok()) return status;
  }
  if (size_ == 0) {
    const std::string begin = options_.begin();
    if (regular_ && begin.size() + frames.size() > options_.bytes_max) {
      return absl::ResourceExhaustedError(
          fmt::format("{} bytes do not fit into a file of {}", frames.size(), options_.bytes_max));
    }
    if (absl::Status status = Write(begin); !status.ok()) return status;
  }
  return Write(frames);
}

}  // namespace callout::host
