// SPDX-License-Identifier: Apache-2.0

#include "host/base/path_walk.h"

#include <deque>
#include <filesystem>
#include <system_error>
#include <utility>

namespace callout::host {
namespace {

namespace fs = std::filesystem;

constexpr int kSymlinksMax = 40;  // as the kernel's own limit

std::deque<std::string> NamesOf(const fs::path& path) {
  std::deque<std::string> names;
  for (const fs::path& name : path.relative_path()) {
    if (!name.empty() && name != ".") names.push_back(name.string());
  }
  return names;
}

}  // namespace

void WalkPath(const std::string& path, const std::function<void(const PathStep&)>& visit) {
  std::error_code error;
  std::deque<std::string> names = NamesOf(fs::absolute(path, error));
  fs::path at = "/";
  int symlinks = 0;
  while (!names.empty()) {
    PathStep step;
    step.directory = at.string();
    step.name = std::move(names.front());
    names.pop_front();
    if (step.name == "..") {
      at = at.parent_path();
      continue;
    }
    step.last = names.empty();
    const fs::path next = at / step.name;
    const fs::file_type type = fs::symlink_status(next, error).type();
    if (type == fs::file_type::symlink && ++symlinks <= kSymlinksMax) {
      step.found = PathStep::Found::kSymlink;
      const fs::path target = fs::read_symlink(next, error);
      if (target.is_absolute()) at = "/";
      const std::deque<std::string> rest = NamesOf(target);
      names.insert(names.begin(), rest.begin(), rest.end());
      step.last = names.empty();
    } else if (type == fs::file_type::directory) {
      step.found = PathStep::Found::kDirectory;
      at = next;
    }
    visit(step);
    if (step.found == PathStep::Found::kOther) return;
  }
}

}  // namespace callout::host
