// SPDX-License-Identifier: Apache-2.0

// Answers every request with a redirect. See README.md.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("redirect", "1.0.0", "Sends every client to another address");

CALLOUT_ON_REQUEST_HEADERS(call) {
  call.reply(301).set_header("Location", "http://service-extensions.com/redirect");
}
