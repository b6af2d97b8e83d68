// SPDX-License-Identifier: Apache-2.0

// What jwt_auth reads of strangers, and of its operator: tokens, their JSON, key sets. A
// token that passes was signed with the key.
//
// Readers: plugins/jwt_auth/token.cc plugins/jwt_auth/json.cc plugins/jwt_auth/base64url.cc
// plugins/jwt_auth/keys.cc
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "absl/strings/escaping.h"
#include "jwt_auth/base64url.h"
#include "jwt_auth/json.h"
#include "jwt_auth/keys.h"
#include "jwt_auth/python_text.h"
#include "jwt_auth/token.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"
#include "tests/plugins/test_tokens.h"

namespace callout::host {
namespace {

struct World {
  tests::Signer signer;
  jwt_auth::Keys keys = jwt_auth::Keys::FromPem(TextFile(signer.Pem()).path());
  std::string token = signer.Token(R"({"sub": "a", "aud": ["b"], "exp": 2000000000})");
};
const World& TheWorld() {
  static const World* const world = new World;
  return *world;
}

std::string ReadToken(Choices& choices) {
  const World& world = TheWorld();
  const jwt_auth::Rules rules = {.issuer = std::nullopt, .audience = "b", .leeway_s = 10};
  std::string token = world.token;
  if (choices.Next(2) == 0) {
    token = choices.Rest();
  } else {
    for (unsigned changes = choices.Next(4); changes > 0; --changes) {
      const size_t at = (choices.Next(256) * 4 + choices.Next(4)) % token.size();
      token[at] = static_cast<char>(choices.Next(256));
    }
  }
  const jwt_auth::Verdict verdict = jwt_auth::CheckToken(token, world.keys, rules, 1.9e9);
  if (verdict.refused != nullptr) return token == world.token ? "a good token is refused" : "";
  // The last letter of a signature has bits that say nothing.
  const std::string::size_type signed_bytes = world.token.rfind('.');
  return token.substr(0, signed_bytes) == world.token.substr(0, signed_bytes)
             ? ""
             : "a token that nobody has signed is taken";
}

// What a signer writes, which is trusted and still may be wrong.
std::string ReadClaims(Choices& choices) {
  const World& world = TheWorld();
  const jwt_auth::Rules rules = {.issuer = choices.Next(2) == 0 ? std::nullopt : std::optional("i"),
                                 .audience = std::nullopt,
                                 .leeway_s = 10};
  const std::string claims = choices.Rest();
  const jwt_auth::Verdict verdict =
      jwt_auth::CheckToken(world.signer.Token(claims), world.keys, rules, 1.9e9);
  if (verdict.refused == nullptr && !jwt_auth::ParseJson(claims).has_value()) {
    return "claims are taken that are no JSON";
  }
  return "";
}

std::string ReadJson(const std::string& text) {
  const std::optional<jwt_auth::Json> json = jwt_auth::ParseJson(text);
  if (!json.has_value()) return "";
  (void)jwt_auth::PythonText(*json);
  return nlohmann::json::accept(text) ? "" : "what is no JSON is taken";
}

std::string ReadBase64(const std::string& text) {
  const std::optional<std::string> bytes = jwt_auth::DecodeBase64Url(text);
  if (!bytes.has_value()) return "";
  std::string expected;
  const bool good = absl::WebSafeBase64Unescape({text.data(), text.size()}, &expected);
  // The library refuses bits that say nothing, too.
  return !good || *bytes == expected ? "" : "base64url is read another way";
}

std::string ReadKeys(const std::string& text) {
  const TextFile file(text);
  for (const auto read : {jwt_auth::Keys::FromJwks, jwt_auth::Keys::FromPem}) {
    try {
      const jwt_auth::Keys keys = read(file.path());
      for (const std::optional<std::string>& kid : {std::optional<std::string>(), {"k"}}) {
        if (keys.Verify(kid, "text", "signature")) return "no signature is taken for one";
      }
    } catch (const std::invalid_argument&) {
    }
  }
  return "";
}

FUZZ_TARGET(jwt, .rounds = 2000, .bytes = 40) {
  switch (choices.Next(5)) {
    case 4:
      return ReadClaims(choices);
    case 0:
      return ReadToken(choices);
    case 1:
      return ReadJson(choices.Rest());
    case 2:
      return ReadBase64(choices.Rest());
    default:
      return ReadKeys(choices.Rest());
  }
}

}  // namespace
}  // namespace callout::host
