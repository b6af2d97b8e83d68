// SPDX-License-Identifier: Apache-2.0

// The check of a JSON Web Token (RFC 7519) in compact form, signed with RS256.
//
//   const Verdict verdict = CheckToken(token, keys, {.leeway_s = 10}, now_s);
//   if (verdict.refused == nullptr) use(verdict.claims);
//
// Any thread; nothing is thrown but std::bad_alloc.
#ifndef CALLOUT_PLUGINS_JWT_AUTH_TOKEN_H_
#define CALLOUT_PLUGINS_JWT_AUTH_TOKEN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "json.h"
#include "keys.h"

namespace jwt_auth {

struct Rules {
  std::optional<std::string> issuer;    // `iss` has to be this
  std::optional<std::string> audience;  // `aud` has to be or to contain this; without it a
                                        // token that names an audience is meant for others
  int64_t leeway_s = 0;                 // clocks may differ by so much
};

struct Verdict {
  const char* refused = nullptr;  // why, for the log; static
  Json claims;                    // an object, if it was not refused
};

// `now_s` is the Unix time in seconds.
Verdict CheckToken(std::string_view token, const Keys& keys, const Rules& rules, double now_s);

}  // namespace jwt_auth

#endif  // CALLOUT_PLUGINS_JWT_AUTH_TOKEN_H_
