// SPDX-License-Identifier: Apache-2.0

// A plugin of the story (story.py): it looks its tenant up, and is slow for one of them.
// QUOTA_MENDED is the version without the mistake.
#include <callout/plugin.hpp>
#include <callout/trace.hpp>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>

namespace {

// Long enough to be seen beside whatever else the machine does.
constexpr std::chrono::milliseconds kLookup(100);

class Quota {
 public:
  explicit Quota(callout::Setup& setup) : trace_(setup) {}

  void on_request_headers(callout::HeadersCall& call) {
    const std::string_view tenant = call.headers().get("x-tenant", "none");
    const callout::Span span = trace_.span(call);
    span.set("quota.tenant", tenant);
#if !defined(QUOTA_MENDED)
    if (tenant == "acme") {
      span.event("no entry in the cache");
      std::this_thread::sleep_for(kLookup);
    }
#endif
    call.set_header("x-quota", tenant);
  }
  void on_response_headers(callout::HeadersCall& call) { call.set_header("x-quota", "seen"); }

 private:
  callout::Trace trace_;
};

}  // namespace

#if defined(QUOTA_MENDED)
#define QUOTA_VERSION "1.0.1"
#else
#define QUOTA_VERSION "1.0.0"
#endif
CALLOUT_PLUGIN_CLASS(Quota, ("quota", QUOTA_VERSION, "Counts requests of tenants"), request_headers,
                     response_headers);
