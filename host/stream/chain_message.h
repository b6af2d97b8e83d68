// SPDX-License-Identifier: Apache-2.0

// A message on its way through the chain, and what the instances it has passed
// have made of it.
//
// The bytes of a message that nobody has changed are the transport's, or kept by
// `bytes_owner` once it waits; what is rebuilt for later instances is owned here.
// A call which has missed its deadline shares what its plugin may still read, and
// nothing of that is changed any more.
//
// Not thread-safe; a part of Stream.
//
// Tested by tests/host/plugin/chain_test.cc.
#ifndef CALLOUT_HOST_STREAM_CHAIN_MESSAGE_H_
#define CALLOUT_HOST_STREAM_CHAIN_MESSAGE_H_

#include <callout/plugin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "host/stream/chain_response.h"
#include "host/wire/mutation.h"

namespace callout::host {

// Where a message stands with the instance at its position.
enum class MessageState : uint8_t {
  kMoving,  // goes on as soon as those before it are out of the way
  kTurn,    // waits until the instance is done with the other direction
  kCalled,  // a hook has it: deferred, or on a blocking thread
  kHeld,    // the instance keeps it until it has seen more of the body
};

// Whether a message in state `from` may come to be in state `to`.
constexpr bool MayBecome(MessageState from, MessageState to) {
  constexpr std::array<std::array<bool, 4>, 4> kTable = {{
      //  kMoving kTurn  kCalled kHeld
      {true, true, true, true},     // kMoving
      {true, true, false, false},   // kTurn: its turn comes, or its time is up
      {true, false, false, true},   // kCalled: settled; headers may then be held
      {true, false, false, false},  // kHeld: let go
  }};
  return kTable[static_cast<size_t>(from)][static_cast<size_t>(to)];
}

struct ChainMessage {
  // What is asked of the instances, and what is answered to Envoy. They differ
  // only while a body from CONTINUE_AND_REPLACE passes the later instances.
  callout_phase_t phase = 0;
  callout_phase_t response_phase = 0;
  callout_body_mode_t body_mode = CALLOUT_BODY_NONE;  // of the direction
  MessageState state = MessageState::kMoving;

  std::string_view request;  // ProcessingRequest around `message`
  std::string_view message;  // HttpHeaders, HttpBody or HttpTrailers
  std::string_view body;     // of a body phase
  // `message` as it began, whatever instances have changed; good as long as the message.
  std::string_view original;
  bool end_of_stream = false;
  bool whole_body = false;
  // An override was asked for, and only the next message can show whether Envoy
  // has obeyed it: `body_mode` is the configured one.
  bool mode_open = false;
  // A chunk whose bytes an instance keeps for a whole body: the later ones do
  // not see it.
  bool hidden = false;
  // FULL_DUPLEX_STREAMED: nothing of this chunk, which is not the last, goes on.
  bool dropped = false;
  // Observability: a whole body that only the instance which has gathered it sees.
  bool alone = false;
  bool asked_for_time = false;  // override_message_timeout has gone out
  // BUFFERED_PARTIAL: the body has all bytes of content-length, but no end. Envoy 1.40
  // never goes on after the response to it, unless the RPC ends with OK.
  bool stalls_envoy = false;
  bool at_transport = false;  // its bytes are still the transport's
  bool of_envoy = false;      // came from Envoy, and was not made here
  // For the time that Envoy waits: when its first call began, or it had to wait; 0: neither yet.
  uint64_t since_ns = 0;
  uint64_t called_ns = 0;  // when its last call was over

  // Of headers or trailers: `message` has so many or fewer. SIZE_MAX: not counted yet.
  size_t header_count = SIZE_MAX;
  size_t position = 0;    // of the instance that is next, in this phase's order
  size_t told_until = 0;  // observers were told of the places before this one
  // Of the instance whose CONTINUE_AND_REPLACE counts; it and those before it do
  // not see the new body.
  size_t replace_position = 0;
  // The instance at this position has gathered the message's body itself.
  size_t gathered_position = SIZE_MAX;
  uint64_t deadline_ns = 0;  // of its state; 0: none
  size_t queued_bytes = 0;   // counted for it while it waits
  ChainResponse response;
  std::string annotations;  // records beside the answer
  size_t beside_bytes = 0;  // of them, those of later messages, counted by the stream

  // Of `request` with `message` in it, once they were rebuilt.
  std::shared_ptr<const void> request_owner;
  // The same, if it is headers or trailers that may be changed in place; else null.
  ChangedHeaders* changed_headers = nullptr;
  std::shared_ptr<const void> bytes_owner;

  // Takes a message as Envoy sent it. Only as it is made, or after Reset().
  void Begin(callout_phase_t new_phase, std::string_view new_request,
             std::string_view new_message) {
    phase = response_phase = new_phase;
    request = new_request;
    message = original = new_message;
  }
  // As it was made, but for memory that it keeps.
  void Reset();
  // False, with nothing done, if the table has no such way.
  bool Become(MessageState next, uint64_t until_ns = 0);

  // What later instances are to see in place of `message`, with `request` built
  // around it anew.
  void Rebuild(std::string_view new_message);
  // The same for headers or trailers, with a change of them applied. Views of the
  // message are invalid afterwards.
  void RebuildHeaders(const HeaderMutationView& mutation);
  // At least the headers that the message has with `mutation` applied.
  HeaderSize LargestHeaders(const HeaderMutationView& mutation);
  // Of a rebuilt request, for who reads it from now on; it is not changed any more.
  std::shared_ptr<const void> ShareRequest();
  // A body phase: `message` and `request` around another body.
  void RebuildAroundBody(std::string_view new_body);
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_CHAIN_MESSAGE_H_
