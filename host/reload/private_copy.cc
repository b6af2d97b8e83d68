// SPDX-License-Identifier: Apache-2.0

#include "host/reload/private_copy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "host/base/file.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "callout-host-";
constexpr size_t kRandomLetters = 6;  // of mkdtemp
// The marker in every directory that is made here, once its lock is taken.
constexpr char kMarker[] = ".private-copies-of-callout-host";

// The letters that mkdtemp uses.
bool IsNameOfOurs(std::string_view name) {
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  return name.size() == kRandomLetters && std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c));
         });
}

// Whether a process of this user made the open directory here.
bool IsOurs(int directory) {
  struct stat status;
  if (fstat(directory, &status) != 0 || status.st_uid != geteuid()) return false;
  if ((status.st_mode & 07777) != 0700) return false;
  return fstatat(directory, kMarker, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISREG(status.st_mode) && status.st_uid == geteuid();
}

std::vector<std::string> DefaultPlaces() {
  std::vector<std::string> places;
  const char* temporary = getenv("TMPDIR");
  if (temporary != nullptr && *temporary != '\0') places.emplace_back(temporary);
  places.insert(places.end(), {"/tmp", "/var/tmp"});
  return places;
}

// The open directory with its owner's lock; -1 if another process has the lock, or on an error.
int OpenLocked(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return -1;
}

// Removes directories of this user's processes that were killed.
void RemoveLeftBehind(const std::string& place) {
  std::error_code error;
  std::vector<std::string> found;
  fs::directory_iterator entry(place, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (IsNameOfOurs(entry->path().filename().string())) found.push_back(entry->path().string());
  }
  for (const std::string& directory : found) {
    const int fd = OpenLocked(directory);
    if (fd < 0) continue;
    if (IsOurs(fd)) fs::remove_all(directory, error);
    close(fd);
  }
}

// A new directory in the place, or what is wrong with the place.
absl::StatusOr<std::pair<std::string, int>> MakeDirectory(const std::string& place) {
  struct statvfs status;
  if (statvfs(place.c_str(), &status) != 0) {
    return absl::UnavailableError(fmt::format("{}: {}", place, strerror(errno)));
  }
  if ((status.f_flag & ST_NOEXEC) != 0) {
    return absl::UnavailableError(fmt::format("{}: mounted noexec", place));
  }
  RemoveLeftBehind(place);
  std::string directory = fmt::format("{}/{}{}", place, kPrefix, std::string(kRandomLetters, 'X'));
  if (mkdtemp(directory.data()) == nullptr) {
    return absl::UnavailableError(fmt::format("{}: {}", place, strerror(errno)));
  }
  const int fd = OpenLocked(directory);
  // Only with the marker could others remove it, and the lock tells them not to.
  const int marker =
      fd < 0 ? -1 : openat(fd, kMarker, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
  if (marker >= 0) {
    close(marker);
    return std::pair(directory, fd);
  }
  const int error = errno;
  if (fd >= 0) close(fd);
  rmdir(directory.c_str());
  return absl::UnavailableError(fmt::format("{}: {}", place, strerror(error)));
}

// Writes a new file that nobody may write to afterwards.
bool WriteFile(const std::string& path, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
  if (fd < 0) return false;
  const bool good = WriteAll(fd, bytes) == bytes.size();
  const int error = errno;
  if (close(fd) != 0) return false;
  errno = error;
  return good;
}

}  // namespace

PrivateCopy::~PrivateCopy() {
  std::error_code ignored;
  fs::remove_all(fs::path(path_).parent_path(), ignored);
}

absl::StatusOr<std::shared_ptr<PrivateCopies>> PrivateCopies::Create(
    const std::vector<std::string>& places) {
  std::vector<std::string> wrong;
  for (const std::string& place : places.empty() ? DefaultPlaces() : places) {
    auto made = MakeDirectory(place);
    if (made.ok()) {
      return std::shared_ptr<PrivateCopies>(new PrivateCopies(made->first, made->second));
    }
    wrong.emplace_back(made.status().message());
  }
  return absl::UnavailableError(
      fmt::format("no place for private copies of the plugins ({}); point TMPDIR to a directory "
                  "that can be written to and executed from",
                  absl::StrJoin(wrong, "; ")));
}

PrivateCopies::~PrivateCopies() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
  close(lock_fd_);
}

absl::StatusOr<std::shared_ptr<const PrivateCopy>> PrivateCopies::Add(std::string_view file_name,
                                                                      std::string_view bytes) {
  const fs::path path = fs::path(directory_) / fmt::format("{}", ++last_number_) / file_name;
  if (mkdir(path.parent_path().c_str(), 0700) != 0) {
    return absl::UnavailableError(
        fmt::format("making {}: {}", path.parent_path().string(), strerror(errno)));
  }
  std::shared_ptr<const PrivateCopy> copy(new PrivateCopy(shared_from_this(), path.string()));
  if (WriteFile(copy->path(), bytes)) return copy;
  return absl::UnavailableError(fmt::format("writing {} bytes to {}: {}; free some space there",
                                            bytes.size(), copy->path(), strerror(errno)));
}

}  // namespace callout::host
