// SPDX-License-Identifier: Apache-2.0

// Recordings of a running host: from its start on, and by POST /tap.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "ext_proc_client.h"
#include "host/record/recording_reader.h"
#include "http_get.h"
#include "test_host.h"
#include "tests/host/sockets.h"

namespace callout::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

class Record : public testing::TestWithParam<const char*> {
 protected:
  std::vector<std::string> Options(std::vector<std::string> more) {
    more.insert(more.end(), {GetParam(), "--plugin=" + BuiltPlugin("basic")});
    return more;
  }
  bool has_workers() const { return GetParam() != std::string("--workers=0"); }

  static void Ask(TestHost* host, const std::string& path = "/") {
    LiveStream stream(PlaintextChannel(host->address("plaintext")));
    stream.Exchange(RequestHeaders(
        {{":path", path}, {":method", "GET"}, {"authorization", "Bearer secret-of-this-test"}}));
    EXPECT_TRUE(stream.Finish().ok());
  }

  // Names of the recordings in the directory.
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.Path(""))) {
      files.push_back(entry.path().string());
    }
    return files;
  }
  // Exchanges in all of them, which are whole.
  uint64_t Exchanges() const {
    uint64_t exchanges = 0;
    for (const std::string& file : Files()) {
      auto reader = host::RecordingReader::Open(file);
      EXPECT_TRUE(reader.ok()) << reader.status();
      if (!reader.ok()) continue;
      while ((*reader)->Next()) {
      }
      EXPECT_EQ((*reader)->status(), absl::OkStatus());
      exchanges += (*reader)->exchanges();
    }
    return exchanges;
  }

  const host::TempDir directory_;
};

TEST_P(Record, WritesFromTheStartToTheEnd) {
  TestHost host(Options({"--record=" + directory_.Path("a.rec")}));
  for (int i = 0; i < 10; ++i) Ask(&host);
  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_EQ(Exchanges(), 10u);
  EXPECT_THAT(Files(), SizeIs(has_workers() ? 2 : 1));
  for (const std::string& file : Files()) {
    std::ifstream in(file);
    const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    EXPECT_THAT(bytes, StartsWith("callout-recording 1\n"));
    EXPECT_THAT(bytes, Not(HasSubstr("secret-of-this-test")));
  }
}

TEST_P(Record, TapsForAWhile) {
  TestHost host(Options({"--record_dir=" + directory_.Path(""), "--admin_writes=on"}));
  const std::string admin = host.address("admin");
  Ask(&host);
  const std::string begun = HttpPost(admin, "/tap", "path_prefix=/api&seconds=600");
  EXPECT_THAT(begun, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(begun, HasSubstr("/tap-"));
  for (int i = 0; i < 10; ++i) Ask(&host, i % 2 == 0 ? "/api/a" : "/other");
  EXPECT_THAT(HttpPost(admin, "/tap", "stop=1"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(HttpPost(admin, "/tap", "stop=1"), StartsWith("HTTP/1.1 409 "));
  Ask(&host, "/api/later");
  EXPECT_EQ(MetricOf(admin, "callout_record_exchanges_total{by=\"option\"}"), 0);
  EXPECT_EQ(host.Terminate(), 0);
  EXPECT_EQ(Exchanges(), 5u);
}

TEST_P(Record, ATapThatEndsWhileTheHostDrainsLeavesAWholeFile) {
  TestHost host(Options({"--record_dir=" + directory_.Path(""), "--admin_writes=on"}));
  EXPECT_THAT(HttpPost(host.address("admin"), "/tap", "percent=100&count=1&seconds=600"),
              StartsWith("HTTP/1.1 200 "));
  const ChannelPtr channel = PlaintextChannel(host.address("plaintext"));  // to one worker
  LiveStream first(channel), second(channel);
  for (LiveStream* stream : {&first, &second}) {
    EXPECT_TRUE(stream->Exchange(RequestHeaders({{":path", "/"}, {":method", "GET"}})));
  }
  host.Signal(SIGTERM);
  host.AwaitLog("draining");
  EXPECT_TRUE(first.Finish().ok());
  EXPECT_TRUE(second.Finish().ok());
  EXPECT_EQ(host.AwaitEnd(), 0);
  EXPECT_EQ(Exchanges(), 1u);
}

TEST_P(Record, TapsNothingThatIsNotAllowed) {
  TestHost host(Options({"--admin_writes=on"}));
  const std::string admin = host.address("admin");
  EXPECT_THAT(HttpPost(admin, "/tap", "percent=5"), HasSubstr("set --record_dir"));
  EXPECT_THAT(HttpPost(admin, "/tap", "percent=5&path=/tmp/x"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(HttpPost(admin, "/tap", ""), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(HttpGet(admin, "GET", "/tap"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(HttpPost(admin, "/tap", "percent=5", "Origin: http://evil.example\r\n"),
              StartsWith("HTTP/1.1 403 "));
  EXPECT_EQ(host.Terminate(), 0);
  TestHost closed(Options({"--record_dir=" + directory_.Path("")}));
  EXPECT_THAT(HttpPost(closed.address("admin"), "/tap", "percent=5"), StartsWith("HTTP/1.1 403 "));
  EXPECT_EQ(closed.Terminate(), 0);
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_P(Record, SaysThatATapCannotBegin) {
  const std::string gone = directory_.Path("gone");
  std::filesystem::create_directory(gone);
  TestHost host(Options({"--record_dir=" + gone, "--admin_writes=on"}));
  const std::string admin = host.address("admin");
  std::filesystem::remove(gone);
  const std::string refused = HttpPost(admin, "/tap", "percent=100");
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 409 "));
  EXPECT_THAT(refused, HasSubstr("--record_dir=" + gone + ": no file can be created in " + gone +
                                 ": No such file or directory"));
  std::filesystem::create_directory(gone);
  EXPECT_THAT(HttpPost(admin, "/tap", "percent=100"), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(host.Terminate(), 0);
}

INSTANTIATE_TEST_SUITE_P(, Record, testing::Values("--workers=0", "--workers=2"),
                         [](const auto& tested) {
                           return std::string(tested.param).ends_with("0") ? "OneProcess"
                                                                           : "Workers";
                         });

TEST(RecordOptions, RefuseADirectoryThatIsNotThere) {
  for (const char* option : {"--record=/nowhere/a.rec", "--record_dir=/nowhere"}) {
    const Finished refused = RunHost({option});
    EXPECT_EQ(refused.exit_status, 2);
    EXPECT_THAT(refused.output,
                HasSubstr(std::string(option) + ": no file can be created in /nowhere: No such"));
  }
}

}  // namespace
}  // namespace callout::tests
