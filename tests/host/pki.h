// SPDX-License-Identifier: Apache-2.0

// Makes certificates and keys for tests.
#ifndef CALLOUT_TESTS_HOST_PKI_H_
#define CALLOUT_TESTS_HOST_PKI_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "tests/host/openssl_free.h"

namespace callout::host {

inline constexpr long kDay = 24 * 60 * 60;

using TestKey = std::unique_ptr<EVP_PKEY, OpensslFree>;
using TestCertificate = std::unique_ptr<X509, OpensslFree>;

inline TestKey MakeEcKey() { return TestKey(EVP_EC_gen("P-256")); }
inline TestKey MakeRsaKey(size_t bits) { return TestKey(EVP_RSA_gen(bits)); }

struct CertificateSpec {
  std::string name = "localhost";
  std::string alt_names = "";  // "URI:spiffe://a/b,DNS:a.example"; "": none
  bool is_ca = false;
  long valid_from_s = -kDay;  // from now
  long valid_to_s = kDay;
};

// Signed by `issuer_key` in the name of `issuer`; by itself if that is null.
inline TestCertificate MakeCertificate(const CertificateSpec& spec, EVP_PKEY* key,
                                       const X509* issuer, EVP_PKEY* issuer_key) {
  static long serial = 0;
  TestCertificate certificate(X509_new());
  X509* x = certificate.get();
  X509_set_version(x, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(x), spec.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(x), spec.valid_to_s);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(spec.name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(issuer == nullptr ? x : issuer));
  X509_set_pubkey(x, key);
  const auto add = [x](int nid, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
  };
  add(NID_basic_constraints, spec.is_ca ? "critical,CA:TRUE" : "CA:FALSE");
  if (!spec.alt_names.empty()) add(NID_subject_alt_name, spec.alt_names);
  X509_sign(x, issuer == nullptr ? key : issuer_key, EVP_sha256());
  return certificate;
}

inline std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

inline std::string PemOf(X509* certificate) {
  const std::unique_ptr<BIO, OpensslFree> bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), certificate);
  return TextOf(bio.get());
}

// Encrypted if there is a passphrase.
inline std::string PemOf(EVP_PKEY* key, const std::string& passphrase = "") {
  const std::unique_ptr<BIO, OpensslFree> bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key, passphrase.empty() ? nullptr : EVP_aes_128_cbc(),
                                passphrase.c_str(), static_cast<int>(passphrase.size()), nullptr,
                                nullptr);
  return TextOf(bio.get());
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_PKI_H_
