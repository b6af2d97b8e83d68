// SPDX-License-Identifier: Apache-2.0

// Text for HTML pages.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_ADMIN_HTML_H_
#define CALLOUT_HOST_ADMIN_HTML_H_

#include <string>
#include <string_view>

namespace callout::host {

// `text` for element content and for quoted attribute values. Names of plugins, header values and
// texts of plugins come from others: markup in them is shown as it is written, and control
// characters and characters that change the direction of text as \xNN.
std::string EscapeHtml(std::string_view text);

// "sha256-…" of a script or style that stands in the page, for its Content-Security-Policy.
std::string CspHash(std::string_view inline_text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_ADMIN_HTML_H_
