// SPDX-License-Identifier: Apache-2.0

// What a peer may send before nghttp2 sees it: counts HTTP/2 frames in the bytes
// as they come, and stops at the first that is one too many.
//
// nghttp2 keeps the peer to the protocol; this keeps it to what a gRPC client
// has a use for, and to the end of its streams, of which nghttp2 could remember
// only as many as are allowed at once, with some 250 bytes for each. It holds from the first byte,
// whether the peer has acknowledged our SETTINGS or not.
//
// Why not nghttp2's callbacks: they do not show every frame. Of 1,000 frames each (nghttp2 1.52),
// neither on_begin_frame nor on_frame_recv is called for frames of an unknown type, for DATA after
// END_STREAM or RST_STREAM, or for DATA of a refused stream. on_frame_recv alone shows padding.
// nghttp2 itself ends a header block after 8 CONTINUATIONs. Scanning takes 11 ns a frame.
//
// Frames that carry no request (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty
// DATA and types unknown) share a budget, and so do resets of streams that have
// been given no answer yet. A budget refills with time and with the work done
// for the peer: acknowledgements and window updates come with what it is sent.
//
// One thread at a time.
#ifndef CALLOUT_HOST_TRANSPORT_H2_H2_GUARD_H_
#define CALLOUT_HOST_TRANSPORT_H2_H2_GUARD_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace callout::host {

// Why a connection was closed by this end; also the metric's label.
enum class H2Reason : uint8_t {
  kNone = 0,
  kProtocol,      // nghttp2 refused it
  kClosedStream,  // the peer goes on after the end of a stream
  kHeaderBlock,
  kContinuations,
  kSettings,
  kPing,
  kPriority,
  kWindowUpdate,
  kEmptyData,
  kUnknownFrames,
  kGoaways,
  kKeyUpdates,  // of TLS
  kResets,
  kHandshake,  // TLS, or a protocol other than HTTP/2
  kHandshakeTimeout,
  kIdle,
  kAge,
  kKeepalive,
  kWriteStall,
  kEvicted,  // for another one, at the limit of connections
};
inline constexpr size_t kH2ReasonCount = 21;
const char* H2ReasonName(H2Reason reason);

// At most `max` at once, and `max` more in ten seconds. 0: no limit.
class H2Budget {
 public:
  H2Budget(uint64_t max, uint64_t now_ns) : max_(max), left_(max), refilled_ns_(now_ns) {}

  bool Spend(uint64_t now_ns);
  void Earn(uint64_t count) { left_ = std::min(max_, left_ + count); }

 private:
  static constexpr uint64_t kRefillNs = 10'000'000'000;

  const uint64_t max_;
  uint64_t left_;
  uint64_t refilled_ns_;
};

class H2Guard {
 public:
  struct Limits {
    size_t header_block_bytes_max = 65536;  // as sent: HEADERS and its CONTINUATIONs
    uint64_t control_frames_max = 1000;     // 0: any number
  };
  static constexpr int kContinuationsMax = 8;  // for each header block
  // For each connection. One that shuts down sends two and perhaps one more for an error, and for
  // each nghttp2 goes through all streams.
  static constexpr int kGoawaysMax = 8;
  // The streams last ended or reset by the peer, which is to send no more on them
  // (RFC 9113, 5.1).
  static constexpr size_t kEndedMax = 16;

  H2Guard(const Limits& limits, uint64_t now_ns)
      : limits_(limits), control_frames_(limits.control_frames_max, now_ns) {}

  // How many of the bytes may go on to nghttp2; less than all of them if the next
  // frame is one too many, and then reason() says of what, and no more follow.
  size_t Scan(std::string_view bytes, uint64_t now_ns);
  H2Reason reason() const { return reason_; }

  // TLS has taken so many KeyUpdates, which count as frames that carry no request: each makes TLS
  // derive keys and answer.
  void TakeKeyUpdates(uint64_t count, uint64_t now_ns) {
    for (; count > 0 && reason_ == H2Reason::kNone; --count) {
      reason_ = Count(H2Reason::kKeyUpdates, now_ns);
    }
  }

  // From now on at most `count` streams more may begin; the one after them is one too
  // many.
  void LimitStreams(uint64_t count) { streams_left_ = count; }

  // Frames that have come.
  uint64_t frames() const { return frames_; }
  // Of the header block under way.
  size_t block_bytes() const { return block_bytes_; }

  // The peer has sent its first SETTINGS.
  bool settled() const { return settled_; }

  // A DATA frame has been sent, which the peer may acknowledge in several ways.
  void OnDataSent() { control_frames_.Earn(4); }

 private:
  H2Reason TakeFrame(uint64_t now_ns);
  bool HasEnded(uint32_t stream) const;
  bool TakeStreamFrame(uint8_t type, uint8_t flags, uint32_t stream);
  H2Reason TakeHeaderBlock(bool continuation, size_t size, bool end);
  H2Reason Count(H2Reason reason, uint64_t now_ns) {
    return control_frames_.Spend(now_ns) ? H2Reason::kNone : reason;
  }

  static constexpr size_t kPrefaceBytes = 24;
  static constexpr size_t kFrameHeadBytes = 9;

  const Limits limits_;
  H2Budget control_frames_;
  size_t skip_ = kPrefaceBytes;  // of the preface, or of the payload of the frame under way
  unsigned char head_[kFrameHeadBytes] = {};
  size_t head_bytes_ = 0;
  size_t padded_size_ = 0;  // of a padded DATA frame whose pad length comes next; 0: none
  size_t block_bytes_ = 0;
  uint64_t frames_ = 0;
  uint64_t streams_left_ = UINT64_MAX;
  int continuations_ = 0;
  int goaways_ = 0;
  std::array<uint32_t, kEndedMax> ended_{};  // 0: none yet
  size_t ended_count_ = 0;
  uint32_t newest_ended_ = 0;  // most frames are of a newer stream
  bool settled_ = false;
  H2Reason reason_ = H2Reason::kNone;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TRANSPORT_H2_H2_GUARD_H_
