// SPDX-License-Identifier: Apache-2.0

// The steps of a call that streams, unary RPCs and connections take alike: its slot, the opening
// before it, its end, and its run on one of the pool's threads. Who is called when, and what
// becomes of a response, is each one's own.
//
//   state.slot = TakeSlot(part.stream, &state);
//   …  // fill in the call, and let the instance run its hook
//   part.stream = EndCall(&state);
//
// They are in a header so that a stream's call is compiled as one piece.
//
// Tested by tests/host/stream/stream_test.cc.
#ifndef CALLOUT_HOST_STREAM_CALL_STEPS_H_
#define CALLOUT_HOST_STREAM_CALL_STEPS_H_

#include <cstdint>
#include <string>
#include <utility>

#include "host/base/clock.h"
#include "host/plugin/call.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/hook_status.h"
#include "host/plugin/instance.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/stream_environment.h"

namespace callout::host {

// A slot for a call, as it is for opening and closing. `stream` is the plugin's own pointer, and
// `state` is what the services find.
inline CallSlot* TakeSlot(void* stream, CallState* state) {
  CallSlot* const slot = CallSlots::Take();
  state->instance->Prepare(&slot->call);
  slot->call.stream = stream;
  slot->stream_id = state->stream_id;
  slot->handshake.Begin();
  slot->state.store(state, std::memory_order_relaxed);
  return slot;
}

inline void ReleaseSlot(const Instance& instance, CallSlot* slot, CallSlots::Reuse reuse) {
  CallSlots::Release(slot, instance.strict() ? CallSlots::Reuse::kStrict : reuse);
}

// The plugin has no more to do with the call. Its pointer for the stream.
inline void* EndCall(CallState* state) {
  CallSlot* const slot = std::exchange(state->slot, nullptr);
  void* const stream = slot->call.stream;
  const bool deferred = slot->handshake.returned();
  ReleaseSlot(*state->instance, slot, deferred ? CallSlots::Reuse::kLate : CallSlots::Reuse::kSoon);
  return stream;
}

// Calls callout_on_stream_open before the call of `state`, which gets the plugin's new pointer;
// so does `stream`. False: the plugin refuses; state->status says how. On the thread of the call.
inline bool OpenBefore(CallState* state, void** stream, uint64_t* now_ns) {
  callout_call_t& first = state->slot->call;
  CallSlot* const open = TakeSlot(*stream, state);
  open->call.attributes = first.attributes;
  open->call.metadata_context = first.metadata_context;
  open->call.deadline_ns = first.deadline_ns;
  const callout_status_t status = state->instance->OpenStream(&open->call, state, *now_ns);
  *now_ns = MonotonicNs();
  *stream = first.stream = open->call.stream;
  ReleaseSlot(*state->instance, open, CallSlots::Reuse::kSoon);
  if (status < 0) state->status = status;
  return status >= 0;
}

// On a thread of the pool: tells the RPC's thread that the call has come to `status`, or leaves
// that to finish() if the plugin has deferred it. `state` may be gone when it returns.
inline void ReportDispatched(CallState* state, callout_status_t status) {
  RpcContext* const rpc = state->rpc;
  if (status == CALLOUT_DEFERRED) {
    if (!state->handshake().OnReturn()) return;
  } else {
    WarnOfFinish(*state, status);
    state->status = status;
    state->handshake().OnDone();
  }
  rpc->Post(state, RpcContext::Event::kFinished);
}

// For an author's test (--strict_plugins): the plugin sees bytes that are overwritten when the call
// is over, so that a view which is kept for too long shows.
void ShowCopies(CallSlot* slot);

// What is known of a call while it has its slot: all but the result. `end_ns` 0: no hook has run.
CallRecord RecordOf(const CallState& state, uint64_t end_ns);

// What the log says of a call that no thread was free for.
std::string OverloadText(const StreamLimits& limits);
// … and of one that is not finished at its deadline.
std::string DeadlineText(const StreamLimits& limits);
// … and of one that was deferred when too many were.
std::string DeferLimitText(const StreamEnvironment& environment);

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_CALL_STEPS_H_
