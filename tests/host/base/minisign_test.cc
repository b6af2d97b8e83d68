// SPDX-License-Identifier: Apache-2.0

#include "host/base/minisign.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/base/minisign_signer.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kBytes = "the bytes of a plugin";

// Made by minisign 0.11: -G, -S and -S -l, with -t 'guard 1.0.0'.
constexpr std::string_view kPublicKey =
    "untrusted comment: minisign public key E5E2E0ED3F3028EC\n"
    "RWTsKDA/7eDi5ZT4wcK7Ix+L0mFS9EpC11ir7CYN1MgfshKBwJGjVCDE\n";
constexpr std::string_view kHashed =
    "untrusted comment: signature from minisign secret key\n"
    "RUTsKDA/7eDi5Yp5gSKPSKNzHoY15XN4M0gzHnvf0UiXni+KhjhkSzQJOTmOQMitaNFV4ybT6jzb1riqwnLhkcfwuISXp"
    "mL4dAE=\n"
    "trusted comment: guard 1.0.0\n"
    "WyCo34MuHmt4njf3mXlPqHvwDAL0cw/OqexY/uFONDAKAgvP7Uj4XsnKG3jjE67oTl7hNj/1zEsuy03otdVvAw==\n";
constexpr std::string_view kLegacy =
    "untrusted comment: signature from minisign secret key\n"
    "RWTsKDA/7eDi5ZEp7IKs9EjiVtRqZbkZtDReqKp2kTP/e1oyoy0uQ9Kj25vWNPTWgzdgkbWQOktmelOG+qsynDZxSj37c"
    "N7/zwQ=\n"
    "trusted comment: guard 1.0.0\n"
    "sffPHMhinwbAxzJBzcCyhdBnxAeiJMT5fAFLlRfPHL0XBnwZLvQ9MriJY8yQ26aXaOcfxgD4OT2KD+dmG2vlCA==\n";

std::vector<MinisignKey> Keys(std::string_view text = kPublicKey) {
  auto keys = ParseMinisignKeys(text);
  EXPECT_TRUE(keys.ok()) << keys.status();
  return keys.ok() ? *keys : std::vector<MinisignKey>();
}

std::string WhyNot(std::string_view bytes, std::string_view signature,
                   const std::vector<MinisignKey>& keys) {
  const auto proof = VerifyMinisign(bytes, signature, keys);
  if (proof.ok()) return "";
  EXPECT_TRUE(absl::IsPermissionDenied(proof.status())) << proof.status();
  return std::string(proof.status().message());
}

TEST(Minisign, VerifiesWhatTheProgramHasSigned) {
  for (const std::string_view signature : {kHashed, kLegacy}) {
    const auto proof = VerifyMinisign(kBytes, signature, Keys());
    ASSERT_TRUE(proof.ok()) << proof.status();
    EXPECT_EQ(proof->key_id, "E5E2E0ED3F3028EC");
    EXPECT_EQ(proof->comment, "guard 1.0.0");
  }
}

TEST(Minisign, VerifiesLinesThatEndAsOnOtherSystems) {
  std::string signature(kHashed);
  for (size_t at = 0; (at = signature.find('\n', at)) != signature.npos; at += 2) {
    signature.replace(at, 1, "\r\n");
  }
  EXPECT_EQ(WhyNot(kBytes, signature, Keys()), "");
}

TEST(Minisign, RefusesOtherBytes) {
  for (const std::string_view signature : {kHashed, kLegacy}) {
    for (const std::string_view bytes : {"the bytes of a plugiN", "", "the bytes of a plugin "}) {
      EXPECT_EQ(WhyNot(bytes, signature, Keys()),
                "is by key E5E2E0ED3F3028EC of other bytes: the file was changed after it was "
                "signed");
    }
  }
}

// Each character changed into another one of base64: nothing of the file can be replaced unnoticed
// but the untrusted comment.
TEST(Minisign, RefusesASignatureOfWhichAnythingWasChanged) {
  for (const std::string_view made : {kHashed, kLegacy}) {
    const size_t untrusted = made.find('\n');
    for (size_t at = untrusted + 1; at < made.size() - 1; ++at) {
      std::string changed(made);
      changed[at] = changed[at] == 'A' ? 'B' : 'A';
      EXPECT_NE(WhyNot(kBytes, changed, Keys()), "") << at;
    }
  }
}

