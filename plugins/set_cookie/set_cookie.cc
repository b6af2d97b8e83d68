// SPDX-License-Identifier: Apache-2.0

// Sets a cookie where the backend asks for one. See README.md.
#include <callout/plugin.hpp>
#include <string_view>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("set_cookie", "1.0.0", "Sets a cookie in responses that ask for it");

CALLOUT_ON_RESPONSE_HEADERS(call) {
  for (const std::string_view value : call.headers().all("cookie-check")) {
    if (value.empty()) continue;
    call.append_header("Set-Cookie", "your_cookie_name=cookie_value; Max-Age=3600; Path=/");
    return;
  }
}
