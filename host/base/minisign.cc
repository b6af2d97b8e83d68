// SPDX-License-Identifier: Apache-2.0

#include "host/base/minisign.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace callout::host {
namespace {

constexpr std::string_view kUntrusted = "untrusted comment:";
constexpr std::string_view kTrusted = "trusted comment: ";
constexpr size_t kAlgorithmBytes = 2, kIdBytes = 8, kKeyBytes = 32, kSignatureBytes = 64;

// The bytes of a line of base64, if they are as many as `size`. Only the one usual form is taken.
std::optional<std::string> Decode(std::string_view line, size_t size) {
  std::string bytes;
  if (!absl::Base64Unescape(absl::string_view(line.data(), line.size()), &bytes) ||
      bytes.size() != size) {
    return std::nullopt;
  }
  if (absl::Base64Escape(bytes) != line) return std::nullopt;
  return bytes;
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

absl::Status Denied(const std::string& text) { return absl::PermissionDeniedError(text); }

bool IsSignedBy(const MinisignKey& key, std::string_view message, std::string_view signature) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> ed25519(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.ed25519.data(),
                                  key.ed25519.size()),
      &EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  return ed25519 != nullptr && context != nullptr &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, ed25519.get()) == 1 &&
         EVP_DigestVerify(context.get(), reinterpret_cast<const uint8_t*>(signature.data()),
                          signature.size(), reinterpret_cast<const uint8_t*>(message.data()),
                          message.size()) == 1;
}

// BLAKE2b-512; empty if OpenSSL has none.
std::string Blake2b(std::string_view bytes) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_blake2b512(), nullptr) != 1) {
    return "";
  }
  return std::string(reinterpret_cast<const char*>(digest), size);
}

// The four lines of a .minisig file.
struct Parts {
  std::string algorithm;  // "ED" or "Ed"
  std::string id;
  std::string signature;
  std::string comment;
  std::string global_signature;  // of the signature and the comment
};

std::optional<Parts> ParseSignature(std::string_view text) {
  const std::vector<std::string_view> lines = Lines(text);
  if (lines.size() != 4 || !lines[0].starts_with(kUntrusted) || !lines[2].starts_with(kTrusted)) {
    return std::nullopt;
  }
  const std::optional<std::string> signature =
      Decode(lines[1], kAlgorithmBytes + kIdBytes + kSignatureBytes);
  const std::optional<std::string> global = Decode(lines[3], kSignatureBytes);
  if (!signature.has_value() || !global.has_value()) return std::nullopt;
  Parts parts;
  parts.algorithm = signature->substr(0, kAlgorithmBytes);
  parts.id = signature->substr(kAlgorithmBytes, kIdBytes);
  parts.signature = signature->substr(kAlgorithmBytes + kIdBytes);
  parts.comment = std::string(lines[2].substr(kTrusted.size()));
  parts.global_signature = *global;
  if (parts.algorithm != "ED" && parts.algorithm != "Ed") return std::nullopt;
  return parts;
}

}  // namespace

std::string MinisignKey::IdText() const {
  std::string text;
  for (auto byte = id.rbegin(); byte != id.rend(); ++byte) text += fmt::format("{:02X}", *byte);
  return text;
}

absl::StatusOr<std::vector<MinisignKey>> ParseMinisignKeys(std::string_view text) {
  std::vector<MinisignKey> keys;
  size_t number = 0;
  for (std::string_view line : Lines(text)) {
    ++number;
    if (line.empty() || line.starts_with('#') || line.starts_with(kUntrusted)) continue;
    const std::optional<std::string> bytes = Decode(line, kAlgorithmBytes + kIdBytes + kKeyBytes);
    if (!bytes.has_value() || !bytes->starts_with("Ed")) {
      return absl::InvalidArgumentError(fmt::format(
          "line {} is no public key of minisign; give the file that minisign -G wrote with -p",
          number));
    }
    MinisignKey key;
    memcpy(key.id.data(), bytes->data() + kAlgorithmBytes, kIdBytes);
    memcpy(key.ed25519.data(), bytes->data() + kAlgorithmBytes + kIdBytes, kKeyBytes);
    keys.push_back(key);
  }
  if (keys.empty()) return absl::InvalidArgumentError("there is no public key in it");
  return keys;
}

absl::StatusOr<MinisignProof> VerifyMinisign(std::string_view bytes, std::string_view signature,
                                             const std::vector<MinisignKey>& keys) {
  const std::optional<Parts> parts = ParseSignature(signature);
  if (!parts.has_value()) return Denied("is no signature of minisign");
  const bool hashed = parts->algorithm == "ED";
  const std::string digest = hashed ? Blake2b(bytes) : "";
  if (hashed && digest.empty()) return Denied("cannot be verified: OpenSSL has no BLAKE2b-512");
  const std::string_view message = hashed ? std::string_view(digest) : bytes;
  MinisignKey wanted;
  memcpy(wanted.id.data(), parts->id.data(), kIdBytes);
  bool known = false;
  // Ids are chosen by whoever makes a key, so several keys may have one.
  for (const MinisignKey& key : keys) {
    if (key.id != wanted.id) continue;
    known = true;
    if (!IsSignedBy(key, message, parts->signature)) continue;
    if (!IsSignedBy(key, parts->signature + parts->comment, parts->global_signature)) {
      return Denied(fmt::format("has a trusted comment that key {} has not signed", key.IdText()));
    }
    return MinisignProof{key.IdText(), parts->comment};
  }
  if (!known) {
    return Denied(fmt::format("is by key {}, which is not one of --plugin_keys", wanted.IdText()));
  }
  return Denied(fmt::format("is by key {} of other bytes: the file was changed after it was signed",
                            wanted.IdText()));
}

}  // namespace callout::host
