// SPDX-License-Identifier: Apache-2.0

#include "host/net/certificate.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "host/base/file.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

constexpr long kDaySeconds = 24 * 60 * 60;
constexpr long kSelfSignedDays = 3650;

template <class T, void (*kFree)(T*)>
struct Free {
  void operator()(T* object) const { kFree(object); }
};
void FreeBio(BIO* bio) { BIO_free(bio); }
using BioPtr = std::unique_ptr<BIO, Free<BIO, FreeBio>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Free<X509, X509_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION, X509_EXTENSION_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Free<SSL_CTX, SSL_CTX_free>>;

// The reason of the first error OpenSSL has queued; empties the queue.
std::string OpensslReason() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  return reason == nullptr ? "unknown reason" : reason;
}

BioPtr ReadingBio(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string BioText(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size <= 0 ? std::string() : std::string(data, static_cast<size_t>(size));
}

// ---- files ----

absl::Status BadFile(const char* what, const std::string& path, const std::string& problem) {
  return absl::InvalidArgumentError(fmt::format("the {} {} {}", what, path, problem));
}

absl::StatusOr<std::string> ReadPem(const char* what, const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kPemBytesMax);
  if (!text.ok()) {
    return absl::Status(text.status().code(), fmt::format("cannot read the {} {}: {}", what, path,
                                                          MessageOf(text.status())));
  }
  if (text->empty()) return BadFile(what, path, "is empty");
  return text;
}

// ---- certificates ----

// All certificates of a PEM text, in its order.
absl::StatusOr<std::vector<CertificatePtr>> ParseCertificates(const char* what,
                                                              const std::string& path,
                                                              const std::string& pem) {
  const BioPtr bio = ReadingBio(pem);
  std::vector<CertificatePtr> certificates;
  ERR_clear_error();
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate);
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string reason = OpensslReason();
  if (!at_end) {
    return BadFile(what, path,
                   fmt::format("has an invalid certificate after {} valid ones: {}",
                               certificates.size(), reason));
  }
  if (certificates.empty()) {
    return BadFile(what, path,
                   pem.find("PRIVATE KEY-----") != std::string::npos
                       ? "contains a private key and no certificate; are the two files swapped?"
                       : "contains no PEM certificate (-----BEGIN CERTIFICATE-----)");
  }
  return certificates;
}

std::string FormatTime(const ASN1_TIME* time) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(bio.get(), time);
  return BioText(bio.get());
}

std::string NameText(const X509_NAME* name) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_ONELINE);
  return BioText(bio.get());
}

std::string SubjectOf(const X509* certificate) {
  return NameText(X509_get_subject_name(certificate));
}

void WarnOfDates(const std::string& path, const X509* certificate,
                 std::vector<std::string>* warnings) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    warnings->push_back(fmt::format(
        "certificate '{}' in {} expired at {}; clients will refuse it; replace the file",
        SubjectOf(certificate), path, FormatTime(X509_get0_notAfter(certificate))));
  } else if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    warnings->push_back(fmt::format(
        "certificate '{}' in {} is not valid before {}; clients will refuse it until then",
        SubjectOf(certificate), path, FormatTime(X509_get0_notBefore(certificate))));
  }
}

void WarnOfOrder(const std::string& path, const std::vector<CertificatePtr>& chain,
                 std::vector<std::string>* warnings) {
  for (size_t i = 1; i < chain.size(); ++i) {
    if (X509_check_issued(chain[i].get(), chain[i - 1].get()) != X509_V_OK) {
      warnings->push_back(fmt::format(
          "certificate {} in {} ('{}') did not issue the one before it; clients may refuse the "
          "chain",
          i + 1, path, SubjectOf(chain[i].get())));
    }
  }
}

// ---- keys ----

