// SPDX-License-Identifier: Apache-2.0

// Answers every message in one hook, and tells whether metadata has come. See README.md.
#include <callout/plugin.hpp>

#include "support/json_config.hpp"

namespace {

class MetadataCheck {
 public:
  explicit MetadataCheck(const callout::Setup& setup) {
    callout::plugins::JsonConfig config(setup.config());
    always_response_headers_ = config.boolean("always_response_headers", false);
    config.done();
  }

  void on_process(const callout::ProcessCall& call) const {
    if (call.phase() == CALLOUT_RESPONSE_BODY) return ReplaceBody(*call.as_body());
    if (always_response_headers_) call.state()->answer.phase = CALLOUT_RESPONSE_HEADERS;
    if (HasFr(call.metadata())) call.set_header("metadata", "found");
    call.set_header("service-callout-response-intercept", "intercepted");
    for (const char* name : {"x-used-deltas-gfe3", "x-used-staging-gfe3", "x-ext-proc"}) {
      call.set_header(name, "");
    }
  }

 private:
  static void ReplaceBody(const callout::BodyCall& call) {
    if (call.is_first()) {
      call.set_body("e2e-test");
    } else {
      call.clear_body();
    }
  }
  static bool HasFr(const callout::Metadata& metadata) {
    for (const auto& [name, fields] : metadata) {
      if (!fields["fr"].text().empty()) return true;
    }
    return false;
  }

  bool always_response_headers_ = false;
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("metadata_check", "1.0.0", "Tells whether metadata has come");
CALLOUT_PLUGIN_CLASS(MetadataCheck, process);
