// SPDX-License-Identifier: Apache-2.0

#include "host/record/recorder.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "callout/recording/v1/recording.pb.h"
#include "host/base/clock.h"
#include "host/base/file.h"
#include "host/base/owned_fd.h"
#include "host/record/recording_reader.h"
#include "host/stream/stream.h"
#include "tests/host/sockets.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace proto = callout::recording::v1;

class RecorderTest : public StreamTest {
 protected:
  ~RecorderTest() override {
    stream_.reset();     // what the recorder has of it ends
    recorder_.Detach();  // as in the host, before the watchers are gone
    Reset();
  }

  RecordSession::Options Options() {
    return {.path = Path(),
            .rule = *MakeRecordRule(100, ""),
            .redaction = Redaction(),
            .bodies = false,
            .file_bytes_max = 1 << 20,
            .files = 3,
            .rotates = true,
            .queue_bytes_max = 1 << 20,
            .exchange_bytes_max = 1 << 16,
            .until_ns = 0,
            .count_max = 0,
            .host_version = "test"};
  }
  std::string Path() const { return directory_.Path("a.rec"); }

  void BeginRecorded(RecordSession::Options options) {
    limits_.early_end = true;
    Begin();
    recorder_.Attach(&environment_->watchers());
    ASSERT_EQ(recorder_.Start(std::move(options)), absl::OkStatus());
  }
  void NextStream() { stream_ = std::make_unique<Stream>(environment_.get(), &rpc_); }

  // One exchange with all phases, of plugins that want none of them.
  void RunExchange(const Pairs& headers = {{":path", "/"}}, const std::string& body = "body") {
    NextStream();
    for (const ProcessingRequest& message :
         {WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, headers), kStreamed, kStreamed),
          Body(CALLOUT_REQUEST_BODY, body, true),
          Headers(CALLOUT_RESPONSE_HEADERS, false, {{":status", "200"}}),
          Body(CALLOUT_RESPONSE_BODY, body, true)}) {
      if (stream_->end().has_value()) return;  // early, since it is not recorded
      Exchange(message);
    }
    stream_->OnCancel();  // Envoy's normal end
  }

  // Ends the recording.
  std::vector<proto::RecordedExchange> Recorded() {
    recorder_.Stop();
    EXPECT_TRUE(recorder_.Join(60000));
    std::vector<proto::RecordedExchange> all;
    auto reader = RecordingReader::Open(Path());
    EXPECT_TRUE(reader.ok()) << reader.status();
    if (!reader.ok()) return all;
    while ((*reader)->Next()) {
      proto::RecordingRecord record;
      EXPECT_TRUE(record.ParseFromArray((*reader)->record().data(),
                                        static_cast<int>((*reader)->record().size())));
      all.push_back(record.exchange());
    }
    EXPECT_EQ((*reader)->status(), absl::OkStatus());
    return all;
  }
  // By reason, and the recorder's own label.
  double Dropped(const std::string& reason, const std::string& by = "option") {
    for (const auto& family : metrics_.Collect()) {
      if (family.name != "callout_record_dropped_total") continue;
      for (const auto& metric : family.metric) {
        const auto has = [&](const std::string& value) {
          return std::any_of(metric.label.begin(), metric.label.end(),
                             [&](const auto& label) { return label.value == value; });
        };
        if (has(reason) && has(by)) return metric.counter.value;
      }
    }
    return -1;
  }

  // Without anything that ends it but its own limits.
  bool EndsByItself() {
    while (!recorder_.path().empty()) std::this_thread::yield();
    return true;
  }

  const TempDir directory_;
  Recorder recorder_{&metrics_, "option"};
};

TEST_F(RecorderTest, WritesAllMessagesOfBothWaysInTheirOrder) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-new", "1");
  RecordSession::Options options = Options();
  options.bodies = true;
  BeginRecorded(options);
  RunExchange();
  const auto all = Recorded();
  ASSERT_EQ(all.size(), 1u);
  const proto::RecordedExchange& one = all[0];
  EXPECT_EQ(one.service(), "ext_proc");
  EXPECT_GT(one.stream_id(), 0u);
  EXPECT_GT(one.began_unix_ns(), 0u);
  EXPECT_EQ(one.end().outcome(), CALLOUT_END_COMPLETED);
  ASSERT_EQ(one.messages_size(), 8);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(one.messages(i).has_request(), i % 2 == 0) << i;
    EXPECT_GT(one.messages(i).size(), 0u) << i;
    EXPECT_GE(one.messages(i).at_ns(), one.messages(std::max(i, 1) - 1).at_ns());
  }
  ProcessingRequest request;
  ASSERT_TRUE(request.ParseFromString(one.messages(0).request()));
  EXPECT_EQ(request.protocol_config().request_body_mode(), kStreamed);
  ASSERT_TRUE(request.ParseFromString(one.messages(2).request()));
  EXPECT_EQ(request.request_body().body(), "body");
  EXPECT_EQ(one.messages(2).body_bytes(), 4u);
  EXPECT_FALSE(one.messages(2).body_left_out());
  ProcessingResponse response;
  ASSERT_TRUE(response.ParseFromString(one.messages(1).response()));
  EXPECT_THAT(Mutations(response.request_headers().response().header_mutation()),
              ::testing::ElementsAre("set x-new=1"));
}

