// SPDX-License-Identifier: Apache-2.0

#include "host/base/atomic_write.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "host/base/file.h"
#include "sockets.h"

namespace callout::host {
namespace {

TEST(AtomicWrite, ReplacesTheFileAndLeavesNothingElse) {
  const TempDir directory;
  const std::string path = directory.Path("state");
  ASSERT_EQ(WriteAtomically(path, "one"), absl::OkStatus());
  ASSERT_EQ(WriteAtomically(path, "two"), absl::OkStatus());
  EXPECT_EQ(ReadFile(path, 100).value(), "two");
  EXPECT_EQ(StampOf(path).mode & 0777u, 0600u);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.Path(""))) {
    static_cast<void>(entry);
    ++files;
  }
  EXPECT_EQ(files, 1u);
}

TEST(AtomicWrite, FailsWithoutTheDirectory) {
  const TempDir directory;
  const absl::Status status = WriteAtomically(directory.Path("none/state"), "one");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "No such file or directory") << "once";
}

TEST(AtomicWrite, LeavesTheOldContentsIfTheNewOnesCannotBeWritten) {
  const TempDir directory;
  const std::string path = directory.Path("state");
  ASSERT_EQ(WriteAtomically(path, "one"), absl::OkStatus());
  // Where the new contents would go there is something that cannot be replaced.
  std::filesystem::create_directories(path + ".new/in_use");
  EXPECT_FALSE(WriteAtomically(path, "two").ok());
  EXPECT_EQ(ReadFile(path, 100).value(), "one");
}

TEST(AtomicWrite, FollowsNoSymlinkOfAnother) {
  const TempDir directory;
  const std::string path = directory.Path("state");
  const std::string precious = directory.Path("precious");
  ASSERT_EQ(WriteAtomically(precious, "keep"), absl::OkStatus());
  ASSERT_EQ(symlink(precious.c_str(), (path + ".new").c_str()), 0);
  ASSERT_EQ(WriteAtomically(path, "one"), absl::OkStatus());
  EXPECT_EQ(ReadFile(precious, 100).value(), "keep");
}

}  // namespace
}  // namespace callout::host
