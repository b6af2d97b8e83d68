// SPDX-License-Identifier: Apache-2.0

#include "introspection.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/header_name.hpp"
#include "support/limited_json.hpp"

namespace oauth2_introspect {
namespace {

using callout::plugins::LowerAscii;
using nlohmann::json;
using std::string_view;

constexpr char kHex[] = "0123456789ABCDEF";
// One claim has at most so many bytes.
constexpr size_t kClaimBytesMax = 4096;

bool IsAlnum(char c) {
  return (LowerAscii(c) >= 'a' && LowerAscii(c) <= 'z') || (c >= '0' && c <= '9');
}

// Each byte but letters, digits and "-._" is written as %XX.
void AppendFormEncoded(string_view text, std::string* form) {
  for (const char c : text) {
    if (IsAlnum(c) || c == '-' || c == '.' || c == '_') {
      form->push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    form->append({'%', kHex[byte >> 4], kHex[byte & 15]});
  }
}

// It goes into a header, and into a packed line. Who reads the header takes blanks at its ends
// away: " ada" would become another user.
bool IsClaimText(string_view text) {
  if (text.starts_with(' ') || text.ends_with(' ')) return false;
  return text.size() <= kClaimBytesMax && std::none_of(text.begin(), text.end(), [](char c) {
           return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
         });
}

// False: it is there and is no text that can be a header. JSON has made sure that it is UTF-8.
bool ReadText(const json& response, const char* name, std::string* to) {
  const auto found = response.find(name);
  if (found == response.end() || found->is_null()) return true;
  if (!found->is_string()) return false;
  *to = found->get<std::string>();
  return IsClaimText(*to);
}

// NumericDate: a number, maybe with a fraction. False: it is none, or not from `earliest` on, or
// none of this world.
bool ReadTime(const json& response, const char* name, double earliest, int64_t* to) {
  constexpr double kLatest = 253402300799;  // the end of the year 9999
  const auto found = response.find(name);
  if (found == response.end() || found->is_null()) return true;
  if (!found->is_number()) return false;
  const double seconds = found->get<double>();
  if (!(seconds >= earliest && seconds <= kLatest)) return false;
  *to = static_cast<int64_t>(std::floor(seconds));
  return true;
}

// A text, or a list of texts.
bool IsFor(const json& response, const std::string& audience) {
  const auto found = response.find("aud");
  if (found == response.end()) return false;
  if (found->is_string()) return found->get_ref<const std::string&>() == audience;
  return found->is_array() &&
         std::find(found->begin(), found->end(), json(audience)) != found->end();
}

bool ReadActive(const json& response, const Wanted& wanted, int64_t now, Claims* claims) {
  std::string issuer;
  int64_t not_before = 0;
  // 0 stands for a token that does not expire; some services write it for an nbf that is not set.
  if (!ReadTime(response, "exp", 1, &claims->expires) ||
      !ReadTime(response, "nbf", 0, &not_before) || !ReadText(response, "sub", &claims->subject) ||
      !ReadText(response, "client_id", &claims->client_id) ||
      !ReadText(response, "username", &claims->username) ||
      !ReadText(response, "scope", &claims->scope) || !ReadText(response, "iss", &issuer)) {
    return false;
  }
  if (claims->expires != 0 && claims->expires <= now) return false;
  if (not_before > now) return false;
  if (!wanted.issuer.empty() && issuer != wanted.issuer) return false;
  return wanted.audience.empty() || IsFor(response, wanted.audience);
}

// Up to the next line break, which is taken, too.
string_view TakeLine(string_view* text) {
  const size_t end = std::min(text->find('\n'), text->size());
  const string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return line;
}

}  // namespace

std::optional<string_view> BearerToken(string_view authorization) {
  constexpr string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return std::nullopt;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (LowerAscii(authorization[i]) != kScheme[i]) return std::nullopt;
  }
  string_view token = authorization.substr(kScheme.size());
  token.remove_prefix(std::min(token.find_first_not_of(' '), token.size()));
  // b64token: padding stands at the end only.
  const size_t end = token.find_last_not_of('=') + 1;
  const bool is_legal = std::all_of(
      token.begin(), token.begin() + static_cast<std::ptrdiff_t>(end),
      [](char c) { return IsAlnum(c) || string_view("-._~+/").find(c) != string_view::npos; });
  if (end == 0 || !is_legal) return std::nullopt;
  return token;
}

std::string IntrospectionForm(string_view token) {
  std::string form = "token=";
  AppendFormEncoded(token, &form);
  return form.append("&token_type_hint=access_token");
}

std::string BasicAuthorization(string_view id, string_view secret) {
  std::string pair;
  AppendFormEncoded(id, &pair);
  pair.push_back(':');
  AppendFormEncoded(secret, &pair);
  std::string encoded(4 * ((pair.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(pair.data()),
                                   static_cast<int>(pair.size()));
  encoded.resize(static_cast<size_t>(size));
  return "Basic " + encoded;
}

std::string DigestOf(const std::vector<string_view>& parts) {
  std::string all;
  for (const string_view part : parts) {
    all.append(std::to_string(part.size())).append(":").append(part);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(all.data(), all.size(), digest.data(), &size, EVP_sha256(), nullptr);
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text.push_back(kHex[digest[i] >> 4]);
    text.push_back(kHex[digest[i] & 15]);
  }
  return text;
}

bool Claims::HasScopes(const std::vector<std::string>& wanted) const {
  return std::all_of(wanted.begin(), wanted.end(), [this](const std::string& name) {
    for (string_view rest = scope; !rest.empty();) {
      const size_t end = std::min(rest.find(' '), rest.size());
      if (rest.substr(0, end) == name) return true;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return false;
  });
}

std::optional<Claims> ReadResponse(string_view body, const Wanted& wanted, int64_t now) {
  const std::optional<json> response =
      callout::plugins::ParseJson<json>(body, {.depth = 16, .members = 1000, .unique_names = true});
  if (!response.has_value() || !response->is_object()) return std::nullopt;
  const auto active = response->find("active");
  if (active == response->end() || !active->is_boolean()) return std::nullopt;
  Claims claims;
  if (!active->get<bool>()) return claims;
  if (!ReadActive(*response, wanted, now, &claims)) return Claims();
  claims.active = true;
  return claims;
}

std::string Pack(const Claims& claims) {
  if (!claims.active) return "0";
  std::string packed = "1\n" + std::to_string(claims.expires);
  for (const std::string* text :
       {&claims.subject, &claims.client_id, &claims.username, &claims.scope}) {
    packed.append("\n").append(*text);
  }
  return packed;
}

std::optional<Claims> Unpack(string_view packed) {
  Claims claims;
  const string_view kind = TakeLine(&packed);
  if (kind == "0") return claims;
  if (kind != "1") return std::nullopt;
  claims.active = true;
  claims.expires = std::atoll(std::string(TakeLine(&packed)).c_str());
  for (std::string* text : {&claims.subject, &claims.client_id, &claims.username, &claims.scope}) {
    text->assign(TakeLine(&packed));
  }
  return claims;
}

}  // namespace oauth2_introspect
