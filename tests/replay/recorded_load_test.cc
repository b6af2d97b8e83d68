// SPDX-License-Identifier: Apache-2.0

// A recording as the load of tests/bench/load: bench-load sends its exchanges to a host, which
// records what comes. Nothing here is timed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "child_process.h"
#include "host/record/recording_reader.h"
#include "host_process.h"
#include "recorded_exchange.h"
#include "tests/host/sockets.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kConcurrency = 4;

struct Ran {
  int exit_status = -1;
  std::string output;
};

// One exchange as it came to the host.
struct Seen {
  std::string path;
  std::vector<std::string> messages;  // "request_headers", "request_body 4"
};

class RecordedLoad : public StreamTest {
 protected:
  static Ran Load(std::vector<std::string> options) {
    options.insert(options.begin(), tests::BuiltFile("tests/bench/bench-load"));
    tests::ChildProcess process(std::move(options));
    const int status = process.AwaitEnd();
    return {status, process.Output()};
  }

  std::string Write(const std::string& name, const std::vector<std::string>& frames) const {
    std::ofstream file(directory_.Path(name), std::ios::binary);
    file << kRecordingMagic;
    std::string header;
    AppendFrame(WriteHeader({.host_version = "test"}), &header);
    file << header;
    for (const std::string& frame : frames) file << frame;
    return directory_.Path(name);
  }

  static ProcessingRequest Start(const std::string& path, bool end = true,
                                 const std::string& role = "member") {
    return WithModes(Headers(CALLOUT_REQUEST_HEADERS, end,
                             {{":method", "GET"}, {":path", path}, {"x-role", role}}),
                     end ? kNone : kStreamed, kNone);
  }
  static ProcessingResponse Continues(bool body = false) {
    ProcessingResponse response;
    body ? static_cast<void>(response.mutable_request_body())
         : static_cast<void>(response.mutable_request_headers());
    return response;
  }
  static std::string FrameOf(ExchangeBuilder builder,
                             absl::StatusCode code = absl::StatusCode::kCancelled) {
    builder.End(code,
                code == absl::StatusCode::kCancelled ? CALLOUT_END_COMPLETED : CALLOUT_END_ERROR);
    builder.exchange().service = "ext_proc";
    std::string frame;
    AppendFrame(WriteExchange(builder.exchange()), &frame);
    return frame;
  }
  static std::string Plain(const std::string& path, const std::string& role = "member") {
    ExchangeBuilder builder;
    builder.Add(Start(path, true, role)).Add(Continues());
    return FrameOf(std::move(builder));
  }
  // The chunks of its body came without waiting, and one response to both.
  static std::string WithBody(const std::string& path) {
    ExchangeBuilder builder;
    builder.Add(Start(path, false))
        .Add(Continues())
        .Add(Body(CALLOUT_REQUEST_BODY, "12345", false), /*strip=*/true)
        .Add(Body(CALLOUT_REQUEST_BODY, "123", true), /*strip=*/true)
        .Add(Continues(true))
        .Add(Continues(true));
    return FrameOf(std::move(builder));
  }

  // Plays the recording through a host with the plugin, and returns what that has seen; the first
  // `exchanges` are in the recording's order.
  std::vector<Seen> Play(const std::string& recording, const std::string& plugin,
                         const std::string& ending, int connections) {
    const std::string seen = directory_.Path("seen.rec");
    std::filesystem::remove(seen);
    tests::HostProcess host({"--plugin=" + plugin, "--record=" + seen, "--record_bodies=on"});
    const Ran ran =
        Load({"--recording=" + recording, fmt::format("--port={}", host.port("plaintext")),
              fmt::format("--connections={}", connections),
              fmt::format("--concurrency={}", kConcurrency), "--warmup=0", "--seconds=0.2",
              "--ending=" + ending});
    EXPECT_EQ(ran.exit_status, 0) << ran.output;
    const nlohmann::json result = nlohmann::json::parse(ran.output, nullptr, false);
    EXPECT_EQ(result.value("errors", -1), 0) << ran.output;
    EXPECT_GT(result.value("streams", 0), 0) << ran.output;
    EXPECT_EQ(host.Terminate(), 0);
    return Read(seen);
  }

