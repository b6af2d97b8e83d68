// SPDX-License-Identifier: Apache-2.0

// Tells in headers what the host knows of who has connected; "not found" is what it
// says it does not have.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();

namespace {

void Show(const callout::HeadersCall& call, std::string_view name, callout_property_t property) {
  callout_bytes_t value = {nullptr, 0};
  const callout_host_t* host = call.raw()->host;
  const callout_status_t status = host->get_property(call.raw(), property, &value);
  call.set_header(name, status == CALLOUT_NOT_FOUND ? "not found" : callout::to_view(value));
}

}  // namespace

CALLOUT_ON_REQUEST_HEADERS(call) {
  Show(call, "x-identity", CALLOUT_PEER_IDENTITY);
  Show(call, "x-listener", CALLOUT_LISTENER);
  Show(call, "x-peer", CALLOUT_PEER);
}
