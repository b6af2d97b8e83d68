// SPDX-License-Identifier: Apache-2.0

// Frees OpenSSL's objects, as the deleter of a std::unique_ptr.
#ifndef CALLOUT_TESTS_HOST_OPENSSL_FREE_H_
#define CALLOUT_TESTS_HOST_OPENSSL_FREE_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace callout::host {

struct OpensslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_OPENSSL_FREE_H_
