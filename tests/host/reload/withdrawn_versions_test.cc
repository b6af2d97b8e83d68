// SPDX-License-Identifier: Apache-2.0

#include "host/reload/withdrawn_versions.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "host/base/owned_fd.h"
#include "sockets.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

class WithdrawnVersionsTest : public ::testing::Test {
 protected:
  WithdrawnVersions Open() {
    absl::StatusOr<WithdrawnVersions> versions = WithdrawnVersions::Open(directory_.Path(""));
    EXPECT_TRUE(versions.ok()) << versions.status();
    return *std::move(versions);
  }
  void WriteFile(const std::string& text) { std::ofstream(File()) << text; }
  std::string File() const { return directory_.Path("withdrawn.json"); }
  bool WasPutAside() const { return std::filesystem::exists(File() + ".unreadable"); }

  const TempDir directory_;
  const VersionDigest digest_{"code", "inputs"};
};

TEST_F(WithdrawnVersionsTest, RemembersOverARestart) {
  {
    WithdrawnVersions versions = Open();
    EXPECT_EQ(versions.Find("auth", digest_), nullptr);
    versions.Set({"auth", digest_, 2, "it \"failed\"\n", 1764426517000});
    ASSERT_EQ(versions.Save(), absl::OkStatus());
  }
  const WithdrawnVersions versions = Open();
  EXPECT_EQ(versions.problem(), "");
  const WithdrawnVersions::Entry* const entry = versions.Find("auth", digest_);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->generation, 2u);
  EXPECT_EQ(entry->since_ms, 1764426517000);
  EXPECT_THAT(entry->why, HasSubstr("it \"failed\""));
  EXPECT_EQ(versions.Find("auth", {"code", "other"}), nullptr);
  EXPECT_EQ(versions.Find("auth", {"other", "inputs"}), nullptr);
  EXPECT_EQ(versions.Find("waf", digest_), nullptr);
}

TEST_F(WithdrawnVersionsTest, ForgetsWhatIsRemoved) {
  WithdrawnVersions versions = Open();
  versions.Set({"auth", digest_, 2, "", 0});
  ASSERT_EQ(versions.Save(), absl::OkStatus());
  versions.Remove("auth");
  ASSERT_EQ(versions.Save(), absl::OkStatus());
  EXPECT_EQ(Open().FindAny("auth"), nullptr);
}

TEST_F(WithdrawnVersionsTest, WithoutADirectoryNothingIsRemembered) {
  absl::StatusOr<WithdrawnVersions> versions = WithdrawnVersions::Open("");
  ASSERT_TRUE(versions.ok());
  versions->Set({"auth", digest_, 2, "", 0});
  EXPECT_EQ(versions->FindAny("auth"), nullptr);
  EXPECT_EQ(versions->Save(), absl::OkStatus());
}

TEST_F(WithdrawnVersionsTest, RefusesADirectoryThatItCannotWriteTo) {
  const auto versions = WithdrawnVersions::Open(directory_.Path("none"));
  ASSERT_FALSE(versions.ok());
  EXPECT_THAT(std::string(versions.status().message()), HasSubstr("--state_dir="));
  EXPECT_EQ(WithdrawnVersions::CheckDirectory(directory_.Path("none")), versions.status());
  EXPECT_EQ(WithdrawnVersions::CheckDirectory(directory_.Path("")), absl::OkStatus());
  EXPECT_TRUE(std::filesystem::is_empty(directory_.Path("")));
}

