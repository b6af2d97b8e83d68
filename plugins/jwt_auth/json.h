// SPDX-License-Identifier: Apache-2.0

// The JSON of a token: headers and claims in their order, read within limits.
//
//   std::optional<Json> claims = ParseJson(text);
//
// Any thread.
#ifndef CALLOUT_PLUGINS_JWT_AUTH_JSON_H_
#define CALLOUT_PLUGINS_JWT_AUTH_JSON_H_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace jwt_auth {

// Members keep their order; of two with one name the later value counts, in the place of the
// first: Python does so too. An integer beyond 64 bits keeps its digits: see DigitsOf.
using Json = nlohmann::ordered_json;

// Objects and arrays within each other, and members of all objects together.
inline constexpr size_t kJsonDepthMax = 32;
inline constexpr size_t kJsonMembersMax = 1000;
// Of a token's header, which is read before its signature is checked.
inline constexpr size_t kHeaderMembersMax = 32;

// nullopt: not JSON (RFC 8259), not UTF-8, over a limit, or a real number beyond a double.
std::optional<Json> ParseJson(std::string_view text, size_t members_max = kJsonMembersMax);

// The digits of an integer beyond 64 bits; none of another value.
std::optional<std::string> DigitsOf(const Json& value);

}  // namespace jwt_auth

#endif  // CALLOUT_PLUGINS_JWT_AUTH_JSON_H_
