// SPDX-License-Identifier: Apache-2.0

// A signature of a plugin and the keys that are trusted: nothing but the untouched file of a signer
// verifies.
//
// Readers: host/base/minisign.cc
#include <algorithm>
#include <string>

#include "host/base/minisign.h"
#include "tests/fuzz/target.h"
#include "tests/host/base/minisign_signer.h"

namespace callout::host {
namespace {

const MinisignSigner& Signer() {
  static const MinisignSigner* const signer = new MinisignSigner();
  return *signer;
}

std::string Changed(std::string text, Choices& choices) {
  for (unsigned changes = choices.Next(4); changes > 0 && !text.empty(); --changes) {
    const size_t at = choices.Next(256) % text.size();
    switch (choices.Next(3)) {
      case 0:
        text[at] = static_cast<char>(choices.Next(256));
        break;
      case 1:
        text.erase(at, 1 + choices.Next(8));
        break;
      default:
        text.insert(at, 1, static_cast<char>(choices.Next(256)));
    }
  }
  return text;
}

// What a signature says, without the comment that nobody signs and the ends of its lines.
std::string Signed(const std::string& text) {
  std::string kept = text.substr(std::min(text.find('\n'), text.size()));
  std::erase_if(kept, [](char c) { return c == '\r' || c == '\n'; });
  return kept;
}

FUZZ_TARGET(minisign, .rounds = 3000, .bytes = 40) {
  const std::string code = "code";
  const std::string good = Signer().Sign(code);
  const auto keys = ParseMinisignKeys(Signer().PublicKey());
  const bool any = choices.OneIn(4);
  const std::string signature = any ? choices.Rest() : Changed(good, choices);
  const auto proof = VerifyMinisign(code, signature, *keys);
  if (proof.ok() && Signed(signature) != Signed(good)) return "another signature verifies";
  if (VerifyMinisign("cod", signature, *keys).ok()) return "other bytes verify";
  const auto parsed = ParseMinisignKeys(any ? signature : Changed(Signer().PublicKey(), choices));
  if (!parsed.ok() && parsed.status().message().empty()) return "an error says nothing";
  return "";
}

}  // namespace
}  // namespace callout::host
