// SPDX-License-Identifier: Apache-2.0

// Does what the request's header x-do says: deny, fail, crash, defer for 20 ms, or trace more than
// a span takes; else it sets a header.
#include <callout/plugin.hpp>
#include <callout/trace.hpp>

#include <chrono>
#include <cstdlib>
#include <thread>

CALLOUT_PLUGIN();

CALLOUT_ON_REQUEST_HEADERS(call) {
  const std::string_view what = call.headers().get("x-do", "");
  if (what == "crash") std::abort();
  if (what == "deny") return call.deny(403, "no");
  if (what == "fail") return call.fail("no luck");
  if (what == "trace") {
    const callout::Span span = callout::Trace(call.host().raw()).span(call);
    for (int i = 0; i < 1000; ++i) span.event("step", {{"number", i}});
    return;
  }
  if (what != "defer") return call.set_header("x-mood", "good");
  std::thread([deferred = call.defer()]() mutable {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    deferred.finish_with([](auto& later) { later.set_header("x-mood", "later"); });
  }).detach();
}
