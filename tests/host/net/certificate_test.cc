// SPDX-License-Identifier: Apache-2.0

#include "host/net/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "tests/host/pki.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CertificateTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.Path(name), std::ios::binary) << text;
    return dir_.Path(name);
  }

  // A good pair of files, for tests to spoil one of them.
  void SetUp() override {
    key_ = MakeEcKey();
    certificate_ = MakeCertificate({}, key_.get(), nullptr, nullptr);
    chain_path_ = Write("chain.pem", PemOf(certificate_.get()));
    key_path_ = Write("key.pem", PemOf(key_.get()));
  }

  std::string RefusalOfPair(const std::string& chain_path, const std::string& key_path,
                            absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const auto pair = LoadKeyPair(chain_path, key_path);
    EXPECT_FALSE(pair.ok());
    EXPECT_EQ(pair.status().code(), code) << pair.status();
    return std::string(pair.status().message());
  }

  TempDir dir_;
  TestKey key_;
  TestCertificate certificate_;
  std::string chain_path_;
  std::string key_path_;
};

TestCertificate Parsed(const std::string& pem) {
  const std::unique_ptr<BIO, OpensslFree> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return TestCertificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

TEST_F(CertificateTest, TheSelfSignedPairIsForThisMachine) {
  const auto pair = MakeSelfSignedKeyPair();
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->warnings, IsEmpty());
  const TestCertificate certificate = Parsed(pair->chain_pem);
  ASSERT_NE(certificate, nullptr);
  X509* x = certificate.get();
  EXPECT_EQ(X509_check_host(x, "localhost", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(x, "::1", 0), 1);
  EXPECT_NE(X509_check_host(x, "example.com", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_verify(x, X509_get0_pubkey(x)), 1);
  time_t in_nine_years = time(nullptr) + 9 * 365 * kDay;
  EXPECT_LT(X509_cmp_current_time(X509_get0_notBefore(x)), 0);
  EXPECT_GT(X509_cmp_time(X509_get0_notAfter(x), &in_nine_years), 0);
  EXPECT_EQ(EVP_PKEY_get_base_id(X509_get0_pubkey(x)), EVP_PKEY_EC);
}

TEST_F(CertificateTest, TheSelfSignedPairLoads) {
  const auto made = MakeSelfSignedKeyPair();
  ASSERT_TRUE(made.ok()) << made.status();
  const auto pair = LoadKeyPair(Write("c", made->chain_pem), Write("k", made->key_pem));
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_EQ(pair->chain_pem, made->chain_pem);
  EXPECT_EQ(pair->key_pem, made->key_pem);
  EXPECT_THAT(pair->warnings, IsEmpty());
}

TEST_F(CertificateTest, EachSelfSignedPairHasItsOwnKeyAndSerial) {
  const auto one = MakeSelfSignedKeyPair();
  const auto two = MakeSelfSignedKeyPair();
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_NE(one->key_pem, two->key_pem);
  EXPECT_NE(ASN1_INTEGER_cmp(X509_get0_serialNumber(Parsed(one->chain_pem).get()),
                             X509_get0_serialNumber(Parsed(two->chain_pem).get())),
            0);
}

TEST_F(CertificateTest, AGoodPairLoadsWithoutAWarning) {
  const auto pair = LoadKeyPair(chain_path_, key_path_);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->warnings, IsEmpty());
  const TestKey rsa = MakeRsaKey(2048);
  const TestCertificate certificate = MakeCertificate({}, rsa.get(), nullptr, nullptr);
  EXPECT_TRUE(LoadKeyPair(Write("c", PemOf(certificate.get())), Write("k", PemOf(rsa.get()))).ok());
}

TEST_F(CertificateTest, AChainLoads) {
  const TestKey ca_key = MakeEcKey();
  const TestCertificate ca =
      MakeCertificate({.name = "ca", .is_ca = true}, ca_key.get(), nullptr, nullptr);
  const TestCertificate leaf = MakeCertificate({}, key_.get(), ca.get(), ca_key.get());
  const auto pair =
      LoadKeyPair(Write("c", "a comment\n" + PemOf(leaf.get()) + PemOf(ca.get())), key_path_);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->warnings, IsEmpty());
}

