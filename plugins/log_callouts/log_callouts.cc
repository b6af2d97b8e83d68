// SPDX-License-Identifier: Apache-2.0

// Lets only marked messages pass, and logs what it saw. See README.md.
#include <callout/plugin.hpp>
#include <string>
#include <string_view>

#include "support/json_config.hpp"

namespace {

// The names of the headers and how long their values are: the values may be secrets.
std::string Outline(const callout::Headers& headers) {
  std::string outline;
  for (const callout::Header& header : headers) {
    outline.append(outline.empty() ? "" : ", ").append(header.key);
    outline.append(" (").append(std::to_string(header.value.size())).append(")");
  }
  return outline;
}

std::string_view SideOf(const callout::Call& call) {
  return call.is_request() ? "request" : "response";
}

class LogCallouts {
 public:
  // The mark of a body may be split between chunks.
  explicit LogCallouts(callout::Setup& setup) {
    callout::plugins::JsonConfig(setup.config()).done();  // it has no keys
    setup.want_whole_bodies(1 << 20);
  }

  void on_request_headers(const callout::HeadersCall& call) const { CheckHeaders(call); }
  void on_response_headers(const callout::HeadersCall& call) const { CheckHeaders(call); }
  void on_request_body(const callout::BodyCall& call) const { CheckBody(call); }
  void on_response_body(const callout::BodyCall& call) const { CheckBody(call); }

 private:
  static void CheckHeaders(const callout::HeadersCall& call) {
    const bool passes = call.headers().contains("header-check");
    call.host().info(passes ? "passed " : "denied ", SideOf(call),
                     " headers: ", Outline(call.headers()));
    if (!passes) call.deny_callout("The headers have no header-check.");
  }
  static void CheckBody(const callout::BodyCall& call) {
    const bool passes = callout::body_contains(call, "body-check");
    call.host().info(passes ? "passed " : "denied ", SideOf(call), " body: ", call.body().size(),
                     " bytes");
    if (!passes) call.deny_callout("The body does not contain body-check.");
  }
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("log_callouts", "1.0.0", "Lets only marked messages pass, and logs them");
CALLOUT_PLUGIN_CLASS(LogCallouts, request_headers, response_headers, request_body, response_body);