TEST_F(RecorderTest, KeepsTheStreamOpenToItsRealEnd) {
  BeginRecorded(Options());
  RunExchange();  // nobody wants anything of it: without the recorder it would end at once
  const auto all = Recorded();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].messages_size(), 8);
  NextStream();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kStreamed));
  EXPECT_TRUE(stream_->end().has_value()) << "a stream that is not recorded ends early";
}

TEST_F(RecorderTest, AsksEnvoyToLeaveOutNothing) {
  AddPlugin()->phases[CALLOUT_RESPONSE_HEADERS] = SetsHeader("x-new", "1");
  limits_.phase_pruning = true;
  limits_.mode_override = EnvoyModeOverride::kAllowed;
  BeginRecorded(Options());
  const auto first =
      WithModes(Headers(CALLOUT_REQUEST_HEADERS, false, {{":path", "/"}}), kStreamed, kStreamed);
  NextStream();
  EXPECT_FALSE(Exchange(first).has_mode_override());
  recorder_.Stop();
  NextStream();
  EXPECT_TRUE(Exchange(first).has_mode_override()) << "of a stream that is not recorded";
}

TEST_F(RecorderTest, RecordsSizesInThePlaceOfBodies) {
  AddPlugin()->phases[CALLOUT_REQUEST_BODY] = ReplacesBody("replaced");
  BeginRecorded(Options());
  RunExchange({{":path", "/"}}, "a body that nobody is to see");
  const auto all = Recorded();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].messages(2).body_bytes(), 28u);
  EXPECT_TRUE(all[0].messages(2).body_left_out());
  EXPECT_EQ(all[0].messages(3).body_bytes(), 8u);
  const std::string file = ReadFile(Path(), 1 << 20).value_or("");
  EXPECT_THAT(file, Not(HasSubstr("nobody is to see")));
  EXPECT_THAT(file, Not(HasSubstr("replaced")));
}

// Each place that a credential may stand in has a marker of its own.
TEST_F(RecorderTest, WritesNoMarkerOfARedactedPlace) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    CommonResponse common;
    AddSet(&common, "x-api-key", "marker-of-set-header");
    AddSet(&common, "x-copy", "copied: marker-of-authorization");
    EXPECT_EQ(RespondCommon(call, common), CALLOUT_OK);
    google::protobuf::Struct metadata;
    auto* space = (*metadata.mutable_fields())["space"].mutable_struct_value();
    (*space->mutable_fields())["access_token"].set_string_value("marker-of-dynamic-metadata");
    (*space->mutable_fields())["copy"].set_string_value("marker-of-authorization");
    const std::string payload = metadata.SerializeAsString();
    return call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(payload));
  };
  plugins_[0]->phases[CALLOUT_RESPONSE_HEADERS] = [](callout_call_t* call) {
    envoy::service::ext_proc::v3::ImmediateResponse reply;
    auto* header = reply.mutable_headers()->add_set_headers()->mutable_header();
    header->set_key("set-cookie");
    header->set_raw_value("marker-of-immediate-header");
    reply.set_body("marker-of-immediate-body");
    reply.set_details("details_marker-of-authorization");
    const std::string payload = reply.SerializeAsString();
    const callout_bytes_t part = ToBytes(payload);
    return call->host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, &part, 1);
  };
  BeginRecorded(Options());
  NextStream();
  ProcessingRequest request =
      WithModes(Headers(CALLOUT_REQUEST_HEADERS, false,
                        {{":path", "/public?q=marker-of-query"},
                         {"authorization", "Bearer marker-of-authorization"},
                         {"proxy-authorization", "marker-of-proxy"},
                         {"cookie", "a=marker-of-cookie; b=2"},
                         {"referer", "https://marker-of-user:pw@h/?marker-of-referer"},
                         {"x-callout-debug", "marker-of-debug-key"},
                         {"x-public", "public-text"}}),
                kBuffered, kBuffered);
  auto& attributes =
      *(*request.mutable_attributes())["envoy.filters.http.ext_proc"].mutable_fields();
  attributes["request.path"].set_string_value("/public?q=marker-of-attribute-path");
  attributes["request.query"].set_string_value("marker-of-attribute-query");
  (*attributes["request.headers"].mutable_struct_value()->mutable_fields())["x-api-key"]
      .set_string_value("marker-of-attribute-header");
  auto& context = *request.mutable_metadata_context();
  (*(*context.mutable_filter_metadata())["envoy.filters.http.jwt_authn"]
        .mutable_fields())["payload"]
      .set_string_value("marker-of-jwt-payload");
  (*context.mutable_typed_filter_metadata())["typed"].set_value("marker-of-typed-metadata");
  Exchange(request);
  Exchange(Body(CALLOUT_REQUEST_BODY, "marker-of-request-body", false));
  Exchange(Trailers(CALLOUT_REQUEST_TRAILERS, {{"x-session-id", "marker-of-trailer"}}));
  Exchange(Headers(CALLOUT_RESPONSE_HEADERS, false,
                   {{":status", "200"}, {"set-cookie", "marker-of-set-cookie"}}));
  stream_->OnCancel();
  ASSERT_EQ(Recorded().size(), 1u);
  const std::string file = ReadFile(Path(), 1 << 20).value_or("");
  EXPECT_THAT(file, Not(HasSubstr("marker"))) << file;
  EXPECT_THAT(file, HasSubstr("public-text"));
  EXPECT_THAT(file, HasSubstr("/public?[redacted]"));
}