TEST_F(CertificateTest, UnreadableFilesAreNamed) {
  const std::string missing = dir_.Path("missing");
  EXPECT_EQ(RefusalOfPair(missing, key_path_, absl::StatusCode::kNotFound),
            "cannot read the certificate chain " + missing + ": No such file or directory");
  EXPECT_EQ(RefusalOfPair(chain_path_, missing, absl::StatusCode::kNotFound),
            "cannot read the private key " + missing + ": No such file or directory");
  EXPECT_EQ(RefusalOfPair(dir_.Path("."), key_path_),
            "cannot read the certificate chain " + dir_.Path(".") +
                ": it is a directory, not a regular file");
  const std::string pipe = dir_.Path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(RefusalOfPair(chain_path_, pipe),
            "cannot read the private key " + pipe + ": it is a FIFO, not a regular file");
}

TEST_F(CertificateTest, FilesWithoutPermissionAreNamed) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  chmod(key_path_.c_str(), 0);
  EXPECT_EQ(RefusalOfPair(chain_path_, key_path_, absl::StatusCode::kPermissionDenied),
            "cannot read the private key " + key_path_ + ": Permission denied");
}

TEST_F(CertificateTest, EmptyFilesAreNamed) {
  const std::string empty = Write("empty", "");
  EXPECT_EQ(RefusalOfPair(empty, key_path_), "the certificate chain " + empty + " is empty");
  EXPECT_EQ(RefusalOfPair(chain_path_, empty), "the private key " + empty + " is empty");
}

TEST_F(CertificateTest, FilesThatAreNotPemAreNamed) {
  const std::string text = Write("text", "hello\n");
  EXPECT_EQ(RefusalOfPair(text, key_path_), "the certificate chain " + text +
                                                " contains no PEM certificate (-----BEGIN "
                                                "CERTIFICATE-----)");
  EXPECT_EQ(RefusalOfPair(chain_path_, text),
            "the private key " + text +
                " contains no PEM private key (-----BEGIN PRIVATE "
                "KEY-----)");
}

TEST_F(CertificateTest, SwappedFilesAreRecognised) {
  EXPECT_EQ(RefusalOfPair(key_path_, chain_path_),
            "the certificate chain " + key_path_ +
                " contains a private key and no certificate; are the two files swapped?");
  EXPECT_EQ(RefusalOfPair(chain_path_, chain_path_),
            "the private key " + chain_path_ +
                " contains a certificate and no private key; are the two files swapped?");
}

TEST_F(CertificateTest, DamagedFilesAreNamed) {
  std::string pem = PemOf(certificate_.get());
  pem[pem.size() / 2] = '!';
  EXPECT_THAT(RefusalOfPair(Write("c", PemOf(certificate_.get()) + pem), key_path_),
              AllOf(HasSubstr("the certificate chain " + dir_.Path("c")),
                    HasSubstr("has an invalid certificate after 1 valid ones: ")));
  const std::string cut = PemOf(key_.get()).substr(0, 100);
  EXPECT_THAT(RefusalOfPair(chain_path_, Write("k", cut)),
              HasSubstr("the private key " + dir_.Path("k") + " is invalid: "));
}

// OpenSSL takes it without an error, and a server does not.
TEST_F(CertificateTest, ACertificateWithADamagedExtensionIsNamed) {
  const std::string garbage = "x";
  const std::unique_ptr<ASN1_OCTET_STRING, decltype(&ASN1_OCTET_STRING_free)> value(
      ASN1_OCTET_STRING_new(), ASN1_OCTET_STRING_free);
  ASN1_OCTET_STRING_set(value.get(), reinterpret_cast<const unsigned char*>(garbage.data()),
                        static_cast<int>(garbage.size()));
  const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> extension(
      X509_EXTENSION_create_by_NID(nullptr, NID_key_usage, 0, value.get()), X509_EXTENSION_free);
  X509_add_ext(certificate_.get(), extension.get(), -1);
  X509_sign(certificate_.get(), key_.get(), EVP_sha256());
  EXPECT_THAT(
      RefusalOfPair(Write("c", PemOf(certificate_.get())), key_path_),
      HasSubstr("the certificate chain " + dir_.Path("c") + " is invalid according to OpenSSL: "));
}