// OpenSSL asks for a passphrase, which means that the key is encrypted.
int NotePassphraseAsked(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::StatusOr<KeyPtr> ParseKey(const std::string& path, const std::string& pem) {
  const BioPtr bio = ReadingBio(pem);
  bool asked = false;
  ERR_clear_error();
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NotePassphraseAsked, &asked));
  const std::string reason = OpensslReason();
  if (key != nullptr) return key;
  if (asked) {
    return BadFile("private key", path,
                   "is encrypted, and the host cannot ask for a passphrase; write it without "
                   "one (openssl pkey -in KEY -out NEW) to a file that only this user can read");
  }
  if (pem.find("PRIVATE KEY-----") != std::string::npos) {
    return BadFile("private key", path, fmt::format("is invalid: {}", reason));
  }
  return BadFile("private key", path,
                 pem.find("-----BEGIN CERTIFICATE-----") != std::string::npos
                     ? "contains a certificate and no private key; are the two files swapped?"
                     : "contains no PEM private key (-----BEGIN PRIVATE KEY-----)");
}

absl::Status CheckKeyMatches(const std::string& chain_path,
                             const std::vector<CertificatePtr>& chain, const std::string& key_path,
                             EVP_PKEY* key) {
  for (size_t i = 0; i < chain.size(); ++i) {
    const bool matches = X509_check_private_key(chain[i].get(), key) == 1;
    ERR_clear_error();
    if (matches && i == 0) return absl::OkStatus();
    if (matches) {
      return BadFile("certificate chain", chain_path,
                     fmt::format("has the certificate of the private key {} as number {}; it must "
                                 "be the first",
                                 key_path, i + 1));
    }
  }
  return BadFile("private key", key_path,
                 fmt::format("does not belong to the certificate '{}' in {}; use the key that the "
                             "certificate was made for",
                             SubjectOf(chain.front().get()), chain_path));
}

// An error if other readers take something else for the first certificate: those that also take a
// TRUSTED CERTIFICATE, which has more behind the certificate (gRPC C++, Boost.Asio).
absl::Status CheckFirst(const std::string& path, const std::string& pem, X509* first) {
  ERR_clear_error();
  const CertificatePtr other(
      PEM_read_bio_X509_AUX(ReadingBio(pem).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (other != nullptr && X509_cmp(other.get(), first) == 0) return absl::OkStatus();
  return BadFile("certificate chain", path,
                 other == nullptr
                     ? "has bytes behind its first certificate, within its lines of base64"
                     : "begins with a TRUSTED CERTIFICATE; write it as CERTIFICATE (openssl x509)");
}

// An error if OpenSSL refuses the pair as a server would use it, such as a key that is too short
// for this system's security level.
absl::Status CheckUsable(const std::string& chain_path, const std::vector<CertificatePtr>& chain,
                         const std::string& key_path, EVP_PKEY* key) {
  const ContextPtr context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("cannot set up TLS: " + OpensslReason());
  ERR_clear_error();
  // With an extension that it cannot read it succeeds, and OpenSSL 3.0 leaves an error, for which a
  // server refuses the certificate later. OpenSSL 3.5 leaves none.
  bool ok =
      SSL_CTX_use_certificate(context.get(), chain.front().get()) == 1 && ERR_peek_error() == 0;
  for (size_t i = 0; ok && i < chain.size(); ++i) {
    if ((X509_get_extension_flags(chain[i].get()) & EXFLAG_INVALID) == 0) continue;
    return BadFile("certificate chain", chain_path,
                   fmt::format("is invalid according to OpenSSL: certificate {} has an extension "
                               "that cannot be read",
                               i + 1));
  }
  for (size_t i = 1; ok && i < chain.size(); ++i) {
    ok = SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) == 1;
  }
  if (!ok) {
    return BadFile("certificate chain", chain_path,
                   fmt::format("is invalid according to OpenSSL: {}", OpensslReason()));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key) != 1) {
    return BadFile("private key", key_path,
                   fmt::format("is invalid according to OpenSSL: {}", OpensslReason()));
  }
  return absl::OkStatus();
}

// ---- the self-signed certificate ----

bool AddExtension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// RFC 5280 allows at most 20 octets. The first bit is 0 to make the number positive.
bool SetRandomSerial(X509* certificate) {
  const std::unique_ptr<BIGNUM, Free<BIGNUM, BN_free>> number(BN_new());
  return number != nullptr &&
         BN_rand(number.get(), 159, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool FillAndSign(X509* certificate, EVP_PKEY* key) {
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto* common_name = reinterpret_cast<const unsigned char*>("localhost");
  return X509_set_version(certificate, X509_VERSION_3) == 1 && SetRandomSerial(certificate) &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -kDaySeconds) != nullptr &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), kSelfSignedDays * kDaySeconds) !=
             nullptr &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0) == 1 &&
         X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
         // Not pathlen:0, not CA:FALSE: a client may use this file as the CA to trust, which must
         // have a CA in it.
         AddExtension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
         AddExtension(certificate, NID_ext_key_usage, "serverAuth") &&
         AddExtension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
         AddExtension(certificate, NID_subject_key_identifier, "hash") &&
         X509_sign(certificate, key, EVP_sha256()) != 0;
}

}  // namespace

