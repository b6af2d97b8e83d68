// SPDX-License-Identifier: Apache-2.0

#include "host/base/directory_watch.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <string>

#include "sockets.h"
#include "write_file.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;

class DirectoryWatchTest : public ::testing::Test {
 protected:
  // Whether the kernel has told of anything that matters. inotify queues an event
  // before the call that causes it returns, so there is nothing to wait for.
  bool Told() { return watch_->TakeEvents(); }

  TempDir directory_;
  std::unique_ptr<DirectoryWatch> watch_ = DirectoryWatch::Create();
};

TEST_F(DirectoryWatchTest, TellsOfFilesThatComeChangeAndGo) {
  EXPECT_TRUE(watch_->Watch({directory_.Path("")}));
  EXPECT_FALSE(Told());
  WriteFile(directory_.Path("a.so"), "1");
  EXPECT_TRUE(Told());
  EXPECT_FALSE(Told());
  WriteFile(directory_.Path("a.so"), "2");
  EXPECT_TRUE(Told());
  WriteFile(directory_.Path(".a.tmp"), "3");
  (void)Told();
  fs::rename(directory_.Path(".a.tmp"), directory_.Path("a.so"));
  EXPECT_TRUE(Told());
  fs::remove(directory_.Path("a.so"));
  EXPECT_TRUE(Told());
}

TEST_F(DirectoryWatchTest, IsReadableWhenThereIsSomethingToTell) {
  watch_->Watch({directory_.Path("")});
  pollfd readable = {watch_->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&readable, 1, 0), 0);
  WriteFile(directory_.Path("a.so"), "1");
  EXPECT_EQ(poll(&readable, 1, 0), 1);
  EXPECT_TRUE(Told());
  EXPECT_EQ(poll(&readable, 1, 0), 0);
}

TEST_F(DirectoryWatchTest, WaitsForADirectoryThatIsMissing) {
  const std::string missing = directory_.Path("deep/plugins");
  EXPECT_TRUE(watch_->Watch({missing}));
  fs::create_directory(directory_.Path("other"));
  EXPECT_FALSE(Told()) << "a neighbour is nobody's business";
  fs::create_directory(directory_.Path("deep"));
  EXPECT_TRUE(Told());
  EXPECT_TRUE(watch_->Watch({missing}));
  fs::create_directory(missing);
  EXPECT_TRUE(Told());
  EXPECT_TRUE(watch_->Watch({missing}));
  WriteFile(missing + "/a.so", "1");
  EXPECT_TRUE(Told());
}

TEST_F(DirectoryWatchTest, TellsWhenADirectoryOnTheWayIsSwitchedBySymlink) {
  fs::create_directories(directory_.Path("releases/1"));
  fs::create_directories(directory_.Path("releases/2"));
  fs::create_symlink("releases/1", directory_.Path("current"));
  EXPECT_TRUE(watch_->Watch({directory_.Path("current")}));
  fs::create_symlink("releases/2", directory_.Path("next"));
  EXPECT_FALSE(Told());
  fs::rename(directory_.Path("next"), directory_.Path("current"));
  EXPECT_TRUE(Told());
  EXPECT_TRUE(watch_->Watch({directory_.Path("current")}));
  (void)Told();
  WriteFile(directory_.Path("releases/2/a.so"), "1");
  EXPECT_TRUE(Told());
  WriteFile(directory_.Path("releases/1/a.so"), "1");
  EXPECT_FALSE(Told()) << "nothing leads there any more";
}

// A directory as Kubernetes mounts a ConfigMap or Secret: the files are symlinks through ..data,
// which is a symlink to a directory of the version.
TEST_F(DirectoryWatchTest, TellsWhenAConfigMapIsUpdated) {
  fs::create_directory(directory_.Path("..1"));
  WriteFile(directory_.Path("..1/a.so"), "1");
  fs::create_symlink("..1", directory_.Path("..data"));
  fs::create_symlink("..data/a.so", directory_.Path("a.so"));
  watch_->Watch({directory_.Path(""), directory_.Path("a.so")});
  (void)Told();
  fs::create_directory(directory_.Path("..2"));
  WriteFile(directory_.Path("..2/a.so"), "2");
  fs::create_symlink("..2", directory_.Path("..data_tmp"));
  (void)Told();
  fs::rename(directory_.Path("..data_tmp"), directory_.Path("..data"));
  EXPECT_TRUE(Told());
}

TEST_F(DirectoryWatchTest, FollowsAFileThroughItsSymlinkIntoAnotherDirectory) {
  fs::create_directory(directory_.Path("build"));
  fs::create_directory(directory_.Path("plugins"));
  WriteFile(directory_.Path("build/a.so"), "1");
  fs::create_symlink("../build/a.so", directory_.Path("plugins/a.so"));
  watch_->Watch({directory_.Path("plugins"), directory_.Path("plugins/a.so")});
  WriteFile(directory_.Path("build/b.o"), "1");
  EXPECT_FALSE(Told());
  WriteFile(directory_.Path("build/a.so"), "2");
  EXPECT_TRUE(Told());
}

TEST_F(DirectoryWatchTest, TellsWhenTheDirectoryItselfIsReplaced) {
  const std::string plugins = directory_.Path("plugins");
  fs::create_directory(plugins);
  watch_->Watch({plugins});
  fs::rename(plugins, directory_.Path("old"));
  EXPECT_TRUE(Told());
  fs::create_directory(plugins);
  EXPECT_TRUE(watch_->Watch({plugins}));
  (void)Told();
  WriteFile(plugins + "/a.so", "1");
  EXPECT_TRUE(Told());
  fs::remove_all(plugins);
  EXPECT_TRUE(Told());
  fs::create_directory(plugins);
  EXPECT_TRUE(watch_->Watch({plugins})) << "a new directory, if of the same name";
  WriteFile(plugins + "/a.so", "1");
  EXPECT_TRUE(Told());
}

TEST_F(DirectoryWatchTest, EndsOnASymlinkThatLeadsToItself) {
  fs::create_symlink("loop", directory_.Path("loop"));
  watch_->Watch({directory_.Path("loop/plugins")});
  fs::remove(directory_.Path("loop"));
  EXPECT_TRUE(Told());
}

TEST_F(DirectoryWatchTest, SaysOnlyOnceThatAWatchIsNew) {
  EXPECT_TRUE(watch_->Watch({directory_.Path("")}));
  EXPECT_FALSE(watch_->Watch({directory_.Path("")}));
}

TEST_F(DirectoryWatchTest, SeesOnAFileSystemOfThisMachine) {
  watch_->Watch({directory_.Path("")});
  EXPECT_FALSE(watch_->blind());
  // What FUSE mounts cannot be made here; procfs tells of nothing either, but is no place for
  // plugins.
}

}  // namespace
}  // namespace callout::host
