// What a server needs of TLS, made from PEM texts.
//
// Any thread; a context is not changed once it is made.
#ifndef CALLOUT_HOST_NET_TLS_CONTEXT_H_
#define CALLOUT_HOST_NET_TLS_CONTEXT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace boost::asio::ssl {
class context;
}

namespace callout::host {

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

// A server context of TLS 1.2 or later that asks for no client certificate.
// INVALID_ARGUMENT with OpenSSL's reason if chain or key do not do.
absl::StatusOr<TlsContext> MakeTlsContext(const std::string& chain_pem, const std::string& key_pem);

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_TLS_CONTEXT_H_
