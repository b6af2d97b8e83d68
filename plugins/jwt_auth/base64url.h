// SPDX-License-Identifier: Apache-2.0

// Base64 for URLs without padding, as tokens have it (RFC 7515, 2).
#ifndef CALLOUT_PLUGINS_JWT_AUTH_BASE64URL_H_
#define CALLOUT_PLUGINS_JWT_AUTH_BASE64URL_H_

#include <optional>
#include <string>
#include <string_view>

namespace jwt_auth {

// nullopt: another character, padding, or a length that cannot be. Any thread.
std::optional<std::string> DecodeBase64Url(std::string_view text);

}  // namespace jwt_auth

#endif  // CALLOUT_PLUGINS_JWT_AUTH_BASE64URL_H_
