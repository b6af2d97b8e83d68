// SPDX-License-Identifier: Apache-2.0

#include "host/base/directory_watch.h"

#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "host/base/path_walk.h"

namespace callout::host {
namespace {

constexpr uint32_t kMask = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                           IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

// False for file systems on which other machines change files without telling this kernel.
bool TellsOfChanges(const std::string& directory) {
  constexpr unsigned long kCeph = 0x00c36400, kFuse = 0x65735546, kGpfs = 0x47504653,
                          kLustre = 0x0bd00bd0, kCifs = 0xff534d42, kSmb2 = 0xfe534d42,
                          kVboxsf = 0x786f4256, kVmhgfs = 0xbacbacbc;
  struct statfs status;
  if (statfs(directory.c_str(), &status) != 0) return true;
  switch (static_cast<unsigned long>(status.f_type) & 0xffffffffu) {
    case AFS_SUPER_MAGIC:
    case CODA_SUPER_MAGIC:
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case V9FS_MAGIC:
    case kCeph:
    case kCifs:
    case kFuse:
    case kGpfs:
    case kLustre:
    case kSmb2:
    case kVboxsf:
    case kVmhgfs:
      return false;
    default:
      return true;
  }
}

}  // namespace

std::unique_ptr<DirectoryWatch> DirectoryWatch::Create() {
  return std::unique_ptr<DirectoryWatch>(
      new DirectoryWatch(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)));
}

DirectoryWatch::~DirectoryWatch() {
  if (fd_ >= 0) close(fd_);
}

// Adds every place where a change would make the path lead elsewhere.
void DirectoryWatch::AddWay(const std::string& path, Places* places) {
  WalkPath(path, [places](const PathStep& step) {
    if (step.kind == PathStep::Kind::kDirectory) {
      if (step.last) (*places)[step.path()].clear();  // everything in it
      return;
    }
    const auto [place, is_new] = places->try_emplace(step.directory);
    if (is_new || !place->second.empty()) place->second.insert(step.name);
  });
}

bool DirectoryWatch::Watch(const std::vector<std::string>& paths) {
  Places places;
  for (const std::string& path : paths) AddWay(path, &places);
  blind_ = fd_ < 0;
  std::map<int, Names> watches;
  bool is_new = false;
  for (auto& [directory, names] : places) {
    if (!TellsOfChanges(directory)) blind_ = true;
    const int watch = fd_ < 0 ? -1 : inotify_add_watch(fd_, directory.c_str(), kMask);
    if (watch < 0) {
      // The directory was removed meanwhile, which the next rescan notices. Any other error: the
      // system allows no further watch.
      if (errno != ENOENT && errno != ENOTDIR) blind_ = true;
      continue;
    }
    is_new = is_new || watches_.count(watch) == 0;
    // Two paths to one directory have the same number.
    const auto [known, first] = watches.try_emplace(watch, names);
    if (first) continue;
    if (names.empty() || known->second.empty()) {
      known->second.clear();
    } else {
      known->second.merge(names);
    }
  }
  for (const auto& [watch, names] : watches_) {
    if (watches.count(watch) == 0) inotify_rm_watch(fd_, watch);
  }
  watches_ = std::move(watches);
  return is_new;
}

bool DirectoryWatch::Matters(int watch, const char* name) const {
  if (watch < 0) return true;  // events were lost
  const auto known = watches_.find(watch);
  if (known == watches_.end()) return false;
  return known->second.empty() || *name == '\0' || known->second.count(name) > 0;
}

bool DirectoryWatch::TakeEvents() {
  if (fd_ < 0) return false;
  bool matters = false;
  alignas(inotify_event) char buffer[16384];
  ssize_t size = 0;
  while ((size = read(fd_, buffer, sizeof(buffer))) > 0) {
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      // The watch of a removed directory has ended. Forget it, so that a new directory of that
      // name counts as new.
      if ((event->mask & IN_IGNORED) != 0) {
        watches_.erase(event->wd);
      } else {
        matters = matters || Matters(event->wd, event->len > 0 ? event->name : "");
      }
    }
  }
  return matters;
}

}  // namespace callout::host