// Readers of certificates differ in these: all are to serve the same one, or none.
TEST_F(CertificateTest, WhatOtherReadersTakeForAnotherCertificateIsRefused) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate_.get(), &der);
  const std::string bytes(reinterpret_cast<char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  const auto pem = [](const char* name, const std::string& content) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
    PEM_write_bio(bio.get(), name, "", reinterpret_cast<const unsigned char*>(content.data()),
                  static_cast<long>(content.size()));
    char* text = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &text);
    return std::string(text, static_cast<size_t>(length));
  };
  EXPECT_TRUE(LoadKeyPair(Write("c", pem("CERTIFICATE", bytes)), key_path_).ok());
  EXPECT_THAT(RefusalOfPair(Write("c", pem("CERTIFICATE", bytes + "x")), key_path_),
              HasSubstr("has bytes behind its first certificate"));
  const TestCertificate another = MakeCertificate({}, key_.get(), nullptr, nullptr);
  const std::unique_ptr<BIO, decltype(&BIO_free)> trusted(BIO_new(BIO_s_mem()), BIO_free);
  PEM_write_bio_X509_AUX(trusted.get(), another.get());
  char* text = nullptr;
  const long length = BIO_get_mem_data(trusted.get(), &text);
  EXPECT_THAT(RefusalOfPair(Write("c", std::string(text, static_cast<size_t>(length)) +
                                           pem("CERTIFICATE", bytes)),
                            key_path_),
              HasSubstr("begins with a TRUSTED CERTIFICATE"));
}

TEST_F(CertificateTest, FilesHaveALargestSize) {
  std::string pem = PemOf(certificate_.get());
  pem.append(kPemBytesMax - pem.size(), '\n');
  EXPECT_TRUE(LoadKeyPair(Write("c", pem), key_path_).ok());
  EXPECT_EQ(
      RefusalOfPair(Write("c", pem + "\n"), key_path_),
      "cannot read the certificate chain " + dir_.Path("c") + ": it has more than 1048576 bytes");
}

TEST_F(CertificateTest, AnEncryptedKeyIsRefusedWithTheRemedy) {
  EXPECT_THAT(RefusalOfPair(chain_path_, Write("k", PemOf(key_.get(), "secret"))),
              AllOf(HasSubstr("the private key " + dir_.Path("k") + " is encrypted"),
                    HasSubstr("openssl pkey -in KEY -out NEW")));
}

TEST_F(CertificateTest, AKeyOfAnotherCertificateIsRefused) {
  const TestKey other = MakeEcKey();
  EXPECT_EQ(RefusalOfPair(chain_path_, Write("k", PemOf(other.get()))),
            "the private key " + dir_.Path("k") +
                " does not belong to the certificate 'CN = localhost' in " + chain_path_ +
                "; use the key that the certificate was made for");
  const TestKey rsa = MakeRsaKey(2048);
  EXPECT_THAT(RefusalOfPair(chain_path_, Write("k", PemOf(rsa.get()))),
              HasSubstr("does not belong to the certificate"));
}

TEST_F(CertificateTest, AChainThatStartsWithTheCaIsRefused) {
  const TestKey ca_key = MakeEcKey();
  const TestCertificate ca =
      MakeCertificate({.name = "ca", .is_ca = true}, ca_key.get(), nullptr, nullptr);
  const TestCertificate leaf = MakeCertificate({}, key_.get(), ca.get(), ca_key.get());
  const std::string path = Write("c", PemOf(ca.get()) + PemOf(leaf.get()));
  EXPECT_EQ(RefusalOfPair(path, key_path_), "the certificate chain " + path +
                                                " has the certificate of the private key " +
                                                key_path_ + " as number 2; it must be the first");
}

TEST_F(CertificateTest, AKeyTooWeakForOpensslIsRefused) {
  const TestKey rsa = MakeRsaKey(512);
  const TestCertificate certificate = MakeCertificate({}, rsa.get(), nullptr, nullptr);
  EXPECT_THAT(RefusalOfPair(Write("c", PemOf(certificate.get())), Write("k", PemOf(rsa.get()))),
              HasSubstr("the certificate chain " + dir_.Path("c") +
                        " is invalid according to OpenSSL: ee key too small"));
}

