// SPDX-License-Identifier: Apache-2.0

// Messages of Envoy and of plugins that are to be kept in a recording: any bytes, and a good one
// with any bytes behind it.
//
// Readers: host/wire/message_redaction.cc
#include <string>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/message_redaction.h"
#include "tests/fuzz/proto_oracle.h"
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

// Whether the secret is in what is kept, which has nothing that the host does not know but numbers.
// Several of these may be so in a row that their bytes spell it, which says nothing.
std::string FindSecret(const std::string& kept) {
  using Request = envoy::service::ext_proc::v3::ProcessingRequest;
  using google::protobuf::internal::WireFormatLite;
  const bool has_unknown =
      HasRecord(kept, *Request::descriptor(), [](const auto* field, auto wire_type) {
        return field == nullptr && wire_type == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
      });
  if (has_unknown) return "an unknown field is kept";
  Request request;
  if (!ParsesAs(kept, &request)) return "";
  request.DiscardUnknownFields();
  return request.SerializeAsString().find(kSecret) == std::string::npos ? "" : "the secret is kept";
}

// Whatever a message looks like, the secret of its header is not in what is kept of it.
FUZZ_TARGET(message_redaction, .rounds = 20000, .bytes = 40) {
  const Redaction redaction;
  const MessageKind kind = choices.OneIn(2) ? MessageKind::kResponse : MessageKind::kRequest;
  // Which pieces of a body were left out before and after those that are there.
  const unsigned gaps = choices.Next(8);
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
  const std::string text = redactor.RewriteText(std::string("says ") + kSecret);
  if (!any && kind == MessageKind::kRequest && good && text.find(kSecret) != text.npos) {
    return "the secret is in a text about it";
  }
  MessageRedactor of_headers(redaction);
  of_headers.LearnHeaders(message);
  redactor.RewriteBodies({{kind, pieces.data(), message.size(), (gaps & 1) != 0},
                          {kind, pieces.data() + message.size(), message.size(), (gaps & 2) != 0}},
                         (gaps & 4) != 0);
  if (!redactor.Rewrite(kind, message, &kept)) return "";
  if (!any && kind == MessageKind::kRequest && kept.find(kSecret) != kept.npos) {
    if (std::string error = FindSecret(kept); !error.empty()) return error;
  }
  std::string again;
  if (!redactor.Rewrite(kind, kept, &again)) return "what is kept is malformed";
  return "";
}

}  // namespace
}  // namespace callout::host
