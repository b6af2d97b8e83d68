// SPDX-License-Identifier: Apache-2.0

// What the tests of ext_authz behind Envoy share: an Envoy whose filters ask hosts with
// plugins/checking.cc, and CheckResponses for that plugin to say.
#ifndef CALLOUT_TESTS_ENVOY_CHECK_FIXTURE_H_
#define CALLOUT_TESTS_ENVOY_CHECK_FIXTURE_H_

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client.h"
#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy_config.h"
#include "service_fixture.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::tests {

using envoy::service::auth::v3::CheckResponse;

enum Action { kAppend = 0, kAddIfAbsent = 1, kSet = 2, kSetIfExists = 3 };

template <class Options>
void Add(Options* options, const std::string& name, const std::string& value,
         Action action = kSet) {
  auto* option = options->Add();
  option->mutable_header()->set_key(name);
  option->mutable_header()->set_raw_value(value);
  if (action == kAppend) {
    option->mutable_append()->set_value(true);
  } else {
    option->set_append_action(
        static_cast<envoy::config::core::v3::HeaderValueOption::HeaderAppendAction>(action));
  }
}

class EnvoyCheckTest : public EnvoyServiceTest {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const auto host = [&](const std::string& name, const std::vector<std::string>& options) {
      AddHost(name, options, &config);
    };
    const std::string checking = BuiltFile("tests/envoy/plugins/checking.so");
    host("host", {"--plugin=checking=" + checking, "--max_message_bytes=4000000"});
    host("both", ChainOf(checking, "as ", {"a", "b"}));
    host("first", ChainOf(checking, "as ", {"a"}));
    host("second", ChainOf(checking, "as ", {"b"}));
    host("block_ip", {"--plugin=" + BuiltPlugin("block_ip")});
    host("bridge", {"--plugin=" + BuiltPlugin("redirect"), "--services=ext_authz"});
    host("no_connection",
         {"--plugin=checking=" + checking, "--plugin_config=checking=no connection"});
    const auto add = [&](const std::string& name, std::vector<nlohmann::json> filters) {
      config.listeners.push_back(
          {.name = name, .filters = std::move(filters), .route = MetadataInResponses()});
    };
    add("closed", {ExtAuthz(nlohmann::json::object())});
    add("open", {ExtAuthz({{"failure_mode_allow", true}})});
    nlohmann::json with_body = {
        {"with_request_body", {{"max_request_bytes", 8}, {"allow_partial_message", true}}}};
    add("body", {ExtAuthz(with_body)});
    with_body["with_request_body"]["pack_as_bytes"] = true;
    with_body["encode_raw_headers"] = true;
    add("bytes", {ExtAuthz(with_body)});
    add("raw", {ExtAuthz({{"encode_raw_headers", true}})});
    add("chain", {ExtAuthz(nlohmann::json::object(), "both")});
    add("filters", {ExtAuthz(nlohmann::json::object(), "first"),
                    ExtAuthz(nlohmann::json::object(), "second", "envoy.filters.http.ext_authz2")});
    add("block_ip", {ExtAuthz(nlohmann::json::object(), "block_ip")});
    add("bridge", {ExtAuthz(nlohmann::json::object(), "bridge")});
    for (const char* name : {"host", "no_connection"}) {
      config.listeners.push_back(
          {.name = absl::StrCat("network_", name), .network_filters = {NetworkExtAuthz(name)}});
    }
    envoy_.emplace(MakeBootstrap(config));
    backend_.Answer({.headers = {{"from", "backend"}, {"x-both", "upstream"}},
                     .body = {.pieces = {"original"}}});
  }

  // Where Envoy's configuration can put what a plugin says into a header of a response, its own
  // responses included.
  static nlohmann::json MetadataHeader() {
    return nlohmann::json::array(
        {{{"header",
           {{"key", "x-metadata"},
            {"value", "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:user)%"}}}}});
  }
  static nlohmann::json MetadataInResponses() {
    return {{"response_headers_to_add", MetadataHeader()},
            {"typed_per_filter_config",
             {{"envoy.filters.http.ext_authz",
               {{"@type",
                 "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"},
                {"check_settings", {{"context_extensions", {{"route", "private"}}}}}}}}}};
  }

  HttpMessage Ask(const std::string& listener, const std::string& deed,
                  ClientRequest request = {}) {
    request.headers.push_back({kTestIdHeader, "1"});
    request.headers.push_back({"x-check", deed});
    request.headers.push_back({"x-list", "old"});
    return Exchange(envoy_->port(listener), request);
  }
  HttpMessage Ask(const std::string& listener, const CheckResponse& response,
                  ClientRequest request = {}) {
    return Ask(listener, Hex(response), std::move(request));
  }
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_CHECK_FIXTURE_H_
