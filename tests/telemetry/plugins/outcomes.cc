// SPDX-License-Identifier: Apache-2.0

// Makes each kind of outcome, by the path of the request.
#include <callout/plugin.hpp>
#include <callout/trace.hpp>
#include <string>
#include <thread>

CALLOUT_PLUGIN();

CALLOUT_ON_REQUEST_HEADERS(call) {
  const std::string path(call.headers().get(":path").value_or(""));
  if (path.rfind("/traced", 0) == 0) {
    const callout::Trace trace(call.host().raw());
    const callout::Span span = trace.span(call);
    span.set("tenant", "bl\xc3\xbc");
    span.set("rule", int64_t{-942100});
    span.set("score", 0.5);
    span.set("hit", false);
    span.event("looked up", {{"entries", 3}, {"where", "cache"}});
    span.event("done");
    for (int i = 0; i < 200; ++i) span.set("more." + std::to_string(i), i);
    const auto context = trace.context(call);
    if (context.has_value()) {
      call.set_header("x-traceparent", context->traceparent);
      call.set_header("x-tracestate", context->tracestate);
    }
  }
  if (path.rfind("/mutated", 0) == 0) call.set_header("x-seen", "yes");
  if (path.rfind("/deny", 0) == 0) return call.deny(403, "no");
  if (path.rfind("/fault", 0) == 0) call.set_header("bad name", "x");
  if (path.rfind("/deferred", 0) == 0) {
    std::thread([deferred = call.defer()]() mutable {
      deferred.finish_with([](auto& later) { later.set_header("x-later", "yes"); });
    }).detach();
  }
}

CALLOUT_ON_RESPONSE_HEADERS(call) { static_cast<void>(call); }

CALLOUT_ON_CHECK(call) {
  if (call.path() == "/deny") return call.deny(403, "no");
  call.allow();
}