absl::StatusOr<KeyPair> MakeSelfSignedKeyPair() {
  ERR_clear_error();
  const KeyPtr key(EVP_EC_gen("P-256"));
  const CertificatePtr certificate(X509_new());
  const BioPtr chain_bio(BIO_new(BIO_s_mem()));
  const BioPtr key_bio(BIO_new(BIO_s_mem()));
  if (key == nullptr || certificate == nullptr || chain_bio == nullptr || key_bio == nullptr ||
      !FillAndSign(certificate.get(), key.get()) ||
      PEM_write_bio_X509(chain_bio.get(), certificate.get()) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_bio.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                    nullptr) != 1) {
    return absl::InternalError("cannot make a self-signed certificate: " + OpensslReason());
  }
  return KeyPair{BioText(chain_bio.get()), BioText(key_bio.get()), {}};
}

absl::StatusOr<KeyPair> LoadKeyPair(const std::string& chain_path, const std::string& key_path) {
  absl::StatusOr<std::string> chain_pem = ReadPem("certificate chain", chain_path);
  if (!chain_pem.ok()) return chain_pem.status();
  absl::StatusOr<std::string> key_pem = ReadPem("private key", key_path);
  if (!key_pem.ok()) return key_pem.status();
  const auto chain = ParseCertificates("certificate chain", chain_path, *chain_pem);
  if (!chain.ok()) return chain.status();
  const auto key = ParseKey(key_path, *key_pem);
  if (!key.ok()) return key.status();
  absl::Status status = CheckKeyMatches(chain_path, *chain, key_path, key->get());
  if (status.ok()) status = CheckFirst(chain_path, *chain_pem, chain->front().get());
  if (status.ok()) status = CheckUsable(chain_path, *chain, key_path, key->get());
  if (!status.ok()) return status;

  KeyPair pair{*std::move(chain_pem), *std::move(key_pem), {}};
  for (const CertificatePtr& certificate : *chain) {
    WarnOfDates(chain_path, certificate.get(), &pair.warnings);
  }
  WarnOfOrder(chain_path, *chain, &pair.warnings);
  return pair;
}

absl::StatusOr<CaBundle> LoadCaBundle(const std::string& path) {
  absl::StatusOr<std::string> pem = ReadPem("CA file", path);
  if (!pem.ok()) return pem.status();
  const auto certificates = ParseCertificates("CA file", path, *pem);
  if (!certificates.ok()) return certificates.status();
  CaBundle bundle{*std::move(pem), {}};
  for (const CertificatePtr& certificate : *certificates) {
    if (X509_check_ca(certificate.get()) == 0) {
      bundle.warnings.push_back(
          fmt::format("certificate '{}' in {} is not a CA's; it only admits its own holder",
                      SubjectOf(certificate.get()), path));
    }
    WarnOfDates(path, certificate.get(), &bundle.warnings);
  }
  return bundle;
}

std::vector<CertificateFacts> DescribeCertificates(const std::string& pem) {
  std::vector<CertificateFacts> all;
  const BioPtr bio = ReadingBio(pem);
  for (;;) {
    const CertificatePtr certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (certificate == nullptr) break;
    CertificateFacts facts;
    facts.subject = NameText(X509_get_subject_name(certificate.get()));
    facts.issuer = NameText(X509_get_issuer_name(certificate.get()));
    facts.not_after = FormatTime(X509_get0_notAfter(certificate.get()));
    int days = 0;
    int seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate.get())) == 1) {
      facts.seconds_left = int64_t{days} * kDaySeconds + seconds;
    }
    all.push_back(std::move(facts));
  }
  ERR_clear_error();  // of the end of the text
  return all;
}

}  // namespace callout::host
