// SPDX-License-Identifier: Apache-2.0

// A recording that somebody gives callout-replay: any bytes, a good one that was changed, and whole
// frames with any records. What is read comes from whole frames only, and callout-replay can do
// with it what it does with every exchange. corpus/recording has files as they are in its first two
// kinds.
//
// Readers: host/record/recording_reader.cc host/record/recording.cc
// Not counted: UnixNs (reads the clock)
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "host/record/recording_reader.h"
#include "host/replay/comparison.h"
#include "host/replay/player.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"

namespace callout::host {
namespace {

constexpr size_t kAtATimeMax = 64;

// A ProcessingRequest with the request header x-user, and a response that changes nothing.
constexpr std::string_view kRequest(
    "\x12\x13\x0a\x11\x0a\x0f\x0a\x06x-user\x1a\x05"
    "ann-1",
    21);
constexpr std::string_view kResponse("\x0a\x02\x0a\x00", 4);

std::string SampleHeader() {
  return WriteHeader({.host_version = "1", .redacted = {"*authorization*"}});
}

std::string Sample() {
  std::string bytes(kRecordingMagic);
  AppendFrame(SampleHeader(), &bytes);
  for (uint64_t id = 1; id <= 3; ++id) {
    RecordedExchange exchange;
    exchange.stream_id = id;
    exchange.messages.push_back({.kind = MessageKind::kRequest, .bytes = kRequest});
    exchange.messages.push_back({.kind = MessageKind::kResponse, .bytes = kResponse});
    AppendFrame(WriteExchange(exchange), &bytes);
  }
  return bytes;
}

std::string Changed(std::string bytes, Choices& choices) {
  for (unsigned changes = 1 + choices.Next(4); changes > 0 && !bytes.empty(); --changes) {
    const size_t at = (choices.Next(256) + 256 * choices.Next(256)) % bytes.size();
    switch (choices.Next(3)) {
      case 0:
        bytes[at] = static_cast<char>(choices.Next(256));
        break;
      case 1:
        bytes.resize(at);
        break;
      default:
        bytes.insert(at, 1 + choices.Next(8), static_cast<char>(choices.Next(256)));
    }
  }
  return bytes;
}

// Frames with good checksums around any records; the first is mostly a header.
std::string Framed(Choices& choices) {
  std::string bytes(kRecordingMagic);
  if (!choices.OneIn(8)) AppendFrame(SampleHeader(), &bytes);
  while (!choices.empty()) {
    std::string record = choices.Bytes(255);
    // One in two has the bytes as an exchange, whose length is in one byte or two.
    if (choices.OneIn(2)) {
      const size_t size = record.size();
      std::string tag("\x12");
      if (size >= 0x80) tag += static_cast<char>(size | 0x80);
      tag += static_cast<char>(size >= 0x80 ? size >> 7 : size);
      record.insert(0, tag);
    }
    if (!record.empty()) AppendFrame(record, &bytes);
  }
  return bytes;
}

std::string Input(unsigned kind, Choices& choices) {
  switch (kind) {
    case 0:
      return choices.Rest();
    case 1:
      return std::string(kRecordingMagic) + choices.Rest();
    case 2:
      return Changed(Sample(), choices);
    default:
      return Framed(choices);
  }
}

// Zeros in the place of bodies only cost time here.
bool HasLargeBodies(const RecordedExchange& exchange) {
  constexpr uint64_t kLarge = 65536;
  return std::any_of(exchange.messages.begin(), exchange.messages.end(),
                     [](const RecordedMessage& message) { return message.body_bytes > kLarge; });
}

// As callout-replay compares it: with a chain that did nothing, and with another one.
void Replay(const RecordingHeader& header, const RecordedExchange& exchange) {
  if (HasLargeBodies(exchange)) return;
  const Requests requests(exchange);
  const Comparison comparison(header);
  std::vector<Difference> found;
  const Played nothing;
  Played other;
  for (const RecordedMessage& message : exchange.messages) {
    other.responses.push_back({std::string(message.bytes), 1});
  }
  comparison.Compare(exchange, requests, nullptr, nothing, &found);
  comparison.Compare(exchange, requests, &other, nothing, &found);
}

using Opened = absl::StatusOr<std::unique_ptr<RecordingReader>>;

// From a file, or a few bytes at a time from what may fail in the end.
Opened Open(const std::string& bytes, size_t at_a_time, bool fails) {
  if (at_a_time == kAtATimeMax) return RecordingReader::Open(TextFile(bytes).path());
  auto at = std::make_shared<size_t>(0);
  return RecordingReader::Read("f", [=](char* to, size_t size) -> absl::StatusOr<size_t> {
    const size_t got = std::min({size, at_a_time, bytes.size() - *at});
    if (got == 0 && fails) return absl::UnavailableError("no more");
    std::memcpy(to, bytes.data() + *at, got);
    *at += got;
    return got;
  });
}

FUZZ_TARGET(recording, .rounds = 20000, .bytes = 60) {
  const unsigned kind = choices.Next(4);
  const size_t at_a_time = 1 + choices.Next(kAtATimeMax);
  const std::string bytes = Input(kind, choices);
  const bool fails = at_a_time == kAtATimeMax / 2;
  const Opened reader = Open(bytes, at_a_time, fails);
  if (RecordingReader::Open("/missing").ok()) return "a file is read that is not there";
  const absl::Status opened = reader.status();
  if (!opened.ok()) return opened.message().empty() ? "an error says nothing" : "";
  uint64_t last = 0;
  while ((*reader)->Next()) {
    const RecordedExchange& exchange = (*reader)->exchange();
    const std::string written = WriteExchange(exchange);  // `again` has views into it
    RecordedExchange again;
    if (!ReadExchange(written, &again)) return "what was read cannot be written";
    if (WriteExchange(again) != written) return "it changes when it is written";
    if (kind == 2 && exchange.stream_id <= last) return "an exchange is given twice";
    last = exchange.stream_id;
    Replay((*reader)->header(), exchange);
  }
  const absl::Status status = (*reader)->status();
  if (fails) return status.ok() ? "an error of the file is lost" : "";
  if (!status.ok() &&
      status.message().find(" exchanges before it are whole") == absl::string_view::npos) {
    return "the error does not say how much is whole: " + std::string(status.message());
  }
  return "";
}

}  // namespace
}  // namespace callout::host
