// SPDX-License-Identifier: Apache-2.0

// The file that a recording goes to, and the older ones that it replaces.
//
//   RecordFile file({.path = "/var/lib/callout/host.rec", .bytes_max = 64 << 20, .files = 8});
//   absl::Status status = file.Append(frames);
//
// A file that would grow over `bytes_max` becomes PATH.1, PATH.1 becomes PATH.2, and so on; the
// last of `files` goes. A file that is there at the start is treated like a full one: nothing is
// appended to it, or written over. Files are readable by their owner only.
//
// A write that fails, or that is cut short by a full disk, is taken back, so that the file ends
// with a whole frame. The next Append tries again.
//
// For one thread.
//
// Tested by tests/host/record/record_file_test.cc.
#ifndef CALLOUT_HOST_RECORD_RECORD_FILE_H_
#define CALLOUT_HOST_RECORD_RECORD_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "host/base/owned_fd.h"

namespace callout::host {

class RecordFile {
 public:
  struct Options {
    std::string path;
    uint64_t bytes_max = 0;  // of one file
    size_t files = 1;        // with the current one
    // What every file begins with: magic and header.
    std::function<std::string()> begin;
  };

  explicit RecordFile(Options options) : options_(std::move(options)) {}
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  // Creates the file, unless it is open. UNAVAILABLE with path and reason.
  absl::Status Open();
  // Whether the frames fit into the current file. If not, Append begins another one.
  bool Fits(size_t bytes) const { return size_ + bytes <= options_.bytes_max; }
  // Appends whole frames. UNAVAILABLE: nothing of them is in the file. RESOURCE_EXHAUSTED: they do
  // not fit into an empty file.
  absl::Status Append(std::string_view frames);

 private:
  absl::Status Create();
  absl::Status Write(std::string_view bytes);
  void Rotate() const;
  std::string Older(size_t number) const;

  const Options options_;
  OwnedFd fd_;
  uint64_t size_ = 0;    // 0: not begun
  bool regular_ = true;  // else a device or a pipe, which nobody renames
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RECORD_RECORD_FILE_H_
