#include "host/stream/chain_message.h"

#include "host/wire/mutation.h"

namespace callout::host {

void ChainMessage::Rebuild(std::string new_message) {
  auto owner = std::make_shared<const std::string>(std::move(new_message));
  message = *owner;
  auto around = std::make_shared<const std::string>(ReplaceMessage(request, phase, message));
  request = *around;
  // The old ones last, for the new are made from them.
  message_owner = std::move(owner);
  request_owner = std::move(around);
}

void ChainMessage::RebuildAroundBody(std::string_view new_body, SharedBytes owner) {
  Rebuild(WriteBodyMessage(message, new_body, end_of_stream));
  body = new_body;
  body_owner = std::move(owner);
}

}  // namespace callout::host
