// SPDX-License-Identifier: Apache-2.0

// A token, the question about it (RFC 7662), and what the service says of it.
//
// Stateless; any thread. Nothing here throws but bad_alloc.
#ifndef CALLOUT_PLUGINS_OAUTH2_INTROSPECT_INTROSPECTION_H_
#define CALLOUT_PLUGINS_OAUTH2_INTROSPECT_INTROSPECTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace oauth2_introspect {

// The longest token that is asked about.
inline constexpr size_t kTokenBytesMax = 8192;

// The token of "Bearer TOKEN" (RFC 6750); nullopt: the header has another form.
std::optional<std::string_view> BearerToken(std::string_view authorization);

// The form that asks about the token.
std::string IntrospectionForm(std::string_view token);
// "Basic …": by RFC 6749, 2.3.1, both are form-encoded first.
std::string BasicAuthorization(std::string_view id, std::string_view secret);

// SHA-256 of all parts, each with its length before it, in hexadecimal digits.
std::string DigestOf(const std::vector<std::string_view>& parts);

struct Claims {
  bool active = false;
  int64_t expires = 0;  // seconds since 1970; 0: the service does not say
  std::string subject, client_id, username;
  std::string scope;  // separated by blanks

  bool HasScopes(const std::vector<std::string>& wanted) const;
};

// What a token has to be for, beside being active; "": anything.
struct Wanted {
  std::string issuer, audience;
};

// nullopt: this is no introspection response. A token for somebody else, or one whose time is over
// at `now`, is not active, and so is one with claims that cannot be headers.
std::optional<Claims> ReadResponse(std::string_view body, const Wanted& wanted, int64_t now);

// As kept in the cache; nullopt: it is none of these.
std::string Pack(const Claims& claims);
std::optional<Claims> Unpack(std::string_view packed);

}  // namespace oauth2_introspect

#endif  // CALLOUT_PLUGINS_OAUTH2_INTROSPECT_INTROSPECTION_H_
