// SPDX-License-Identifier: Apache-2.0

#include "host/stream/call_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

namespace callout::host {

void ShowCopies(CallSlot* slot) {
  callout_call_t& call = slot->call;
  const std::array<callout_bytes_t*, 4> views = {&call.message, &call.request, &call.attributes,
                                                 &call.metadata_context};
  slot->shown_bytes = 0;
  for (const callout_bytes_t* view : views) slot->shown_bytes += view->size;
  slot->shown = std::make_unique<char[]>(slot->shown_bytes);
  char* to = slot->shown.get();
  for (callout_bytes_t* view : views) {
    std::copy_n(view->data, view->size, to);
    *view = {to, view->size};
    to += view->size;
  }
}

CallRecord RecordOf(const CallState& state, uint64_t end_ns) {
  CallRecord record;
  record.instance = state.instance;
  record.state = &state;
  record.stream_id = state.stream_id;
  record.rpc = state.rpc;
  record.position = state.part;
  record.phase = state.slot->call.phase;
  record.begin_ns = state.begin_ns;
  record.end_ns = std::max(end_ns, state.begin_ns);
  const CallHandshake& handshake = state.handshake();
  record.deferred = handshake.returned();
  record.blocking = handshake.detached();
  record.begun = !handshake.dropped() && !handshake.unbegun();
  // A hook that has not returned holds its thread, which may write its state.
  const bool running = record.blocking && !handshake.returned() && !handshake.over();
  record.hook_ns = !running ? state.hook_ns : record.begun ? record.taken_ns() : 0;
  record.message_bytes = state.slot->call.message.size;
  return record;
}

std::string OverloadText(const StreamLimits& limits) {
  return fmt::format(
      "not called: no thread was free for it within --hook_deadline_ms={}; --blocking_threads={}",
      limits.hook_deadline_ms, limits.blocking_threads_max);
}

std::string DeadlineText(const StreamLimits& limits) {
  return fmt::format("not finished within --hook_deadline_ms={}", limits.hook_deadline_ms);
}

std::string DeferLimitText(const StreamEnvironment& environment) {
  return fmt::format("{} calls are deferred, limit --max_deferred={}", environment.deferred(),
                     environment.limits().deferred_max);
}

}  // namespace callout::host
