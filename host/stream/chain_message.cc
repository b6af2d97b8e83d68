// SPDX-License-Identifier: Apache-2.0

#include "host/stream/chain_message.h"

#include "host/wire/response.h"

namespace callout::host {

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
  header_count = SIZE_MAX;
  response.Clear();
  annotations.clear();
  beside_bytes = 0;
  request_owner = nullptr;
  changed_headers = nullptr;
  bytes_owner = nullptr;
}

bool ChainMessage::Become(MessageState next, uint64_t until_ns) {
  if (!MayBecome(state, next)) return false;
  state = next;
  deadline_ns = until_ns;
  return true;
}

void ChainMessage::Rebuild(std::string_view new_message) {
  auto owner = std::make_shared<const std::string>(ReplaceMessage(request, phase, new_message));
  request = *owner;
  message = request.substr(request.size() - new_message.size());
  request_owner = std::move(owner);
  changed_headers = nullptr;
}

HeaderSize ChainMessage::LargestHeaders(const HeaderMutationView& mutation) {
  if (header_count == SIZE_MAX) header_count = CountHeaders(message);
  return LargestHeaderSize(message, header_count, mutation);
}

void ChainMessage::RebuildHeaders(const HeaderMutationView& mutation) {
  if (header_count != SIZE_MAX) header_count += mutation.set.size();
  if (changed_headers != nullptr) {
    changed_headers->Apply(mutation);
  } else {
    auto owner = std::make_shared<ChangedHeaders>(request, phase, message, mutation);
    changed_headers = owner.get();
    request_owner = std::move(owner);
  }
  request = changed_headers->request();
  message = changed_headers->message();
}

std::shared_ptr<const void> ChainMessage::ShareRequest() {
  changed_headers = nullptr;
  return request_owner;
}

void ChainMessage::RebuildAroundBody(std::string_view new_body) {
  Rebuild(WriteBodyMessage(message, new_body, end_of_stream));
  // The view has to live as long as the message, not as the response it came from.
  bool ends = false;
  ReadBodyMessage(message, &body, &ends);
}

}  // namespace callout::host
