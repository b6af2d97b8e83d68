// SPDX-License-Identifier: Apache-2.0

#include "host/transport/grpc/grpc_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace callout::host {
namespace {

class StoreCredentials final : public grpc::ServerCredentials {
 public:
  explicit StoreCredentials(const CertificateStore* store) : store_(store) {
    const grpc_ssl_client_certificate_request_type request =
        store->asks_clients() ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                              : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &Fetch, this));
  }
  ~StoreCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // Asked before each handshake, under a lock of gRPC's.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* user_data, grpc_ssl_server_certificate_config** config) {
    auto* self = static_cast<StoreCredentials*>(user_data);
    const std::shared_ptr<const CertificateStore::Material> material = self->store_->current();
    if (self->version_.exchange(material->version) == material->version) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair = {material->pair.key_pem.c_str(),
                                             material->pair.chain_pem.c_str()};
    // gRPC 1.51 aborts without authorities, even if no client is asked for a
    // certificate; any will do then.
    const std::string& ca =
        self->store_->asks_clients() ? material->client_ca_pem : material->pair.chain_pem;
    *config = grpc_ssl_server_certificate_config_create(ca.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const CertificateStore* const store_;
  grpc_server_credentials* credentials_ = nullptr;
  std::atomic<uint64_t> version_{0};  // of what gRPC has; the store's begin with 1
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const CertificateStore* store) {
  return std::make_shared<StoreCredentials>(store);
}

}  // namespace callout::host
