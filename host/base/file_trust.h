// SPDX-License-Identifier: Apache-2.0

// Who else may change what a path leads to.
//
//   const FileTrust trust = CheckFileTrust("/etc/callout/plugins/auth.so");
//   if (!trust.refusal.empty()) …      // anybody may
//
// Looked at are the file, every directory on its way and every directory in which a symlink of the
// way lies. A file system that is mounted read-only cannot be written to, whatever the modes are:
// Kubernetes mounts volumes with mode 0777 and read-only. A sticky directory such as /tmp lets
// nobody replace another user's file.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_BASE_FILE_TRUST_H_
#define CALLOUT_HOST_BASE_FILE_TRUST_H_

#include <string>
#include <vector>

namespace callout::host {

struct FileTrust {
  // Not empty: every user may write there. One line with the path, its mode and a remedy.
  std::string refusal;
  // A group, or another user than root and this process's, may. One line each.
  std::vector<std::string> warnings;
};

// Of a file that is there; nothing is said of what cannot be looked at.
FileTrust CheckFileTrust(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_FILE_TRUST_H_
