// SPDX-License-Identifier: Apache-2.0

// The bytes of a recording: docs/recordings.md describes the format, and
// proto/callout/recording/v1/recording.proto the records.
//
//   file   = magic, frame…                magic = "callout-recording 1\n"
//   frame  = length, record, checksum     length: a varint; checksum: 4 bytes, little endian
//
// The checksum is the CRC-32 of zlib over length and record. A file that was cut or damaged gives
// everything before the damage. Writing:
//
//   std::string bytes(kRecordingMagic);
//   AppendFrame(WriteHeader(header), &bytes);
//   AppendFrame(WriteExchange(exchange), &bytes);
//
// Reading is in recording_reader.h. Plain functions and values; any thread.
//
// Tested by tests/host/record/recording_test.cc.
#ifndef CALLOUT_HOST_RECORD_RECORDING_H_
#define CALLOUT_HOST_RECORD_RECORDING_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/wire/message_redaction.h"

namespace callout::host {

inline constexpr std::string_view kRecordingMagic = "callout-recording 1\n";
// The largest record, in bytes. A reader refuses longer ones before it takes memory for them.
inline constexpr size_t kRecordBytesMax = size_t{64} << 20;

struct RecordingHeader {
  std::string host_version = {};
  uint64_t began_unix_ns = 0;
  bool bodies = false;                     // else bodies have their sizes only
  std::vector<std::string> redacted = {};  // patterns of Redaction
  std::string rule = {};                   // "percent=5&path_prefix=/api"
};

// Views into the record.
struct RecordedMessage {
  MessageKind kind = MessageKind::kRequest;
  std::string_view bytes;  // ProcessingRequest or ProcessingResponse
  uint64_t at_ns = 0;      // since the first message
  uint64_t size = 0;       // on the wire
  uint64_t body_bytes = 0;
  bool body_left_out = false;  // the body in `bytes` is empty, and had body_bytes bytes
};

struct RecordedExchange {
  uint64_t stream_id = 0;
  std::string_view service;  // "ext_proc"
  uint64_t began_unix_ns = 0;
  uint64_t duration_ns = 0;
  std::vector<RecordedMessage> messages;
  uint64_t messages_left_out = 0;  // after those that are here
  uint32_t end_code = 0;           // of gRPC; 0: OK
  std::string_view end_message;
  callout_outcome_t outcome = 0;
};

// Nanoseconds since 1970, for began_unix_ns.
uint64_t UnixNs();

// Records.
std::string WriteHeader(const RecordingHeader& header);
std::string WriteExchange(const RecordedExchange& exchange);

// Appends the frame of a record of at most kRecordBytesMax bytes.
void AppendFrame(std::string_view record, std::string* out);

// The first frame of `bytes`.
struct FrameView {
  enum class State : uint8_t {
    kWhole,
    kCut,          // `bytes` ends within it
    kTooLong,      // longer than kRecordBytesMax, or its length is no number
    kBadChecksum,  // damaged
  };
  State state = State::kCut;
  std::string_view record;  // kWhole
  size_t size = 0;          // of the whole frame; 0: its length is not known
};
FrameView ReadFrame(std::string_view bytes);

// What a record is. False if it is malformed, or is another kind of record. ReadExchange sets every
// field, and keeps the memory of the list.
bool ReadHeader(std::string_view record, RecordingHeader* header);
bool ReadExchange(std::string_view record, RecordedExchange* exchange);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RECORD_RECORDING_H_
