// SPDX-License-Identifier: Apache-2.0

#include "host/base/sha256.h"

#include <openssl/evp.h>

#include "absl/strings/escaping.h"

namespace callout::host {

std::string Sha256(std::string_view bytes) { return absl::BytesToHexString(Sha256Bytes(bytes)); }

std::string Sha256Bytes(std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) != 1) return "";
  return std::string(reinterpret_cast<const char*>(digest), size);
}

}  // namespace callout::host
