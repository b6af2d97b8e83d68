// SPDX-License-Identifier: Apache-2.0

// Plays a recorded exchange through a chain of plugins: feeds what Envoy sent, in its order, and
// collects what the host responds.
//
//   Player player(chain.environment());
//   const Requests requests(exchange);          // with zeros in the place of bodies left out
//   Played played = player.Play(exchange, requests);
//
// As fast as it goes: the times of the recording do not matter. Where the recording has a response
// before the next message, the player waits for a call that is at work, until its deadline; it does
// not wait for a plugin that holds back its response until it has seen more.
//
// A stream whose plugin does not finish its call is abandoned: it stays in memory until the process
// ends.
//
// Play: any thread, several at once.
//
// Tested by tests/replay/player_test.cc.
#ifndef CALLOUT_HOST_REPLAY_PLAYER_H_
#define CALLOUT_HOST_REPLAY_PLAYER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "host/record/recording.h"
#include "host/stream/stream_environment.h"

namespace callout::host {

// The ProcessingRequests of an exchange, with bodies of their size (up to kRecordBytesMax in all; a
// body that is over that is empty). Views into the exchange, and
// into what it holds itself.
class Requests {
 public:
  explicit Requests(const RecordedExchange& exchange);
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  size_t size() const { return views_.size(); }
  std::string_view operator[](size_t index) const { return views_[index]; }

 private:
  absl::InlinedVector<std::string_view, 8> views_;
  std::vector<std::string> filled_;
};

struct Played {
  struct Response {
    std::string bytes;  // ProcessingResponse
    size_t after = 0;   // so many requests
  };
  absl::InlinedVector<Response, 8> responses;
  // Of the stream; OK also if it has not ended before Envoy left.
  absl::Status end;
  bool abandoned = false;
};

class Player {
 public:
  // `environment` outlives it, and what it has abandoned.
  explicit Player(StreamEnvironment* environment) : environment_(environment) {}

  Played Play(const RecordedExchange& exchange, const Requests& requests);

 private:
  StreamEnvironment* const environment_;
};

// A response that only asks Envoy for more time, which depends on the machine.
bool IsTimeRequest(std::string_view response);

}  // namespace callout::host

#endif  // CALLOUT_HOST_REPLAY_PLAYER_H_
