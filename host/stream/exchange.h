// SPDX-License-Identifier: Apache-2.0

// What a stream knows of its HTTP exchange: for each direction the body mode,
// what has come so far, and what may still come.
//
// Request and response are independent of each other: the response may begin
// while the request is still coming.
//
// A mode_override is a wish. Without allow_mode_override, Envoy's default, Envoy
// ignores it without a sign; so unless the operator says which holds, the mode stays
// open until a message shows it:
//   NONE to any mode      a body message comes: obeyed
//   any mode to NONE      a body message comes: ignored
//   between STREAMED, BUFFERED and BUFFERED_PARTIAL   the first body message has no
//                         end, and another one follows: STREAMED; a first message
//                         with the end tells nothing, and need not
//   to FULL_DUPLEX_STREAMED from another mode than NONE   nothing ever shows it, so
//                         the stream does not ask for it
//
// Not thread-safe; a part of Stream.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_STREAM_EXCHANGE_H_
#define CALLOUT_HOST_STREAM_EXCHANGE_H_

#include <callout/plugin.h>

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "host/stream/chain_message.h"
#include "host/stream/stream_environment.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"

namespace callout::host {

// Envoy holds the headers until their body is answered.
inline bool IsBuffered(callout_body_mode_t mode) {
  return mode == CALLOUT_BODY_BUFFERED || mode == CALLOUT_BODY_BUFFERED_PARTIAL;
}

struct Direction {
  enum class Presence : uint8_t { kUnknown, kAbsent, kPresent };

  callout_body_mode_t body_mode = CALLOUT_BODY_NONE;   // as far as it is known
  callout_body_mode_t asked_mode = CALLOUT_BODY_NONE;  // while mode_open
  bool mode_open = false;        // an override was asked for; nothing has shown its fate
  bool mode_overridden = false;  // or may be: content-length is still there
  bool headers_seen = false;
  bool headers_answered = false;
  bool body_seen = false;
  bool ended = false;
  bool answered_to_end = false;  // the end, too; of a buffered body its one message
  bool stalled = false;          // Envoy goes on only after an end of the RPC (`stalls_envoy`)
  // By CONTINUE_AND_REPLACE. Envoy takes no further answer, though body messages
  // may be on their way that it has sent without waiting for the header answer.
  bool replaced = false;
  bool upgrade = false;  // a CONNECT, or a request to upgrade; of the request
  Presence content_length = Presence::kUnknown;
  std::optional<uint64_t> content_length_bytes;
  bool encoded = false;           // its headers have a content-encoding
  bool encoding_settled = false;  // an instance has set or removed it in the headers

  // Envoy compares content-length with the body it is given.
  bool keeps_content_length() const {
    return IsBuffered(body_mode) || mode_overridden || mode_open;
  }
  bool MayBe(callout_body_mode_t mode) const {
    return body_mode == mode || (mode_open && asked_mode == mode);
  }
  bool may_have_body() const { return body_mode != CALLOUT_BODY_NONE || mode_open; }
  // What Envoy was told last, whether it obeys or not.
  callout_body_mode_t told_mode() const { return mode_open ? asked_mode : body_mode; }
};

class Exchange {
 public:
  explicit Exchange(EnvoyModeOverride policy) : policy_(policy) {}

  // Takes protocol_config and observability_mode from a message.
  void Remember(const RequestView& view);

  // Notes that `view` has come and fills `message` with what is known of it. Bodies
  // are read by someone if `body_read`: then the header list is looked into.
  // INVALID_ARGUMENT if it is malformed or cannot come now.
  absl::Status Enter(const RequestView& view, bool body_read, ChainMessage* message);

  Direction& direction(callout_phase_t phase) { return directions_[phase % 2]; }
  const Direction& direction(callout_phase_t phase) const { return directions_[phase % 2]; }

  bool observability() const { return observability_; }
  // Body modes are known: a protocol_config has come.
  bool modes_known() const { return modes_known_; }
  // Whether Envoy reads mode_override in header answers at all, as far as it shows.
  bool mode_can_change() const;
  // The operator says that Envoy obeys.
  bool override_is_certain() const {
    return policy_ == EnvoyModeOverride::kAllowed && mode_can_change();
  }
  // Whether a change to this mode may be asked for: one whose fate can be told.
  bool MayAskFor(callout_body_mode_t from, callout_body_mode_t to) const;
  // What Envoy was told last. Of headers and trailers only what an override has said.
  ModeOverride::Modes told_modes() const;
  // What becomes of the direction when a mode_override asks for this body mode.
  void ChangeMode(callout_body_mode_t mode, Direction* way) const;
  // After a mode_override that has both body modes has gone out.
  void ChangeModes(const ModeOverride::Modes& modes);
  // The response's headers have gone to the client, so that it cannot be given
  // another response.
  bool response_is_out() const;
  // A direction runs in FULL_DUPLEX_STREAMED, or may come to unseen, and has not been
  // answered to its end: to end the stream with OK would lose bytes.
  bool duplex_unended() const;
  // Something of the exchange has come, and no body is unfinished.
  bool between_bodies() const;
  // Envoy goes on with a direction only when the RPC ends (ChainMessage::stalls_envoy).
  bool stalled() const { return directions_[0].stalled || directions_[1].stalled; }

 private:
  absl::Status EnterHeaders(const RequestView& view, bool body_read, ChainMessage* message);
  absl::Status EnterBody(const RequestView& view, ChainMessage* message);
  static void ShowMode(Direction* way, ChainMessage* message);

  const EnvoyModeOverride policy_;
  std::array<Direction, 2> directions_;  // request (even phases), response
  ModeOverride::Modes told_modes_;       // by overrides; the body modes stand in directions_
  bool modes_known_ = false;
  bool observability_ = false;
  bool send_body_without_waiting_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_EXCHANGE_H_
