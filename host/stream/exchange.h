// What a stream knows of its HTTP exchange: for each direction the body mode,
// what has come so far, and what may still come.
//
// Request and response are independent of each other: the response may begin
// while the request is still coming.
//
// Not thread-safe; a part of Stream.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_STREAM_EXCHANGE_H_
#define CALLOUT_HOST_STREAM_EXCHANGE_H_

#include <callout/plugin.h>

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "host/stream/chain_message.h"
#include "host/wire/envelope.h"

namespace callout::host {

struct Direction {
  enum class ContentLength : uint8_t { kUnknown, kAbsent, kPresent };

  callout_body_mode_t body_mode = CALLOUT_BODY_NONE;
  bool mode_overridden = false;  // by an answer, which Envoy may have ignored
  bool headers_seen = false;
  bool body_seen = false;
  bool ended = false;
  // By CONTINUE_AND_REPLACE. Envoy takes no further answer, though body messages
  // may be on their way that it has sent without waiting for the header answer.
  bool replaced = false;
  ContentLength content_length = ContentLength::kUnknown;

  // Envoy compares content-length with the body it is given.
  bool keeps_content_length() const {
    return body_mode == CALLOUT_BODY_BUFFERED || body_mode == CALLOUT_BODY_BUFFERED_PARTIAL ||
           mode_overridden;
  }
};

class Exchange {
 public:
  // Takes protocol_config and observability_mode from a message.
  void Remember(const RequestView& view);

  // Notes that `view` has come and fills `message` with what is known of it.
  // INVALID_ARGUMENT if it is malformed or cannot come now.
  absl::Status Enter(const RequestView& view, ChainMessage* message);

  Direction& direction(callout_phase_t phase) { return directions_[phase % 2]; }
  const Direction& direction(callout_phase_t phase) const { return directions_[phase % 2]; }

  bool observability() const { return observability_; }
  // Body modes are known: a protocol_config has come.
  bool modes_known() const { return modes_known_; }
  // Whether Envoy reads mode_override in header answers at all.
  bool mode_can_change() const;
  // After a mode_override with these body modes has gone out.
  void ChangeModes(callout_body_mode_t request_mode, callout_body_mode_t response_mode);

 private:
  absl::Status EnterHeaders(const RequestView& view, ChainMessage* message);
  absl::Status EnterBody(const RequestView& view, ChainMessage* message);

  std::array<Direction, 2> directions_;  // request (even phases), response
  bool modes_known_ = false;
  bool observability_ = false;
  bool send_body_without_waiting_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_EXCHANGE_H_
