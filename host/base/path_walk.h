// SPDX-License-Identifier: Apache-2.0

// Resolves a path step by step, as the kernel does, and shows each step: the directories that it
// passes, the symlinks that it follows, and where it ends.
//
//   WalkPath("/etc/callout/current/auth.so", [](const PathStep& step) { … });
//
// A plain function; any thread. What it shows may have changed by then.
#ifndef CALLOUT_HOST_BASE_PATH_WALK_H_
#define CALLOUT_HOST_BASE_PATH_WALK_H_

#include <cstdint>
#include <functional>
#include <string>

namespace callout::host {

struct PathStep {
  enum class Kind : uint8_t {
    kDirectory,
    kSymlink,  // the walk goes on with its target
    kEnd,      // a file, a missing name, or a symlink too many: the last step
  };
  Kind kind = Kind::kEnd;
  std::string directory;  // absolute, without symlinks
  std::string name;       // in `directory`
  bool last = false;      // of kDirectory: the path ends there

  std::string path() const { return directory + (directory.ends_with('/') ? "" : "/") + name; }
};

// A relative path begins in the working directory. ".." is resolved and not shown.
void WalkPath(const std::string& path, const std::function<void(const PathStep&)>& visit);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_PATH_WALK_H_
