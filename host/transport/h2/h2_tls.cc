// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_tls.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string_view>
#include <utility>

#include "host/net/tls_policy.h"

namespace callout::host {
namespace {

struct Deleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};
template <class T>
using Ptr = std::unique_ptr<T, Deleter>;

constexpr unsigned char kAlpn[] = {2, 'h', '2'};

int ChooseProtocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size,
                   const unsigned char* offered, unsigned offered_size, void*) {
  unsigned char* found = nullptr;
  if (SSL_select_next_proto(&found, chosen_size, kAlpn, sizeof(kAlpn), offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = found;
  return SSL_TLSEXT_ERR_OK;
}

Ptr<BIO> Reader(const std::string& pem) {
  return Ptr<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

Ptr<X509> ReadCertificate(BIO* bio) {
  return Ptr<X509>(PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));
}

bool UsePair(const KeyPair& pair, SSL_CTX* context) {
  const Ptr<BIO> chain = Reader(pair.chain_pem);
  const Ptr<X509> leaf = ReadCertificate(chain.get());
  if (leaf == nullptr || SSL_CTX_use_certificate(context, leaf.get()) != 1) return false;
  while (const Ptr<X509> next = ReadCertificate(chain.get())) {
    if (SSL_CTX_add1_chain_cert(context, next.get()) != 1) return false;
  }
  const Ptr<EVP_PKEY> key(
      PEM_read_bio_PrivateKey(Reader(pair.key_pem).get(), nullptr, nullptr, nullptr));
  return key != nullptr && SSL_CTX_use_PrivateKey(context, key.get()) == 1;
}

bool TrustClients(const std::string& ca_pem, SSL_CTX* context) {
  const Ptr<BIO> bio = Reader(ca_pem);
  X509_STORE* trusted = SSL_CTX_get_cert_store(context);
  while (const Ptr<X509> ca = ReadCertificate(bio.get())) {
    if (X509_STORE_add_cert(trusted, ca.get()) != 1) return false;
    if (SSL_CTX_add_client_CA(context, ca.get()) != 1) return false;
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return true;
}

// `count`: as given to Accept. What has been read ahead ends the call of SSL_read, unless that goes
// on to read ahead: KeyUpdates of the right size would leave it part of a record each time.
void CountKeyUpdates(int written, int, int type, const void* message, size_t size, SSL* ssl,
                     void* count) {
  if (written != 0 || type != SSL3_RT_HANDSHAKE || size == 0 || count == nullptr) return;
  if (*static_cast<const unsigned char*>(message) != SSL3_MT_KEY_UPDATE) return;
  ++*static_cast<uint64_t*>(count);
  SSL_set_read_ahead(ssl, 0);
}

SslContextPtr MakeContext(const CertificateStore::Material& material, bool asks_clients) {
  SslContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr || !ApplyTlsPolicy(context.get())) return nullptr;
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  // SSL_read would go on from one KeyUpdate to the next for as long as they come.
  SSL_CTX_clear_mode(context.get(), SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_msg_callback(context.get(), CountKeyUpdates);
  SSL_CTX_set_read_ahead(context.get(), 1);
  SSL_CTX_set_alpn_select_cb(context.get(), ChooseProtocol, nullptr);
  if (!UsePair(material.pair, context.get())) return nullptr;
  if (asks_clients && !TrustClients(material.client_ca_pem, context.get())) return nullptr;
  return context;
}

std::string NameOfType(const GENERAL_NAMES* names, int type) {
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != type) continue;
    const ASN1_STRING* text = name->d.ia5;  // both of URI and DNS
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
            static_cast<size_t>(ASN1_STRING_length(text))};
  }
  return "";
}

std::string CommonName(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return "";
  unsigned char* text = nullptr;
  const int size =
      ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
  if (size < 0) return "";
  std::string name(reinterpret_cast<char*>(text), static_cast<size_t>(size));
  OPENSSL_free(text);
  return name;
}

}  // namespace

uint64_t TakeKeyUpdates(SSL* ssl, uint64_t* key_updates) {
  if (*key_updates == 0) return 0;
  SSL_set_read_ahead(ssl, 1);
  return std::exchange(*key_updates, 0);
}

SslPtr H2TlsContexts::Accept(int fd, uint64_t* key_updates) {
  const std::shared_ptr<const CertificateStore::Material> material = store_->current();
  if (material->version != version_) {
    if (SslContextPtr made = MakeContext(*material, store_->asks_clients())) {
      context_ = std::move(made);
      version_ = material->version;
    }
  }
  if (context_ == nullptr) return nullptr;
  SslPtr ssl(SSL_new(context_.get()));
  if (ssl == nullptr || SSL_set_fd(ssl.get(), fd) != 1) return nullptr;
  SSL_set_msg_callback_arg(ssl.get(), key_updates);
  SSL_set_accept_state(ssl.get());
  return ssl;
}

bool HasChosenH2(const SSL* ssl) {
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &chosen, &size);
  return std::string_view(reinterpret_cast<const char*>(chosen), size) == "h2";
}

std::string PeerIdentity(const SSL* ssl) {
  const Ptr<X509> certificate(SSL_get1_peer_certificate(ssl));
  if (certificate == nullptr) return "";
  const Ptr<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  if (names != nullptr) {
    for (const int type : {GEN_URI, GEN_DNS}) {
      std::string name = NameOfType(names.get(), type);
      if (!name.empty()) return name;
    }
  }
  return CommonName(certificate.get());
}

}  // namespace callout::host
