// SPDX-License-Identifier: Apache-2.0

// A plugin of the typed layer that does what a header tells it to.
#include <callout/plugin.hpp>
#include <callout/typed.hpp>
#include <string>

using namespace envoy::service::ext_proc::v3;

CALLOUT_PLUGIN();

namespace {

std::string Deed(const HttpHeaders& headers) {
  for (const auto& header : headers.headers().headers()) {
    if (header.key() == "x-do") return header.raw_value();
  }
  return "";
}

void SetVia(CommonResponse* response, const std::string& value) {
  auto* header = response->mutable_header_mutation()->add_set_headers()->mutable_header();
  header->set_key("x-via");
  header->set_raw_value(value);
}

}  // namespace

CALLOUT_TYPED_ON_REQUEST_HEADERS(const HttpHeaders& request, HeadersResponse* response,
                                 ImmediateResponse* immediate, const callout::HeadersCall& call) {
  const std::string deed = Deed(request);
  if (deed == "nothing") return;
  SetVia(response->mutable_response(), "response");
  if (deed == "immediate" || deed == "all") {
    immediate->mutable_status()->set_code(envoy::type::v3::Forbidden);
    immediate->set_body("no");
    immediate->set_details("typed");
  }
  if (deed == "call" || deed == "all") call.reply(418).set_header("x-via", "call");
  if (deed == "fail") call.fail("as told", CALLOUT_UNAVAILABLE);
  if (deed == "throw") throw std::runtime_error("thrown");
}

CALLOUT_TYPED_ON_RESPONSE_HEADERS(const HttpHeaders& request, HeadersResponse* response,
                                  ImmediateResponse* immediate) {
  SetVia(response->mutable_response(), std::to_string(request.headers().headers_size()));
  if (request.end_of_stream()) immediate->mutable_status()->set_code(envoy::type::v3::BadGateway);
}

CALLOUT_TYPED_ON_REQUEST_BODY(const HttpBody& request, BodyResponse* response) {
  response->mutable_response()->mutable_body_mutation()->set_body(request.body() + request.body());
}

CALLOUT_TYPED_ON_REQUEST_TRAILERS(const HttpTrailers& request, TrailersResponse* response) {
  response->mutable_header_mutation()->add_remove_headers(request.trailers().headers(0).key());
}

// The same by the functions below the hooks, and later.
CALLOUT_ON_RESPONSE_BODY(call) {
  auto deferred = call.defer();
  deferred.finish_with([](const callout::BodyCall& later) {
    HttpBody body;
    BodyResponse response;
    if (!callout::typed::parse(later, &body)) return;
    response.mutable_response()->mutable_body_mutation()->set_body("later " + body.body());
    callout::typed::answer(later, response);
  });
}

CALLOUT_ON_RESPONSE_TRAILERS(call) {
  HttpTrailers trailers;
  if (!callout::typed::parse(call, &trailers)) return;
  TrailersResponse response;
  callout::typed::answer(call, response);
  ImmediateResponse immediate;
  immediate.mutable_status()->set_code(envoy::type::v3::BadGateway);
  callout::typed::answer(call, immediate);
}
