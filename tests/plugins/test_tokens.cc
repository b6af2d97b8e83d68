// SPDX-License-Identifier: Apache-2.0

#include "test_tokens.h"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/hmac.h>

#include <array>

namespace callout::tests {
namespace {

const unsigned char* Bytes(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string NumberOf(EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  EXPECT_EQ(EVP_PKEY_get_bn_param(key, name, &number), 1);
  std::string bytes(static_cast<size_t>(BN_num_bytes(number)), '\0');
  BN_bn2bin(number, reinterpret_cast<unsigned char*>(bytes.data()));
  BN_free(number);
  return Base64Url(bytes);
}

}  // namespace

std::string Base64Url(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), Bytes(bytes),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  while (!text.empty() && text.back() == '=') text.pop_back();
  for (char& c : text) {
    if (c == '+') c = '-';
    if (c == '/') c = '_';
  }
  return text;
}

std::string Unsigned(const std::string& header, const std::string& payload) {
  return Base64Url(header) + "." + Base64Url(payload);
}

std::string PublicPem(EVP_PKEY* key) {
  const std::unique_ptr<BIO, host::OpensslFree> bio(BIO_new(BIO_s_mem()));
  EXPECT_EQ(PEM_write_bio_PUBKEY(bio.get(), key), 1);
  return host::TextOf(bio.get());
}

std::string Signer::Jwk(const std::string& more) const {
  return R"({"kty": "RSA", "n": ")" + NumberOf(key_.get(), OSSL_PKEY_PARAM_RSA_N) + R"(", "e": ")" +
         NumberOf(key_.get(), OSSL_PKEY_PARAM_RSA_E) + "\"" + (more.empty() ? "" : ", ") + more +
         "}";
}

std::string Signer::Token(const std::string& payload, const std::string& header) const {
  const std::string text = Unsigned(header, payload);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  size_t size = 0;
  EXPECT_EQ(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()), 1);
  EXPECT_EQ(EVP_DigestSign(context.get(), nullptr, &size, Bytes(text), text.size()), 1);
  std::string signature(size, '\0');
  EXPECT_EQ(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                           Bytes(text), text.size()),
            1);
  return text + "." + Base64Url(signature.substr(0, size));
}

std::string Hs256Token(const std::string& payload, const std::string& secret) {
  const std::string text = Unsigned(R"({"alg": "HS256", "typ": "JWT"})", payload);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), Bytes(text), text.size(),
       digest.data(), &size);
  return text + "." + Base64Url({reinterpret_cast<const char*>(digest.data()), size});
}

}  // namespace callout::tests
