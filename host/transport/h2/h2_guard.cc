// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_guard.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>

namespace callout::host {

const char* H2ReasonName(H2Reason reason) {
  static constexpr const char* kNames[kH2ReasonCount] = {
      "none",          "protocol",   "closed_stream",  "header_block",
      "continuations", "settings",   "ping",           "priority",
      "window_update", "empty_data", "unknown_frames", "goaways",
      "key_updates",   "resets",     "handshake",      "handshake_timeout",
      "idle",          "age",        "keepalive",      "write_stall",
      "evicted"};
  return kNames[static_cast<size_t>(reason)];
}

bool H2Budget::Spend(uint64_t now_ns) {
  if (max_ == 0) return true;
  if (left_ == 0) {
    // In pieces, so that no product is over 64 bits.
    const uint64_t passed_ns = std::min(now_ns - refilled_ns_, kRefillNs);
    left_ = passed_ns / 1000 * max_ / (kRefillNs / 1000);
    if (left_ == 0) return false;
    refilled_ns_ = now_ns;
  }
  --left_;
  return true;
}

size_t H2Guard::Scan(std::string_view bytes, uint64_t now_ns) {
  if (reason_ != H2Reason::kNone) return 0;
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t start = at;
    if (padded_size_ > 0) {
      const size_t pad_size = static_cast<unsigned char>(bytes[at++]);
      const bool empty = pad_size + 1 >= padded_size_;
      skip_ = padded_size_ - 1;
      padded_size_ = 0;
      if (empty) reason_ = Count(H2Reason::kEmptyData, now_ns);
    } else if (skip_ > 0) {
      const size_t taken = std::min(skip_, bytes.size() - at);
      skip_ -= taken;
      at += taken;
    } else {
      const size_t taken = std::min(kFrameHeadBytes - head_bytes_, bytes.size() - at);
      std::memcpy(head_ + head_bytes_, bytes.data() + at, taken);
      head_bytes_ += taken;
      at += taken;
      if (head_bytes_ < kFrameHeadBytes) break;
      head_bytes_ = 0;
      reason_ = TakeFrame(now_ns);
    }
    if (reason_ != H2Reason::kNone) return start;
  }
  return at;
}

H2Reason H2Guard::TakeFrame(uint64_t now_ns) {
  const size_t size = size_t{head_[0]} << 16 | size_t{head_[1]} << 8 | head_[2];
  const uint8_t type = head_[3], flags = head_[4];
  skip_ = size;
  ++frames_;
  if (type == NGHTTP2_DATA || type == NGHTTP2_HEADERS || type == NGHTTP2_RST_STREAM) {
    const uint32_t stream =
        uint32_t{head_[5]} << 24 | uint32_t{head_[6]} << 16 | uint32_t{head_[7]} << 8 | head_[8];
    if (!TakeStreamFrame(type, flags, stream)) return H2Reason::kClosedStream;
  }
  switch (type) {
    case NGHTTP2_DATA:
      if ((flags & NGHTTP2_FLAG_END_STREAM) != 0) return H2Reason::kNone;
      if (size == 0) return Count(H2Reason::kEmptyData, now_ns);
      if ((flags & NGHTTP2_FLAG_PADDED) != 0) {
        padded_size_ = size;
        skip_ = 0;
      }
      return H2Reason::kNone;
    case NGHTTP2_HEADERS:
      if (streams_left_-- == 0) return H2Reason::kResets;
      return TakeHeaderBlock(false, size, (flags & NGHTTP2_FLAG_END_HEADERS) != 0);
    case NGHTTP2_CONTINUATION:
      return TakeHeaderBlock(true, size, (flags & NGHTTP2_FLAG_END_HEADERS) != 0);
    case NGHTTP2_SETTINGS:
      settled_ = true;
      return Count(H2Reason::kSettings, now_ns);
    case NGHTTP2_PING:
      return Count(H2Reason::kPing, now_ns);
    case NGHTTP2_PRIORITY:
      return Count(H2Reason::kPriority, now_ns);
    case NGHTTP2_WINDOW_UPDATE:
      return Count(H2Reason::kWindowUpdate, now_ns);
    case NGHTTP2_GOAWAY:
      return ++goaways_ > kGoawaysMax ? H2Reason::kGoaways : H2Reason::kNone;
    case NGHTTP2_RST_STREAM:    // counted by the connection, which knows the stream
    case NGHTTP2_PUSH_PROMISE:  // an error, to nghttp2
      return H2Reason::kNone;
    default:
      return Count(H2Reason::kUnknownFrames, now_ns);
  }
}

// All are compared, which the compiler does four at a time: half of std::find's instructions.
bool H2Guard::HasEnded(uint32_t stream) const {
  uint32_t found = 0;  // as wide as what is compared
  for (const uint32_t ended : ended_) found |= ended == stream ? 1u : 0u;
  return found != 0;
}

// False if the peer has ended the stream before.
bool H2Guard::TakeStreamFrame(uint8_t type, uint8_t flags, uint32_t stream) {
  const bool resets = type == NGHTTP2_RST_STREAM;
  if (!resets && stream != 0 && stream <= newest_ended_ && HasEnded(stream)) return false;
  if (resets || (flags & NGHTTP2_FLAG_END_STREAM) != 0) {
    ended_[ended_count_++ % ended_.size()] = stream;
    newest_ended_ = std::max(newest_ended_, stream);
  }
  return true;
}

H2Reason H2Guard::TakeHeaderBlock(bool continuation, size_t size, bool end) {
  block_bytes_ += size;
  if (continuation && ++continuations_ > kContinuationsMax) return H2Reason::kContinuations;
  if (block_bytes_ > limits_.header_block_bytes_max) return H2Reason::kHeaderBlock;
  if (end) {
    block_bytes_ = 0;
    continuations_ = 0;
  }
  return H2Reason::kNone;
}

}  // namespace callout::host
