// SPDX-License-Identifier: Apache-2.0

#include "token.h"

#include <array>
#include <cmath>
#include <utility>

#include "base64url.h"

namespace jwt_auth {
namespace {

// The three parts between two dots; empty ones if there are more or fewer dots.
std::array<std::string_view, 3> Split(std::string_view token) {
  const size_t first = token.find('.');
  const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) {
    return {};
  }
  return {token.substr(0, first), token.substr(first + 1, second - first - 1),
          token.substr(second + 1)};
}

std::optional<Json> DecodeObject(std::string_view part, size_t members_max) {
  const std::optional<std::string> text = DecodeBase64Url(part);
  if (!text.has_value()) return std::nullopt;
  std::optional<Json> value = ParseJson(*text, members_max);
  if (value.has_value() && !value->is_object()) return std::nullopt;
  return value;
}

const Json* Find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

// What the header asks for has to be what is done here: the algorithm is never chosen by it.
const char* CheckHeader(const Json& header) {
  const Json* algorithm = Find(header, "alg");
  if (algorithm == nullptr || *algorithm != "RS256") return "its algorithm is not RS256";
  if (header.contains("crit")) return "it has critical extensions, of which none is known";
  if (header.contains("b64")) return "its payload may be in another form";
  const Json* kid = Find(header, "kid");
  return kid != nullptr && !kid->is_string() ? "its kid is not a text" : nullptr;
}

// A claim of seconds since 1970, whole ones; false if it is there and no number.
bool ReadTime(const Json& claims, const char* name, std::optional<double>* time) {
  const Json* claim = Find(claims, name);
  if (claim == nullptr) return true;
  if (claim->is_number()) {
    *time = std::trunc(claim->get<double>());
  } else if (const std::optional<std::string> digits = DigitsOf(*claim)) {
    *time = std::stod(*digits);
  }
  return time->has_value();
}

const char* CheckTimes(const Json& claims, double leeway_s, double now_s) {
  std::optional<double> expires;
  std::optional<double> begins;
  std::optional<double> issued;
  if (!ReadTime(claims, "exp", &expires)) return "its exp is no number";
  if (!ReadTime(claims, "nbf", &begins)) return "its nbf is no number";
  if (!ReadTime(claims, "iat", &issued)) return "its iat is no number";
  if (expires.has_value() && *expires <= now_s - leeway_s) return "it has expired";
  if (begins.has_value() && *begins > now_s + leeway_s) return "it is not valid yet";
  if (issued.has_value() && *issued > now_s + leeway_s) return "it was issued in the future";
  return nullptr;
}

// null, false, 0, "", [] and {} name no one.
bool IsNothing(const Json& value) {
  return value.empty() || value == false || value == 0 || value == "";
}

const char* CheckAudience(const Json* audience, const std::optional<std::string>& wanted) {
  const bool named = audience != nullptr && !IsNothing(*audience);
  if (!wanted.has_value()) return named ? "it has an audience, and none was asked for" : nullptr;
  if (!named) return "it has no audience";
  if (audience->is_string() && *audience == *wanted) return nullptr;
  if (!audience->is_array()) return "it is for another audience";
  bool found = false;
  for (const Json& item : *audience) {
    if (!item.is_string()) return "its audience is not a list of texts";
    found = found || item == *wanted;
  }
  return found ? nullptr : "it is for another audience";
}

const char* CheckIssuer(const Json* issuer, const std::optional<std::string>& wanted) {
  if (!wanted.has_value()) return nullptr;
  return issuer != nullptr && *issuer == *wanted ? nullptr : "it is of another issuer";
}

}  // namespace

Verdict CheckToken(std::string_view token, const Keys& keys, const Rules& rules, double now_s) {
  const auto [header_part, payload_part, signature_part] = Split(token);
  const std::optional<Json> header = DecodeObject(header_part, kHeaderMembersMax);
  const std::optional<std::string> signature = DecodeBase64Url(signature_part);
  if (!header.has_value() || !signature.has_value()) return {"it is malformed", {}};
  if (const char* refused = CheckHeader(*header)) return {refused, {}};

  std::optional<std::string> kid;
  if (const Json* name = Find(*header, "kid")) kid = name->get<std::string>();
  const std::string_view text = token.substr(0, header_part.size() + 1 + payload_part.size());
  if (!keys.Verify(kid, text, *signature)) return {"its signature does not fit", {}};

  std::optional<Json> claims = DecodeObject(payload_part, kJsonMembersMax);
  if (!claims.has_value()) return {"its claims are malformed", {}};
  const char* refused = CheckTimes(*claims, static_cast<double>(rules.leeway_s), now_s);
  if (refused == nullptr) refused = CheckIssuer(Find(*claims, "iss"), rules.issuer);
  if (refused == nullptr) refused = CheckAudience(Find(*claims, "aud"), rules.audience);
  return {refused, *std::move(claims)};
}

}  // namespace jwt_auth
