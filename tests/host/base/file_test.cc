// SPDX-License-Identifier: Apache-2.0

#include "host/base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/status/status.h"
#include "host/base/owned_fd.h"
#include "sockets.h"
#include "write_file.h"

namespace callout::host {
namespace {

class FileTest : public ::testing::Test {
 protected:
  TempDir directory_;
  const std::string path_ = directory_.Path("file");
};

TEST_F(FileTest, TellsVersionsOfAFileApart) {
  EXPECT_FALSE(StampOf(path_).regular());
  WriteFile(path_, "1");
  const FileStamp first = StampOf(path_);
  EXPECT_TRUE(first.regular());
  EXPECT_EQ(StampOf(path_), first);
  WriteFile(directory_.Path("other"), "2");
  std::filesystem::rename(directory_.Path("other"), path_);
  EXPECT_NE(StampOf(path_), first);
}

TEST_F(FileTest, WhatIsThereAndCannotBeReachedIsNotAbsent) {
  EXPECT_TRUE(StampOf("").absent());
  EXPECT_TRUE(StampOf(path_).absent());
  std::filesystem::create_symlink(directory_.Path("nowhere"), path_);
  EXPECT_EQ(StampOf(path_).kind, FileStamp::Kind::kUnusable);
  EXPECT_EQ(CheckRegular(StampOf(path_)).message(), "it is a symlink to nothing");
  std::filesystem::remove(path_);
  std::filesystem::create_symlink("file", path_);
  EXPECT_EQ(CheckRegular(StampOf(path_)).message(), "Too many levels of symbolic links");
  WriteFile(directory_.Path("plain"), "");
  EXPECT_EQ(CheckRegular(StampOf(directory_.Path("plain/file"))).message(), "Not a directory");
}

// Makes something at `path` that is no regular file.
struct Odd {
  const char* name;
  void (*make)(const std::string& path);
  std::string why;
};

TEST_F(FileTest, ReadsNothingButRegularFilesAndNeverBlocks) {
  const Odd kOdd[] = {
      {"directory", [](const std::string& path) { std::filesystem::create_directory(path); },
       "it is a directory, not a regular file"},
      {"fifo", [](const std::string& path) { mkfifo(path.c_str(), 0600); },
       "it is a FIFO, not a regular file"},
      {"zero", [](const std::string& path) { std::filesystem::create_symlink("/dev/zero", path); },
       "it is a device, not a regular file"},
  };
  for (const Odd& odd : kOdd) {
    SCOPED_TRACE(odd.name);
    const std::string path = directory_.Path(odd.name);
    odd.make(path);
    const FileStamp stamp = StampOf(path);
    EXPECT_EQ(stamp.kind, FileStamp::Kind::kUnusable);
    EXPECT_EQ(CheckRegular(stamp).message(), odd.why);
    EXPECT_EQ(ReadFile(path, 10).status().message(), odd.why);
    EXPECT_EQ(ReadStart(path, 10).status().message(), odd.why);
    EXPECT_EQ(ReadUnchanged(path, stamp, 10).status().message(), odd.why);
  }
}

TEST_F(FileTest, ReadsUpToItsLimit) {
  WriteFile(path_, "text");
  EXPECT_EQ(*ReadFile(path_, 4), "text");
  EXPECT_EQ(ReadFile(path_, 3).status().message(), "it has more than 3 bytes");
  EXPECT_EQ(ReadStart(path_, 3)->bytes, "tex");
  EXPECT_EQ(ReadStart(path_, 5)->bytes, "text");
  EXPECT_EQ(ReadStart(path_, 5)->stamp, StampOf(path_));
  EXPECT_TRUE(absl::IsNotFound(ReadFile(directory_.Path("none"), 3).status()));
}

// Files of /proc say that they are empty.
TEST_F(FileTest, ReadsWhatIsThereWhateverTheSizeSays) {
  EXPECT_THAT(*ReadFile("/proc/self/status", 100000), ::testing::HasSubstr("Name:"));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile("/proc/self/status", 10).status()));
}

// A sparse file of any size costs no memory before it is known to be too large.
TEST_F(FileTest, ReadsMoreThanOneStep) {
  const std::string text(3'000'001, 'x');
  WriteFile(path_, text);
  EXPECT_EQ(*ReadFile(path_, text.size()), text);
  EXPECT_EQ(*ReadUnchanged(path_, StampOf(path_), text.size()), text);
  std::filesystem::resize_file(path_, uint64_t{1} << 40);
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile(path_, 100).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadUnchanged(path_, StampOf(path_), 100).status()));
}

TEST_F(FileTest, ToolsMayReadAPipe) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "text", 4), 4);
  close(ends[1]);
  EXPECT_EQ(*ReadAnything("/proc/self/fd/" + std::to_string(ends[0]), 10), "text");
  close(ends[0]);
}

TEST_F(FileTest, ReadsWhatIsUnchanged) {
  WriteFile(path_, "text");
  const auto text = ReadUnchanged(path_, StampOf(path_), 100);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, "text");
}

TEST_F(FileTest, ReadsNothingThatHasChanged) {
  WriteFile(path_, "text");
  const FileStamp stamp = StampOf(path_);
  WriteFile(path_, "other text");
  EXPECT_TRUE(absl::IsAborted(ReadUnchanged(path_, stamp, 100).status()));
  std::filesystem::remove(path_);
  EXPECT_TRUE(absl::IsAborted(ReadUnchanged(path_, stamp, 100).status()));
}

TEST_F(FileTest, ReadsNothingAboveTheLimit) {
  WriteFile(path_, "text");
  const auto text = ReadUnchanged(path_, StampOf(path_), 3);
  EXPECT_TRUE(absl::IsInvalidArgument(text.status()));
}

// What it says of itself is a size of 0.
TEST_F(FileTest, AFileOfAFileSystemThatTellsNoSizeIsNotTakenForAnEmptyOne) {
  const std::string path = "/proc/self/status";
  EXPECT_TRUE(absl::IsAborted(ReadUnchanged(path, StampOf(path), 100).status()));
}

TEST_F(FileTest, WritesAllOrSaysHowMuch) {
  const std::string bytes(1 << 20, 'x');
  const OwnedFd file(open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_EQ(WriteAll(file.get(), bytes), bytes.size());
  EXPECT_EQ(WriteAll(file.get(), ""), 0u);
  EXPECT_EQ(ReadFile(path_, bytes.size()).value_or(""), bytes);

  const OwnedFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  EXPECT_EQ(WriteAll(full.get(), bytes), 0u);
  EXPECT_EQ(errno, ENOSPC);

  // More than it has room for.
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
  const OwnedFd reader(ends[0]), writer(ends[1]);
  const size_t written = WriteAll(writer.get(), bytes);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(written, 0u);
  EXPECT_LT(written, bytes.size());
}

}  // namespace
}  // namespace callout::host
