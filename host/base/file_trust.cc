// SPDX-License-Identifier: Apache-2.0

#include "host/base/file_trust.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host/base/path_walk.h"

namespace callout::host {
namespace {

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
  // In a sticky directory the group's members cannot change each other's files.
  const bool sticky = S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0;
  if ((status.st_mode & S_IWGRP) != 0 && !sticky) {
    warnings->push_back(fmt::format("group {} may write to {} (mode {:04o}); chmod g-w it",
                                    status.st_gid, path, status.st_mode & 07777));
  }
}

}  // namespace

FileTrust CheckFileTrust(const std::string& path) {
  FileTrust trust;
  std::vector<std::string> directories = {"/"};
  std::string end;
  WalkPath(path, [&](const PathStep& step) {
    if (step.kind == PathStep::Kind::kSymlink) return;
    if (step.kind == PathStep::Kind::kDirectory && !step.last) {
      directories.push_back(step.path());
    } else {
      end = step.path();
    }
  });
  struct stat status;
  for (const std::string& directory : directories) {
    if (stat(directory.c_str(), &status) != 0) continue;
    if (trust.refusal.empty()) trust.refusal = RefusalOf(directory, status);
  }
  // Further up, group-writable directories are common and have little to do with plugins.
  if (stat(directories.back().c_str(), &status) == 0) {
    Warn(directories.back(), status, &trust.warnings);
  }
  if (!end.empty() && stat(end.c_str(), &status) == 0) {
    if (trust.refusal.empty()) trust.refusal = RefusalOf(end, status);
    Warn(end, status, &trust.warnings);
  }
  return trust;
}

}  // namespace callout::host
