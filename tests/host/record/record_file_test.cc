// SPDX-License-Identifier: Apache-2.0

#include "host/record/record_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "host/base/file.h"
#include "tests/host/sockets.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;

class RecordFileTest : public ::testing::Test {
 protected:
  RecordFile::Options Options(uint64_t bytes_max, size_t files) {
    return {.path = Path(), .bytes_max = bytes_max, .files = files, .begin = [] { return "H"; }};
  }
  std::string Path() const { return directory_.Path("a.rec"); }
  std::string Content(const std::string& suffix = "") const {
    return ReadFile(Path() + suffix, 1 << 20).value_or("none");
  }

  const TempDir directory_;
};

TEST_F(RecordFileTest, RotatesBeforeAFileGrowsOverItsLimit) {
  RecordFile file(Options(5, 3));
  for (const char* frames : {"12", "34", "56", "78", "90"}) {
    EXPECT_EQ(file.Append(frames), absl::OkStatus());
  }
  EXPECT_EQ(Content(), "H90");
  EXPECT_EQ(Content(".1"), "H5678");
  EXPECT_EQ(Content(".2"), "H1234");
  EXPECT_EQ(file.Append("abcd"), absl::OkStatus());
  EXPECT_EQ(Content(), "Habcd");
  EXPECT_EQ(Content(".2"), "H5678");
  EXPECT_EQ(Content(".3"), "none");
  EXPECT_EQ(file.Append("abcde").code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(RecordFileTest, IsReadableByItsOwnerOnly) {
  RecordFile file(Options(100, 1));
  ASSERT_EQ(file.Append("x"), absl::OkStatus());
  struct stat made = {};
  ASSERT_EQ(stat(Path().c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777, 0600u);
}

TEST_F(RecordFileTest, KeepsAFileThatIsThereAtTheStart) {
  std::ofstream(Path()) << "older";
  RecordFile file(Options(100, 2));
  ASSERT_EQ(file.Append("new"), absl::OkStatus());
  EXPECT_EQ(Content(), "Hnew");
  EXPECT_EQ(Content(".1"), "older");
}

TEST_F(RecordFileTest, FollowsNoSymlink) {
  std::ofstream(directory_.Path("other")) << "other";
  std::filesystem::create_symlink(directory_.Path("other"), Path());
  RecordFile file(Options(100, 2));
  EXPECT_EQ(file.Append("x").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReadFile(directory_.Path("other"), 100).value_or(""), "other");
}

TEST_F(RecordFileTest, SaysWhyItCannotBeCreated) {
  RecordFile file({.path = directory_.Path("no/such"), .bytes_max = 9, .begin = [] { return ""; }});
  const absl::Status status = file.Open();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("No such file or directory"));
}

TEST_F(RecordFileTest, TakesBackAWriteThatAFullDiskCutsShort) {
  RecordFile file(Options(1000, 2));
  ASSERT_EQ(file.Append("first"), absl::OkStatus());
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = signal(SIGXFSZ, SIG_IGN);
  rlimit limit = before;
  limit.rlim_cur = 10;  // "Hfirst" and four more
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status cut = file.Append("second");
  const absl::Status cut_again = file.Append("third");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, ignored);
  EXPECT_EQ(cut.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(cut.message()),
              HasSubstr("cannot write to " + Path() + ": File too large"));
  EXPECT_FALSE(cut_again.ok());
  EXPECT_EQ(Content(), "Hfirst");
  EXPECT_EQ(file.Append("fourth"), absl::OkStatus());
  EXPECT_EQ(Content(), "Hfirstfourth");
}

TEST(RecordFileToADevice, FailsWhileTheDeviceIsFull) {
  RecordFile file({.path = "/dev/full", .bytes_max = 10, .files = 2, .begin = [] { return "H"; }});
  const absl::Status status = file.Append("x");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("No space left on device"));
  EXPECT_FALSE(file.Append("x").ok());
}

}  // namespace
}  // namespace callout::host
