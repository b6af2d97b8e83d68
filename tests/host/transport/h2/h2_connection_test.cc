#include "host/transport/h2/h2_connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "h2_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string HeadersMessage() {
  ProcessingRequest request;
  request.mutable_request_headers();
  return Framed(request.SerializeAsString());
}

std::string BodyMessage(const std::string& body, bool end_of_stream = false) {
  ProcessingRequest request;
  request.mutable_request_body()->set_body(body);
  request.mutable_request_body()->set_end_of_stream(end_of_stream);
  return Framed(request.SerializeAsString());
}

TEST_F(H2Test, AnswersAWholeRpcInOneFlush) {
  Connect();
  Run();  // SETTINGS
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage(), true);
  EXPECT_EQ(Run(), 1);
  const H2Client::Rpc& rpc = client_->rpc(id);
  EXPECT_EQ(rpc.headers.at(":status"), "200");
  EXPECT_EQ(rpc.headers.at("content-type"), "application/grpc");
  ASSERT_THAT(rpc.Messages(), SizeIs(1));
  ProcessingResponse response;
  ASSERT_TRUE(response.ParseFromString(rpc.Messages().front()));
  EXPECT_TRUE(response.has_request_headers());
  EXPECT_EQ(rpc.trailers.at("grpc-status"), "0");
  EXPECT_TRUE(rpc.closed);
  EXPECT_EQ(rpc.error_code, 0U);
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2Test, TakesBytesHoweverTheyAreSplit) {
  Connect();
  for (const size_t piece : {1, 2, 7}) {
    const int32_t id = client_->Begin(kProcessPath);
    client_->Send(id, HeadersMessage() + BodyMessage(std::string(300, 'x'), true), true);
    Run(piece);
    EXPECT_THAT(client_->rpc(id).Messages(), SizeIs(2));
    EXPECT_EQ(client_->rpc(id).status(), "0");
  }
}

TEST_F(H2Test, AnAnswerGoesOutBeforeTheClientHalfCloses) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  Run();
  EXPECT_THAT(client_->rpc(id).Messages(), SizeIs(1));
  EXPECT_EQ(client_->rpc(id).status(), "");
  client_->End(id);
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "0");
  EXPECT_TRUE(client_->rpc(id).closed);
}

struct RefusalCase {
  const char* name;
  H2Client::Headers headers;
  std::string http_status, grpc_status;
};

TEST_F(H2Test, RefusesWhatIsNoCallOfIts) {
  options_.metadata_bytes_max = 2000;
  Connect();
  const auto grpc = [](const std::string& path, const H2Client::Headers& more) {
    H2Client::Headers headers = H2Client::GrpcHeaders(path);
    headers.insert(headers.end(), more.begin(), more.end());
    return headers;
  };
  H2Client::Headers not_grpc = H2Client::GrpcHeaders(kProcessPath);
  not_grpc.back().second = "text/html";
  H2Client::Headers no_te = H2Client::GrpcHeaders(kProcessPath);
  no_te.erase(no_te.begin() + 4);
  const RefusalCase table[] = {
      {"another path", grpc("/no.such.Service/Method", {}), "200", "12"},
      {"another protocol", not_grpc, "415", ""},
      {"no te", no_te, "200", "2"},
      {"compressed", grpc(kProcessPath, {{"grpc-encoding", "gzip"}}), "200", "12"},
      {"much metadata", grpc(kProcessPath, {{"x", std::string(3000, 'x')}}), "200", "8"},
  };
  for (const RefusalCase& c : table) {
    SCOPED_TRACE(c.name);
    const int32_t id = client_->BeginWith(c.headers);
    if (c.http_status != "200") client_->End(id);
    Run();
    const H2Client::Rpc& rpc = client_->rpc(id);
    EXPECT_EQ(rpc.headers.at(":status"), c.http_status);
    EXPECT_EQ(rpc.status(), c.grpc_status);
    EXPECT_TRUE(rpc.trailers.empty()) << "trailers only";
    EXPECT_TRUE(rpc.closed) << "though the client has not half-closed";
    EXPECT_EQ(rpc.headers.contains("grpc-accept-encoding"),
              std::string_view(c.name) == "compressed");
  }
  EXPECT_TRUE(client_->goaways().empty());
}

TEST_F(H2Test, ALargeMessageIsRefusedByItsHead) {
  options_.message_bytes_max = 1000;
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, std::string_view("\0\0\0\3\xe9", 5));  // 1001
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "8");
  EXPECT_THAT(client_->rpc(id).headers.at("grpc-message"), HasSubstr("--max_message_bytes=1000"));
}

TEST_F(H2Test, EndsAnRpcThatEndsWithinAMessage) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage().substr(0, 6), true);
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "13");
}

