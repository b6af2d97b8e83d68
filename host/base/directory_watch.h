// SPDX-License-Identifier: Apache-2.0

// Reports when files may have changed, so that the caller rescans them: by inotify
// if the file system supports it; otherwise the caller rescans periodically.
//
//   absl::StatusOr<std::unique_ptr<DirectoryWatch>> watch = DirectoryWatch::Create();
//   (*watch)->Watch({"/etc/callout/plugins"});
//   poll((*watch)->fd(), …, (*watch)->blind() ? 1000 : 10000);
//   if ((*watch)->TakeEvents()) … rescan …
//
// All of a path is watched: its directory, every directory that contains one of its
// symlinks (a deployment that switches `current`, or Kubernetes' `..data`), and, if
// something is missing, the directory in which it would appear. The watch never says
// what has changed, so it does not depend on the order or completeness of the
// kernel's events. A write is reported when the writer closes the file.
//
// Single-threaded.
#ifndef CALLOUT_HOST_BASE_DIRECTORY_WATCH_H_
#define CALLOUT_HOST_BASE_DIRECTORY_WATCH_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

class DirectoryWatch {
 public:
  // Also succeeds without inotify; the watch is then blind().
  static std::unique_ptr<DirectoryWatch> Create();
  ~DirectoryWatch();
  DirectoryWatch(const DirectoryWatch&) = delete;
  DirectoryWatch& operator=(const DirectoryWatch&) = delete;

  // Watches `paths`, files or directories, which need not exist, instead of what was
  // watched before. True if it watches a directory that it did not watch before:
  // earlier changes there were missed, so rescan once more.
  bool Watch(const std::vector<std::string>& paths);

  // Readable when TakeEvents has events; -1: no inotify, always blind.
  int fd() const { return fd_; }

  // Reads the kernel's events. True if they may concern the paths.
  bool TakeEvents();

  // The kernel does not report all changes: a path is on a network file system, or
  // there are more directories than fs.inotify allows.
  bool blind() const { return blind_; }

 private:
  // The names that matter in a directory; empty: all.
  using Names = std::set<std::string>;
  using Places = std::map<std::string, Names>;  // by directory

  explicit DirectoryWatch(int fd) : fd_(fd), blind_(fd < 0) {}

  static void AddWay(const std::string& path, Places* places);
  bool Matters(int watch, const char* name) const;

  const int fd_;
  bool blind_;
  std::map<int, Names> watches_;  // by inotify's number
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_DIRECTORY_WATCH_H_
