#include "host/base/file_stamp.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "absl/status/status.h"
#include "sockets.h"

namespace callout::host {
namespace {

void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

class FileStampTest : public ::testing::Test {
 protected:
  TempDir directory_;
  const std::string path_ = directory_.Path("file");
};

TEST_F(FileStampTest, TellsVersionsOfAFileApart) {
  EXPECT_FALSE(StampOf(path_).exists);
  Write(path_, "1");
  const FileStamp first = StampOf(path_);
  EXPECT_TRUE(first.exists);
  EXPECT_EQ(StampOf(path_), first);
  Write(directory_.Path("other"), "2");
  std::filesystem::rename(directory_.Path("other"), path_);
  EXPECT_NE(StampOf(path_), first);
}

TEST_F(FileStampTest, OnlyRegularFilesExist) {
  EXPECT_FALSE(StampOf("").exists);
  EXPECT_FALSE(StampOf(directory_.Path("")).exists);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(StampOf(path_).exists);
}

TEST_F(FileStampTest, ReadsWhatIsUnchanged) {
  Write(path_, "text");
  const auto text = ReadUnchanged(path_, StampOf(path_), 100);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, "text");
}

TEST_F(FileStampTest, ReadsNothingThatHasChanged) {
  Write(path_, "text");
  const FileStamp stamp = StampOf(path_);
  Write(path_, "other text");
  EXPECT_TRUE(absl::IsAborted(ReadUnchanged(path_, stamp, 100).status()));
  std::filesystem::remove(path_);
  EXPECT_TRUE(absl::IsAborted(ReadUnchanged(path_, stamp, 100).status()));
}

TEST_F(FileStampTest, ReadsNothingAboveTheLimit) {
  Write(path_, "text");
  const auto text = ReadUnchanged(path_, StampOf(path_), 3);
  EXPECT_TRUE(absl::IsInvalidArgument(text.status()));
}

TEST_F(FileStampTest, Sha256IsTheUsualOne) {
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace callout::host
