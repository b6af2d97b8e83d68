// A message on its way through the chain, and what the instances it has passed
// have made of it.
//
// The bytes of a message that nobody has changed are the transport's; what is
// rebuilt for later instances is owned here, shared so that a call which has
// missed its deadline can keep what its plugin may still read.
//
// Not thread-safe; a part of Stream.
//
// Tested by tests/host/plugin/chain_test.cc.
#ifndef CALLOUT_HOST_STREAM_CHAIN_MESSAGE_H_
#define CALLOUT_HOST_STREAM_CHAIN_MESSAGE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "host/stream/chain_response.h"

namespace callout::host {

using SharedBytes = std::shared_ptr<const std::string>;

struct ChainMessage {
  // What is asked of the instances, and what is answered to Envoy. They differ
  // only while a body from CONTINUE_AND_REPLACE passes the later instances.
  callout_phase_t phase = 0;
  callout_phase_t response_phase = 0;
  callout_body_mode_t body_mode = CALLOUT_BODY_NONE;  // of the direction

  std::string_view request;  // ProcessingRequest around `message`
  std::string_view message;  // HttpHeaders, HttpBody or HttpTrailers
  std::string_view body;     // of a body phase
  bool end_of_stream = false;
  bool whole_body = false;
  // A chunk whose bytes an instance keeps for a whole body: the later ones do
  // not see it.
  bool hidden = false;
  // FULL_DUPLEX_STREAMED: nothing of this chunk, which is not the last, goes on.
  bool dropped = false;
  // Observability: a whole body that only the instance which has gathered it sees.
  bool alone = false;
  bool asked_for_time = false;  // override_message_timeout has gone out
  bool waiting = false;         // a call with it is deferred

  size_t position = 0;  // of the instance that is next, in this phase's order
  // Of the instance whose CONTINUE_AND_REPLACE counts; it and those before it do
  // not see the new body.
  size_t replace_position = 0;
  // The instance at this position has gathered the message's body itself.
  size_t gathered_position = SIZE_MAX;
  ChainResponse response;
  std::string annotations;  // records beside the answer

  SharedBytes request_owner, message_owner, body_owner;

  // Starts over with a message as Envoy sent it.
  void Reset(callout_phase_t new_phase, std::string_view new_request,
             std::string_view new_message) {
    phase = response_phase = new_phase;
    body_mode = CALLOUT_BODY_NONE;
    request = new_request;
    message = new_message;
    body = {};
    end_of_stream = whole_body = hidden = dropped = alone = asked_for_time = waiting = false;
    position = replace_position = 0;
    gathered_position = SIZE_MAX;
    response.Clear();
    annotations.clear();
    request_owner = message_owner = body_owner = nullptr;
  }

  // What later instances are to see in place of `message`, with `request` built
  // around it anew.
  void Rebuild(std::string new_message);
  // A body phase: `message` and `request` around another body.
  void RebuildAroundBody(std::string_view new_body, SharedBytes owner);
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_CHAIN_MESSAGE_H_