// A plugin that defers every call, and keeps it for the test to finish.
class H2DeferralTest : public H2Test {
 protected:
  void SetUp() override {
    FakePlugin* plugin = AddPlugin();
    plugin->process = [this](callout_call_t* call) {
      deferred_.push_back(call);
      return CALLOUT_DEFERRED;
    };
    limits_.hook_deadline_ms = 1000000;
  }
  void FinishOnAnotherThread() {
    std::thread([this] { deferred_.back()->host->finish(deferred_.back(), CALLOUT_OK); }).join();
    deferred_.pop_back();
  }
  std::vector<callout_call_t*> deferred_;
};

TEST_F(H2DeferralTest, KeepsTheDeadlineOfTheClient) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath, {{"grpc-timeout", "5S"}});
  client_->Send(id, HeadersMessage());
  Run();
  const uint64_t due_ns = context_->next_deadline_ns();
  EXPECT_EQ(due_ns, context_->now_ns() + 5'000'000'000);
  context_->SetNow(due_ns);
  context_->TakeDeadlines();
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "4");
  EXPECT_TRUE(client_->rpc(id).closed);
  ASSERT_THAT(deferred_, SizeIs(1));
  FinishOnAnotherThread();
  context_->TakePosted();
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2DeferralTest, AnotherThreadFinishesACall) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage() + BodyMessage("b", true), true);
  Run();
  ASSERT_THAT(deferred_, SizeIs(1)) << "the second message waits";
  EXPECT_EQ(client_->rpc(id).data, "");
  outputs_ = 0;
  for (int i = 1; i <= 2; ++i) {
    FinishOnAnotherThread();
    EXPECT_EQ(wakes_, i);
    context_->TakePosted();
    EXPECT_GT(outputs_, 0);
    Run();
    EXPECT_THAT(client_->rpc(id).Messages(), SizeIs(static_cast<size_t>(i)));
  }
  EXPECT_EQ(client_->rpc(id).status(), "0");
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2DeferralTest, AResetCallLivesOnUntilItIsFinished) {
  options_.concurrent_streams_max = 1;
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  Run();
  client_->Reset(id);
  Run();
  EXPECT_EQ(context_->live(), 1U);
  const int32_t next = client_->Begin(kProcessPath);
  Run();
  EXPECT_EQ(client_->rpc(next).error_code, static_cast<uint32_t>(NGHTTP2_REFUSED_STREAM));
  EXPECT_EQ(Metric("callout_h2_streams_refused_total"), "1");
  FinishOnAnotherThread();
  context_->TakePosted();
  EXPECT_EQ(context_->live(), 0U);
  EXPECT_FALSE(connection_->has_calls());
}

TEST_F(H2DeferralTest, ACallMayOutliveItsConnection) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  Run();
  connection_.reset();
  EXPECT_EQ(context_->live(), 1U);
  FinishOnAnotherThread();
  context_->TakePosted();
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2Test, AConnectionLostBeforeItsCallsAreServedLeavesNothingBehind) {
  Connect();
  Run();
  client_->Send(client_->Begin(kProcessPath), HeadersMessage());
  connection_->OnBytes(client_->TakeBytes());
  connection_.reset();
  EXPECT_EQ(context_->live(), 0U);
  // The next connection gets the same call, which must not be taken for one that waits.
  auto peer = std::make_shared<H2Peer>();
  connection_.emplace(&*context_, std::move(peer), this);
  client_.emplace();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage(), true);
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "0");
}

TEST_F(H2Test, AnEndAndAResetThatComeTogetherAreAnEnd) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  Run();
  client_->End(id);
  const std::string bytes = client_->TakeBytes();
  client_->Reset(id, NGHTTP2_NO_ERROR);
  SendRaw(bytes + client_->TakeBytes());
  EXPECT_EQ(context_->live(), 0U);
  EXPECT_EQ(Metric("callout_streams_ended_total{outcome=\"ok\"}"), "1");
}

TEST_F(H2Test, WhatIsWrongWithTheHeadComesBeforeWhatIsWrongWithItsMessages) {
  Connect();
  Run();
  const std::string compressed("\1\0\0\0\1x", 6);
  const std::string nonsense(10, '\7');
  const int32_t packed = client_->Begin(kProcessPath, {{"grpc-encoding", "gzip"}});
  client_->Send(packed, compressed, true);
  const int32_t unknown = client_->Begin("/some.Service/Method");
  client_->Send(unknown, nonsense, true);
  const int32_t process = client_->Begin(kProcessPath);
  client_->Send(process, nonsense, true);
  Run();
  EXPECT_EQ(client_->rpc(packed).status(), "12");
  EXPECT_EQ(client_->rpc(unknown).status(), "12");
  EXPECT_EQ(client_->rpc(process).status(), "13");
}

