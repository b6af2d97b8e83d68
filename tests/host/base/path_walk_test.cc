// SPDX-License-Identifier: Apache-2.0

#include "host/base/path_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/host/sockets.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class PathWalk : public ::testing::Test {
 protected:
  PathWalk() {
    fs::create_directories(dir_.Path("real/deep"));
    std::ofstream(dir_.Path("real/file")) << "x";
  }

  // The steps below the test's directory: "name" with "/" for a directory, "@" for a
  // symlink, and "!" for the last.
  std::vector<std::string> Walk(const std::string& path) {
    std::vector<std::string> steps;
    WalkPath(path, [&](const PathStep& step) {
      if (!step.path().starts_with(dir_.Path(""))) return;
      std::string text = step.path().substr(dir_.Path("").size());
      if (step.found == PathStep::Found::kDirectory) text += "/";
      if (step.found == PathStep::Found::kSymlink) text += "@";
      if (step.last) text += "!";
      steps.push_back(text);
    });
    return steps;
  }

  TempDir dir_;
};

TEST_F(PathWalk, LooksUpEachNameAndEndsAtAFile) {
  EXPECT_THAT(Walk(dir_.Path("real/file")), ElementsAre("real/", "real/file!"));
  EXPECT_THAT(Walk(dir_.Path("./real//./deep/")), ElementsAre("real/", "real/deep/!"));
  EXPECT_THAT(Walk(dir_.Path("real/deep/../file")),
              ElementsAre("real/", "real/deep/", "real/file!"));
}

TEST_F(PathWalk, EndsAtWhatIsMissingOrNoDirectory) {
  EXPECT_THAT(Walk(dir_.Path("none/more/still")), ElementsAre("none"));
  EXPECT_THAT(Walk(dir_.Path("real/file/more")), ElementsAre("real/", "real/file"));
  EXPECT_THAT(Walk(dir_.Path("real/none")), ElementsAre("real/", "real/none!"));
}

TEST_F(PathWalk, FollowsSymlinks) {
  fs::create_symlink("real", dir_.Path("relative"));
  fs::create_symlink(dir_.Path("relative/file"), dir_.Path("absolute"));
  EXPECT_THAT(Walk(dir_.Path("relative/file")), ElementsAre("relative@", "real/", "real/file!"));
  EXPECT_THAT(Walk(dir_.Path("absolute")),
              ElementsAre("absolute@", "relative@", "real/", "real/file!"));
}

TEST_F(PathWalk, GivesUpASymlinkToItself) {
  fs::create_symlink("loop", dir_.Path("loop"));
  const std::vector<std::string> steps = Walk(dir_.Path("loop"));
  ASSERT_EQ(steps.size(), 41u);
  EXPECT_EQ(steps.front(), "loop@");
  EXPECT_EQ(steps.back(), "loop!");
}

}  // namespace
}  // namespace callout::host
