// SPDX-License-Identifier: Apache-2.0

// The public keys that tokens are checked with: one from a PEM file, or several from a file
// with a JSON Web Key Set (RFC 7517).
//
//   const Keys keys = Keys::FromJwks("keys.json");      // throws std::invalid_argument
//   bool good = keys.Verify(kid, "header.payload", signature);
//
// Made once; Verify may be called from any thread.
#ifndef CALLOUT_PLUGINS_JWT_AUTH_KEYS_H_
#define CALLOUT_PLUGINS_JWT_AUTH_KEYS_H_

#include <openssl/evp.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace jwt_auth {

struct KeyFree {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, KeyFree>;

// RS256 wants at least so many (RFC 7518, 3.3).
inline constexpr int kKeyBitsMin = 2048;
inline constexpr size_t kKeyFileBytesMax = 1 << 20;

class Keys {
 public:
  // Both throw with the file's path in the message. Anything but RSA, or a key that is too
  // short, is an error in a PEM file. In a JWKS file keys of another kind or use are left
  // out, as the RFC asks; but one that is left has to be there.
  static Keys FromPem(const std::string& path);
  static Keys FromJwks(const std::string& path);

  // Whether `signature` (raw bytes) is RS256's of `text`. Of a JWKS the key with the token's
  // `kid` is taken, or without a `kid` the only one there is. The key of a PEM file has no
  // name: `kid` is not looked at.
  bool Verify(const std::optional<std::string>& kid, std::string_view text,
              std::string_view signature) const;

 private:
  struct Named {
    std::optional<std::string> kid;
    KeyPtr key;
  };

  EVP_PKEY* Choose(const std::optional<std::string>& kid) const;

  bool named_ = false;
  std::vector<Named> keys_;
};

}  // namespace jwt_auth

#endif  // CALLOUT_PLUGINS_JWT_AUTH_KEYS_H_
