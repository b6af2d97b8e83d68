// SPDX-License-Identifier: Apache-2.0

// A TLS client on OpenSSL, for facts that a gRPC client does not show.
#ifndef CALLOUT_TESTS_INTEGRATION_TLS_PROBE_H_
#define CALLOUT_TESTS_INTEGRATION_TLS_PROBE_H_

#include <openssl/ssl.h>

#include <string>

namespace callout::tests {

struct TlsProbe {
  bool connected = false;
  std::string version;  // "TLSv1.3"
  std::string alpn;     // chosen by the server
  std::string subject;  // common name of the server's certificate
  std::string answer;   // to `request`, up to the server's closing
};

struct TlsProbeOptions {
  int version_max = 0;  // TLS1_1_VERSION, …; 0: the newest
  std::string alpn = "h2";
  std::string server_name = "";             // for SNI
  std::string cert_pem = "", key_pem = "";  // of the client; none
  std::string request = "";                 // none, and closes at once
};

// Trusts every certificate.
TlsProbe ProbeTls(const std::string& address, const TlsProbeOptions& options = {});

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_INTEGRATION_TLS_PROBE_H_
