// SPDX-License-Identifier: Apache-2.0

#include "messages.h"

#include <algorithm>
#include <utility>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::bench {
namespace {

using envoy::service::auth::v3::CheckRequest;
using envoy::service::auth::v3::CheckResponse;
using envoy::service::ext_proc::v3::HttpBody;
using envoy::service::ext_proc::v3::HttpHeaders;
using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;
using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;

constexpr size_t kChunkBytes = 16384;
constexpr size_t kStreamedBytes = 65536;  // a chunk of "streamed" and "duplex"

constexpr std::pair<const char*, const char*> kRequestHeaders[] = {
    {":authority", "shop.example.com"},
    {":path", "/catalogue/shoes?size=42&colour=black&page=3"},
    {":method", "GET"},
    {":scheme", "https"},
    {"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
    {"accept", "text/html,application/xhtml+xml"},
    {"accept-encoding", "gzip, deflate, br"},
    {"accept-language", "en-GB,en;q=0.7"},
    {"cookie", "session=4f0c2b9d7e61"},
    {"x-forwarded-for", "198.51.100.23"},
    {"x-forwarded-proto", "https"},
    {"x-request-id", "5d0c3a1e-8b7f-4c55-9a3e-2f6b1d4e7c90"},
};

constexpr std::pair<const char*, const char*> kResponseHeaders[] = {
    {":status", "200"},
    {"content-type", "text/html; charset=utf-8"},
    {"cache-control", "private, max-age=60"},
    {"date", "Tue, 24 Nov 2026 12:00:00 GMT"},
    {"server", "envoy"},
    {"x-envoy-upstream-service-time", "7"},
};

template <size_t count>
void Fill(const std::pair<const char*, const char*> (&pairs)[count], bool end_of_stream,
          HttpHeaders* message) {
  for (const auto& [key, value] : pairs) {
    auto* header = message->mutable_headers()->add_headers();
    header->set_key(key);
    header->set_raw_value(value);
  }
  message->set_end_of_stream(end_of_stream);
}

void Fill(size_t bytes, bool end_of_stream, HttpBody* message) {
  message->set_body(std::string(bytes, 'b'));
  message->set_end_of_stream(end_of_stream);
}

// The answer's field number is one less than the request's.
void Add(const ProcessingRequest& request, Scenario* scenario) {
  scenario->requests.push_back(request.SerializeAsString());
  ++scenario->answers;
  scenario->answer_tags.push_back(
      static_cast<char>((static_cast<int>(request.request_case()) - 1) << 3 | 2));
}

// With `body_mode`, that of both directions, a body follows.
void AddHeaders(Mode::BodySendMode body_mode, Scenario* scenario) {
  ProcessingRequest request;
  Fill(kRequestHeaders, body_mode == Mode::NONE, request.mutable_request_headers());
  request.mutable_protocol_config()->set_request_body_mode(body_mode);
  request.mutable_protocol_config()->set_response_body_mode(body_mode);
  Add(request, scenario);
}

void AddBody(Mode::BodySendMode mode, size_t bytes, Scenario* scenario) {
  AddHeaders(mode, scenario);
  scenario->awaited.push_back(0);
  scenario->echoed.push_back(0);
  const size_t chunk = mode == Mode::BUFFERED ? bytes : kStreamedBytes;
  for (size_t sent = 0; sent < bytes; sent += chunk) {
    ProcessingRequest request;
    const size_t size = std::min(chunk, bytes - sent);
    Fill(size, sent + size == bytes, request.mutable_request_body());
    Add(request, scenario);
    scenario->awaited.push_back(1);  // the response to the headers
    scenario->echoed.push_back(mode == Mode::FULL_DUPLEX_STREAMED ? size : 0);
  }
}

void AddResponseHeaders(bool bodies, Scenario* scenario) {
  ProcessingRequest request;
  Fill(kResponseHeaders, !bodies, request.mutable_response_headers());
  Add(request, scenario);
}

void AddCheck(Scenario* scenario) {
  scenario->path = "/envoy.service.auth.v3.Authorization/Check";
  scenario->is_check = true;
  CheckRequest request;
  auto* attributes = request.mutable_attributes();
  auto* source = attributes->mutable_source()->mutable_address()->mutable_socket_address();
  source->set_address("198.51.100.23");
  source->set_port_value(41312);
  auto* http = attributes->mutable_request()->mutable_http();
  http->set_id("5577006791947779410");
  for (const auto& [key, value] : kRequestHeaders) (*http->mutable_headers())[key] = value;
  http->set_method("GET");
  http->set_path(http->headers().at(":path"));
  http->set_host(http->headers().at(":authority"));
  http->set_scheme("https");
  http->set_protocol("HTTP/2");
  scenario->requests.push_back(request.SerializeAsString());
  ++scenario->answers;
  scenario->answer_tags.push_back(0);
}

std::string WrongWithCheck(std::string_view answer, std::string_view header) {
  CheckResponse response;
  if (!response.ParseFromArray(answer.data(), static_cast<int>(answer.size()))) {
    return "it is no CheckResponse";
  }
  if (response.status().code() != 0 || !response.has_ok_response()) {
    return "it does not allow the request: " + response.ShortDebugString();
  }
  for (const auto& option : response.ok_response().headers()) {
    if (header.empty() || option.header().key() == header) return "";
  }
  return "it does not set the header " + std::string(header) + ": " + response.ShortDebugString();
}

}  // namespace

Scenario MakeScenario(std::string_view name, size_t body_bytes) {
  Scenario scenario;
  if (name == "headers") {
    AddHeaders(Mode::NONE, &scenario);
  } else if (name == "both") {
    AddHeaders(Mode::NONE, &scenario);
    AddResponseHeaders(false, &scenario);
  } else if (name == "check") {
    AddCheck(&scenario);
  } else if (name == "bodies") {
    ProcessingRequest request;
    AddHeaders(Mode::STREAMED, &scenario);
    for (const bool end : {false, true}) {
      Fill(kChunkBytes, end, request.mutable_request_body());
      Add(request, &scenario);
    }
    AddResponseHeaders(true, &scenario);
    for (const bool end : {false, true}) {
      Fill(kChunkBytes, end, request.mutable_response_body());
      Add(request, &scenario);
    }
  } else if (name == "buffered") {
    AddBody(Mode::BUFFERED, body_bytes, &scenario);
  } else if (name == "streamed") {
    AddBody(Mode::STREAMED, body_bytes, &scenario);
  } else if (name == "duplex") {
    AddBody(Mode::FULL_DUPLEX_STREAMED, body_bytes, &scenario);
  }
  return scenario;
}

std::string WrongWith(const Scenario& scenario, size_t index, std::string_view answer,
                      std::string_view header) {
  if (scenario.is_check) return WrongWithCheck(answer, header);
  ProcessingResponse response;
  if (!response.ParseFromArray(answer.data(), static_cast<int>(answer.size()))) {
    return "it is no ProcessingResponse";
  }
  if (!scenario.answer_tags.empty() &&
      static_cast<int>(response.response_case()) << 3 != (scenario.answer_tags[index] & ~7)) {
    return "it is of another phase: " + response.ShortDebugString();
  }
  const size_t echoed =
      response.request_body().response().body_mutation().streamed_response().body().size();
  if (!scenario.echoed.empty() && echoed != scenario.echoed[index]) {
    return "it repeats " + std::to_string(echoed) + " bytes of the body instead of " +
           std::to_string(scenario.echoed[index]);
  }
  if (header.empty() || !response.has_request_headers()) return "";
  for (const auto& option : response.request_headers().response().header_mutation().set_headers()) {
    if (option.header().key() == header) return "";
  }
  return "it does not set the header " + std::string(header) + ": " + response.ShortDebugString();
}

}  // namespace callout::bench
