// SPDX-License-Identifier: Apache-2.0

// What every TLS listener of the host asks of a client, in one place: serving
// (nghttp2), health, and serving by gRPC C++, which cannot be handed a context and
// has the same versions and cipher suites by its own default.
//
// Any thread.
#ifndef CALLOUT_HOST_NET_TLS_POLICY_H_
#define CALLOUT_HOST_NET_TLS_POLICY_H_

#include <openssl/ssl.h>

namespace callout::host {

inline constexpr int kTlsVersionMin = TLS1_2_VERSION;
// Of TLS 1.2; all suites of TLS 1.3 will do. The list is gRPC C++ 1.51's, so that a
// client that one transport accepts is accepted by the other.
inline constexpr char kTlsCiphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";

// Sets versions and suites, and turns off what connections that live long do not
// need: session resumption, which would outlive a change of the authorities (gRPC
// C++ resumes sessions until its certificates change), renegotiation and compression.
// False if OpenSSL refuses, which a build of it without these suites would.
bool ApplyTlsPolicy(SSL_CTX* context);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_TLS_POLICY_H_
