// SPDX-License-Identifier: Apache-2.0

#include "host/admin/html.h"

#include "absl/strings/escaping.h"
#include "host/base/log.h"
#include "host/base/sha256.h"

namespace callout::host {

std::string EscapeHtml(std::string_view text) {
  std::string result;
  for (const char c : EscapeControls(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string CspHash(std::string_view inline_text) {
  return "sha256-" + absl::Base64Escape(Sha256Bytes(inline_text));
}

}  // namespace callout::host
