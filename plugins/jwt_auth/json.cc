// SPDX-License-Identifier: Apache-2.0

#include "json.h"

#include "support/limited_json.hpp"

namespace jwt_auth {

std::optional<Json> ParseJson(std::string_view text, size_t members_max) {
  return callout::plugins::ParseJson<Json>(
      text, {.depth = kJsonDepthMax, .members = members_max, .keep_digits = true});
}

std::optional<std::string> DigitsOf(const Json& value) {
  if (!value.is_binary()) return std::nullopt;
  return std::string(value.get_binary().begin(), value.get_binary().end());
}

}  // namespace jwt_auth
