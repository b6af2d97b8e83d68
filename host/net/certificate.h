// SPDX-License-Identifier: Apache-2.0

// The server's certificate and key: generated, or read from files and checked.
//
// Files are checked as a TLS server will use them, so an invalid file is an error
// here, with the file's name and the remedy, instead of a failing handshake later.
// Stateless functions; any thread.
#ifndef CALLOUT_HOST_NET_CERTIFICATE_H_
#define CALLOUT_HOST_NET_CERTIFICATE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace callout::host {

// The largest certificate, key or CA file that is read, in bytes.
inline constexpr size_t kPemBytesMax = 1 << 20;

struct KeyPair {
  std::string chain_pem;  // the server's certificate first, then those between it and the CA
  std::string key_pem;
  // Likely mistakes that are not errors, one sentence each: expired, not yet
  // valid, a chain out of order.
  std::vector<std::string> warnings;
};

struct CaBundle {
  std::string pem;
  std::vector<std::string> warnings;
};

// What people want to know of a certificate.
struct CertificateFacts {
  std::string subject;
  std::string issuer;
  std::string not_after;     // "Jan 31 12:00:00 2027 GMT"
  int64_t seconds_left = 0;  // negative: expired
};

// Of each certificate in `pem`, up to one that cannot be read.
std::vector<CertificateFacts> DescribeCertificates(const std::string& pem);

// Makes a P-256 key and a self-signed certificate for localhost, 127.0.0.1 and ::1. It is valid
// from yesterday, since clocks differ, and for ten years, since a host may run for long. Each start
// makes a new one.
absl::StatusOr<KeyPair> MakeSelfSignedKeyPair();

// Reads a chain and its key, both PEM. Errors name the file: NOT_FOUND or
// PERMISSION_DENIED or UNAVAILABLE if it cannot be read; INVALID_ARGUMENT if it
// is not a regular file, empty, over kPemBytesMax, not PEM, encrypted, not the key of the
// certificate, or too weak for OpenSSL.
absl::StatusOr<KeyPair> LoadKeyPair(const std::string& chain_path, const std::string& key_path);

// Reads the CA certificates that may issue client certificates. Errors as of LoadKeyPair; a
// certificate that is not a CA's is a warning.
absl::StatusOr<CaBundle> LoadCaBundle(const std::string& path);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_CERTIFICATE_H_
