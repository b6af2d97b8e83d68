// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/grpc_wire.h"

#include <strings.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "absl/strings/escaping.h"

namespace callout::host {

namespace {

// What a header counts for beside its name and value (RFC 9113, 6.5.2).
constexpr size_t kHeaderOverheadBytes = 32;
constexpr size_t kTimeoutDigitsMax = 8;
constexpr std::string_view kGrpc = "application/grpc";

// "application/grpc", "application/grpc+proto", "application/grpc;…", but not
// "application/grpc-web", which is another protocol.
bool IsGrpcContentType(std::string_view value) {
  if (value.size() < kGrpc.size() || strncasecmp(value.data(), kGrpc.data(), kGrpc.size()) != 0) {
    return false;
  }
  return value.size() == kGrpc.size() || value[kGrpc.size()] == '+' || value[kGrpc.size()] == ';';
}

// A head that is used again keeps memory up to this size.
constexpr size_t kKeptHeadBytesMax = 1024;
constexpr size_t kKeptEntriesMax = 32;

bool IsBase64(std::string_view text) {
  const size_t padding = text.size() - std::min(text.size(), text.find_last_not_of('=') + 1);
  if (padding > 2 || (padding > 0 && text.size() % 4 != 0)) return false;
  text.remove_suffix(padding);
  if (text.size() % 4 == 1) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
  });
}

bool IsPlain(char c) { return c >= ' ' && c <= '~' && c != '%'; }

}  // namespace

void WriteMessageHead(uint32_t size, char head[kMessageHeadBytes]) {
  head[0] = 0;
  head[1] = static_cast<char>(size >> 24);
  head[2] = static_cast<char>(size >> 16);
  head[3] = static_cast<char>(size >> 8);
  head[4] = static_cast<char>(size);
}

std::string EncodeGrpcMessage(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    if (IsPlain(c)) {
      encoded.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded.push_back('%');
    encoded.push_back(kDigits[byte >> 4]);
    encoded.push_back(kDigits[byte & 15]);
  }
  return encoded;
}

bool ParseGrpcTimeout(std::string_view text, uint64_t* timeout_ns) {
  if (text.size() < 2 || text.size() > kTimeoutDigitsMax + 1) return false;
  uint64_t unit_ns;
  switch (text.back()) {
    case 'H':
      unit_ns = 3'600'000'000'000;
      break;
    case 'M':
      unit_ns = 60'000'000'000;
      break;
    case 'S':
      unit_ns = 1'000'000'000;
      break;
    case 'm':
      unit_ns = 1'000'000;
      break;
    case 'u':
      unit_ns = 1'000;
      break;
    case 'n':
      unit_ns = 1;
      break;
    default:
      return false;
  }
  uint64_t count = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return false;
    count = count * 10 + static_cast<uint64_t>(c - '0');
  }
  // The largest, 99999999H, is over what 64 bits hold: 11,000 years or 500, it
  // is never.
  *timeout_ns = count > UINT64_MAX / 2 / unit_ns ? UINT64_MAX / 2 : count * unit_ns;
  return true;
}

bool DecodeBase64(std::string_view text, std::string* bytes) {
  // The library's decoder skips white space, which has no place in a header.
  if (!IsBase64(text)) return false;
  return absl::Base64Unescape({text.data(), text.size()}, bytes);
}

// --- MessageReader -----------------------------------------------------------

MessageReader::Result MessageReader::Read(std::string_view* data) {
  if (std::exchange(complete_, false)) message_ = std::vector<char>();
  if (head_bytes_ < kMessageHeadBytes) return ReadHead(data);
  const size_t missing = size_ - message_.size();
  const std::string_view taken = data->substr(0, missing);
  try {
    message_.reserve(CapacityFor(taken.size()));
  } catch (const std::bad_alloc&) {
    return Result::kNoMemory;
  }
  message_.insert(message_.end(), taken.begin(), taken.end());
  data->remove_prefix(taken.size());
  if (taken.size() < missing) return Result::kNeedsBytes;
  complete_ = true;
  head_bytes_ = 0;
  return Result::kMessage;
}

size_t MessageReader::GrowthFor(size_t size) const {
  if (complete_ || head_bytes_ < kMessageHeadBytes) return 0;
  const size_t capacity = CapacityFor(size);
  // While its bytes move, the message has both.
  return capacity > message_.capacity() ? capacity : 0;
}

MessageReader::Result MessageReader::ReadHead(std::string_view* data) {
  const size_t taken = std::min(kMessageHeadBytes - head_bytes_, data->size());
  std::memcpy(head_ + head_bytes_, data->data(), taken);
  head_bytes_ += taken;
  data->remove_prefix(taken);
  if (head_bytes_ < kMessageHeadBytes) return Result::kNeedsBytes;
  if (head_[0] > 1) return Result::kMalformed;
  size_ = uint32_t{head_[1]} << 24 | uint32_t{head_[2]} << 16 | uint32_t{head_[3]} << 8 | head_[4];
  if (head_[0] == 1) return Result::kCompressed;
  if (size_ > message_bytes_max_) return Result::kTooLarge;
  return Result::kHead;
}

