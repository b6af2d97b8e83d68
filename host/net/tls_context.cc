// SPDX-License-Identifier: Apache-2.0

#include "host/net/tls_context.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>

#include "host/net/tls_policy.h"

namespace callout::host {

namespace asio = boost::asio;

absl::StatusOr<TlsContext> MakePolicyContext(TlsSide side) {
  auto context = std::make_shared<asio::ssl::context>(
      side == TlsSide::kServer ? asio::ssl::context::tls_server : asio::ssl::context::tls_client);
  if (!ApplyTlsPolicy(context->native_handle())) {
    return absl::InternalError(fmt::format(
        "this OpenSSL does not have the cipher suites that the host needs: {}", kTlsCiphers));
  }
  return context;
}

absl::Status UseKeyPair(const std::string& chain_pem, const std::string& key_pem,
                        asio::ssl::context* context) {
  boost::system::error_code error;
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
  return absl::OkStatus();
}

absl::StatusOr<TlsContext> MakeTlsContext(const std::string& chain_pem,
                                          const std::string& key_pem) {
  absl::StatusOr<TlsContext> context = MakePolicyContext(TlsSide::kServer);
  if (!context.ok()) return context;
  absl::Status status = UseKeyPair(chain_pem, key_pem, context->get());
  if (!status.ok()) return status;
  return context;
}

}  // namespace callout::host
