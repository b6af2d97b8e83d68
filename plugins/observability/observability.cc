// SPDX-License-Identifier: Apache-2.0

// Counts what passes, and changes nothing. See README.md.
#include <callout/plugin.hpp>

#include "support/json_config.hpp"

namespace {

class Observability {
 public:
  explicit Observability(callout::Setup& setup)
      : request_headers_(setup.counter("observed_request_headers_total", "Requests seen.")),
        request_bodies_(
            setup.counter("observed_request_bodies_total", "Request bodies or chunks seen.")),
        response_headers_(setup.counter("observed_response_headers_total", "Responses seen.")),
        response_bodies_(
            setup.counter("observed_response_bodies_total", "Response bodies or chunks seen.")) {
    callout::plugins::JsonConfig(setup.config()).done();  // it has no keys
  }

  void on_request_headers(const callout::HeadersCall&) const { request_headers_.add(); }
  void on_request_body(const callout::BodyCall& call) const { Count(call, request_bodies_); }
  void on_response_headers(const callout::HeadersCall&) const { response_headers_.add(); }
  void on_response_body(const callout::BodyCall& call) const { Count(call, response_bodies_); }

 private:
  // An empty last chunk only says that the body has ended.
  static void Count(const callout::BodyCall& call, const callout::Counter& counter) {
    if (!call.body().empty() || !call.end_of_stream()) counter.add();
  }

  callout::Counter request_headers_;
  callout::Counter request_bodies_;
  callout::Counter response_headers_;
  callout::Counter response_bodies_;
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("observability", "1.0.0", "Counts headers and bodies both ways");
CALLOUT_PLUGIN_CLASS(Observability, request_headers, request_body, response_headers, response_body);
