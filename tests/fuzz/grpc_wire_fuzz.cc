// SPDX-License-Identifier: Apache-2.0

// gRPC over HTTP/2, as nghttp2's transport reads it: messages in any pieces, the headers of
// an RPC, and the values in them.
//
// Readers: host/transport/h2/grpc_wire.cc
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "host/transport/h2/grpc_wire.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

using Result = MessageReader::Result;

constexpr size_t kMessageMax = 300;

// What the bytes say, read at once and by another rule.
struct Expected {
  std::vector<std::string> messages;
  Result end = Result::kNeedsBytes;
};
Expected ReadAtOnce(const std::string& bytes) {
  Expected expected;
  size_t at = 0;
  while (bytes.size() - at >= kMessageHeadBytes) {
    size_t size = 0;
    for (size_t i = 1; i < kMessageHeadBytes; ++i) {
      size = size * 256 + static_cast<unsigned char>(bytes[at + i]);
    }
    const auto flag = static_cast<unsigned char>(bytes[at]);
    if (flag > 0) expected.end = flag == 1 ? Result::kCompressed : Result::kMalformed;
    if (flag == 0 && size > kMessageMax) expected.end = Result::kTooLarge;
    if (expected.end != Result::kNeedsBytes) return expected;
    if (bytes.size() - at - kMessageHeadBytes < size) return expected;
    expected.messages.push_back(bytes.substr(at + kMessageHeadBytes, size));
    at += kMessageHeadBytes + size;
  }
  return expected;
}

std::string ReadMessages(Choices& choices) {
  const bool reuses = choices.Next(2) == 0;
  const size_t piece = 1 + choices.Next(64);
  const std::string bytes = choices.Rest();
  const Expected expected = ReadAtOnce(bytes);
  MessageReader reader(kMessageMax);
  std::vector<std::string> messages;
  Result end = Result::kNeedsBytes;
  for (size_t at = 0; at < bytes.size() && end == Result::kNeedsBytes; at += piece) {
    const std::string part = bytes.substr(at, piece);
    std::string_view data = part;
    for (;;) {
      const size_t before = reader.capacity();
      const size_t growth = reader.GrowthFor(data.size());
      const Result result = reader.Read(&data);
      if (reader.capacity() > std::max(before, growth)) return "a message grows unannounced";
      if (reader.capacity() > kMessageMax) return "a message takes more than its limit";
      if (result == Result::kMessage) messages.emplace_back(reader.message());
      if (result == Result::kHead && reuses) {
        std::vector<char> memory;
        memory.reserve(reader.size());
        reader.UseMemory(std::move(memory));
      }
      if (result == Result::kHead || result == Result::kMessage) continue;
      end = result;
      break;
    }
    if (end == Result::kNeedsBytes && !data.empty()) return "bytes are left over";
  }
  if (end != expected.end) return "the end differs";
  reader.Reset();
  if (reader.capacity() != 0) return "something is left after a reset";
  for (const std::string& message : expected.messages) {
    char head[kMessageHeadBytes];
    WriteMessageHead(static_cast<uint32_t>(message.size()), head);
    const Expected again = ReadAtOnce(std::string(head, sizeof(head)) + message);
    if (again.messages != std::vector<std::string>{message})
      return "a message is framed another way";
  }
  return messages == expected.messages ? "" : "the messages differ";
}

std::string ReadHead(Choices& choices) {
  static const char* const kNames[] = {":path", ":method",       "te",           "content-type",
                                       "x-bin", "grpc-encoding", "grpc-timeout", "x"};
  static const char* const kValues[] = {"/usual", "POST", "trailers", "application/grpc"};
  const size_t bytes_max = 40 + 8 * choices.Next(200);
  RequestHead head(bytes_max, "/usual");
  size_t added = 0;
  while (!choices.empty()) {
    const std::string name = choices.OneIn(8) ? choices.Bytes(10) : kNames[choices.Next(8)];
    const std::string value = choices.Next(2) == 0 ? kValues[choices.Next(4)] : choices.Bytes(60);
    head.Add(name, value);
    added += name.size() + value.size() + 32;
  }
  if (head.bytes() < added) return "headers count for less than they are";
  // Entries are of 40 bytes at the most for 32 that count, and vectors double.
  if (head.capacity() > 4 * bytes_max + 256) return "headers over the limit are kept";
  RequestHead::Refusal refusal;
  const bool refused = head.Refuses(&refusal);
  if (head.bytes() > bytes_max && !refused) return "headers over the limit are not refused";
  std::string_view value;
  for (uint32_t i = 0; head.GetMetadata("x-bin", i, &value); ++i) {
  }
  for (uint32_t i = 0; head.GetMetadata("x", i, &value); ++i) {
  }
  std::string_view key;
  for (uint32_t i = 0; head.GetMetadataAt(i, &key, &value); ++i) {
    if (key.starts_with(':')) return "a pseudo-header is metadata";
  }
  head.Reset();
  return head.path().empty() && head.bytes() == 0 ? "" : "something is left after a reset";
}

std::string ReadValues(Choices& choices) {
  const std::string text = choices.Rest();
  std::string bytes;
  if (DecodeBase64(text, &bytes)) {
    std::string expected;
    if (!absl::Base64Unescape({text.data(), text.size()}, &expected) || expected != bytes) {
      return "base64 is read another way";
    }
    if (bytes.size() > text.size()) return "base64 is shorter than what it says";
  }
  uint64_t timeout_ns = 0;
  if (ParseGrpcTimeout(text, &timeout_ns) && timeout_ns > UINT64_MAX / 2) return "a timeout wraps";
  for (const char c : EncodeGrpcMessage(text)) {
    if (c < ' ' || c > '~') return "a grpc-message is not printable";
  }
  return "";
}

FUZZ_TARGET(grpc_wire, .rounds = 20000, .bytes = 40) {
  switch (choices.Next(3)) {
    case 0:
      return ReadMessages(choices);
    case 1:
      return ReadHead(choices);
    default:
      return ReadValues(choices);
  }
}

}  // namespace
}  // namespace callout::host
