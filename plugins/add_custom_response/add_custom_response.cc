// SPDX-License-Identifier: Apache-2.0

// Refuses, mocks or changes messages by what is in them. See README.md.
#include <callout/plugin.hpp>

#include "support/json_config.hpp"

namespace {

class CustomResponse {
 public:
  // What to do with a body shows only in all of it: the text that decides may be split.
  explicit CustomResponse(callout::Setup& setup) {
    callout::plugins::JsonConfig(setup.config()).done();  // it has no keys
    setup.want_whole_bodies(1 << 20);
  }

  void on_request_headers(const callout::HeadersCall& call) const {
    if (Settle(call)) return;
    call.set_header("header-request", "request");
    call.remove_header("foo");
    call.clear_route_cache();
  }
  void on_response_headers(const callout::HeadersCall& call) const {
    if (!Settle(call)) call.set_header("header-response", "response");
  }
  void on_request_body(const callout::BodyCall& call) const {
    if (!Settle(call)) call.set_body("replaced-body");
  }
  void on_response_body(const callout::BodyCall& call) const { Settle(call); }

 private:
  // True if the message is refused or mocked. Refusing goes first: a client must not get round it
  // by asking for a mock.
  static bool Settle(const callout::HeadersCall& call) {
    const bool bad = call.headers().contains("bad-header");
    const bool mock = !bad && call.headers().contains("mock");
    if (bad) call.deny_callout();
    if (mock) call.set_header("Mock-Response", "Mocked-Value");
    return bad || mock;
  }
  static bool Settle(const callout::BodyCall& call) {
    const bool bad = callout::body_contains(call, "bad-body");
    const bool mock = !bad && callout::body_contains(call, "mock");
    if (bad) call.deny_callout();
    if (mock) call.set_body("Mocked-Body");
    return bad || mock;
  }
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("add_custom_response", "1.0.0", "Refuses, mocks or changes messages");
CALLOUT_PLUGIN_CLASS(CustomResponse, request_headers, response_headers, request_body,
                     response_body);