TEST_F(H2Test, AStreamResetWithItsFirstMessageIsNotServed) {
  Connect();
  Run();
  const std::string started = Metric("callout_streams_started_total");
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  const std::string bytes = client_->TakeBytes();
  client_->Reset(id);
  SendRaw(bytes + client_->TakeBytes());
  EXPECT_EQ(Metric("callout_streams_started_total"), started);
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2DeferralTest, ACallWithoutItsConnectionCountsAmongTheLiveOnes) {
  limits_.live_max = 1;
  Connect();
  client_->Send(client_->Begin(kProcessPath), HeadersMessage());
  Run();
  client_.emplace();
  connection_.emplace(&*context_, std::make_shared<H2Peer>(), this);
  const int32_t second = client_->Begin(kProcessPath);
  Run();
  EXPECT_EQ(client_->rpc(second).error_code, static_cast<uint32_t>(NGHTTP2_REFUSED_STREAM));
  FinishOnAnotherThread();
  context_->TakePosted();
  const int32_t third = client_->Begin(kProcessPath);
  client_->Send(third, HeadersMessage());
  Run();
  EXPECT_THAT(deferred_, SizeIs(1));
  EXPECT_EQ(context_->live(), 1U);
  FinishOnAnotherThread();
  context_->TakePosted();
}

TEST_F(H2Test, LargeMessagesPassAllWindowsBothWays) {
  AddPlugin()->process = [](callout_call_t* call) {
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(700000, 'y'));
    return RespondCommon(call, common);
  };
  client_.emplace(65535);
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, BodyMessage(std::string(3000000, 'x'), true), true);
  Run();
  const H2Client::Rpc& rpc = client_->rpc(id);
  EXPECT_EQ(rpc.status(), "0");
  ASSERT_THAT(rpc.Messages(), SizeIs(1));
  EXPECT_GT(rpc.Messages().front().size(), 700000U);
}

TEST_F(H2Test, MessagesWaitForTheConnectionsMemory) {
  options_.connection_memory_bytes_max = 150000;
  Connect();
  const std::string message = BodyMessage(std::string(100000, 'x'));
  const int32_t first = client_->Begin(kProcessPath);
  const int32_t second = client_->Begin(kProcessPath);
  client_->Send(first, message.substr(0, message.size() - 1));
  client_->Send(second, message);
  Run();
  EXPECT_EQ(client_->rpc(second).data, "") << "there is no room for both";
  client_->Send(first, message.substr(message.size() - 1));
  Run();
  EXPECT_THAT(client_->rpc(first).Messages(), SizeIs(1));
  EXPECT_THAT(client_->rpc(second).Messages(), SizeIs(1));
}

TEST_F(H2Test, AClientThatDoesNotReadGetsNoFurtherMessageServed) {
  int calls = 0;
  AddPlugin()->process = [&](callout_call_t* call) {
    ++calls;
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(50000, 'y'));
    return RespondCommon(call, common);
  };
  client_.emplace(1000);
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  std::string messages;
  for (int i = 0; i < 10; ++i) messages += BodyMessage("x");
  connection_->OnBytes(client_->TakeBytes());
  client_->Send(id, messages);
  connection_->OnBytes(client_->TakeBytes());
  connection_->Work();
  EXPECT_EQ(calls, 2) << "answers of 100,000 bytes wait, and 65,536 are the limit";
  Run();
  EXPECT_EQ(calls, 10);
  EXPECT_THAT(client_->rpc(id).Messages(), SizeIs(10));
}

// --- Ends -------------------------------------------------------------------

TEST_F(H2Test, ShutsDownInTwoSteps) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  Run();
  connection_->BeginShutdown();
  Run();
  ASSERT_THAT(client_->goaways(), SizeIs(2));
  EXPECT_EQ(client_->goaways()[0], std::make_pair(INT32_MAX, 0U));
  EXPECT_EQ(client_->goaways()[1], std::make_pair(id, 0U)) << "once the client has seen the first";
  EXPECT_FALSE(connection_->done());
  client_->End(id);
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "0");
  EXPECT_TRUE(connection_->done());
}

