#include "host/reload/private_copy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "callout-host-";

std::vector<std::string> DefaultPlaces() {
  std::vector<std::string> places;
  const char* temporary = getenv("TMPDIR");
  if (temporary != nullptr && *temporary != '\0') places.emplace_back(temporary);
  places.insert(places.end(), {"/tmp", "/var/tmp"});
  return places;
}

// Open with the lock of its owner; -1 if another process has the lock, or errno.
int OpenLocked(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return -1;
}

// Removes what processes that were killed have left of this user's.
void RemoveLeftBehind(const std::string& place) {
  std::error_code error;
  std::vector<std::string> found;
  fs::directory_iterator entry(place, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    struct stat status;
    if (entry->path().filename().string().starts_with(kPrefix) &&
        lstat(entry->path().c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
        status.st_uid == geteuid()) {
      found.push_back(entry->path().string());
    }
  }
  for (const std::string& directory : found) {
    const int fd = OpenLocked(directory);
    if (fd < 0) continue;
    fs::remove_all(directory, error);
    close(fd);
  }
}

// What is wrong with the place, or a new directory in it.
absl::StatusOr<std::pair<std::string, int>> MakeDirectory(const std::string& place) {
  struct statvfs status;
  if (statvfs(place.c_str(), &status) != 0) {
    return absl::UnavailableError(fmt::format("{}: {}", place, strerror(errno)));
  }
  if ((status.f_flag & ST_NOEXEC) != 0) {
    return absl::UnavailableError(fmt::format("{}: mounted noexec", place));
  }
  RemoveLeftBehind(place);
  std::string directory = fmt::format("{}/{}XXXXXX", place, kPrefix);
  // Between making and locking, another process may take it for left behind.
  for (int attempt = 0; attempt < 10; ++attempt) {
    directory.replace(directory.size() - 6, 6, "XXXXXX");
    if (mkdtemp(directory.data()) == nullptr) break;
    const int fd = OpenLocked(directory);
    struct stat locked;
    if (fd >= 0 && fstat(fd, &locked) == 0 && locked.st_nlink > 0) return std::pair(directory, fd);
    if (fd >= 0) close(fd);
  }
  return absl::UnavailableError(fmt::format("{}: {}", place, strerror(errno)));
}

// As the contents of a new file that nobody may write to.
bool WriteFile(const std::string& path, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
  if (fd < 0) return false;
  bool good = true;
  while (good && !bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    good = written >= 0 || errno == EINTR;
    if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
  }
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
