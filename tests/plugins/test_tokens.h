// SPDX-License-Identifier: Apache-2.0

// JSON Web Tokens and their keys for tests, made to order.
//
//   const Signer signer;                                 // a fresh RSA key
//   WriteFile(path, signer.Pem());
//   signer.Token(R"({"sub": "ada"})")
//
// Plain functions. Nothing here is a secret.
#ifndef CALLOUT_TESTS_PLUGINS_TEST_TOKENS_H_
#define CALLOUT_TESTS_PLUGINS_TEST_TOKENS_H_

#include <string>

#include "../host/pki.h"

namespace callout::tests {

std::string Base64Url(const std::string& bytes);
// "header.payload" of the two JSON texts.
std::string Unsigned(const std::string& header, const std::string& payload);
// The PEM form of a public key.
std::string PublicPem(EVP_PKEY* key);

inline constexpr char kRs256[] = R"({"alg": "RS256", "typ": "JWT"})";

class Signer {
 public:
  explicit Signer(size_t bits = 2048) : key_(host::MakeRsaKey(bits)) {}

  std::string Pem() const { return PublicPem(key_.get()); }
  // A JSON Web Key: {"kty": "RSA", "n": …, "e": …, MORE}.
  std::string Jwk(const std::string& more) const;
  std::string Token(const std::string& payload, const std::string& header = kRs256) const;

 private:
  host::TestKey key_;
};

// Signed with `secret` by HMAC and SHA-256.
std::string Hs256Token(const std::string& payload, const std::string& secret);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_PLUGINS_TEST_TOKENS_H_
