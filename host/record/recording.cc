// SPDX-License-Identifier: Apache-2.0

#include "host/record/recording.h"

#include <zlib.h>

#include <chrono>
#include <utility>

#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

constexpr size_t kLengthBytesMax = 5;
constexpr size_t kChecksumBytes = 4;

uint32_t Checksum(std::string_view bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

void AppendNumber(uint32_t number, uint64_t value, std::string* out) {
  if (value != 0) AppendVarint(number, value, out);
}

void AppendText(uint32_t number, std::string_view text, std::string* out) {
  if (!text.empty()) AppendBytes(number, text, out);
}

std::string WriteMessage(const RecordedMessage& message) {
  std::string bytes;
  bytes.reserve(message.bytes.size() + 32);
  AppendNumber(field::RecordedMessage::kAtNs, message.at_ns, &bytes);
  AppendNumber(field::RecordedMessage::kSize, message.size, &bytes);
  AppendBytes(message.kind == MessageKind::kRequest ? field::RecordedMessage::kRequest
                                                    : field::RecordedMessage::kResponse,
              message.bytes, &bytes);
  AppendNumber(field::RecordedMessage::kBodyBytes, message.body_bytes, &bytes);
  AppendNumber(field::RecordedMessage::kBodyLeftOut, message.body_left_out ? 1 : 0, &bytes);
  return bytes;
}

bool ReadMessage(std::string_view bytes, RecordedMessage* message) {
  bool has_message = false;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::RecordedMessage::kRequest) ||
        reader.Is(field::RecordedMessage::kResponse)) {
      message->kind = reader.Is(field::RecordedMessage::kRequest) ? MessageKind::kRequest
                                                                  : MessageKind::kResponse;
      message->bytes = reader.bytes();
      has_message = true;
    } else if (reader.IsVarint(field::RecordedMessage::kAtNs)) {
      message->at_ns = reader.varint();
    } else if (reader.IsVarint(field::RecordedMessage::kSize)) {
      message->size = reader.varint();
    } else if (reader.IsVarint(field::RecordedMessage::kBodyBytes)) {
      message->body_bytes = reader.varint();
    } else if (reader.IsVarint(field::RecordedMessage::kBodyLeftOut)) {
      message->body_left_out = reader.varint() != 0;
    }
  }
  return reader.ok() && has_message;
}

bool ReadEnd(std::string_view bytes, RecordedExchange* exchange) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(field::RecordedEnd::kCode)) {
      exchange->end_code = static_cast<uint32_t>(reader.varint());
    } else if (reader.Is(field::RecordedEnd::kMessage)) {
      exchange->end_message = reader.bytes();
    } else if (reader.IsVarint(field::RecordedEnd::kOutcome)) {
      exchange->outcome = static_cast<callout_outcome_t>(reader.varint());
    }
  }
  return reader.ok();
}

// The payload of the one member of RecordingRecord that the record is to have.
bool ReadRecord(std::string_view record, uint32_t number, std::string_view* payload) {
  bool found = false;
  WireReader reader(record);
  while (reader.Next()) {
    if (!reader.Is(number)) continue;
    *payload = reader.bytes();
    found = true;
  }
  return reader.ok() && found;
}

std::string Record(uint32_t number, std::string_view payload) {
  std::string record;
  record.reserve(BytesSize(number, payload.size()));
  AppendBytes(number, payload, &record);
  return record;
}

}  // namespace

uint64_t UnixNs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count());
}

std::string WriteHeader(const RecordingHeader& header) {
  std::string bytes;
  AppendText(field::RecordingHeader::kHostVersion, header.host_version, &bytes);
  AppendNumber(field::RecordingHeader::kBeganUnixNs, header.began_unix_ns, &bytes);
  AppendNumber(field::RecordingHeader::kBodies, header.bodies ? 1 : 0, &bytes);
  for (const std::string& pattern : header.redacted) {
    AppendBytes(field::RecordingHeader::kRedacted, pattern, &bytes);
  }
  AppendText(field::RecordingHeader::kRule, header.rule, &bytes);
  return Record(field::RecordingRecord::kHeader, bytes);
}