TEST_F(CertificateTest, AnExpiredCertificateIsAWarning) {
  const TestCertificate old = MakeCertificate({.valid_from_s = -2 * kDay, .valid_to_s = -kDay},
                                              key_.get(), nullptr, nullptr);
  const auto pair = LoadKeyPair(Write("c", PemOf(old.get())), key_path_);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->warnings,
              ElementsAre(AllOf(HasSubstr("certificate 'CN = localhost' in " + dir_.Path("c")),
                                HasSubstr(" expired at "))));
}

TEST_F(CertificateTest, ACertificateNotYetValidIsAWarning) {
  const TestCertificate young =
      MakeCertificate({.valid_from_s = kDay, .valid_to_s = 2 * kDay}, key_.get(), nullptr, nullptr);
  const auto pair = LoadKeyPair(Write("c", PemOf(young.get())), key_path_);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->warnings, ElementsAre(HasSubstr(" is not valid before ")));
}

TEST_F(CertificateTest, AChainOutOfOrderIsAWarning) {
  const TestKey other_key = MakeEcKey();
  const TestCertificate other =
      MakeCertificate({.name = "other"}, other_key.get(), nullptr, nullptr);
  const auto pair =
      LoadKeyPair(Write("c", PemOf(certificate_.get()) + PemOf(other.get())), key_path_);
  ASSERT_TRUE(pair.ok()) << pair.status();
  EXPECT_THAT(pair->warnings, ElementsAre(HasSubstr("certificate 2 in " + dir_.Path("c") +
                                                    " ('CN = other') did not issue the one before "
                                                    "it")));
}

TEST_F(CertificateTest, ACaFileLoadsAndIsCheckedLikewise) {
  const TestKey ca_key = MakeEcKey();
  const TestCertificate ca =
      MakeCertificate({.name = "ca", .is_ca = true}, ca_key.get(), nullptr, nullptr);
  const std::string pem = PemOf(ca.get()) + PemOf(ca.get());
  const auto bundle = LoadCaBundle(Write("ca", pem));
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  EXPECT_EQ(bundle->pem, pem);
  EXPECT_THAT(bundle->warnings, IsEmpty());

  EXPECT_EQ(LoadCaBundle(dir_.Path("missing")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(LoadCaBundle(Write("empty", "")).status().message()),
            "the CA file " + dir_.Path("empty") + " is empty");
  EXPECT_THAT(std::string(LoadCaBundle(key_path_).status().message()),
              HasSubstr("the CA file " + key_path_ + " contains a private key and no certificate"));
  EXPECT_FALSE(LoadCaBundle(Write("cut", pem.substr(0, pem.size() - 200))).ok());
}

TEST_F(CertificateTest, ACaFileWithAnExpiredOrALeafCertificateIsAWarning) {
  const TestKey ca_key = MakeEcKey();
  const TestCertificate old = MakeCertificate(
      {.name = "old", .is_ca = true, .valid_from_s = -2 * kDay, .valid_to_s = -kDay}, ca_key.get(),
      nullptr, nullptr);
  const auto bundle = LoadCaBundle(Write("ca", PemOf(old.get()) + PemOf(certificate_.get())));
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  EXPECT_THAT(bundle->warnings,
              ElementsAre(HasSubstr("certificate 'CN = old' in " + dir_.Path("ca") + " expired"),
                          HasSubstr("certificate 'CN = localhost' in " + dir_.Path("ca") +
                                    " is not a CA's")));
}

TEST(DescribeCertificates, SaysWhenEachExpires) {
  const TestKey key = MakeEcKey();
  const TestCertificate ca = MakeCertificate({.name = "ca", .is_ca = true, .valid_to_s = 10 * kDay},
                                             key.get(), nullptr, nullptr);
  const TestCertificate old =
      MakeCertificate({.name = "old", .valid_from_s = -2 * kDay, .valid_to_s = -kDay}, key.get(),
                      ca.get(), key.get());
  const auto all = DescribeCertificates(PemOf(old.get()) + PemOf(ca.get()) + "rest");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].subject, "CN = old");
  EXPECT_EQ(all[0].issuer, "CN = ca");
  EXPECT_LT(all[0].seconds_left, 0);
  EXPECT_EQ(all[1].subject, "CN = ca");
  EXPECT_NEAR(static_cast<double>(all[1].seconds_left), 10.0 * kDay, 600);
  EXPECT_THAT(DescribeCertificates("no PEM"), IsEmpty());
}

}  // namespace
}  // namespace callout::host
