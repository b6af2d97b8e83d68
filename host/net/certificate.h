// The server's certificate and key: made, or read from files and checked before
// anything uses them.
//
// What is read is checked the way a TLS server will use it, so that a bad file
// is an error here, with the file's name and the remedy, and not a handshake
// that fails later. Functions keep no state; call them from any thread.
#ifndef CALLOUT_HOST_NET_CERTIFICATE_H_
#define CALLOUT_HOST_NET_CERTIFICATE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// The longest certificate, key or CA file read, in bytes.
inline constexpr size_t kPemBytesMax = 1 << 20;

struct KeyPair {
  std::string chain_pem;  // the server's certificate first, then those between it and the CA
  std::string key_pem;
  // What is legal and yet most likely wrong, one sentence each: expired, not
  // valid yet, a chain out of order.
  std::vector<std::string> warnings;
};

struct CaBundle {
  std::string pem;
  std::vector<std::string> warnings;
};

// A key on P-256 and a certificate signed by itself for localhost, 127.0.0.1 and
// ::1. Valid from a day ago, for clocks that differ, and for ten years: it is
// made anew at each start, and a host may run for long.
absl::StatusOr<KeyPair> MakeSelfSignedKeyPair();

// Reads a chain and its key, both PEM. Errors name the file: NOT_FOUND or
// PERMISSION_DENIED or UNAVAILABLE if it cannot be read; INVALID_ARGUMENT if it
// is no regular file, empty, over kPemBytesMax, not PEM, encrypted (nobody is there to type the
// passphrase), not the key of the certificate, or too weak for OpenSSL.
absl::StatusOr<KeyPair> LoadKeyPair(const std::string& chain_path, const std::string& key_path);

// Reads the certificates of the authorities that clients' certificates must come
// from. Errors as LoadKeyPair's; a certificate that is no CA's is a warning.
absl::StatusOr<CaBundle> LoadCaBundle(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_CERTIFICATE_H_