std::string WriteExchange(const RecordedExchange& exchange) {
  std::string bytes;
  AppendNumber(field::RecordedExchange::kStreamId, exchange.stream_id, &bytes);
  AppendText(field::RecordedExchange::kService, exchange.service, &bytes);
  AppendNumber(field::RecordedExchange::kBeganUnixNs, exchange.began_unix_ns, &bytes);
  AppendNumber(field::RecordedExchange::kDurationNs, exchange.duration_ns, &bytes);
  for (const RecordedMessage& message : exchange.messages) {
    AppendBytes(field::RecordedExchange::kMessages, WriteMessage(message), &bytes);
  }
  std::string end;
  AppendNumber(field::RecordedEnd::kCode, exchange.end_code, &end);
  AppendText(field::RecordedEnd::kMessage, exchange.end_message, &end);
  AppendNumber(field::RecordedEnd::kOutcome, exchange.outcome, &end);
  AppendBytes(field::RecordedExchange::kEnd, end, &bytes);
  AppendNumber(field::RecordedExchange::kMessagesLeftOut, exchange.messages_left_out, &bytes);
  return Record(field::RecordingRecord::kExchange, bytes);
}

void AppendFrame(std::string_view record, std::string* out) {
  const size_t begin = out->size();
  AppendRawVarint(record.size(), out);
  out->append(record);
  uint32_t checksum = Checksum(std::string_view(*out).substr(begin));
  for (size_t i = 0; i < kChecksumBytes; ++i, checksum >>= 8) {
    out->push_back(static_cast<char>(checksum & 0xff));
  }
}

FrameView ReadFrame(std::string_view bytes) {
  uint64_t length = 0;
  size_t head = 0;
  for (;; ++head) {
    if (head == kLengthBytesMax) return {FrameView::State::kTooLong, {}, 0};
    if (head == bytes.size()) return {FrameView::State::kCut, {}, 0};
    const auto byte = static_cast<unsigned char>(bytes[head]);
    length |= uint64_t{byte & 0x7fU} << (7 * head);
    if (byte < 0x80) break;
  }
  ++head;
  // An empty record says nothing, and a run of zeros would be full of them.
  if (length == 0 || length > kRecordBytesMax) return {FrameView::State::kTooLong, {}, 0};
  const size_t size = head + length + kChecksumBytes;
  if (bytes.size() < size) return {FrameView::State::kCut, {}, size};
  uint32_t checksum = 0;
  for (size_t i = kChecksumBytes; i > 0; --i) {
    checksum = checksum << 8 | static_cast<unsigned char>(bytes[head + length + i - 1]);
  }
  if (checksum != Checksum(bytes.substr(0, head + length))) {
    return {FrameView::State::kBadChecksum, {}, size};
  }
  return {FrameView::State::kWhole, bytes.substr(head, length), size};
}

bool ReadHeader(std::string_view record, RecordingHeader* header) {
  std::string_view payload;
  if (!ReadRecord(record, field::RecordingRecord::kHeader, &payload)) return false;
  WireReader reader(payload);
  while (reader.Next()) {
    if (reader.Is(field::RecordingHeader::kHostVersion)) {
      header->host_version = reader.bytes();
    } else if (reader.IsVarint(field::RecordingHeader::kBeganUnixNs)) {
      header->began_unix_ns = reader.varint();
    } else if (reader.IsVarint(field::RecordingHeader::kBodies)) {
      header->bodies = reader.varint() != 0;
    } else if (reader.Is(field::RecordingHeader::kRedacted)) {
      header->redacted.emplace_back(reader.bytes());
    } else if (reader.Is(field::RecordingHeader::kRule)) {
      header->rule = reader.bytes();
    }
  }
  return reader.ok();
}

bool ReadExchange(std::string_view record, RecordedExchange* exchange) {
  std::vector<RecordedMessage> messages = std::move(exchange->messages);
  messages.clear();
  *exchange = {};
  exchange->messages = std::move(messages);
  std::string_view payload;
  if (!ReadRecord(record, field::RecordingRecord::kExchange, &payload)) return false;
  WireReader reader(payload);
  while (reader.Next()) {
    if (reader.Is(field::RecordedExchange::kMessages)) {
      if (!ReadMessage(reader.bytes(), &exchange->messages.emplace_back())) return false;
    } else if (reader.IsVarint(field::RecordedExchange::kStreamId)) {
      exchange->stream_id = reader.varint();
    } else if (reader.Is(field::RecordedExchange::kService)) {
      exchange->service = reader.bytes();
    } else if (reader.IsVarint(field::RecordedExchange::kBeganUnixNs)) {
      exchange->began_unix_ns = reader.varint();
    } else if (reader.IsVarint(field::RecordedExchange::kDurationNs)) {
      exchange->duration_ns = reader.varint();
    } else if (reader.Is(field::RecordedExchange::kEnd)) {
      if (!ReadEnd(reader.bytes(), exchange)) return false;
    } else if (reader.IsVarint(field::RecordedExchange::kMessagesLeftOut)) {
      exchange->messages_left_out = reader.varint();
    }
  }
  return reader.ok();
}

}  // namespace callout::host
