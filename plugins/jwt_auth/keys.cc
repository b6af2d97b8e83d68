// SPDX-License-Identifier: Apache-2.0

#include "keys.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "base64url.h"
#include "json.h"

namespace jwt_auth {
namespace {

struct OpensslFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(BIGNUM* number) const { BN_free(number); }
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
  void operator()(OSSL_PARAM* params) const { OSSL_PARAM_free(params); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
template <class T>
using Owned = std::unique_ptr<T, OpensslFree>;

[[noreturn]] void Refuse(const std::string& path, const std::string& reason) {
  ERR_clear_error();
  throw std::invalid_argument("cannot use the key file " + path + ": " + reason);
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) Refuse(path, std::strerror(errno));
  std::string text(kKeyFileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) Refuse(path, "it cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kKeyFileBytesMax) Refuse(path, "it is larger than 1 MiB");
  return text;
}

void CheckKey(const std::string& path, const std::string& what, EVP_PKEY* key) {
  if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
    Refuse(path, what + " is not an RSA key, which RS256 needs");
  }
  const int bits = EVP_PKEY_get_bits(key);
  if (bits < kKeyBitsMin) {
    Refuse(path, what + " has " + std::to_string(bits) + " bits; RS256 needs at least " +
                     std::to_string(kKeyBitsMin));
  }
}

// --- JSON Web Keys ---

// A member that is a text; none if it is not there or something else.
std::optional<std::string> TextOf(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

bool IsForRs256(const Json& jwk) {
  return TextOf(jwk, "kty") == "RSA" && TextOf(jwk, "use").value_or("sig") == "sig" &&
         TextOf(jwk, "alg").value_or("RS256") == "RS256";
}

Owned<BIGNUM> NumberOf(const Json& jwk, const char* name) {
  const std::optional<std::string> bytes = DecodeBase64Url(TextOf(jwk, name).value_or(""));
  if (!bytes.has_value() || bytes->empty()) return nullptr;
  return Owned<BIGNUM>(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes->data()),
                                 static_cast<int>(bytes->size()), nullptr));
}

KeyPtr KeyOf(const Json& jwk) {
  const Owned<BIGNUM> modulus = NumberOf(jwk, "n");
  const Owned<BIGNUM> exponent = NumberOf(jwk, "e");
  if (modulus == nullptr || exponent == nullptr) return nullptr;
  const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  const Owned<OSSL_PARAM> params(OSSL_PARAM_BLD_to_param(builder.get()));
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    return nullptr;
  }
  return KeyPtr(key);
}

}  // namespace

Keys Keys::FromPem(const std::string& path) {
  const std::string text = ReadFile(path);
  const Owned<BIO> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  KeyPtr key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  if (key == nullptr) Refuse(path, "no public key in PEM form (BEGIN PUBLIC KEY) is in it");
  CheckKey(path, "it", key.get());
  Keys keys;
  keys.keys_.push_back({std::nullopt, std::move(key)});
  return keys;
}

Keys Keys::FromJwks(const std::string& path) {
  const std::optional<Json> set = ParseJson(ReadFile(path));
  const bool has_list =
      set.has_value() && set->is_object() && set->contains("keys") && set->at("keys").is_array();
  if (!has_list) Refuse(path, "it is not a JSON object with a list \"keys\"");
  Keys keys;
  keys.named_ = true;
  for (const Json& jwk : set->at("keys")) {
    if (!jwk.is_object() || !IsForRs256(jwk)) continue;
    std::optional<std::string> kid = TextOf(jwk, "kid");
    const std::string what = "the key \"" + kid.value_or("") + "\"";
    for (const Named& other : keys.keys_) {
      if (other.kid == kid) Refuse(path, what + " is there twice; each needs a kid of its own");
    }
    KeyPtr key = KeyOf(jwk);
    if (key == nullptr) Refuse(path, what + " has no n and e that make a key");
    CheckKey(path, what, key.get());
    keys.keys_.push_back({std::move(kid), std::move(key)});
  }
  if (keys.keys_.empty()) Refuse(path, "no RSA key for RS256 signatures is in it");
  return keys;
}

EVP_PKEY* Keys::Choose(const std::optional<std::string>& kid) const {
  if (!named_ || (!kid.has_value() && keys_.size() == 1)) return keys_.front().key.get();
  for (const Named& named : keys_) {
    if (kid.has_value() && named.kid == kid) return named.key.get();
  }
  return nullptr;
}

bool Keys::Verify(const std::optional<std::string>& kid, std::string_view text,
                  std::string_view signature) const {
  EVP_PKEY* key = Choose(kid);
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  const auto bytes = [](std::string_view view) {
    return reinterpret_cast<const unsigned char*>(view.data());
  };
  const bool good = key != nullptr && context != nullptr &&
                    EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(text),
                                     text.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace jwt_auth
