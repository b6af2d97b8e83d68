// SPDX-License-Identifier: Apache-2.0

#include "host/base/path_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "sockets.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class PathWalk : public ::testing::Test {
 protected:
  PathWalk() {
    fs::create_directories(Path("releases/1"));
    std::ofstream(Path("releases/1/a.so")) << "code";
  }

  std::string Path(const std::string& name) const { return (root_ / name).string(); }
  // The steps below the test's directory: "dir releases", "last releases/1", "link current",
  // "end releases/1/a.so".
  std::vector<std::string> Walk(const std::string& path) const {
    std::vector<std::string> steps;
    const std::string below = root_.string() + "/";
    WalkPath(path, [&](const PathStep& step) {
      if (!step.path().starts_with(below)) return;
      const char* kind = step.kind == PathStep::Kind::kDirectory ? (step.last ? "last " : "dir ")
                         : step.kind == PathStep::Kind::kSymlink ? "link "
                                                                 : "end ";
      steps.push_back(kind + step.path().substr(below.size()));
    });
    return steps;
  }

  TempDir directory_;
  const fs::path root_ = fs::canonical(directory_.Path("."));
};

TEST_F(PathWalk, ShowsTheDirectoriesOnTheWayAndTheFileAtTheEnd) {
  EXPECT_THAT(Walk(Path("releases/1/a.so")),
              ElementsAre("dir releases", "dir releases/1", "end releases/1/a.so"));
  EXPECT_THAT(Walk(Path("releases/1")), ElementsAre("dir releases", "last releases/1"));
}

TEST_F(PathWalk, FollowsRelativeAndAbsoluteSymlinks) {
  fs::create_symlink("releases/1", Path("current"));
  fs::create_symlink(Path("current"), Path("absolute"));
  EXPECT_THAT(Walk(Path("absolute/a.so")),
              ElementsAre("link absolute", "link current", "dir releases", "dir releases/1",
                          "end releases/1/a.so"));
}

TEST_F(PathWalk, ResolvesDotsAfterASymlinkFromItsTarget) {
  fs::create_symlink("releases/1", Path("current"));
  EXPECT_THAT(Walk(Path("current/../1/./a.so")),
              ElementsAre("link current", "dir releases", "dir releases/1", "dir releases/1",
                          "end releases/1/a.so"));
}

TEST_F(PathWalk, EndsAtAMissingName) {
  EXPECT_THAT(Walk(Path("releases/2/a.so")), ElementsAre("dir releases", "end releases/2"));
}

TEST_F(PathWalk, EndsAtALoopOfSymlinks) {
  fs::create_symlink("loop", Path("loop"));
  const std::vector<std::string> steps = Walk(Path("loop/a.so"));
  ASSERT_THAT(steps, SizeIs(41));  // the kernel's limit of 40, and the end
  EXPECT_EQ(steps.front(), "link loop");
  EXPECT_EQ(steps.back(), "end loop");
}

TEST_F(PathWalk, ShowsNothingOfTheRoot) {
  size_t steps = 0;
  WalkPath("/", [&](const PathStep&) { ++steps; });
  EXPECT_EQ(steps, 0u);
}

}  // namespace
}  // namespace callout::host
