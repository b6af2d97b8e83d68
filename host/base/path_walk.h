// SPDX-License-Identifier: Apache-2.0

// The way that the kernel takes to a file: each name that it looks up, in which directory,
// with symlinks followed. It tells whose directories decide what a path means.
//
//   WalkPath("/etc/callout/p.so", [](const PathStep& step) { … });
//
// A snapshot: names may change while it walks. Any thread.
#ifndef CALLOUT_HOST_BASE_PATH_WALK_H_
#define CALLOUT_HOST_BASE_PATH_WALK_H_

#include <cstdint>
#include <functional>
#include <string>

namespace callout::host {

struct PathStep {
  enum class Found : uint8_t {
    kDirectory,
    kSymlink,  // the walk goes on where it leads to
    kOther,    // a file, or nothing: the walk ends. Also the 41st symlink, as for the kernel
  };

  std::string directory;
  std::string name;  // in it; not "." or ".."
  Found found = Found::kOther;
  bool last = false;  // no name is left to look up

  std::string path() const { return (directory == "/" ? "" : directory) + "/" + name; }
};

// A relative path begins in the current directory.
void WalkPath(const std::string& path, const std::function<void(const PathStep&)>& visit);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_PATH_WALK_H_
