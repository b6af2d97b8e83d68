// SPDX-License-Identifier: Apache-2.0

// Who else may change what a path leads to.
//
//   const FileTrust trust = CheckFileTrust("/etc/callout/plugins/auth.so");
//   if (!trust.refusal.empty()) …      // anybody may
//
// It checks the file, every directory of its path, and every directory that contains a symlink of
// the path. Modes do not matter on a read-only mount: Kubernetes mounts volumes read-only with mode
// 0777. In a sticky directory such as /tmp nobody can replace another user's file.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_FILE_TRUST_H_
#define CALLOUT_HOST_BASE_FILE_TRUST_H_

#include <string>
#include <vector>

namespace callout::host {

struct FileTrust {
  // Not empty: every user may change the file. One line with the path, its mode and a remedy.
  std::string refusal;
  // A group may, or a user other than root and this process's. One line each.
  std::vector<std::string> warnings;
};

// For an existing file. Whatever cannot be checked is left out.
FileTrust CheckFileTrust(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FILE_TRUST_H_
