// SPDX-License-Identifier: Apache-2.0

#include "tls_probe.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};

std::string CommonName(SSL* ssl) {
  const std::unique_ptr<X509, Free> certificate(SSL_get1_peer_certificate(ssl));
  char name[256] = "";
  if (certificate != nullptr) {
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name,
                              sizeof(name));
  }
  return name;
}

void UseCertificate(const TlsProbeOptions& options, SSL_CTX* context) {
  const auto bio = [](const std::string& text) {
    return std::unique_ptr<BIO, Free>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  };
  const std::unique_ptr<X509, Free> certificate(
      PEM_read_bio_X509(bio(options.cert_pem).get(), nullptr, nullptr, nullptr));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(bio(options.key_pem).get(), nullptr, nullptr, nullptr));
  SSL_CTX_use_certificate(context, certificate.get());
  SSL_CTX_use_PrivateKey(context, key.get());
}

std::string ReadAll(SSL* ssl) {
  std::string text;
  char buffer[4096];
  for (int size = 0; (size = SSL_read(ssl, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(size));
  }
  return text;
}

}  // namespace

TlsProbe ProbeTls(const std::string& address, const TlsProbeOptions& options) {
  const std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_client_method()));
  // Or OpenSSL itself would not offer the old versions.
  SSL_CTX_set_security_level(context.get(), 0);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context.get(), options.version_max);
  if (!options.cert_pem.empty()) UseCertificate(options, context.get());
  const std::unique_ptr<SSL, Free> ssl(SSL_new(context.get()));
  if (!options.server_name.empty()) {
    SSL_set_tlsext_host_name(ssl.get(), options.server_name.c_str());
  }
  const std::string alpn = static_cast<char>(options.alpn.size()) + options.alpn;
  SSL_set_alpn_protos(ssl.get(), reinterpret_cast<const unsigned char*>(alpn.data()),
                      static_cast<unsigned>(alpn.size()));
  const host::Descriptor socket = host::Connect(host::ParsedAddress(address));
  SSL_set_fd(ssl.get(), socket.get());

  TlsProbe probe;
  probe.connected = SSL_connect(ssl.get()) == 1;
  if (!probe.connected) return probe;
  probe.version = SSL_get_version(ssl.get());
  const unsigned char* chosen = nullptr;
  unsigned chosen_size = 0;
  SSL_get0_alpn_selected(ssl.get(), &chosen, &chosen_size);
  probe.alpn.assign(reinterpret_cast<const char*>(chosen), chosen_size);
  probe.subject = CommonName(ssl.get());
  if (!options.request.empty()) {
    SSL_write(ssl.get(), options.request.data(), static_cast<int>(options.request.size()));
    probe.answer = ReadAll(ssl.get());
  }
  return probe;
}

}  // namespace callout::tests
