// SPDX-License-Identifier: Apache-2.0

// Reads a recording, exchange by exchange, and says where it is damaged.
//
//   absl::StatusOr<std::unique_ptr<RecordingReader>> reader = RecordingReader::Open(path);
//   while ((*reader)->Next()) … (*reader)->exchange() …
//   if (!(*reader)->status().ok()) …  // all that was before the damage has been given
//
// Errors begin with the file's name, and say at which byte of the file what was found:
//   FAILED_PRECONDITION  a recording of another version
//   INVALID_ARGUMENT     no recording
//   DATA_LOSS            cut off or damaged
//   others               the file cannot be read
//
// For one thread.
//
// Tested by tests/host/record/recording_reader_test.cc.
#ifndef CALLOUT_HOST_RECORD_RECORDING_READER_H_
#define CALLOUT_HOST_RECORD_RECORDING_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/record/recording.h"

namespace callout::host {

class RecordingReader {
 public:
  // Puts up to `size` bytes at `to`; how many, 0 at the end.
  using Source = std::function<absl::StatusOr<size_t>(char* to, size_t size)>;

  // Reads magic and header. `name` is for errors.
  static absl::StatusOr<std::unique_ptr<RecordingReader>> Open(const std::string& path);
  static absl::StatusOr<std::unique_ptr<RecordingReader>> Read(std::string name, Source source);
  RecordingReader(const RecordingReader&) = delete;
  RecordingReader& operator=(const RecordingReader&) = delete;

  const RecordingHeader& header() const { return header_; }
  // Steps to the next exchange; false at the end, or at the damage: see status(). Records of kinds
  // that this version does not know are left out.
  bool Next();
  const absl::Status& status() const { return status_; }
  // Good until Next.
  const RecordedExchange& exchange() const { return exchange_; }
  std::string_view record() const { return record_; }
  // How many Next has given.
  uint64_t exchanges() const { return exchanges_; }

 private:
  RecordingReader(std::string name, Source source)
      : name_(std::move(name)), source_(std::move(source)) {}

  absl::Status Begin();
  absl::Status Fill(size_t size);
  std::optional<std::string_view> NextRecord();
  absl::Status Damaged(const std::string& what) const;

  const std::string name_;
  const Source source_;
  RecordingHeader header_;
  std::string chunk_;    // where the source puts bytes
  std::string buffer_;   // what has been read
  size_t begin_ = 0;     // of the next frame in it
  uint64_t offset_ = 0;  // of buffer_ in the file
  bool at_end_ = false;  // of the source
  absl::Status status_;
  std::string_view record_;
  RecordedExchange exchange_;
  uint64_t exchanges_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RECORD_RECORDING_READER_H_
