// SPDX-License-Identifier: Apache-2.0

// Private copies of plugin files. The host never loads the operator's file, but a copy that nobody
// else writes to: overwriting a mapped file would change the code of a running process, or kill it.
// And the dynamic linker identifies libraries by inode and path, so it would not load a second
// version under the same path.
//
// A copy is DIRECTORY/NUMBER/NAME.so. DIRECTORY is a new callout-host-XXXXXX in the first of
// $TMPDIR, /tmp and /var/tmp where files can be written and executed. These are no memory files,
// since the system can reclaim pages of a file, and debuggers, profilers and sanitizers find a
// plugin's symbols by its path. A copy is removed with its last user, the directory when the
// process ends. The next process removes the directory of one that was killed: only if it has
// exactly such a name, the same owner, the mode 0700 and a marker file in it.
//
// The caller patches the bytes (host/plugin/elf_patch.h), so that $ORIGIN in a plugin's run path is
// the directory in which the operator put the file.
//
// Any thread. Copies may outlive their PrivateCopies.
#ifndef CALLOUT_HOST_RELOAD_PRIVATE_COPY_H_
#define CALLOUT_HOST_RELOAD_PRIVATE_COPY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

class PrivateCopies;

// A copied file, which exists as long as this object.
class PrivateCopy {
 public:
  ~PrivateCopy();
  PrivateCopy(const PrivateCopy&) = delete;
  PrivateCopy& operator=(const PrivateCopy&) = delete;

  const std::string& path() const { return path_; }

 private:
  friend class PrivateCopies;
  PrivateCopy(std::shared_ptr<const PrivateCopies> owner, std::string path)
      : owner_(std::move(owner)), path_(std::move(path)) {}

  const std::shared_ptr<const PrivateCopies> owner_;  // keeps the directory
  const std::string path_;
};

class PrivateCopies : public std::enable_shared_from_this<PrivateCopies> {
 public:
  // Tries `places` in order; empty: those above. UNAVAILABLE, with the reason for each, if none can
  // be used.
  static absl::StatusOr<std::shared_ptr<PrivateCopies>> Create(
      const std::vector<std::string>& places = {});
  ~PrivateCopies();
  PrivateCopies(const PrivateCopies&) = delete;
  PrivateCopies& operator=(const PrivateCopies&) = delete;

  // Writes a new file of this name and content. UNAVAILABLE if that fails.
  absl::StatusOr<std::shared_ptr<const PrivateCopy>> Add(std::string_view file_name,
                                                         std::string_view bytes);

  const std::string& directory() const { return directory_; }

 private:
  PrivateCopies(std::string directory, int lock_fd)
      : directory_(std::move(directory)), lock_fd_(lock_fd) {}

  const std::string directory_;
  const int lock_fd_;  // of the directory, with a lock that ends with the process
  std::atomic<uint64_t> last_number_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PRIVATE_COPY_H_
