// SPDX-License-Identifier: Apache-2.0

// Certificates, keys and CAs as files: good ones and bad ones in any order, changed, and any bytes;
// or no file. What is taken serves TLS.
//
// Readers: host/net/certificate.cc
#include <string>
#include <vector>

#include "host/net/certificate.h"
#include "host/net/tls_context.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"
#include "tests/host/pki.h"

namespace callout::host {
namespace {

struct World {
  World() {
    const KeyPair own = *MakeSelfSignedKeyPair();
    const TestKey key = MakeEcKey(), ca_key = MakeEcKey(), weak_key = MakeRsaKey(512);
    const auto make = [](const CertificateSpec& spec, const TestKey& of) {
      return MakeCertificate(spec, of.get(), nullptr, nullptr);
    };
    const TestCertificate ca = make({.name = "ca", .is_ca = true}, ca_key);
    const TestCertificate damaged = make({}, key);
    AddDamagedExtension(damaged.get(), key.get());
    certificates = {own.chain_pem,
                    PemOf(MakeCertificate({}, key.get(), ca.get(), ca_key.get()).get()),
                    PemOf(ca.get()),
                    PemOf(make({.valid_from_s = -2 * kDay, .valid_to_s = -kDay}, key).get()),
                    PemOf(make({.valid_from_s = kDay, .valid_to_s = 2 * kDay}, key).get()),
                    PemOf(make({.is_ca = true}, weak_key).get()),
                    PemOf(damaged.get()),
                    PemOf(key.get())};
    keys = {own.key_pem,           PemOf(key.get()), PemOf(weak_key.get()),
            PemOf(key.get(), "p"), PemOf(ca.get()),  PemOf(ca_key.get())};
  }
  static void AddDamagedExtension(X509* certificate, EVP_PKEY* key) {
    ASN1_OCTET_STRING* const value = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(value, reinterpret_cast<const unsigned char*>("x"), 1);
    X509_EXTENSION* const extension =
        X509_EXTENSION_create_by_NID(nullptr, NID_key_usage, 0, value);
    X509_add_ext(certificate, extension, -1);
    X509_sign(certificate, key, EVP_sha256());
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
  }

  // Each has one at the end that belongs into the other list.
  std::vector<std::string> certificates, keys;
};

void Change(Choices& choices, std::string* text) {
  for (unsigned changes = choices.Next(3); changes > 0 && !text->empty(); --changes) {
    (*text)[(choices.Next(256) * 8 + choices.Next(8)) % text->size()] =
        static_cast<char>(choices.Next(256));
  }
  if (choices.OneIn(8)) text->resize((choices.Next(256) * 8) % (text->size() + 1));
}

std::string AnyOf(const std::vector<std::string>& texts, unsigned most, Choices& choices) {
  std::string text;
  for (unsigned i = choices.Next(most + 1); i > 0; --i) {
    text += texts[choices.Next(static_cast<unsigned>(texts.size()))];
  }
  return text;
}

bool IsLine(const absl::Status& status) {
  return status.message().find('\n') == std::string_view::npos;
}

FUZZ_TARGET(certificate, .rounds = 200, .bytes = 24) {
  static const World* const world = new World;
  std::string chain = world->certificates[0];
  std::string key = world->keys[0];
  const unsigned kind = choices.Next(4);
  if (kind % 2 == 0) {
    if (kind == 2) {
      chain = AnyOf(world->certificates, 3, choices);
      key = AnyOf(world->keys, 1, choices);
    }
    Change(choices, &chain);
    Change(choices, &key);
  } else {
    chain += choices.Bytes(100);
    key = choices.Rest() + key;
  }
  const TextFile chain_file(chain), key_file(key);
  const std::string chain_path = choices.OneIn(32) ? "/missing" : chain_file.path();
  const absl::StatusOr<CaBundle> bundle = LoadCaBundle(chain_path);
  if (!IsLine(bundle.status())) return "an error of CAs has more than a line";
  const size_t described = DescribeCertificates(chain).size();
  const absl::StatusOr<KeyPair> loaded =
      LoadKeyPair(chain_path, choices.OneIn(32) ? "/missing" : key_file.path());
  if (!loaded.ok()) return IsLine(loaded.status()) ? "" : "an error has more than a line";
  if (described == 0) return "a certificate serves that cannot be described";
  const auto context = MakeTlsContext(loaded->chain_pem, loaded->key_pem);
  return context.ok() ? "" : "it serves no TLS: " + context.status().ToString();
}

}  // namespace
}  // namespace callout::host
