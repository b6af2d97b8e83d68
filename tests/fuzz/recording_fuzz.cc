// SPDX-License-Identifier: Apache-2.0

// A recording that somebody gives callout-replay: any bytes, and good ones that were changed. What
// is read comes from whole frames only, and messages that are kept hold no secret.
#include <algorithm>
#include <cstring>
#include <string>

#include "host/record/recording_reader.h"
#include "host/wire/message_redaction.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr char kSecret[] = "secret-of-authorization";

std::string SampleMessage() {
  // ProcessingRequest.request_headers.headers.headers = {authorization: kSecret}
  const std::string header = std::string("\x0a\x0d") + "authorization" + "\x1a\x17" + kSecret;
  const std::string map = std::string("\x0a") + static_cast<char>(header.size()) + header;
  const std::string headers = std::string("\x0a") + static_cast<char>(map.size()) + map;
  return std::string("\x12") + static_cast<char>(headers.size()) + headers;
}

std::string Sample() {
  std::string bytes(kRecordingMagic);
  AppendFrame(WriteHeader({.host_version = "1", .redacted = {"*authorization*"}}), &bytes);
  const std::string message = SampleMessage();
  for (uint64_t id = 1; id <= 3; ++id) {
    RecordedExchange exchange;
    exchange.stream_id = id;
    exchange.messages.push_back({.kind = MessageKind::kRequest, .bytes = message});
    exchange.messages.push_back({.kind = MessageKind::kResponse, .bytes = "\x0a\x02\x0a\x00"});
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

FUZZ_TARGET(recording, .rounds = 20000, .bytes = 60) {
  const bool any = choices.OneIn(3);
  const size_t at_a_time = 1 + choices.Next(64);
  const std::string bytes =
      any ? std::string(choices.OneIn(2) ? kRecordingMagic : "") + choices.Rest()
          : Changed(Sample(), choices);
  size_t at = 0;
  auto reader = RecordingReader::Read("f", [&](char* to, size_t size) -> absl::StatusOr<size_t> {
    const size_t got = std::min({size, at_a_time, bytes.size() - at});
    std::memcpy(to, bytes.data() + at, got);
    at += got;
    return got;
  });
  const absl::Status opened = reader.status();
  if (!opened.ok()) return opened.message().empty() ? "an error says nothing" : "";
  uint64_t last = 0;
  while ((*reader)->Next()) {
    const RecordedExchange& exchange = (*reader)->exchange();
    RecordedExchange again;
    if (!ReadExchange(WriteExchange(exchange), &again)) return "what was read cannot be written";
    if (WriteExchange(again) != WriteExchange(exchange)) return "it changes when it is written";
    if (!any && exchange.stream_id <= last) return "an exchange is given twice";
    last = exchange.stream_id;
  }
  const absl::Status status = (*reader)->status();
  if (!status.ok() &&
      status.message().find(" exchanges before it are whole") == absl::string_view::npos) {
    return "the error does not say how much is whole: " + std::string(status.message());
  }
  return "";
}

// Whatever a message looks like, the secret of its header is not in what is kept of it.
FUZZ_TARGET(message_redaction, .rounds = 20000, .bytes = 40) {
  const Redaction redaction;
  const MessageKind kind = choices.OneIn(2) ? MessageKind::kResponse : MessageKind::kRequest;
  const bool any = choices.OneIn(2);
  const std::string message = any ? choices.Rest() : SampleMessage() + choices.Rest();
  std::string stripped, filled, kept;
  uint64_t body_bytes = 0;
  const bool good = StripBody(kind, message, &stripped, &body_bytes);
  if (good && BodyBytes(kind, stripped) != 0) return "a body is left";
  if (good && !FillBody(kind, stripped, 3, &filled)) return "what was stripped cannot be filled";
  MessageRedactor redactor(redaction);
  redactor.Learn(kind, message);
  std::string pieces = message + message;
  redactor.RewriteBodies({{kind, pieces.data(), message.size(), choices.OneIn(4)},
                          {kind, pieces.data() + message.size(), message.size(), false}},
                         choices.OneIn(4));
  if (!redactor.Rewrite(kind, message, &kept)) return "";
  if (!any && kind == MessageKind::kRequest && kept.find(kSecret) != kept.npos) {
    return "the secret is kept";
  }
  std::string again;
  if (!redactor.Rewrite(kind, kept, &again)) return "what is kept is malformed";
  return "";
}

}  // namespace
}  // namespace callout::host
