// SPDX-License-Identifier: Apache-2.0

// What each TLS listener of the host has to hold clients to (host/net/tls_policy.h),
// tried from outside.
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_TRANSPORT_TLS_POLICY_CHECKS_H_
#define CALLOUT_TESTS_HOST_TRANSPORT_TLS_POLICY_CHECKS_H_

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <functional>
#include <string>

#include "client_end.h"
#include "host/net/tls_policy.h"

namespace callout::host {

// Of a client for these versions and suites of TLS 1.2: what came of its handshake.
struct TlsOutcome {
  bool connected = false;
  std::string cipher;
};

// `prepare` sets what the listener needs beside: ALPN, a certificate.
inline TlsOutcome TryTls(int fd, const std::function<void(SSL_CTX*)>& prepare, int version_min,
                         int version_max, const std::string& ciphers) {
  const ClientSslContext context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_security_level(context.get(), 0);  // else OpenSSL offers no TLS 1.1
  SSL_CTX_set_min_proto_version(context.get(), version_min);
  SSL_CTX_set_max_proto_version(context.get(), version_max);
  EXPECT_EQ(SSL_CTX_set_cipher_list(context.get(), ciphers.c_str()), 1) << ciphers;
  prepare(context.get());
  const ClientSsl ssl(SSL_new(context.get()));
  SSL_set_fd(ssl.get(), fd);
  TlsOutcome outcome;
  outcome.connected = SSL_connect(ssl.get()) == 1;
  if (outcome.connected) outcome.cipher = SSL_get_cipher_name(ssl.get());
  return outcome;
}

// `connect` gives a new connection to a listener whose certificate has an EC key.
inline void ExpectTlsPolicy(const std::function<Descriptor()>& connect,
                            const std::function<void(SSL_CTX*)>& prepare) {
  const auto attempt = [&](int version, const std::string& ciphers) {
    const Descriptor fd = connect();
    return TryTls(fd.get(), prepare, version, version, ciphers);
  };
  EXPECT_FALSE(attempt(TLS1_1_VERSION, "ALL:@SECLEVEL=0").connected);
  EXPECT_TRUE(attempt(TLS1_3_VERSION, "ALL").connected);
  const std::string ciphers = kTlsCiphers;
  for (size_t begin = 0; begin < ciphers.size();) {
    const size_t end = std::min(ciphers.find(':', begin), ciphers.size());
    const std::string cipher = ciphers.substr(begin, end - begin);
    begin = end + 1;
    if (cipher.find("ECDSA") == std::string::npos) continue;  // of another kind of key
    EXPECT_EQ(attempt(TLS1_2_VERSION, cipher).cipher, cipher);
  }
  // Without forward secrecy, in CBC mode, and of AES-CCM.
  for (const char* cipher : {"ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA256",
                             "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-CCM"}) {
    EXPECT_FALSE(attempt(TLS1_2_VERSION, cipher).connected) << cipher;
  }
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TRANSPORT_TLS_POLICY_CHECKS_H_
