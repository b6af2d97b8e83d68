// SPDX-License-Identifier: Apache-2.0

#include "host/record/recording_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Frame(uint64_t stream_id, const std::string& bytes = "message") {
  RecordedExchange exchange;
  exchange.stream_id = stream_id;
  exchange.messages.push_back({.kind = MessageKind::kRequest, .bytes = bytes});
  std::string frame;
  AppendFrame(WriteExchange(exchange), &frame);
  return frame;
}

std::string Begin() {
  std::string begin(kRecordingMagic);
  AppendFrame(WriteHeader({.host_version = "1"}), &begin);
  return begin;
}

// Gives a few bytes at a time.
RecordingReader::Source Bytes(std::string bytes, size_t at_a_time = 7) {
  return [bytes = std::move(bytes), at_a_time, at = size_t{0}](
             char* to, size_t size) mutable -> absl::StatusOr<size_t> {
    const size_t got = std::min({size, at_a_time, bytes.size() - at});
    std::memcpy(to, bytes.data() + at, got);
    at += got;
    return got;
  };
}

struct Result {
  std::vector<uint64_t> streams;
  absl::Status status;
};
Result ReadAll(const std::string& bytes) {
  Result result;
  auto reader = RecordingReader::Read("a.rec", Bytes(bytes));
  if (!reader.ok()) return {{}, reader.status()};
  while ((*reader)->Next()) {
    result.streams.push_back((*reader)->exchange().stream_id);
    RecordedExchange again;
    EXPECT_TRUE(ReadExchange((*reader)->record(), &again));
    EXPECT_EQ(again.stream_id, (*reader)->exchange().stream_id);
  }
  result.status = (*reader)->status();
  return result;
}

TEST(RecordingReader, GivesEveryExchange) {
  const Result result = ReadAll(Begin() + Frame(1) + Frame(2, std::string(5000, 'x')) + Frame(3));
  EXPECT_EQ(result.status, absl::OkStatus());
  EXPECT_EQ(result.streams, (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(ReadAll(Begin()).status, absl::OkStatus());
}

TEST(RecordingReader, GivesEverythingBeforeACutAndSaysWhereItIs) {
  const std::string begin = Begin();
  const std::string whole = begin + Frame(1) + Frame(2);
  const size_t second = begin.size() + Frame(1).size();
  for (size_t size = begin.size(); size < whole.size(); ++size) {
    const Result result = ReadAll(whole.substr(0, size));
    EXPECT_EQ(result.streams.size(), size < second ? 0u : 1u) << size;
    if (size == begin.size() || size == second) {
      EXPECT_EQ(result.status, absl::OkStatus()) << size;
      continue;
    }
    EXPECT_EQ(result.status.code(), absl::StatusCode::kDataLoss) << size;
    EXPECT_THAT(std::string(result.status.message()),
                StartsWith("a.rec: cut off at byte " + std::to_string(size)));
  }
}

TEST(RecordingReader, GivesEverythingBeforeADamageAndSaysWhereItIs) {
  const std::string begin = Begin();
  std::string bytes = begin + Frame(1) + Frame(2) + Frame(3);
  const size_t second = begin.size() + Frame(1).size();
  bytes[second + 5] ^= 1;
  const Result result = ReadAll(bytes);
  EXPECT_EQ(result.streams, std::vector<uint64_t>{1});
  EXPECT_EQ(result.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(result.status.message()),
              StartsWith("a.rec: damaged at byte " + std::to_string(second) + ": the checksum"));
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("1 exchanges before it are whole"));
}

TEST(RecordingReader, RefusesWhatIsNoRecording) {
  for (const std::string& bytes :
       {std::string(), std::string("garbage"), std::string(100, '\0'), std::string("callout-rec"),
        std::string("callout-recordings\n")}) {
    const absl::Status status = ReadAll(bytes).status;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes;
    EXPECT_THAT(std::string(status.message()), StartsWith("a.rec: no recording"));
  }
}

TEST(RecordingReader, NamesTheVersionOfAnotherOne) {
  for (const char* version : {"2", "10"}) {
    const absl::Status status =
        ReadAll("callout-recording " + std::string(version) + "\nwhatever comes now").status;
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("a recording of version " + std::string(version) + ";"));
  }
}

TEST(RecordingReader, LeavesOutRecordsOfLaterVersions) {
  std::string later;
  AppendFrame(std::string("\x1a\x03new", 5), &later);  // field 3
  const Result result = ReadAll(Begin() + Frame(1) + later + Frame(2));
  EXPECT_EQ(result.status, absl::OkStatus());
  EXPECT_EQ(result.streams, (std::vector<uint64_t>{1, 2}));
}

TEST(RecordingReader, SaysWhyAFileCannotBeRead) {
  const auto reader = RecordingReader::Open("/nowhere/a.rec");
  EXPECT_THAT(std::string(reader.status().message()),
              StartsWith("/nowhere/a.rec: cannot read it: No such file"));
  EXPECT_FALSE(RecordingReader::Open("/dev/zero").ok());
}

}  // namespace
}  // namespace callout::host
