// SPDX-License-Identifier: Apache-2.0

// Private copies of plugin files: what is loaded is never the operator's file
// but a copy of it that nobody else writes to. Overwriting a mapped file would
// change the code of a running process, or kill it; and the dynamic linker tells
// libraries apart by inode and by path, so that a second version under the same
// path would not be loaded at all.
//
// They are files in a directory of their own, DIRECTORY/NUMBER/NAME.so, with
// DIRECTORY a new callout-host-XXXXXX in $TMPDIR, /tmp or /var/tmp, whichever
// first can be written to and executed from. Not memory files: pages of a file
// can be given back to the system, and debuggers, profilers and sanitizers find
// the plugin's symbols by its path. A copy is removed when its last user is gone,
// the directory when the process ends; one left behind by a process that was
// killed is removed by the next. Only directories of exactly that form of name, of this user's, of
// mode 0700 and with a marker file in them are removed: others' work may have a name like it.
//
// The caller patches the bytes (host/plugin/elf_patch.h), so that $ORIGIN in a plugin's run path
// means where the operator put the file.
//
// Any thread. Copies may outlive the PrivateCopies they are from.
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

// A copied file, there as long as this object.
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
  // UNAVAILABLE if no place does, naming them and what is wrong with each.
  // `places` are tried in order; empty: those above.
  static absl::StatusOr<std::shared_ptr<PrivateCopies>> Create(
      const std::vector<std::string>& places = {});
  ~PrivateCopies();
  PrivateCopies(const PrivateCopies&) = delete;
  PrivateCopies& operator=(const PrivateCopies&) = delete;

  // A new file of this name and content. UNAVAILABLE if it cannot be written.
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
