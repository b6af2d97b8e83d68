// SPDX-License-Identifier: Apache-2.0

// Tells by the host that a request is for which kind of device it comes from. See README.md.
#include <callout/plugin.hpp>
#include <string_view>

namespace {

std::string_view DeviceOf(std::string_view authority) {
  const auto contains = [&](std::string_view part) {
    return authority.find(part) != std::string_view::npos;
  };
  if (contains("m.example.com")) return "mobile";
  if (contains("t.example.com")) return "tablet";
  return "desktop";
}

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("normalize_header", "1.0.0", "Names the kind of device a request comes from");

CALLOUT_ON_REQUEST_HEADERS(call) {
  const std::string_view authority = call.headers().get(":authority", "");
  if (authority.empty()) return;
  call.set_header("client-device-type", DeviceOf(authority));
  call.clear_route_cache();
}
