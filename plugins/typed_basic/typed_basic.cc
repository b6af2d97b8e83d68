// SPDX-License-Identifier: Apache-2.0

// basic through the generated classes. See README.md.
#include <callout/plugin.hpp>
#include <callout/typed.hpp>
#include <string>
#include <string_view>

using envoy::config::core::v3::HeaderValueOption;
using envoy::service::ext_proc::v3::BodyResponse;
using envoy::service::ext_proc::v3::CommonResponse;
using envoy::service::ext_proc::v3::HeaderMutation;
using envoy::service::ext_proc::v3::HeadersResponse;
using envoy::service::ext_proc::v3::HttpBody;
using envoy::service::ext_proc::v3::HttpHeaders;

namespace {

void Set(HeaderMutation* mutation, std::string_view key, std::string_view value) {
  HeaderValueOption* option = mutation->add_set_headers();
  option->set_append_action(HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
  option->mutable_header()->set_key(std::string(key));
  option->mutable_header()->set_raw_value(std::string(value));
}

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("typed_basic", "1.0.0", "Changes headers and bodies, as basic does");

CALLOUT_TYPED_ON_REQUEST_HEADERS(const HttpHeaders&, HeadersResponse* response) {
  CommonResponse* common = response->mutable_response();
  HeaderMutation* mutation = common->mutable_header_mutation();
  Set(mutation, ":authority", "service-extensions.com");
  Set(mutation, ":path", "/");
  Set(mutation, "header-request", "request");
  mutation->add_remove_headers("foo");
  common->set_clear_route_cache(true);
}

CALLOUT_TYPED_ON_RESPONSE_HEADERS(const HttpHeaders&, HeadersResponse* response) {
  Set(response->mutable_response()->mutable_header_mutation(), "hello", "service-extensions");
}

CALLOUT_TYPED_ON_REQUEST_BODY(const HttpBody&, BodyResponse* response) {
  response->mutable_response()->mutable_body_mutation()->set_body("replaced-body");
}

CALLOUT_TYPED_ON_RESPONSE_BODY(const HttpBody&, BodyResponse* response) {
  response->mutable_response()->mutable_body_mutation()->set_clear_body(true);
}
