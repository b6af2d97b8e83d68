// SPDX-License-Identifier: Apache-2.0

// Messages of exchanges for the tests of outcomes.
#ifndef CALLOUT_TESTS_HOST_DIFF_EXCHANGE_MESSAGES_H_
#define CALLOUT_TESTS_HOST_DIFF_EXCHANGE_MESSAGES_H_

#include <string>

#include "host/diff/outcome.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {

inline std::string HeadersMessage(const Pairs& pairs) {
  envoy::service::ext_proc::v3::HttpHeaders message;
  for (const auto& [name, value] : pairs) {
    auto* header = message.mutable_headers()->add_headers();
    header->set_key(name);
    header->set_raw_value(value);
  }
  return message.SerializeAsString();
}

inline std::string BodyMessage(const std::string& body) {
  envoy::service::ext_proc::v3::HttpBody message;
  message.set_body(body);
  return message.SerializeAsString();
}

inline void AddHeader(envoy::service::ext_proc::v3::HeaderMutation* mutation,
                      const std::string& name, const std::string& value) {
  auto* header = mutation->add_set_headers()->mutable_header();
  header->set_key(name);
  header->set_raw_value(value);
}

// A response that sets a header of the request.
inline ProcessingResponse SetsRequestHeader(const std::string& name, const std::string& value) {
  ProcessingResponse response;
  AddHeader(response.mutable_request_headers()->mutable_response()->mutable_header_mutation(), name,
            value);
  return response;
}

inline ProcessingResponse Immediate(int status) {
  ProcessingResponse response;
  response.mutable_immediate_response()->mutable_status()->set_code(
      static_cast<envoy::type::v3::StatusCode>(status));
  return response;
}

// Headers and a body of 6 bytes.
inline void AddRequest(OutcomeBuilder* builder) {
  builder->OnMessage(CALLOUT_REQUEST_HEADERS, HeadersMessage({{":path", "/a?q=secret-1"},
                                                              {"x-user", "ann"},
                                                              {"authorization", "secret-2"}}));
  builder->OnMessage(CALLOUT_REQUEST_BODY, BodyMessage("secret"));
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_DIFF_EXCHANGE_MESSAGES_H_
