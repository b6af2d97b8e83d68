// SPDX-License-Identifier: Apache-2.0

// Signatures of files in the format of minisign (jedisct1.github.io/minisign): Ed25519 over
// BLAKE2b-512 of the bytes ("ED", what `minisign -S` makes), or over the bytes ("Ed", its -l).
//
//   absl::StatusOr<std::vector<MinisignKey>> keys = ParseMinisignKeys(text_of_pub_files);
//   absl::StatusOr<MinisignProof> proof = VerifyMinisign(code, text_of_minisig_file, *keys);
//
// OpenSSL does the cryptography. The parser is our own, since Debian has minisign as a program
// only: a program would read a file, but what has to be verified are bytes in memory.
//
// Plain functions; any thread.
#ifndef CALLOUT_HOST_BASE_MINISIGN_H_
#define CALLOUT_HOST_BASE_MINISIGN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// Limits, in bytes. minisign's own comments have at most 8 KiB.
inline constexpr size_t kMinisignKeysBytesMax = 65536;
inline constexpr size_t kMinisignSignatureBytesMax = 16384;

struct MinisignKey {
  std::array<uint8_t, 8> id;
  std::array<uint8_t, 32> ed25519;

  // As minisign prints it: 16 hexadecimal digits.
  std::string IdText() const;
  bool operator==(const MinisignKey&) const = default;
};

struct MinisignProof {
  std::string key_id;   // IdText()
  std::string comment;  // the trusted comment, which the signature covers
};

// The keys in the text of one or several files of `minisign -G`: a line of base64 each. Lines that
// begin with "untrusted comment:" or "#", and empty ones, are left out. INVALID_ARGUMENT with the
// line if another one is no key, or if there is no key.
absl::StatusOr<std::vector<MinisignKey>> ParseMinisignKeys(std::string_view text);

// PERMISSION_DENIED unless `signature`, the text of a .minisig file, says that one of the keys has
// signed exactly these bytes and the trusted comment. The message is what is wrong with it, to
// follow the file's name: "is by key 0123456789ABCDEF, which is not among …".
absl::StatusOr<MinisignProof> VerifyMinisign(std::string_view bytes, std::string_view signature,
                                             const std::vector<MinisignKey>& keys);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_MINISIGN_H_
