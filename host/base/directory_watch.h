// Tells when files may have changed, so that one looks again: inotify where the
// file system tells of changes, the caller's clock elsewhere.
//
//   absl::StatusOr<std::unique_ptr<DirectoryWatch>> watch = DirectoryWatch::Create();
//   (*watch)->Watch({"/etc/callout/plugins"});
//   poll((*watch)->fd(), …, (*watch)->blind() ? 1000 : 10000);
//   if ((*watch)->TakeEvents()) … look …
//
// A path is watched along its whole way: the directory itself, every directory
// in which a symlink of the way lies (a deployment that switches `current`, or
// Kubernetes' `..data`), and, where something is missing, the directory in which
// it would appear. What it says is "look again", never what has changed, so
// nothing hangs on the order or the completeness of the kernel's events. Writes
// are told when the writer closes the file.
//
// For one thread.
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
  // Succeeds also where the system gives no inotify; it is blind then.
  static std::unique_ptr<DirectoryWatch> Create();
  ~DirectoryWatch();
  DirectoryWatch(const DirectoryWatch&) = delete;
  DirectoryWatch& operator=(const DirectoryWatch&) = delete;

  // Watches the ways to `paths`, files or directories, there or not, instead of
  // what was watched before. True if a directory is watched now that was not: what
  // happened in it until now was not seen, so look once more.
  bool Watch(const std::vector<std::string>& paths);

  // Readable when TakeEvents has something to take; -1: none, always blind.
  int fd() const { return fd_; }

  // Takes what the kernel has told. True if it may concern the paths.
  bool TakeEvents();

  // Something is watched that the kernel does not tell about, or not all: a
  // network file system, or more directories than fs.inotify allows.
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
