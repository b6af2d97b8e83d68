// SPDX-License-Identifier: Apache-2.0

#include "host/net/tls_context.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>

#include "host/net/tls_policy.h"

namespace callout::host {

namespace asio = boost::asio;

absl::StatusOr<TlsContext> MakeTlsContext(const std::string& chain_pem,
                                          const std::string& key_pem) {
  boost::system::error_code error;
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  if (!ApplyTlsPolicy(context->native_handle())) {
    return absl::InternalError(fmt::format(
        "this OpenSSL does not have the cipher suites that the host needs: {}", kTlsCiphers));
  }
  context->use_certificate_chain(asio::buffer(chain_pem), error);
  if (error) {
    return absl::InvalidArgumentError(
        fmt::format("cannot use the certificate chain for TLS: {}", error.message()));
  }
  context->use_private_key(asio::buffer(key_pem), asio::ssl::context::pem, error);
  if (error) {
    return absl::InvalidArgumentError(
        fmt::format("cannot use the private key for TLS: {}", error.message()));
  }
  return context;
}

}  // namespace callout::host
