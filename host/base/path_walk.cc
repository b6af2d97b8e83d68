// SPDX-License-Identifier: Apache-2.0

#include "host/base/path_walk.h"

#include <deque>
#include <filesystem>
#include <system_error>
#include <utility>

namespace callout::host {
namespace {

namespace fs = std::filesystem;

constexpr int kSymlinksMax = 40;  // the kernel's limit

std::deque<std::string> PartsOf(const fs::path& path) {
  std::deque<std::string> parts;
  for (const fs::path& part : path.relative_path()) {
    if (!part.empty() && part != ".") parts.push_back(part.string());
  }
  return parts;
}

}  // namespace

void WalkPath(const std::string& path, const std::function<void(const PathStep&)>& visit) {
  std::error_code error;
  std::deque<std::string> parts = PartsOf(fs::absolute(path, error));
  fs::path at = "/";
  int symlinks = 0;
  while (!parts.empty()) {
    const std::string name = std::move(parts.front());
    parts.pop_front();
    if (name == "..") {
      at = at.parent_path();
      continue;
    }
    PathStep step{.directory = at.string(), .name = name};
    const fs::path next = at / name;
    const fs::file_type type = fs::symlink_status(next, error).type();
    if (type == fs::file_type::symlink && ++symlinks <= kSymlinksMax) {
      step.kind = PathStep::Kind::kSymlink;
      const fs::path target = fs::read_symlink(next, error);
      if (target.is_absolute()) at = "/";
      const std::deque<std::string> rest = PartsOf(target);
      parts.insert(parts.begin(), rest.begin(), rest.end());
    } else if (type == fs::file_type::directory) {
      step.kind = PathStep::Kind::kDirectory;
      step.last = parts.empty();
      at = next;
    } else {
      parts.clear();
    }
    visit(step);
  }
}

}  // namespace callout::host
