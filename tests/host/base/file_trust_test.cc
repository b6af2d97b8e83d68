// SPDX-License-Identifier: Apache-2.0

#include "host/base/file_trust.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "sockets.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FileTrustTest : public ::testing::Test {
 protected:
  FileTrustTest() {
    fs::create_directory(inner_);
    std::ofstream(path_) << "text";
    SetMode(inner_, 0755);
    SetMode(path_, 0644);
  }

  static void SetMode(const std::string& path, mode_t mode) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
  }

  TempDir directory_;
  const std::string inner_ = directory_.Path("inner");
  const std::string path_ = inner_ + "/file";
};

TEST_F(FileTrustTest, NothingIsSaidOfAFileThatOnlyItsOwnerWrites) {
  EXPECT_EQ(CheckFileTrust(path_).refusal, "");
  EXPECT_THAT(CheckFileTrust(path_).warnings, IsEmpty());
}

TEST_F(FileTrustTest, RefusesAFileThatEveryUserMayWriteTo) {
  SetMode(path_, 0646);
  EXPECT_EQ(CheckFileTrust(path_).refusal,
            "every user may write to " + path_ + " (mode 0646); chmod o-w it");
}

TEST_F(FileTrustTest, RefusesADirectoryOnTheWayUnlessItIsSticky) {
  SetMode(inner_, 0757);
  EXPECT_THAT(CheckFileTrust(path_).refusal,
              HasSubstr("may write to the directory " + inner_ + " (mode 0757)"));
  SetMode(inner_, 01777);
  EXPECT_EQ(CheckFileTrust(path_).refusal, "");
}

TEST_F(FileTrustTest, LooksAtTheDirectoriesThatSymlinksLieIn) {
  fs::create_directory(directory_.Path("open"));
  fs::create_symlink("../inner/file", directory_.Path("open/link"));
  SetMode(directory_.Path("open"), 0777);
  EXPECT_THAT(CheckFileTrust(directory_.Path("open/link")).refusal,
              HasSubstr(directory_.Path("open") + " (mode 0777)"));
  SetMode(directory_.Path("open"), 0755);
  EXPECT_EQ(CheckFileTrust(directory_.Path("open/link")).refusal, "");
  SetMode(inner_, 0777);
  EXPECT_THAT(CheckFileTrust(directory_.Path("open/link")).refusal, HasSubstr(inner_));
}

TEST_F(FileTrustTest, EndsOnASymlinkThatLeadsToItself) {
  fs::create_symlink("loop", directory_.Path("loop"));
  EXPECT_EQ(CheckFileTrust(directory_.Path("loop")).refusal, "");
}

TEST_F(FileTrustTest, WarnsOfAGroupThatMayWrite) {
  SetMode(path_, 0664);
  EXPECT_EQ(CheckFileTrust(path_).refusal, "");
  EXPECT_THAT(CheckFileTrust(path_).warnings,
              ElementsAre(HasSubstr("may write to " + path_ + " (mode 0664); chmod g-w it")));
}

TEST_F(FileTrustTest, WarnsOfAnotherOwner) {
  if (geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  ASSERT_EQ(chown(path_.c_str(), 61234, 0), 0);
  EXPECT_THAT(CheckFileTrust(path_).warnings,
              ElementsAre(HasSubstr(path_ + " is owned by user 61234")));
}

// In a namespace of its own: 0 if all is well, 77 if it cannot mount, else 1.
int CheckOnReadOnlyMount(const std::string& directory) {
  if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) return 77;
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
  if (mount("tmpfs", directory.c_str(), "tmpfs", 0, "mode=0777") != 0) return 77;
  const std::string path = directory + "/file";
  std::ofstream(path) << "text";
  if (chmod(path.c_str(), 0666) != 0 || CheckFileTrust(path).refusal.empty()) return 1;
  if (mount(nullptr, directory.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0) return 77;
  const FileTrust trust = CheckFileTrust(path);
  return trust.refusal.empty() && trust.warnings.empty() ? 0 : 1;
}

// As Kubernetes mounts volumes.
TEST_F(FileTrustTest, ModesDoNotMatterOnAReadOnlyMount) {
  const pid_t child = fork();
  if (child == 0) _exit(CheckOnReadOnlyMount(inner_));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "this user may not mount";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace callout::host
