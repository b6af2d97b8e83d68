// SPDX-License-Identifier: Apache-2.0

// Certificate files for the host and its clients.
#ifndef CALLOUT_TESTS_INTEGRATION_CERTIFICATES_H_
#define CALLOUT_TESTS_INTEGRATION_CERTIFICATES_H_

#include <filesystem>
#include <string>
#include <vector>

#include "tests/host/pki.h"
#include "tests/host/sockets.h"
#include "tests/host/write_file.h"

namespace callout::tests {

using host::WriteFile;

// Replaces a file atomically, by renaming.
inline void ReplaceFile(const std::string& path, const std::string& text) {
  WriteFile(path + ".new", text);
  std::filesystem::rename(path + ".new", path);
}

struct PemPair {
  std::string cert_pem;
  std::string key_pem;
};

// A CA and the certificates that it issues.
class TestCa {
 public:
  explicit TestCa(const std::string& name) : key_(host::MakeEcKey()) {
    certificate_ =
        host::MakeCertificate({.name = name, .is_ca = true}, key_.get(), nullptr, nullptr);
  }
  std::string pem() const { return host::PemOf(certificate_.get()); }
  PemPair Issue(const std::string& name) const {
    return Issue(host::CertificateSpec{.name = name});
  }
  PemPair Issue(const host::CertificateSpec& spec) const {
    const host::TestKey key = host::MakeEcKey();
    const host::TestCertificate certificate =
        host::MakeCertificate(spec, key.get(), certificate_.get(), key_.get());
    return {host::PemOf(certificate.get()), host::PemOf(key.get())};
  }

 private:
  host::TestKey key_;
  host::TestCertificate certificate_;
};

// A pair of files, and the options that name them.
struct PairFiles {
  PairFiles(const host::TempDir& dir, const PemPair& pair)
      : chain_path(dir.Path("chain.pem")), key_path(dir.Path("key.pem")) {
    Replace(pair);
  }
  void Replace(const PemPair& pair) const {
    ReplaceFile(chain_path, pair.cert_pem);
    ReplaceFile(key_path, pair.key_pem);
  }
  std::vector<std::string> Options() const {
    return {"--cert_chain_path=" + chain_path, "--private_key_path=" + key_path};
  }

  const std::string chain_path;
  const std::string key_path;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_INTEGRATION_CERTIFICATES_H_
