// SPDX-License-Identifier: Apache-2.0

// Certificates, keys and CAs as files: any bytes. What is taken serves TLS.
//
// Readers: host/net/certificate.cc
#include <string>

#include "host/net/certificate.h"
#include "host/net/tls_context.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"

namespace callout::host {
namespace {

void Change(Choices& choices, std::string* text) {
  for (unsigned changes = choices.Next(3); changes > 0 && !text->empty(); --changes) {
    (*text)[(choices.Next(256) * 8 + choices.Next(8)) % text->size()] =
        static_cast<char>(choices.Next(256));
  }
  if (choices.OneIn(8)) text->resize((choices.Next(256) * 8) % (text->size() + 1));
}

FUZZ_TARGET(certificate, .rounds = 200, .bytes = 24) {
  static const KeyPair* const pair = new KeyPair(*MakeSelfSignedKeyPair());
  std::string chain = pair->chain_pem;
  std::string key = pair->key_pem;
  if (choices.Next(2) == 0) {
    Change(choices, &chain);
    Change(choices, &key);
  } else {
    chain += choices.Bytes(100);
    key = choices.Rest() + key;
  }
  const absl::StatusOr<KeyPair> loaded = LoadKeyPair(TextFile(chain).path(), TextFile(key).path());
  (void)LoadCaBundle(TextFile(chain).path());
  if (!loaded.ok()) {
    const bool line = loaded.status().message().find('\n') == std::string_view::npos;
    return line ? "" : "an error has more than a line";
  }
  const auto context = MakeTlsContext(loaded->chain_pem, loaded->key_pem);
  return context.ok() ? "" : "it serves no TLS: " + context.status().ToString();
}

}  // namespace
}  // namespace callout::host
