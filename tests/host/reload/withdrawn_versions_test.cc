// SPDX-License-Identifier: Apache-2.0

#include "host/reload/withdrawn_versions.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

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

TEST_F(WithdrawnVersionsTest, AFileThatIsTooLargeIsNone) {
  WriteFile(std::string(WithdrawnVersions::kFileBytesMax + 1, ' '));
  EXPECT_THAT(Open().problem(), HasSubstr("more than"));
  EXPECT_TRUE(WasPutAside());
}

TEST_F(WithdrawnVersionsTest, KeepsSoManyPluginsAndNoMore) {
  WithdrawnVersions versions = Open();
  for (size_t i = 0; i <= WithdrawnVersions::kPluginsMax; ++i) {
    versions.Set({fmt::format("p{}", i), digest_, 1, "", 0});
  }
  EXPECT_NE(versions.FindAny("p0"), nullptr);
  EXPECT_EQ(versions.FindAny(fmt::format("p{}", WithdrawnVersions::kPluginsMax)), nullptr);
  ASSERT_EQ(versions.Save(), absl::OkStatus());
  EXPECT_EQ(Open().problem(), "");
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
