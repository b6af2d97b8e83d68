// SPDX-License-Identifier: Apache-2.0

#include "host/record/recording_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "host/base/file.h"
#include "host/base/owned_fd.h"
#include "host/base/status_text.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

constexpr size_t kReadBytes = 262144;
// "callout-recording ", before the version.
constexpr std::string_view kName = kRecordingMagic.substr(0, kRecordingMagic.find(' ') + 1);

RecordingReader::Source FileSource(std::shared_ptr<OwnedFd> file) {
  return [file = std::move(file)](char* to, size_t size) -> absl::StatusOr<size_t> {
    ssize_t got;
    do {
      got = read(file->get(), to, size);
    } while (got < 0 && errno == EINTR);
    if (got >= 0) return static_cast<size_t>(got);
    return absl::UnavailableError(strerror(errno));
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<RecordingReader>> RecordingReader::Open(const std::string& path) {
  const absl::Status regular = CheckRegular(StampOf(path));
  auto file = std::make_shared<OwnedFd>(
      regular.ok() ? open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1);
  if (file->get() < 0) {
    return absl::UnavailableError(fmt::format("{}: cannot read it: {}", path,
                                              regular.ok() ? strerror(errno) : MessageOf(regular)));
  }
  return Read(path, FileSource(std::move(file)));
}

absl::StatusOr<std::unique_ptr<RecordingReader>> RecordingReader::Read(std::string name,
                                                                       Source source) {
  std::unique_ptr<RecordingReader> reader(new RecordingReader(std::move(name), std::move(source)));
  reader->chunk_.resize(kReadBytes);
  if (absl::Status status = reader->Begin(); !status.ok()) return status;
  return reader;
}

absl::Status RecordingReader::Begin() {
  if (absl::Status status = Fill(kRecordingMagic.size()); !status.ok()) return status;
  const std::string_view start = std::string_view(buffer_).substr(0, kRecordingMagic.size());
  if (start != kRecordingMagic) {
    constexpr size_t kVersionBytesMax = 8;
    std::string_view version = std::string_view(buffer_).substr(0, kName.size() + kVersionBytesMax);
    if (version.starts_with(kName)) {
      version.remove_prefix(kName.size());
      version = version.substr(0, version.find_first_not_of("0123456789"));
      return absl::FailedPreconditionError(fmt::format(
          "{}: a recording of version {}; this program reads version 1: use the callout-replay of "
          "the host that made it",
          name_, version.empty() ? "unknown" : version));
    }
    return absl::InvalidArgumentError(
        fmt::format("{}: no recording: it does not begin with '{}'", name_,
                    kRecordingMagic.substr(0, kRecordingMagic.size() - 1)));
  }
  begin_ = kRecordingMagic.size();
  const std::optional<std::string_view> record = NextRecord();
  if (record.has_value() && ReadHeader(*record, &header_)) return absl::OkStatus();
  if (!status_.ok()) return status_;
  return Damaged("the first record is no header");
}

// At least `size` bytes from begin_ on, unless the file ends before.
absl::Status RecordingReader::Fill(size_t size) {
  while (buffer_.size() - begin_ < size && !at_end_) {
    buffer_.erase(0, begin_);
    offset_ += std::exchange(begin_, 0);
    const absl::StatusOr<size_t> got = source_(chunk_.data(), chunk_.size());
    if (!got.ok()) {
      return absl::Status(got.status().code(),
                          fmt::format("{}: cannot read it: {}", name_, MessageOf(got.status())));
    }
    buffer_.append(chunk_.data(), *got);
    at_end_ = *got == 0;
  }
  return absl::OkStatus();
}

absl::Status RecordingReader::Damaged(const std::string& what) const {
  return absl::DataLossError(
      fmt::format("{}: damaged at byte {}: {}; {} exchanges before it are "
                  "whole",
                  name_, offset_ + begin_, what, exchanges_));
}

std::optional<std::string_view> RecordingReader::NextRecord() {
  constexpr size_t kLengthBytes = 16;  // more than a length takes
  if (!status_.ok()) return std::nullopt;
  status_ = Fill(kLengthBytes);
  if (!status_.ok() || begin_ == buffer_.size()) return std::nullopt;
  FrameView frame = ReadFrame(std::string_view(buffer_).substr(begin_));
  if (frame.state == FrameView::State::kCut && frame.size != 0) {
    status_ = Fill(frame.size);
    if (!status_.ok()) return std::nullopt;
    frame = ReadFrame(std::string_view(buffer_).substr(begin_));
  }
  switch (frame.state) {
    case FrameView::State::kWhole:
      begin_ += frame.size;
      return frame.record;
    case FrameView::State::kCut:
      status_ = absl::DataLossError(
          fmt::format("{}: cut off at byte {}: {}; {} exchanges before it are whole", name_,
                      offset_ + buffer_.size(),
                      frame.size == 0 ? std::string("within the length of a record")
                                      : fmt::format("of a record of {} bytes, {} are there",
                                                    frame.size, buffer_.size() - begin_),
                      exchanges_));
      break;
    case FrameView::State::kTooLong:
      status_ =
          Damaged(fmt::format("a record's length is not between 1 and {} bytes", kRecordBytesMax));
      break;
    case FrameView::State::kBadChecksum:
      status_ =
          Damaged(fmt::format("the checksum of a record of {} bytes does not match", frame.size));
      break;
  }
  return std::nullopt;
}

bool RecordingReader::Next() {
  for (;;) {
    const std::optional<std::string_view> record = NextRecord();
    if (!record.has_value()) return false;
    if (ReadExchange(*record, &exchange_)) {
      record_ = *record;
      ++exchanges_;
      return true;
    }
    // Later versions may add kinds.
    WireReader reader(*record);
    if (!reader.Next() || reader.number() == field::RecordingRecord::kExchange) {
      status_ = Damaged("a record with a good checksum is malformed");
      return false;
    }
  }
}

}  // namespace callout::host
