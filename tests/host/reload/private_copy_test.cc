#include "host/reload/private_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "sockets.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class PrivateCopyTest : public ::testing::Test {
 protected:
  std::shared_ptr<PrivateCopies> Create() {
    auto copies = PrivateCopies::Create({directory_.Path("")});
    EXPECT_TRUE(copies.ok()) << copies.status();
    return copies.ok() ? *copies : nullptr;
  }

  static std::string Read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  TempDir directory_;
};

TEST_F(PrivateCopyTest, HoldsTheBytesUnderTheFilesNameForItsUserOnly) {
  const auto copies = Create();
  const auto copy = copies->Add("a.so", "bytes");
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_THAT((*copy)->path(), EndsWith("/a.so"));
  EXPECT_EQ(Read((*copy)->path()), "bytes");
  struct stat status;
  ASSERT_EQ(stat((*copy)->path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0500u);
  ASSERT_EQ(stat(copies->directory().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(PrivateCopyTest, NeverUsesAPathTwice) {
  const auto copies = Create();
  const std::string first = (*copies->Add("a.so", "1"))->path();
  EXPECT_FALSE(fs::exists(first)) << "its last user is gone";
  EXPECT_NE((*copies->Add("a.so", "1"))->path(), first);
}

TEST_F(PrivateCopyTest, LeavesNothingBehind) {
  auto copies = Create();
  const std::string made = copies->directory();
  auto copy = *copies->Add("a.so", "1");
  copies.reset();
  EXPECT_TRUE(fs::exists(copy->path())) << "a copy outlives what made it";
  copy.reset();
  EXPECT_FALSE(fs::exists(made));
}

TEST_F(PrivateCopyTest, RemovesWhatAKilledProcessLeftAndNothingElse) {
  fs::create_directories(directory_.Path("callout-host-dead00/1"));
  std::ofstream(directory_.Path("callout-host-dead00/1/a.so")) << "1";
  fs::create_directory(directory_.Path("another"));
  const auto living = Create();
  const auto copies = Create();
  EXPECT_FALSE(fs::exists(directory_.Path("callout-host-dead00")));
  EXPECT_TRUE(fs::exists(directory_.Path("another")));
  EXPECT_TRUE(fs::exists(living->directory()));
  EXPECT_NE(living->directory(), copies->directory());
}

TEST_F(PrivateCopyTest, TakesTheFirstPlaceThatWillDo) {
  const auto copies = PrivateCopies::Create({directory_.Path("missing"), directory_.Path("")});
  ASSERT_TRUE(copies.ok()) << copies.status();
  EXPECT_THAT((*copies)->directory(), HasSubstr(directory_.Path("")));
}

TEST_F(PrivateCopyTest, NamesEveryPlaceThatWillNotDoAndTheRemedy) {
  const auto copies = PrivateCopies::Create({directory_.Path("missing"), "/proc"});
  ASSERT_FALSE(copies.ok());
  EXPECT_THAT(std::string(copies.status().message()), HasSubstr(directory_.Path("missing")));
  EXPECT_THAT(std::string(copies.status().message()), HasSubstr("/proc: "));
  EXPECT_THAT(std::string(copies.status().message()), HasSubstr("point TMPDIR to"));
}

}  // namespace
}  // namespace callout::host
