// SPDX-License-Identifier: Apache-2.0

#include "host/net/certificate_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "tests/integration/certificates.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tests::PairFiles;
using tests::PemPair;
using tests::ReplaceFile;
using tests::TestCa;

using MaterialPtr = std::shared_ptr<const CertificateStore::Material>;

std::unique_ptr<CertificateStore> Opened(const CertificateStore::Paths& paths) {
  auto store = CertificateStore::Open(paths);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

template <class Action>
std::string Logged(Action action) {
  ::testing::internal::CaptureStderr();
  action();
  return ::testing::internal::GetCapturedStderr();
}

class CertificateStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { ReplaceFile(clients_path_, clients_.pem()); }
  CertificateStore::Paths Paths() const { return {files_.chain_path, files_.key_path, ""}; }

  const TempDir dir_;
  const TestCa ca_{"CA"};
  const TestCa clients_{"clients"};
  const PemPair first_ = ca_.Issue("first");
  const PemPair second_ = ca_.Issue("second");
  const PairFiles files_{dir_, first_};
  const std::string clients_path_ = dir_.Path("clients.pem");
};

TEST_F(CertificateStoreTest, HasWhatTheFilesHold) {
  CertificateStore::Paths paths = Paths();
  paths.client_ca = clients_path_;
  const auto store = Opened(paths);
  ASSERT_NE(store, nullptr);
  const MaterialPtr material = store->current();
  EXPECT_EQ(material->version, 1u);
  EXPECT_EQ(material->pair.chain_pem, first_.cert_pem);
  EXPECT_EQ(material->pair.key_pem, first_.key_pem);
  EXPECT_EQ(material->client_ca_pem, clients_.pem());
  EXPECT_THAT(material->warnings, IsEmpty());
  EXPECT_NE(material->tls, nullptr);
  EXPECT_FALSE(store->self_signed());
  EXPECT_TRUE(store->asks_clients());
}

TEST_F(CertificateStoreTest, DoesNotOpenWithABadFileAndNamesIt) {
  CertificateStore::Paths paths = Paths();
  paths.private_key = dir_.Path("missing.pem");
  EXPECT_THAT(std::string(CertificateStore::Open(paths).status().message()),
              HasSubstr(paths.private_key));
  paths = Paths();
  paths.client_ca = dir_.Path("no-ca.pem");
  ReplaceFile(paths.client_ca, "garbage");
  EXPECT_THAT(std::string(CertificateStore::Open(paths).status().message()),
              HasSubstr(paths.client_ca));
}

TEST_F(CertificateStoreTest, WarnsOfWhatIsLegalAndMostLikelyWrong) {
  files_.Replace(
      ca_.Issue(CertificateSpec{.name = "old", .valid_from_s = -2 * kDay, .valid_to_s = -kDay}));
  const auto store = Opened(Paths());
  ASSERT_NE(store, nullptr);
  EXPECT_THAT(store->current()->warnings, ElementsAre(HasSubstr("expired")));
}

TEST_F(CertificateStoreTest, ReadsAGoodNewPairAndLeavesTheOldToWhoHasIt) {
  const auto store = Opened(Paths());
  ASSERT_NE(store, nullptr);
  const MaterialPtr old = store->current();
  files_.Replace(second_);
  EXPECT_THAT(Logged([&] { store->Reload(); }),
              HasSubstr("read the certificate again from " + files_.chain_path));
  EXPECT_EQ(store->current()->version, 2u);
  EXPECT_EQ(store->current()->pair.chain_pem, second_.cert_pem);
  EXPECT_EQ(old->pair.chain_pem, first_.cert_pem);
}

TEST_F(CertificateStoreTest, KeepsTheOldForABadNewPair) {
  const auto store = Opened(Paths());
  ASSERT_NE(store, nullptr);
  const MaterialPtr old = store->current();
  ReplaceFile(files_.key_path, second_.key_pem);  // of another certificate
  EXPECT_THAT(Logged([&] { store->Reload(); }),
              AllOf(HasSubstr(" ERROR keeping the current certificate; the new one is invalid: "),
                    HasSubstr(files_.key_path)));
  EXPECT_EQ(store->current(), old);
  // Half of a change is none; the whole is one.
  ReplaceFile(files_.chain_path, second_.cert_pem);
  Logged([&] { store->Reload(); });
  EXPECT_EQ(store->current()->pair.chain_pem, second_.cert_pem);
}

TEST_F(CertificateStoreTest, KeepsTheOldForBadNewClientCas) {
  CertificateStore::Paths paths = Paths();
  paths.client_ca = clients_path_;
  const auto store = Opened(paths);
  ASSERT_NE(store, nullptr);
  files_.Replace(second_);
  ReplaceFile(clients_path_, "");
  EXPECT_THAT(Logged([&] { store->Reload(); }), HasSubstr(clients_path_));
  EXPECT_EQ(store->current()->pair.chain_pem, first_.cert_pem);
  EXPECT_EQ(store->current()->client_ca_pem, clients_.pem());
}

TEST_F(CertificateStoreTest, LogsTheWarningsOfANewPair) {
  const auto store = Opened(Paths());
  ASSERT_NE(store, nullptr);
  files_.Replace(
      ca_.Issue(CertificateSpec{.name = "old", .valid_from_s = -2 * kDay, .valid_to_s = -kDay}));
  EXPECT_THAT(Logged([&] { store->Reload(); }),
              AllOf(HasSubstr(" WARNING "), HasSubstr("expired"), HasSubstr("read the cert")));
}

TEST_F(CertificateStoreTest, MakesAPairWithoutFilesAndKeepsIt) {
  const auto store = Opened({});
  ASSERT_NE(store, nullptr);
  const MaterialPtr made = store->current();
  EXPECT_TRUE(store->self_signed());
  EXPECT_FALSE(store->asks_clients());
  EXPECT_THAT(made->pair.chain_pem, HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_EQ(Logged([&] { store->Reload(); }), "");
  EXPECT_EQ(store->current(), made);
}

TEST_F(CertificateStoreTest, KeepsTheMadePairWhenClientCasChange) {
  const auto store = Opened({"", "", clients_path_});
  ASSERT_NE(store, nullptr);
  const std::string made = store->current()->pair.chain_pem;
  ReplaceFile(clients_path_, ca_.pem());
  Logged([&] { store->Reload(); });
  EXPECT_EQ(store->current()->version, 2u);
  EXPECT_EQ(store->current()->client_ca_pem, ca_.pem());
  EXPECT_EQ(store->current()->pair.chain_pem, made);
}

TEST_F(CertificateStoreTest, FollowsItsFilesOnceToldTo) {
  const auto store = Opened(Paths());
  ASSERT_NE(store, nullptr);
  const std::string log = Logged([&] {
    store->Watch();
    files_.Replace(second_);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (store->current()->version == 1 && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(store->current()->pair.chain_pem, second_.cert_pem) << log;
}

}  // namespace
}  // namespace callout::host