TEST_F(WithdrawnVersionsTest, StartsWithoutAFileThatIsNoneAndKeepsIt) {
  for (const char* text :
       {"", "garbage", "[]", "{}", R"({"format": 2, "withdrawn": []})", R"({"format": 1})",
        R"({"format": 1, "withdrawn": [{}]})", R"({"format": 1, "withdrawn": [7]})",
        R"({"format": 1, "withdrawn": [{"plugin": "a", "sha256": 1, "inputs_sha256": "",
            "generation": 1, "why": "", "since": 0}]})",
        R"({"format": 1, "withdrawn": [{"plugin": "a", "sha256": "", "inputs_sha256": ""}]})"}) {
    WriteFile(text);
    const WithdrawnVersions versions = Open();
    EXPECT_THAT(versions.problem(), HasSubstr("cannot read")) << text;
    EXPECT_THAT(versions.problem(), HasSubstr("may serve again")) << text;
    EXPECT_TRUE(WasPutAside()) << text;
    EXPECT_FALSE(std::filesystem::exists(File())) << text;
  }
}

// A newer host may have written it, or a disk has lost a part of it.
TEST_F(WithdrawnVersionsTest, CompleteEntriesOfAFileThatIsPutAsideHold) {
  constexpr char kEntry[] = R"({"plugin": "auth", "sha256": "code", "inputs_sha256": "inputs",
      "generation": 2, "why": "failed", "since": 7, "severity": "new in format 2"})";
  for (const std::string& text : {
           fmt::format(R"({{"format": 2, "host": "1.0", "withdrawn": [{}]}})", kEntry),
           fmt::format(R"({{"format": 4294967297, "withdrawn": [{}]}})", kEntry),
           fmt::format(R"({{"format": 1, "withdrawn": [{{"plugin": "waf"}}, {}, 7]}})", kEntry),
       }) {
    std::filesystem::remove(File());
    std::filesystem::remove(File() + ".unreadable");
    WriteFile(text);
    EXPECT_THAT(Open().problem(), HasSubstr("except for those of its 1 complete entries")) << text;
    EXPECT_TRUE(WasPutAside()) << text;
    // Also over the next restart.
    const WithdrawnVersions again = Open();
    EXPECT_EQ(again.problem(), "") << text;
    const WithdrawnVersions::Entry* const entry = again.Find("auth", digest_);
    ASSERT_NE(entry, nullptr) << text;
    EXPECT_EQ(entry->generation, 2u);
    EXPECT_EQ(entry->why, "failed");
  }
}

TEST_F(WithdrawnVersionsTest, WhatAnotherHostWritesStays) {
  WithdrawnVersions one = Open();
  WithdrawnVersions other = Open();
  one.Set({"auth", digest_, 2, "by one", 0});
  ASSERT_EQ(one.Save(), absl::OkStatus());
  other.Set({"waf", digest_, 3, "by the other", 0});
  ASSERT_EQ(other.Save(), absl::OkStatus());
  EXPECT_NE(Open().FindAny("auth"), nullptr);
  EXPECT_NE(Open().FindAny("waf"), nullptr);
  one.Remove("auth");
  ASSERT_EQ(one.Save(), absl::OkStatus());
  EXPECT_EQ(Open().FindAny("auth"), nullptr);
  EXPECT_NE(Open().FindAny("waf"), nullptr);
}

TEST_F(WithdrawnVersionsTest, WritesAllOfItAgainIfTheFileIsGoneOrDamaged) {
  WithdrawnVersions versions = Open();
  versions.Set({"auth", digest_, 2, "", 0});
  ASSERT_EQ(versions.Save(), absl::OkStatus());
  for (const bool damaged : {false, true}) {
    damaged ? WriteFile("garbage") : static_cast<void>(std::filesystem::remove(File()));
    versions.Set({"waf", digest_, 3, "", 0});
    ASSERT_EQ(versions.Save(), absl::OkStatus());
    EXPECT_NE(Open().FindAny("auth"), nullptr) << damaged;
    EXPECT_NE(Open().FindAny("waf"), nullptr) << damaged;
    EXPECT_EQ(WasPutAside(), damaged);
  }
}

