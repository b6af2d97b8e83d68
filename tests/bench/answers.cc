// SPDX-License-Identifier: Apache-2.0

#include "answers.h"

#include <array>
#include <string>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/wire.h"

namespace callout::bench {
namespace {

using envoy::service::ext_proc::v3::ProcessingResponse;

// A CheckRequest begins with field 1, its attributes.
std::string AllowedCheck() {
  envoy::service::auth::v3::CheckResponse response;
  response.mutable_status();
  auto* option = response.mutable_ok_response()->add_headers();
  option->mutable_header()->set_key("x-callout");
  option->mutable_header()->set_value("minimal-c");
  option->set_append_action(envoy::config::core::v3::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
  return response.SerializeAsString();
}

// The answers by the field number of the request, 2 to 7.
std::array<std::string, 8> MakeAnswers() {
  std::array<ProcessingResponse, 8> answers;
  auto* option = answers[2]
                     .mutable_request_headers()
                     ->mutable_response()
                     ->mutable_header_mutation()
                     ->add_set_headers();
  option->mutable_header()->set_key("x-callout");
  option->mutable_header()->set_raw_value("minimal-c");
  option->set_append_action(envoy::config::core::v3::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
  answers[3].mutable_response_headers();
  answers[4].mutable_request_body();
  answers[5].mutable_response_body();
  answers[6].mutable_request_trailers();
  answers[7].mutable_response_trailers();
  std::array<std::string, 8> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = answers[i].SerializeAsString();
  bytes[1] = AllowedCheck();
  return bytes;
}

}  // namespace

std::string_view AnswerTo(std::string_view request) {
  static const std::array<std::string, 8> answers = MakeAnswers();
  if (request.empty()) return "";
  const auto field = static_cast<size_t>(static_cast<unsigned char>(request.front())) >> 3;
  return field < answers.size() ? answers[field] : std::string_view();
}

int ScanHeaders(std::string_view request) {
  int count = 0;
  host::WireReader message(request);
  while (message.Next()) {
    if (!message.Is(2) && !message.Is(3)) continue;
    host::WireReader http_headers(message.bytes());
    while (http_headers.Next()) {
      if (!http_headers.Is(1)) continue;
      host::WireReader map(http_headers.bytes());
      while (map.Next()) {
        std::string_view key, value;
        host::WireReader header(map.bytes());
        while (header.Next()) {
          if (header.Is(1)) key = header.bytes();
          if (header.Is(3)) value = header.bytes();
        }
        if (key != "x-not-there" || value.empty()) ++count;
      }
    }
  }
  return count;
}

}  // namespace callout::bench
