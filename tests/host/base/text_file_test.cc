#include "host/base/text_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "host/base/status_text.h"

namespace callout::host {
namespace {

TEST(TextFile, IsReadWholeUpToItsLimitAndRefusedBeyond) {
  const std::string path = testing::TempDir() + "/text_file_test";
  const std::string text("line\n\0byte\xFF", 11);
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(ReadTextFile(path, text.size()).value(), text);
  const auto refused = ReadTextFile(path, text.size() - 1);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MessageOf(refused.status()), path + " has more than 10 bytes");
  std::filesystem::remove(path);
}

TEST(TextFile, SaysWhichFileCannotBeRead) {
  const auto missing = ReadTextFile("/nowhere/at/all", 10);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MessageOf(missing.status()), "cannot read /nowhere/at/all: No such file or directory");
}

}  // namespace
}  // namespace callout::host