TEST_F(H2Test, WhatIsNoHttp2IsClosed) {
  Connect();
  SendRaw("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(connection_->done());
  EXPECT_EQ(ClosedFor("protocol"), "1");
}

// --- Attacks ----------------------------------------------------------------

TEST_F(H2Test, RapidResetsEndTheConnection) {
  options_.unanswered_resets_max = 100;
  Connect();
  for (int i = 0; i < 150 && !connection_->done(); ++i) {
    const int32_t id = client_->Begin(kProcessPath);
    connection_->OnBytes(client_->TakeBytes());
    client_->Reset(id);
    connection_->OnBytes(client_->TakeBytes());
  }
  std::string out;
  connection_->Fill(&out, SIZE_MAX);
  EXPECT_TRUE(connection_->done());
  EXPECT_EQ(ClosedFor("resets"), "1");
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2Test, AResetAfterAnAnswerIsTheNormalEnd) {
  options_.unanswered_resets_max = 10;
  Connect();
  for (int i = 0; i < 500; ++i) {
    const int32_t id = client_->Begin(kProcessPath);
    client_->Send(id, HeadersMessage());
    Run();
    ASSERT_THAT(client_->rpc(id).Messages(), SizeIs(1));
    client_->End(id);
    client_->Reset(id, NGHTTP2_NO_ERROR);
    Run();
  }
  EXPECT_FALSE(connection_->done());
  EXPECT_TRUE(client_->goaways().empty());
}

TEST_F(H2Test, TheStreamLimitHoldsWithoutAnAcknowledgement) {
  options_.concurrent_streams_max = 10;
  Connect();
  for (int i = 0; i < 1000; ++i) client_->Begin(kProcessPath);
  connection_->OnBytes(client_->TakeBytes());
  connection_->Work();
  EXPECT_EQ(context_->live(), 10U);
  std::string out;
  connection_->Fill(&out, SIZE_MAX);
  EXPECT_EQ(Metric("callout_h2_streams_refused_total"), "990");
}

TEST_F(H2Test, OverTheLimitOfTheProcessStreamsAreRefusedWhateverTheyAre) {
  limits_.live_max = 2;
  Connect();
  const int32_t first = client_->Begin(kProcessPath);
  client_->Begin("/grpc.health.v1.Health/Watch");
  const int32_t refused[] = {client_->Begin(kProcessPath),
                             client_->Begin("/grpc.health.v1.Health/Check")};
  Run();
  EXPECT_EQ(context_->live(), 2U);
  for (const int32_t id : refused) {
    EXPECT_EQ(client_->rpc(id).error_code, static_cast<uint32_t>(NGHTTP2_REFUSED_STREAM));
  }
  EXPECT_EQ(Metric("callout_streams_refused_total"), "2");
  client_->Send(first, HeadersMessage(), true);
  const int32_t next = client_->Begin(kProcessPath);
  Run();
  EXPECT_EQ(client_->rpc(first).status(), "0");
  EXPECT_EQ(client_->rpc(next).error_code, static_cast<uint32_t>(NGHTTP2_REFUSED_STREAM))
      << "the first was still there when it came";
  client_->Send(client_->Begin(kProcessPath), HeadersMessage());
  Run();
  EXPECT_EQ(context_->live(), 2U);
  EXPECT_EQ(Metric("callout_streams_refused_total"), "3");
}

TEST_F(H2Test, FloodsEndTheConnectionAndSayWhy) {
  const std::string headers = Frame(NGHTTP2_HEADERS, 0, 1, "\x82");
  const struct {
    const char* reason;
    std::string before, frame;
  } table[] = {
      {"ping", "", Frame(NGHTTP2_PING, 0, 0, "12345678")},
      {"settings", "", Frame(NGHTTP2_SETTINGS, 0, 0, "")},
      {"window_update", "", Frame(NGHTTP2_WINDOW_UPDATE, 0, 0, std::string_view("\0\0\0\1", 4))},
      {"priority", "", Frame(NGHTTP2_PRIORITY, 0, 1, std::string_view("\0\0\0\0\1", 5))},
      {"empty_data", client_->TakeBytes(), Frame(NGHTTP2_DATA, 0, 1, "")},
      {"unknown_frames", "", Frame(77, 0, 0, "x")},
      {"continuations", headers, Frame(NGHTTP2_CONTINUATION, 0, 1, "")},
      {"header_block", headers, Frame(NGHTTP2_CONTINUATION, 0, 1, std::string(16000, '\x82'))},
  };
  for (const auto& c : table) {
    SCOPED_TRACE(c.reason);
    connection_.reset();
    context_.reset();
    Reset();
    Connect();
    SendPreface();
    if (std::string_view(c.reason) == "empty_data") {
      H2Client opener;
      opener.Begin(kProcessPath);
      SendRaw(opener.TakeBytes().substr(kPreface.size()));
    } else {
      SendRaw(c.before);
    }
    int frames = 0;
    while (!connection_->done() && ++frames < 2000) SendRaw(c.frame);
    EXPECT_LT(frames, 1010);
    EXPECT_EQ(ClosedFor(c.reason), "1") << metrics_.Text();
  }
}

}  // namespace
}  // namespace callout::host
