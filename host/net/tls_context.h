// SPDX-License-Identifier: Apache-2.0

// TLS contexts by the host's policy, and a server's, made from PEM texts.
//
// Any thread; a context never changes.
//
// Tested by tests/host/ops/http_server_test.cc.
#ifndef CALLOUT_HOST_NET_TLS_CONTEXT_H_
#define CALLOUT_HOST_NET_TLS_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace boost::asio::ssl {
class context;
}

namespace callout::host {

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

enum class TlsSide : uint8_t { kServer, kClient };

// A context by the policy (tls_policy.h), without certificates. INTERNAL if OpenSSL lacks what the
// policy needs.
absl::StatusOr<TlsContext> MakePolicyContext(TlsSide side);

// Gives the context its certificate. INVALID_ARGUMENT with OpenSSL's reason if chain or key are
// invalid.
absl::Status UseKeyPair(const std::string& chain_pem, const std::string& key_pem,
                        boost::asio::ssl::context* context);

// A server context by the policy (tls_policy.h) that asks for no client certificate.
// INVALID_ARGUMENT with OpenSSL's reason if chain or key are invalid.
absl::StatusOr<TlsContext> MakeTlsContext(const std::string& chain_pem, const std::string& key_pem);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_TLS_CONTEXT_H_
