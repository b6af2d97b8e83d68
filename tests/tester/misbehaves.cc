// SPDX-License-Identifier: Apache-2.0

// A plugin whose request names what it does wrong: x-do.
#include <callout/plugin.hpp>
#include <cstdlib>
#include <optional>
#include <string_view>

CALLOUT_PLUGIN();

CALLOUT_ON_REQUEST_HEADERS(call) {
  const std::string_view what = call.headers().get("x-do", "");
  if (what == "exit") std::exit(0);
  if (what == "abort") std::abort();
  volatile bool hangs = what == "hang";
  while (hangs) {
  }
  if (what == "bare-metadata") {
    callout::StructWriter metadata;
    metadata.set("user", "ada");
    call.set_metadata(metadata);
  }
  if (what == "forget") {
    static auto* const forgotten = new callout::Deferred<callout::HeadersCall>(call.defer());
    static_cast<void>(forgotten);
  }
}
