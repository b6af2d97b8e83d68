// SPDX-License-Identifier: Apache-2.0

// Messages of Envoy and of plugins that are to be kept in a recording: any bytes, and a good one
// with any bytes behind it.
#include <string>

#include "host/wire/message_redaction.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr char kSecret[] = "secret-of-authorization";

std::string SampleMessage() {
  // ProcessingRequest.request_headers.headers.headers = {authorization: kSecret}
  const std::string header = std::string("\x0a\x0d") + "authorization" + "\x1a\x17" + kSecret;
  const std::string map = std::string("\x0a") + static_cast<char>(header.size()) + header;
  const std::string headers = std::string("\x0a") + static_cast<char>(map.size()) + map;
  return std::string("\x12") + static_cast<char>(headers.size()) + headers;
}

// Whatever a message looks like, the secret of its header is not in what is kept of it.
FUZZ_TARGET(message_redaction, .rounds = 20000, .bytes = 40) {
  const Redaction redaction;
  const MessageKind kind = choices.OneIn(2) ? MessageKind::kResponse : MessageKind::kRequest;
  const bool any = choices.OneIn(2);
  const std::string message = any ? choices.Rest() : SampleMessage() + choices.Rest();
  std::string stripped, filled, kept;
  uint64_t body_bytes = 0;
  const bool good = StripBody(kind, message, &stripped, &body_bytes);
  if (good && BodyBytes(kind, stripped) != 0) return "a body is left";
  if (good && !FillBody(kind, stripped, 3, &filled)) return "what was stripped cannot be filled";
  MessageRedactor redactor(redaction);
  redactor.Learn(kind, message);
  std::string pieces = message + message;
  redactor.RewriteBodies({{kind, pieces.data(), message.size(), choices.OneIn(4)},
                          {kind, pieces.data() + message.size(), message.size(), false}},
                         choices.OneIn(4));
  if (!redactor.Rewrite(kind, message, &kept)) return "";
  if (!any && kind == MessageKind::kRequest && kept.find(kSecret) != kept.npos) {
    return "the secret is kept";
  }
  std::string again;
  if (!redactor.Rewrite(kind, kept, &again)) return "what is kept is malformed";
  return "";
}

}  // namespace
}  // namespace callout::host
