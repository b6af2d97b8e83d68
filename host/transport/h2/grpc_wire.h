// SPDX-License-Identifier: Apache-2.0

// gRPC's wire protocol over HTTP/2
// (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) without any I/O: what
// the headers of an RPC say, and how messages lie in a stream's bytes.
//
//   request  := :method POST, :path /service/method, te, content-type,
//               [grpc-timeout] [grpc-encoding] metadata*, message*
//   message  := compressed flag (1 byte) size (4 bytes, big-endian) bytes
//   response := :status 200, content-type, message*, grpc-status [grpc-message]
//             | :status 200, content-type, grpc-status [grpc-message]
//
// The second form of a response, "trailers only", is for an RPC without answers.
// Messages are taken uncompressed only.
//
// Functions keep no state; an object belongs to one thread at a time.
#ifndef CALLOUT_HOST_TRANSPORT_H2_GRPC_WIRE_H_
#define CALLOUT_HOST_TRANSPORT_H2_GRPC_WIRE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace callout::host {

inline constexpr size_t kMessageHeadBytes = 5;

// The flag and size that go before a message of `size` bytes.
void WriteMessageHead(uint32_t size, char head[kMessageHeadBytes]);

// The value of grpc-message: what is not printable ASCII, and "%", as %XX.
std::string EncodeGrpcMessage(std::string_view text);

// The value of grpc-timeout, at most eight digits and one of HMSmun. False if it
// is none.
bool ParseGrpcTimeout(std::string_view text, uint64_t* timeout_ns);

// The value of a "-bin" header: base64 with or without padding. False if it is
// not.
bool DecodeBase64(std::string_view text, std::string* bytes);

// Finds the messages in a stream's bytes, however these are split.
//
//   for (;;) {
//     switch (reader.Read(&data)) {
//       case kNeedsBytes: return;                       // `data` is used up
//       case kHead:       … reader.size() …             // may still be refused
//                         reader.UseMemory(…); break;
//       case kMessage:    … reader.message() … break;
//       default:          … the RPC ends …
//     }
//   }
//
// The size in a message's head reserves nothing: memory grows as the bytes come, to
// twice what has come at the most. GrowthFor says beforehand by how much.
class MessageReader {
 public:
  enum class Result : uint8_t {
    kNeedsBytes,
    kHead,     // size() is known, and no byte of the message is taken yet
    kMessage,  // message() is complete, and stays until the next Read()
    kTooLarge,
    kCompressed,
    kMalformed,  // the flag is neither 0 nor 1
    kNoMemory,   // the system gives no memory for the next bytes
  };

  explicit MessageReader(size_t message_bytes_max) : message_bytes_max_(message_bytes_max) {}

  // Takes bytes from the front of `data`. After the last four results no more.
  Result Read(std::string_view* data);
  // The memory in bytes that Read of `size` bytes is going to ask for; mostly 0.
  size_t GrowthFor(size_t size) const;
  // What the message under way, or complete, keeps.
  size_t capacity() const { return message_.capacity(); }

  // After kHead: the memory of an earlier message for this one to lie in.
  void UseMemory(std::vector<char> memory);

  uint32_t size() const { return size_; }
  std::string_view message() const { return {message_.data(), message_.size()}; }
  // Bytes have come that make no message yet.
  bool in_message() const { return head_bytes_ > 0; }

  // Gives the message away; the bytes stay where they are. Only while it is
  // complete.
  std::vector<char> TakeMessage() { return std::move(message_); }

  // For another stream's bytes.
  void Reset();

 private:
  static constexpr size_t kFirstBytes = 4096;

  Result ReadHead(std::string_view* data);
  // What the message's memory becomes when `size` bytes more come.
  size_t CapacityFor(size_t size) const {
    const size_t needed = message_.size() + std::min<size_t>(size, size_ - message_.size());
    if (needed <= message_.capacity()) return message_.capacity();
    return std::min<size_t>(size_, std::max(2 * needed, kFirstBytes));
  }

  const size_t message_bytes_max_;
  unsigned char head_[kMessageHeadBytes] = {};
  size_t head_bytes_ = 0;  // of the message under way
  bool complete_ = false;
  uint32_t size_ = 0;
  std::vector<char> message_;
};

// The head of one RPC: collects the request's headers and says what is wrong
// with them.
class RequestHead {
 public:
  // What to answer before any message is read.
  struct Refusal {
    int http_status = 0;  // not a gRPC request at all: answered in HTTP; 0: in gRPC
    absl::StatusCode code = absl::StatusCode::kOk;
    const char* message = "";
  };

  // `bytes_max`: of all names and values, with 32 for each pair (RFC 9113, 6.5.2). So
  // it bounds their number, too. Values of a "-bin" header that are joined with commas
  // count as headers of their own.
  // `usual_path`, which outlives it, is not kept for each RPC that is for it.
  RequestHead(size_t bytes_max, std::string_view usual_path)
      : bytes_max_(bytes_max), usual_path_(usual_path) {}

  // Takes one header; over the limit it is counted only.
  void Add(std::string_view name, std::string_view value);
  // Over the limit or not, in the measure of `bytes_max`.
  size_t bytes() const { return bytes_; }
  // Once all headers are there: true if the RPC is to be refused.
  bool Refuses(Refusal* refusal) const;

  bool is_grpc() const { return is_grpc_; }  // by its content-type
  bool has_usual_path() const { return has_usual_path_; }
  std::string_view path() const { return has_usual_path_ ? usual_path_ : View(path_); }
  std::string_view encoding() const { return View(encoding_); }  // empty: identity
  bool has_timeout() const { return has_timeout_; }
  uint64_t timeout_ns() const { return timeout_ns_; }

  // What it keeps in memory, in bytes.
  size_t capacity() const { return kept_.capacity() + metadata_.capacity() * sizeof(Entry); }

  // The `index`th value of `key` among what is not HTTP's or gRPC's own; that of
  // a "-bin" key is decoded when it is first asked for. False past the last. Any
  // thread; the views stay until Reset.
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const;

  // The `index`th entry of all of them.
  bool GetMetadataAt(uint32_t index, std::string_view* key, std::string_view* value) const;

  void Reset();

 private:
  enum class MethodIs : uint8_t { kAbsent, kPost, kOther };
  enum class TeIs : uint8_t { kAbsent, kTrailers, kOther };
  struct Range {
    uint32_t begin = 0;
    uint32_t size = 0;
  };
  struct Entry {
    Range key, value;
    bool encoded = false;  // `value` is base64 still
  };

  void AddGrpc(std::string_view name, std::string_view value);
  void AddMetadata(std::string_view name, std::string_view value);
  Range Keep(std::string_view text);
  void Decode(Entry* entry) const;
  std::string_view ValueOf(Entry* entry) const;
  std::string_view View(Range range) const {
    return std::string_view(kept_).substr(range.begin, range.size);
  }

  const size_t bytes_max_;
  const std::string_view usual_path_;
  size_t bytes_ = 0;
  mutable std::string kept_;  // values are decoded where they lie
  mutable std::vector<Entry> metadata_;
  Range path_, encoding_;
  MethodIs method_ = MethodIs::kAbsent;
  TeIs te_ = TeIs::kAbsent;
  bool has_usual_path_ = false;
  bool is_grpc_ = false;
  bool bad_binary_ = false;
  bool has_timeout_ = false;
  uint64_t timeout_ns_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_GRPC_WIRE_H_
