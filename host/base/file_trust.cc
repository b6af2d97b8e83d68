// SPDX-License-Identifier: Apache-2.0

#include "host/base/file_trust.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <utility>

#include "host/base/path_walk.h"

namespace callout::host {
namespace {

// The directories that the kernel goes through on the way, and where it ends.
struct Way {
  std::vector<std::string> directories;
  std::string end;
};

Way WayTo(const std::string& path) {
  Way way;
  way.directories.push_back("/");
  WalkPath(path, [&way](const PathStep& step) {
    if (step.found == PathStep::Found::kSymlink) return;
    if (step.last) {
      way.end = step.path();
    } else if (step.found == PathStep::Found::kDirectory) {
      way.directories.push_back(step.path());
    }
  });
  return way;
}

bool IsReadOnly(const std::string& path) {
  struct statvfs status;
  return statvfs(path.c_str(), &status) == 0 && (status.f_flag & ST_RDONLY) != 0;
}

std::string RefusalOf(const std::string& path, const struct stat& status) {
  const bool directory = S_ISDIR(status.st_mode);
  if ((status.st_mode & S_IWOTH) == 0) return "";
  if (directory && (status.st_mode & S_ISVTX) != 0) return "";
  if (IsReadOnly(path)) return "";
  return fmt::format("every user may write to {}{} (mode {:04o}); chmod o-w it",
                     directory ? "the directory " : "", path, status.st_mode & 07777);
}

void Warn(const std::string& path, const struct stat& status, std::vector<std::string>* warnings) {
  if (IsReadOnly(path)) return;
  if (status.st_uid != 0 && status.st_uid != geteuid()) {
    warnings->push_back(
        fmt::format("{} is owned by user {}, who may change it at any time; chown it to root or to "
                    "the host's user",
                    path, status.st_uid));
  }
  // A sticky directory keeps the group's members from each other's files.
  const bool sticky = S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0;
  if ((status.st_mode & S_IWGRP) != 0 && !sticky) {
    warnings->push_back(fmt::format("group {} may write to {} (mode {:04o}); chmod g-w it",
                                    status.st_gid, path, status.st_mode & 07777));
  }
}

}  // namespace

FileTrust CheckFileTrust(const std::string& path) {
  FileTrust trust;
  const Way way = WayTo(path);
  struct stat status;
  for (const std::string& directory : way.directories) {
    if (stat(directory.c_str(), &status) != 0) continue;
    if (trust.refusal.empty()) trust.refusal = RefusalOf(directory, status);
  }
  // Further up, groups that may write are common and seldom meant for plugins.
  if (stat(way.directories.back().c_str(), &status) == 0) {
    Warn(way.directories.back(), status, &trust.warnings);
  }
  if (!way.end.empty() && stat(way.end.c_str(), &status) == 0) {
    if (trust.refusal.empty()) trust.refusal = RefusalOf(way.end, status);
    Warn(way.end, status, &trust.warnings);
  }
  return trust;
}

}  // namespace callout::host
