// SPDX-License-Identifier: Apache-2.0

#include "host/stream/chain_message.h"

#include "host/wire/mutation.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

// The old request last, for the new one is made from it.
void Keep(std::string request, size_t message_at, size_t message_size, ChainMessage* message) {
  auto owner = std::make_shared<const std::string>(std::move(request));
  message->request = *owner;
  message->message = message->request.substr(message_at, message_size);
  message->request_owner = std::move(owner);
}

}  // namespace

void ChainMessage::Reset() {
  phase = response_phase = 0;
  body_mode = CALLOUT_BODY_NONE;
  state = MessageState::kMoving;
  request = message = body = original = {};
  end_of_stream = whole_body = mode_open = hidden = dropped = alone = asked_for_time = false;
  at_transport = stalls_envoy = of_envoy = false;
  since_ns = called_ns = 0;
  position = told_until = replace_position = 0;
  gathered_position = SIZE_MAX;
  deadline_ns = queued_bytes = 0;
  response.Clear();
  annotations.clear();
  request_owner = nullptr;
  bytes_owner = nullptr;
}

bool ChainMessage::Become(MessageState next, uint64_t until_ns) {
  if (!MayBecome(state, next)) return false;
  state = next;
  deadline_ns = until_ns;
  return true;
}

void ChainMessage::Rebuild(std::string_view new_message) {
  size_t message_at = 0;
  std::string rebuilt = ReplaceMessage(request, phase, new_message, &message_at);
  Keep(std::move(rebuilt), message_at, new_message.size(), this);
}

void ChainMessage::RebuildHeaders(const HeaderMutationView& mutation) {
  size_t message_at = 0;
  size_t message_size = 0;
  std::string rebuilt =
      ReplaceHeaders(request, phase, message, mutation, &message_at, &message_size);
  Keep(std::move(rebuilt), message_at, message_size, this);
}

void ChainMessage::RebuildAroundBody(std::string_view new_body) {
  Rebuild(WriteBodyMessage(message, new_body, end_of_stream));
  // The view has to live as long as the message, not as the response it came from.
  bool ends = false;
  ReadBodyMessage(message, &body, &ends);
}

}  // namespace callout::host
