// SPDX-License-Identifier: Apache-2.0

// versioned.cc through the typed layer.
#include <callout/plugin.hpp>
#include <callout/typed.hpp>

using envoy::service::ext_proc::v3::HeadersResponse;
using envoy::service::ext_proc::v3::HttpHeaders;

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("typed_versioned", VERSION, "Stamps messages with its version");

static void Stamp(HeadersResponse* response) {
  auto* mutation = response->mutable_response()->mutable_header_mutation();
  auto* header = mutation->add_set_headers()->mutable_header();
  header->set_key("x-version");
  header->set_raw_value(VERSION);
}

CALLOUT_TYPED_ON_REQUEST_HEADERS(const HttpHeaders&, HeadersResponse* response) { Stamp(response); }

CALLOUT_TYPED_ON_RESPONSE_HEADERS(const HttpHeaders&, HeadersResponse* response) {
  Stamp(response);
}