TEST_F(WithdrawnVersionsTest, HostsThatWriteAtTheSameTimeLoseNothing) {
  constexpr int kHosts = 3, kPlugins = 3;
  std::vector<std::thread> hosts;
  for (int host = 0; host < kHosts; ++host) {
    hosts.emplace_back([this, host, versions = Open()]() mutable {
      for (int i = 0; i < kPlugins; ++i) {
        versions.Set({fmt::format("p{}-{}", host, i), digest_, 1, "", 0});
        EXPECT_EQ(versions.Save(), absl::OkStatus());
      }
    });
  }
  for (std::thread& host : hosts) host.join();
  const WithdrawnVersions versions = Open();
  for (int host = 0; host < kHosts; ++host) {
    for (int i = 0; i < kPlugins; ++i) {
      EXPECT_NE(versions.FindAny(fmt::format("p{}-{}", host, i)), nullptr) << host << " " << i;
    }
  }
}

TEST_F(WithdrawnVersionsTest, ALockThatNobodyReleasesIsAnErrorAndTheNextSaveTriesAgain) {
  WithdrawnVersions versions = Open();
  versions.Set({"auth", digest_, 2, "", 0});
  {
    const OwnedFd holder(open(directory_.Path("").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_EQ(flock(holder.get(), LOCK_EX), 0);
    const absl::Status status = versions.Save();
    EXPECT_THAT(std::string(status.message()), HasSubstr("give each host a directory of its own"));
  }
  EXPECT_EQ(Open().FindAny("auth"), nullptr);
  EXPECT_EQ(versions.Save(), absl::OkStatus());
  EXPECT_NE(Open().FindAny("auth"), nullptr);
}

TEST_F(WithdrawnVersionsTest, AFullDiskLeavesWhatIsThereAndTheNextSaveTriesAgain) {
  WithdrawnVersions versions = Open();
  versions.Set({"auth", digest_, 2, "", 0});
  ASSERT_EQ(versions.Save(), absl::OkStatus());
  versions.Set({"waf", digest_, 3, "", 0});
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = 16;
  signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = versions.Save();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_THAT(std::string(status.message()), HasSubstr("(--state_dir): File too large; after a"));
  EXPECT_NE(Open().FindAny("auth"), nullptr);
  EXPECT_EQ(Open().FindAny("waf"), nullptr);
  EXPECT_EQ(versions.Save(), absl::OkStatus());
  EXPECT_NE(Open().FindAny("waf"), nullptr);
}

TEST_F(WithdrawnVersionsTest, AFileThatIsTooLargeIsNone) {
  WriteFile(std::string(WithdrawnVersions::kFileBytesMax + 1, ' '));
  EXPECT_THAT(Open().problem(), HasSubstr("more than"));
  EXPECT_TRUE(WasPutAside());
}

TEST_F(WithdrawnVersionsTest, KeepsSoManyPluginsAndNoMore) {
  WithdrawnVersions versions = Open();
  WithdrawnVersions other = Open();
  other.Set({"q", digest_, 1, "", 0});
  for (size_t i = 0; i <= WithdrawnVersions::kPluginsMax; ++i) {
    versions.Set({fmt::format("p{}", i), digest_, 1, "", 0});
  }
  EXPECT_NE(versions.FindAny("p0"), nullptr);
  EXPECT_EQ(versions.FindAny(fmt::format("p{}", WithdrawnVersions::kPluginsMax)), nullptr);
  ASSERT_EQ(versions.Save(), absl::OkStatus());
  EXPECT_EQ(Open().problem(), "");
  // Also with those of another host.
  ASSERT_EQ(other.Save(), absl::OkStatus());
  EXPECT_EQ(Open().problem(), "");
  EXPECT_EQ(Open().FindAny("q"), nullptr);
}

TEST_F(WithdrawnVersionsTest, AVersionIsCodeAndInputs) {
  GenerationSource source;
  source.sha256 = "code";
  const VersionDigest before = DigestOf(source);
  source.config = "a";
  const VersionDigest with_config = DigestOf(source);
  EXPECT_FALSE(with_config == before);
  source.config.clear();
  source.settings_text = "a";
  EXPECT_FALSE(DigestOf(source) == before);
  EXPECT_FALSE(DigestOf(source) == with_config);
}

}  // namespace
}  // namespace callout::host
