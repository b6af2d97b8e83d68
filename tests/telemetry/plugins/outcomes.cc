// SPDX-License-Identifier: Apache-2.0

// Makes each kind of outcome, by the path of the request.
#include <callout/plugin.hpp>
#include <string>
#include <thread>

CALLOUT_PLUGIN();

CALLOUT_ON_REQUEST_HEADERS(call) {
  const std::string path(call.headers().get(":path").value_or(""));
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
