// SPDX-License-Identifier: Apache-2.0

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
  // As a killed process leaves it: all but the lock.
  std::string dead;
  {
    const auto copies = Create();
    const auto copy = *copies->Add("a.so", "1");
    dead = directory_.Path("callout-host-dead00");
    fs::copy(copies->directory(), dead, fs::copy_options::recursive);
    ASSERT_EQ(chmod(dead.c_str(), 0700), 0);
  }
  const auto living = Create();
  const auto copies = Create();
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(living->directory()));
  EXPECT_NE(living->directory(), copies->directory());
}

// Somebody's unpacked release, and whatever else only looks like what is ours.
TEST_F(PrivateCopyTest, RemovesNothingThatItDidNotMake) {
  std::string marked;
  {
    const auto copies = Create();
    marked = directory_.Path("marked");
    fs::copy(copies->directory(), marked, fs::copy_options::recursive);
  }
  const auto make = [&](const std::string& name, bool mark, mode_t mode) {
    const std::string path = directory_.Path(name);
    fs::create_directory(path);
    if (mark) fs::copy(marked, path, fs::copy_options::recursive);
    std::ofstream(path + "/README.md") << "text";
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  };
  const std::string kept[] = {
      make("callout-host-0.1.0-linux", true, 0700),  // no name that we make
      make("callout-host-linux1", false, 0700),      // without the marker
      make("callout-host-shared", true, 0755),       // others may look into it
      make("another", true, 0700),
  };
  const auto copies = Create();
  for (const std::string& path : kept) EXPECT_TRUE(fs::exists(path + "/README.md")) << path;
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