void MessageReader::UseMemory(std::vector<char> memory) {
  message_ = std::move(memory);
  message_.clear();
}

void MessageReader::Reset() {
  message_ = std::vector<char>();
  complete_ = false;
  head_bytes_ = 0;
  size_ = 0;
}

// --- RequestHead -------------------------------------------------------------

void RequestHead::Add(std::string_view name, std::string_view value) {
  bytes_ += name.size() + value.size() + kHeaderOverheadBytes;
  if (bytes_ > bytes_max_ || name.empty()) return;
  if (name[0] == ':') {
    if (name == ":path") {
      has_usual_path_ = value == usual_path_;
      if (!has_usual_path_) path_ = Keep(value);
    }
    if (name == ":method") method_ = value == "POST" ? MethodIs::kPost : MethodIs::kOther;
    return;
  }
  if (name == "te") {
    te_ = value == "trailers" ? TeIs::kTrailers : TeIs::kOther;
  } else if (name == "content-type") {
    is_grpc_ = IsGrpcContentType(value);
  } else if (name.starts_with("grpc-")) {
    AddGrpc(name, value);
  } else {
    AddMetadata(name, value);
  }
}

void RequestHead::AddGrpc(std::string_view name, std::string_view value) {
  if (name == "grpc-encoding") encoding_ = Keep(value);
  // What is no timeout is none, as in gRPC C++.
  if (name == "grpc-timeout") has_timeout_ = ParseGrpcTimeout(value, &timeout_ns_);
}

void RequestHead::AddMetadata(std::string_view name, std::string_view value) {
  const Range key = Keep(name);
  if (!name.ends_with("-bin")) {
    metadata_.push_back({key, Keep(value)});
    return;
  }
  // Several values of a binary header may have been joined with commas.
  for (;;) {
    const size_t end = std::min(value.find(','), value.size());
    const std::string_view text = value.substr(0, end);
    if (!IsBase64(text)) bad_binary_ = true;
    metadata_.push_back({key, Keep(text), true});
    if (end == value.size()) return;
    value.remove_prefix(end + 1);
    bytes_ += name.size() + kHeaderOverheadBytes;
    if (bytes_ > bytes_max_) return;
  }
}

// base64 is longer than what it says.
void RequestHead::Decode(Entry* entry) const {
  std::string bytes;
  DecodeBase64(View(entry->value), &bytes);
  bytes.copy(kept_.data() + entry->value.begin, entry->value.size);
  entry->value.size = static_cast<uint32_t>(bytes.size());
  entry->encoded = false;
}

RequestHead::Range RequestHead::Keep(std::string_view text) {
  const Range range = {static_cast<uint32_t>(kept_.size()), static_cast<uint32_t>(text.size())};
  kept_.append(text);
  return range;
}

bool RequestHead::Refuses(Refusal* refusal) const {
  using absl::StatusCode;
  if (bytes_ > bytes_max_) {
    *refusal = {0, StatusCode::kResourceExhausted, "received metadata size exceeds limit"};
  } else if (method_ != MethodIs::kPost) {
    // What a plain GET gets from gRPC C++, too, whatever its content-type.
    *refusal = {0, StatusCode::kUnknown, "Bad method header"};
  } else if (!is_grpc_) {
    *refusal = {415, StatusCode::kOk, "this server speaks gRPC: content-type application/grpc\n"};
  } else if (te_ != TeIs::kTrailers) {
    *refusal = {0, StatusCode::kUnknown,
                te_ == TeIs::kAbsent ? "Missing :te header" : "Bad :te header"};
  } else if (bad_binary_) {
    *refusal = {0, StatusCode::kInternal, "a value of binary metadata is not base64"};
  } else {
    return false;
  }
  return true;
}

// Few ask for binary metadata, and seldom: one lock for all.
std::string_view RequestHead::ValueOf(Entry* entry) const {
  static std::mutex decoding;
  std::unique_lock<std::mutex> lock(decoding, std::defer_lock);
  if (View(entry->key).ends_with("-bin")) lock.lock();
  if (entry->encoded) Decode(entry);
  return View(entry->value);
}

bool RequestHead::GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const {
  for (Entry& entry : metadata_) {
    if (View(entry.key) != key || index-- != 0) continue;
    *value = ValueOf(&entry);
    return true;
  }
  return false;
}

bool RequestHead::GetMetadataAt(uint32_t index, std::string_view* key,
                                std::string_view* value) const {
  if (index >= metadata_.size()) return false;
  Entry& entry = metadata_[index];
  *key = View(entry.key);
  *value = ValueOf(&entry);
  return true;
}

void RequestHead::Reset() {
  bytes_ = 0;
  kept_.clear();
  metadata_.clear();
  // Assigning would keep its memory.
  if (kept_.capacity() > kKeptHeadBytesMax) std::string().swap(kept_);
  if (metadata_.capacity() > kKeptEntriesMax) metadata_ = std::vector<Entry>();
  path_ = encoding_ = Range();
  method_ = MethodIs::kAbsent;
  te_ = TeIs::kAbsent;
  has_usual_path_ = is_grpc_ = bad_binary_ = has_timeout_ = false;
  timeout_ns_ = 0;
}

}  // namespace callout::host