TEST_F(RecorderTest, LeavesOutACredentialThatIsCutOverTwoChunks) {
  RecordSession::Options options = Options();
  options.bodies = true;
  BeginRecorded(options);
  NextStream();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS, false,
                             {{":path", "/"}, {"authorization", "Bearer tok-0123456789"}}),
                     kStreamed, kNone));
  Exchange(Body(CALLOUT_REQUEST_BODY, "a tok-01234", false));
  Exchange(Body(CALLOUT_REQUEST_BODY, "56789 b", true));
  stream_->OnCancel();
  const auto all = Recorded();
  ASSERT_EQ(all.size(), 1u);
  std::string body;
  for (const int i : {2, 4}) {
    ProcessingRequest request;
    ASSERT_TRUE(request.ParseFromString(all[0].messages(i).request()));
    body += request.request_body().body() + "|";
  }
  EXPECT_EQ(body, "a *********|***** b|");
}

TEST_F(RecorderTest, RecordsOnlyWhatMatchesAndItsShare) {
  RecordSession::Options options = Options();
  options.rule = *MakeRecordRule(100, "path_prefix=/api");
  BeginRecorded(options);
  RunExchange({{":path", "/other"}});
  RunExchange({{":path", "/api/1"}});
  EXPECT_EQ(Recorded().size(), 1u);
}

TEST_F(RecorderTest, DropsAndCountsWhatFindsTheQueueFull) {
  RecordSession::Options options = Options();
  options.queue_bytes_max = 2000;
  options.bodies = true;
  BeginRecorded(options);
  RunExchange({{":path", "/"}}, std::string(3000, 'x'));
  EXPECT_EQ(Dropped("queue_full"), 1);
  RunExchange();  // there is room again
  EXPECT_EQ(Recorded().size(), 1u);
}

TEST_F(RecorderTest, CountsExchangesWithoutMessagesInTheQueue) {
  RecordSession::Options options = Options();
  options.queue_bytes_max = 5 * sizeof(CapturedExchange) - 1;  // how they end takes room, too
  options.exchange_bytes_max = 1;                              // no message fits
  BeginRecorded(options);
  std::vector<std::unique_ptr<Stream>> streams;  // that go on
  for (int i = 0; i < 10; ++i) {
    NextStream();
    Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kStreamed));
    streams.push_back(std::move(stream_));
  }
  EXPECT_EQ(Dropped("queue_full"), 6);
  for (const auto& stream : streams) {
    if (!stream->closed()) stream->OnCancel();
  }
  EXPECT_EQ(Recorded().size(), 4u);
  streams.clear();
}

// Where the file is a pipe, and this the description that the recording writes to.
int DescriptorOf(const std::string& path) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path(), error) != path) continue;
    const int fd = std::stoi(entry.path().filename());
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) return fd;
  }
  return -1;
}

TEST_F(RecorderTest, ADetachedOneRecordsNothingAndNeedsNoWatchers) {
  Recorder recorder(&metrics_, "tap");
  auto watchers = std::make_unique<RpcWatchers>();
  recorder.Attach(watchers.get());
  ASSERT_EQ(recorder.Start(Options()), absl::OkStatus());
  EXPECT_TRUE(watchers->active());
  recorder.Detach();
  EXPECT_FALSE(watchers->active());
  ASSERT_EQ(recorder.Start(Options()), absl::OkStatus());
  EXPECT_FALSE(watchers->active());
  watchers.reset();
  recorder.Stop();
}

