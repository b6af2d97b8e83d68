// SPDX-License-Identifier: Apache-2.0

#include "host/base/cgroup.h"

#include <fstream>

namespace callout::host {

std::optional<std::string> OwnCgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) return line.substr(3);
  }
  return std::nullopt;
}

std::string FirstLineOf(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

}  // namespace callout::host