TEST(Minisign, RefusesATrustedCommentThatIsNotSigned) {
  std::string changed(kHashed);
  changed.replace(changed.find("guard 1.0.0"), 11, "guard 1.0.1");
  EXPECT_EQ(WhyNot(kBytes, changed, Keys()),
            "has a trusted comment that key E5E2E0ED3F3028EC has not signed");
}

TEST(Minisign, RefusesASignatureByAnotherKey) {
  const MinisignSigner mine, others;
  EXPECT_EQ(WhyNot(kBytes, others.Sign(kBytes), Keys(mine.PublicKey())),
            "is by key " + others.IdText() + ", which is not one of --plugin_keys");
}

// A key's id is no secret: a forger's key may have that of a trusted one.
TEST(Minisign, RefusesAKeyWithTheIdOfATrustedOne) {
  const MinisignSigner mine;
  const MinisignSigner forger(mine.id());
  EXPECT_THAT(WhyNot(kBytes, forger.Sign(kBytes), Keys(mine.PublicKey())),
              StartsWith("is by key " + mine.IdText() + " of other bytes"));
  // And both may be trusted.
  EXPECT_EQ(WhyNot(kBytes, forger.Sign(kBytes), Keys(mine.PublicKey() + forger.PublicKey())), "");
}

TEST(Minisign, TakesAnyOfSeveralKeys) {
  const MinisignSigner first, second;
  const auto keys = Keys("# ours\n\n" + first.PublicKey() + "\n" + second.PublicKey());
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[1].IdText(), second.IdText());
  for (const MinisignSigner* signer : {&first, &second}) {
    const auto proof = VerifyMinisign(kBytes, signer->Sign(kBytes), keys);
    ASSERT_TRUE(proof.ok()) << proof.status();
    EXPECT_EQ(proof->key_id, signer->IdText());
  }
}

TEST(Minisign, WithoutAKeyNothingIsVerified) { EXPECT_NE(WhyNot(kBytes, kHashed, {}), ""); }

TEST(Minisign, RefusesWhatIsNoSignatureFile) {
  const std::string good(kHashed);
  const std::string first = good.substr(0, good.find('\n') + 1);
  std::string other_algorithm = good;
  other_algorithm.replace(first.size(), 4, "RWXs");
  const std::string cases[] = {
      "",
      "\n",
      "\n\n\n\n",
      first,
      good.substr(0, good.size() / 2),
      good + "more\n",
      std::string(kPublicKey),
      good.substr(first.size()),
      std::string("\0", 1) + good,
      other_algorithm,
      std::string(1 << 20, 'A'),
  };
  for (const std::string& text : cases) {
    EXPECT_EQ(WhyNot(kBytes, text, Keys()), "is no signature of minisign") << text.substr(0, 200);
  }
}

TEST(Minisign, RefusesWhatIsNoKey) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "there is no public key in it"},
      {"untrusted comment: a\n# b\n\n", "there is no public key in it"},
      {"RWTsKDA/7eDi5ZT4wcK7Ix+L0mFS9EpC11ir7CYN1MgfshKBwJGjVCDE=", "line 1 is no public key"},
      {"RWTsKDA/7eDi5ZT4wcK7Ix+L0mFS9EpC11ir7CYN1MgfshKBwJGjVCD", "line 1 is no public key"},
      {"# a\nRWTs KDA/7eDi5ZT4wcK7Ix+L0mFS9EpC11ir7CYN1MgfshKBwJGjVCDE", "line 2 is no public key"},
      {"RUTsKDA/7eDi5ZT4wcK7Ix+L0mFS9EpC11ir7CYN1MgfshKBwJGjVCDE", "line 1 is no public key"},
      {std::string(kPublicKey) + "ssh-ed25519 AAAA\n", "line 3 is no public key"},
      {std::string(kHashed), "line 2 is no public key"},
  };
  for (const auto& [text, why] : cases) {
    const auto keys = ParseMinisignKeys(text);
    EXPECT_FALSE(keys.ok()) << text;
    EXPECT_TRUE(absl::IsInvalidArgument(keys.status()));
    EXPECT_THAT(std::string(keys.status().message()), HasSubstr(why));
  }
}

}  // namespace
}  // namespace callout::host