  static std::vector<Seen> Read(const std::string& path) {
    auto reader = RecordingReader::Open(path);
    EXPECT_TRUE(reader.ok()) << reader.status();
    std::vector<Seen> all;
    while (reader.ok() && (*reader)->Next()) {
      Seen& seen = all.emplace_back();
      for (const RecordedMessage& message : (*reader)->exchange().messages) {
        ProcessingRequest request;
        if (message.kind != MessageKind::kRequest) continue;
        EXPECT_TRUE(
            request.ParseFromArray(message.bytes.data(), static_cast<int>(message.bytes.size())));
        if (request.has_request_body()) {
          const std::string& body = request.request_body().body();
          EXPECT_EQ(body, std::string(body.size(), '\0')) << "the recording has no bytes of it";
          seen.messages.push_back(fmt::format("request_body {}", body.size()));
          continue;
        }
        for (const auto& header : request.request_headers().headers().headers()) {
          if (header.key() == ":path") seen.path = header.raw_value();
        }
        seen.messages.push_back("request_headers");
      }
    }
    return all;
  }

  static std::string Plugin(int version) {
    return tests::BuiltFile("tests/replay/stamp" + std::to_string(version) + ".so");
  }

  const TempDir directory_;
};

TEST_F(RecordedLoad, SendsTheExchangesInTurnWithAllTheirMessages) {
  const std::string recording = Write("a.rec", {Plain("/a"), WithBody("/b"), Plain("/c")});
  for (const char* ending : {"graceful", "envoy"}) {
    SCOPED_TRACE(ending);
    std::map<std::string, int> by_path;
    int cut = 0;
    // Before it measures, it makes a call on each connection: all exchanges are among them.
    for (const Seen& seen : Play(recording, Plugin(1), ending, 3)) {
      ++by_path[seen.path];
      const std::vector<std::string> whole = {"request_headers", "request_body 5",
                                              "request_body 3"};
      const size_t size = seen.path == "/b" ? 3 : 1;
      EXPECT_LE(seen.messages.size(), size);
      EXPECT_TRUE(std::equal(seen.messages.begin(), seen.messages.end(), whole.begin()));
      if (seen.messages.size() < size) ++cut;
    }
    ASSERT_EQ(by_path.size(), 3u);
    // In turn: none came much more often than another. Those that are under way when the time is
    // over are cut off.
    EXPECT_LE(cut, kConcurrency);
    EXPECT_NEAR(by_path["/a"], by_path["/c"], kConcurrency + 1);
  }
}

// The plugin of the recording has let the guest in, and asked for the body.
TEST_F(RecordedLoad, AVersionThatRespondsItselfIsNoError) {
  ExchangeBuilder builder;
  builder.Add(Start("/guest", false, "guest"))
      .Add(Continues())
      .Add(Body(CALLOUT_REQUEST_BODY, "12345", true))
      .Add(Continues(true));
  const std::string recording = Write("a.rec", {FrameOf(std::move(builder))});
  for (const char* ending : {"graceful", "envoy"}) {
    for (const Seen& seen : Play(recording, Plugin(2), ending, 1)) {
      EXPECT_THAT(seen.messages, ElementsAre("request_headers")) << ending;
    }
  }
}

TEST_F(RecordedLoad, LeavesOutWhatHasFailedOrIsNotWhole) {
  ExchangeBuilder failed, cut;
  failed.Add(Start("/failed")).Add(Continues());
  cut.Add(Start("/cut")).Add(Continues());
  cut.exchange().messages_left_out = 1;
  const std::vector<std::string> bad = {FrameOf(std::move(failed), absl::StatusCode::kInternal),
                                        FrameOf(std::move(cut)), FrameOf(ExchangeBuilder())};
  std::vector<std::string> all = bad;
  all.push_back(Plain("/good"));
  for (const Seen& seen : Play(Write("a.rec", all), Plugin(1), "envoy", 1)) {
    EXPECT_EQ(seen.path, "/good");
  }
  const Ran ran = Load({"--recording=" + Write("bad.rec", bad), "--port=1"});
  EXPECT_EQ(ran.exit_status, 1);
  EXPECT_THAT(ran.output, HasSubstr("no exchange can be sent again: 3 have failed, or are not"));
}

TEST_F(RecordedLoad, RefusesWhatIsNoWholeRecording) {
  const std::string good = Plain("/a");
  const std::pair<std::string, std::string> files[] = {
      {Write("cut.rec", {good, good.substr(0, good.size() - 3)}), "cut off at byte"},
      {directory_.Path("none"), "cannot read it"},
  };
  for (const auto& [file, why] : files) {
    const Ran ran = Load({"--recording=" + file, "--port=1"});
    EXPECT_EQ(ran.exit_status, 1);
    EXPECT_THAT(ran.output, HasSubstr(why));
  }
  EXPECT_NE(Load({"--recording=" + files[0].first, "--scenario=both", "--port=1"}).exit_status, 0);
}

}  // namespace
}  // namespace callout::host