// As a file system that hangs: a pipe that is full, and that the recording waits for.
TEST_F(RecorderTest, AFileSystemThatHangsHoldsNobodyUp) {
  RecordSession::Options options = Options();
  options.path = directory_.Path("pipe");
  options.bodies = true;
  ASSERT_EQ(mkfifo(options.path.c_str(), 0600), 0);
  const OwnedFd reader(open(options.path.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_GE(reader.get(), 0);
  std::string written(1 << 20, '\0');
  {
    Recorder recorder(&metrics_, "tap");
    Begin();
    recorder.Attach(&environment_->watchers());
    ASSERT_EQ(recorder.Start(options), absl::OkStatus());
    const int fd = DescriptorOf(options.path);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(fcntl(fd, F_SETFL, 0), 0);  // it waits
    for (int i = 0; i < 10; ++i) RunExchange({{":path", "/"}}, std::string(20000, 'x'));
    stream_.reset();
    testing::internal::CaptureStderr();
    recorder.Stop();
    EXPECT_FALSE(recorder.Join(0));
  }  // the recorder's end does not wait for it
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("pipe: its file system has taken nothing for 1000 ms"));
  const double dropped = Dropped("write_failed", "tap");
  EXPECT_GT(dropped, 0);
  EXPECT_LE(dropped, 10);
  // When it is taken after all, the thread goes on, and ends: the last writer closes the pipe.
  ASSERT_EQ(fcntl(reader.get(), F_SETFL, 0), 0);
  while (read(reader.get(), written.data(), written.size()) > 0) {
  }
  EXPECT_EQ(Dropped("write_failed", "tap"), dropped);
}

TEST_F(RecorderTest, LeavesOutBodiesAndThenMessagesOfAnExchangeThatIsTooLarge) {
  RecordSession::Options options = Options();
  options.bodies = true;
  options.exchange_bytes_max = 1000;
  BeginRecorded(options);
  RunExchange({{":path", "/"}}, std::string(2000, 'x'));
  RunExchange({{":path", "/"}, {"x-large", std::string(2000, 'x')}});
  const auto all = Recorded();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].messages_size(), 8);
  EXPECT_TRUE(all[0].messages(2).body_left_out());
  EXPECT_EQ(all[0].messages(2).body_bytes(), 2000u);
  EXPECT_EQ(all[1].messages_size(), 0);
  EXPECT_EQ(all[1].messages_left_out(), 8u);
}

TEST_F(RecorderTest, LosesNothingButExchangesToAFullDisk) {
  RecordSession::Options options = Options();
  options.path = "/dev/full";
  BeginRecorded(options);
  RunExchange();
  recorder_.Stop();
  EXPECT_TRUE(recorder_.Join(60000));
  EXPECT_EQ(Dropped("write_failed"), 1);
}

TEST_F(RecorderTest, EndsByItselfAtItsLimits) {
  RecordSession::Options options = Options();
  options.count_max = 2;
  options.rotates = false;
  BeginRecorded(options);
  for (int i = 0; i < 5; ++i) RunExchange();
  EXPECT_EQ(Recorded().size(), 2u);

  options.count_max = 0;
  options.file_bytes_max = 2000;
  ASSERT_EQ(recorder_.Start(options), absl::OkStatus());
  for (int i = 0; i < 50; ++i) RunExchange();
  const size_t kept = Recorded().size();
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, 50u);
  EXPECT_LE(ReadFile(Path(), 1 << 20)->size(), 2000u);

  options.until_ns = MonotonicNs() + 1;
  ASSERT_EQ(recorder_.Start(options), absl::OkStatus());
  EXPECT_TRUE(EndsByItself());
  RunExchange();
  EXPECT_EQ(Recorded().size(), 0u);
}

TEST_F(RecorderTest, DropsWhatIsNotOverWhenItStops) {
  BeginRecorded(Options());
  NextStream();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kStreamed, kStreamed));
  recorder_.Stop();
  Exchange(Body(CALLOUT_REQUEST_BODY, "x", true));
  stream_->OnCancel();
  EXPECT_EQ(Dropped("stopped"), 1);
  EXPECT_EQ(Recorded().size(), 0u);
}

TEST_F(RecorderTest, SaysHowAStreamEnded) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    const callout_bytes_t why = ToBytes("no entry");
    call->host->set_error(call, why);
    return callout_status_t{CALLOUT_PERMISSION_DENIED};
  };
  BeginRecorded(Options());
  NextStream();
  Feed(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone));
  const auto all = Recorded();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].end().code(), static_cast<uint32_t>(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(all[0].end().message(), HasSubstr("no entry"));
  EXPECT_EQ(all[0].end().outcome(), CALLOUT_END_ERROR);
}

}  // namespace
}  // namespace callout::host
