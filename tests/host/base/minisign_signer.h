// SPDX-License-Identifier: Apache-2.0

// Signs as minisign does, with a key that is made for the test. What minisign itself has made is in
// minisign_test.cc.
#ifndef CALLOUT_TESTS_HOST_BASE_MINISIGN_SIGNER_H_
#define CALLOUT_TESTS_HOST_BASE_MINISIGN_SIGNER_H_

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "host/base/minisign.h"

namespace callout::host {

class MinisignSigner {
 public:
  MinisignSigner() : MinisignSigner(RandomId()) {}
  explicit MinisignSigner(const std::string& id)
      : id_(id), key_(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"), &EVP_PKEY_free) {}

  const std::string& id() const { return id_; }

  // The text of a .pub file.
  std::string PublicKey() const {
    std::string raw(32, '\0');
    size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key_.get(), Bytes(&raw), &size);
    return "untrusted comment: a key\n" + absl::Base64Escape("Ed" + id_ + raw) + "\n";
  }

  std::string IdText() const { return ParseMinisignKeys(PublicKey())->front().IdText(); }

  // The text of a .minisig file.
  std::string Sign(std::string_view bytes, const std::string& comment = "a comment") const {
    std::string digest(64, '\0');
    EVP_Digest(bytes.data(), bytes.size(), Bytes(&digest), nullptr, EVP_blake2b512(), nullptr);
    const std::string signature = Raw(digest);
    return "untrusted comment: a signature\n" + absl::Base64Escape("ED" + id_ + signature) +
           "\ntrusted comment: " + comment + "\n" + absl::Base64Escape(Raw(signature + comment)) +
           "\n";
  }

 private:
  static unsigned char* Bytes(std::string* text) {
    return reinterpret_cast<unsigned char*>(text->data());
  }
  static std::string RandomId() {
    std::string id(8, '\0');
    RAND_bytes(Bytes(&id), static_cast<int>(id.size()));
    return id;
  }
  std::string Raw(const std::string& message) const {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                          &EVP_MD_CTX_free);
    std::string signature(64, '\0');
    size_t size = signature.size();
    EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get());
    EVP_DigestSign(context.get(), Bytes(&signature), &size,
                   reinterpret_cast<const unsigned char*>(message.data()), message.size());
    return signature;
  }

  const std::string id_;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_BASE_MINISIGN_SIGNER_H_
