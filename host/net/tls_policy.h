// SPDX-License-Identifier: Apache-2.0

// The TLS policy of all listeners, and of connections that the host opens: versions, cipher suites,
// sessions. It applies to nghttp2, to
// the health listener. gRPC C++ cannot be given a context, and has the same versions and cipher
// suites by default.
//
// Any thread.
#ifndef CALLOUT_HOST_NET_TLS_POLICY_H_
#define CALLOUT_HOST_NET_TLS_POLICY_H_

#include <openssl/ssl.h>

namespace callout::host {

inline constexpr int kTlsVersionMin = TLS1_2_VERSION;
// The cipher suites of TLS 1.2; all suites of TLS 1.3 are allowed. The list is that of gRPC
// C++ 1.51, so that both transports accept the same clients.
inline constexpr char kTlsCiphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";

// Sets versions and suites, and turns off session tickets and resumption, renegotiation and
// compression. Long-lived connections do not need them, and a resumed session would outlive a
// change of the client CAs. (gRPC C++ resumes sessions until its certificates change.) False if
// this build of OpenSSL does not have the suites.
bool ApplyTlsPolicy(SSL_CTX* context);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_TLS_POLICY_H_
