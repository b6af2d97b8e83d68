// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/h2_connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

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
  EXPECT_EQ(client_->rpc(id).data_frames, 1u) << "no empty one before the trailers";
}

// nghttp2 is told each time that there is no more.
TEST_F(H2Test, OneAnswerAfterTheOtherGoesOut) {
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage());
  constexpr size_t kBodies = 5;
  for (size_t i = 0; i <= kBodies; ++i) {
    Run();
    EXPECT_THAT(client_->rpc(id).Messages(), SizeIs(i + 1));
    EXPECT_EQ(client_->rpc(id).data_frames, i + 1);
    if (i < kBodies) client_->Send(id, BodyMessage("x", i + 1 == kBodies));
  }
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

TEST_F(H2Test, WhatAnRpcHasKeptIsFreedOnceItIsAnsweredWhoeverReadsIt) {
  AddPlugin()->phases[CALLOUT_CHECK] = Returns(CALLOUT_OK);
  constexpr size_t kLarge = 500000;
  std::string request("\x7a\xa0\xc2\x1e");  // a field yet to be invented, of so many bytes
  request.append(kLarge, 'x');
  Connect();
  for (const bool half_closes : {true, false}) {
    client_.emplace(0);  // takes no DATA
    connection_.emplace(&*context_, std::make_shared<H2Peer>(), this);
    const int32_t id = client_->Begin("/envoy.service.auth.v3.Authorization/Check");
    client_->Send(id, Framed(request), half_closes);
    Run();
    EXPECT_EQ(client_->rpc(id).headers.at(":status"), "200");
    EXPECT_FALSE(client_->rpc(id).closed);
    EXPECT_EQ(context_->live(), 1U);
    EXPECT_LT(memory_->used(), kLarge / 2);
    if (!half_closes) client_->End(id);
    Run();
    client_->OpenWindows(1 << 20);
    Run();
    ASSERT_THAT(client_->rpc(id).Messages(), SizeIs(1));
    EXPECT_EQ(client_->rpc(id).status(), "0");
    EXPECT_TRUE(client_->rpc(id).closed);
    EXPECT_EQ(context_->live(), 0U);
  }
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

// --- Memory -----------------------------------------------------------------

TEST_F(H2Test, TheSizeInAMessagesHeadReservesNothing) {
  memory_bytes_ = size_t{1} << 30;
  Connect();
  Run();
  std::vector<int32_t> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(client_->Begin(kProcessPath));
    client_->Send(ids.back(), std::string_view("\0\0\xff\xff\xff"
                                               "x",
                                               6));
  }
  Run();
  EXPECT_LT(memory_->used(), 200000U);
}

TEST_F(H2Test, AStreamThatGrowsOverTheBudgetEndsAndGivesBackWhatItHeld) {
  memory_bytes_ = 1000000;
  Connect();
  Run();
  const int32_t small = client_->Begin(kProcessPath);
  const int32_t large = client_->Begin(kProcessPath);
  client_->Send(large, BodyMessage(std::string(2000000, 'x')));
  Run();
  EXPECT_EQ(client_->rpc(large).status(), "8");
  EXPECT_THAT(client_->rpc(large).headers.at("grpc-message"),
              HasSubstr("--memory_budget_bytes=1000000"));
  EXPECT_LT(memory_->used(), 100000U);
  EXPECT_EQ(memory_->refusals(MemoryBudget::Use::kGrowth), 1U);
  EXPECT_EQ(Metric("callout_h2_stream_limits_total{limit=\"memory\"}"), "1");
  client_->Send(small, HeadersMessage(), true);
  Run();
  EXPECT_EQ(client_->rpc(small).status(), "0") << "others are served at once";
}

TEST_F(H2Test, NewStreamsAreRefusedBeforeTheBudgetIsGone) {
  memory_bytes_ = 1000000;
  Connect();
  Run();
  memory_->Take(880000);
  const int32_t refused = client_->Begin(kProcessPath);
  Run();
  EXPECT_EQ(client_->rpc(refused).error_code, static_cast<uint32_t>(NGHTTP2_REFUSED_STREAM));
  EXPECT_EQ(memory_->refusals(MemoryBudget::Use::kStream), 1U);
  memory_->Give(880000);
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage(), true);
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "0");
}

TEST_F(H2Test, WhatTheStreamKeepsCounts) {
  memory_bytes_ = size_t{1} << 30;
  Connect();
  Run();
  const size_t before = memory_->used();
  ProcessingRequest request;
  request.mutable_request_headers();
  (*request.mutable_attributes())["a"].mutable_fields()->insert(
      {std::string(300000, 'k'), google::protobuf::Value()});
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, Framed(request.SerializeAsString()));
  Run();
  ASSERT_THAT(client_->rpc(id).Messages(), SizeIs(1));
  EXPECT_GT(memory_->used(), before + 300000);
}

// A client that is always a message ahead never lets the buffers become empty.
TEST_F(H2Test, BuffersDoNotGrowByAllThatPassesThroughThem) {
  memory_bytes_ = size_t{1} << 30;
  client_.emplace(1000);
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  for (int i = 0; i < 100; ++i) client_->Send(id, BodyMessage("x"));
  size_t most = 0;
  for (int i = 0; i < 2000; ++i) {
    for (int j = 0; j < 50; ++j) client_->Send(id, BodyMessage("x"));
    connection_->BeginTurn();
    connection_->OnBytes(client_->TakeBytes());
    std::string out;
    connection_->Fill(&out, SIZE_MAX);
    EXPECT_TRUE(client_->Give(out));
    most = std::max(most, memory_->used());
  }
  EXPECT_GT(client_->rpc(id).data.size(), 100000U);
  EXPECT_LT(most, 400000U) << "two windows, and answers of 64 KiB";
}

// The kind of one-byte answers: what they take is counted, not what they say.
TEST_F(H2Test, SmallAnswersCountWhatTheyKeep) {
  client_.emplace(0);
  memory_bytes_ = size_t{1} << 30;
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  std::string messages;
  for (int i = 0; i < 8000; ++i) messages += BodyMessage("");
  client_->Send(id, messages);
  for (int i = 0; i < 100; ++i) Run();
  EXPECT_LT(memory_->used(), 300000U);
}

TEST_F(H2Test, JoinedBinaryMetadataCountsAsWhatItBecomes) {
  Connect();
  Run();
  const int32_t few = client_->Begin(kProcessPath, {{"a-bin", ",,,,"}});
  const int32_t many = client_->Begin(kProcessPath, {{"a-bin", std::string(3000, ',')}});
  client_->End(few);
  Run();
  EXPECT_EQ(client_->rpc(few).status(), "0");
  EXPECT_EQ(client_->rpc(many).status(), "8");
  EXPECT_EQ(Metric("callout_h2_stream_limits_total{limit=\"metadata_bytes\"}"), "1");
}

// It had ended with its message; only the answer needed more than there was.
TEST_F(H2Test, AnRpcThatWasOverBeforeMemoryRanOutKeepsItsStatus) {
  memory_bytes_ = 1000000;
  limits_.early_end = true;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("a", std::string(3000, 'v'));
  Connect();
  Run();
  const int32_t id = client_->Begin(kProcessPath);
  Run();
  memory_->Take(1000000);
  const ProcessingRequest request = WithModes(Headers(CALLOUT_REQUEST_HEADERS), kNone, kNone);
  client_->Send(id, Framed(request.SerializeAsString()));
  Run();
  EXPECT_EQ(client_->rpc(id).status(), "0");
  EXPECT_THAT(client_->rpc(id).Messages(), SizeIs(1));
  client_->Send(id, Framed(request.SerializeAsString()));
  Run();
  EXPECT_EQ(Metric("callout_streams_started_total"), "2") << "the fixture's, and this one";
  EXPECT_EQ(memory_->refusals(MemoryBudget::Use::kGrowth), 1U);
  memory_->Give(1000000);
}

TEST_F(H2Test, ThoseThatWaitForMemoryAreAdmittedInTheirOrder) {
  options_.connection_memory_bytes_max = 150000;
  Connect();
  Run();
  const std::string message = BodyMessage(std::string(100000, 'x'));
  const int32_t first = client_->Begin(kProcessPath);
  client_->Send(first, message.substr(0, message.size() - 1));
  Run();
  std::vector<int32_t> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(client_->Begin(kProcessPath));
    client_->Send(waiting.back(), message.substr(0, 5));
    Run();
  }
  // One of them leaves, and no place is left behind in the queue.
  client_->Reset(waiting[1]);
  Run();
  client_->Send(first, message.substr(message.size() - 1));
  Run();
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (i == 1) continue;
    client_->Send(waiting[i], message.substr(5));
    Run();
    EXPECT_THAT(client_->rpc(waiting[i]).Messages(), SizeIs(1)) << i;
  }
}

// --- Turns ------------------------------------------------------------------

TEST_F(H2Test, WorkPreparedBehindClosedWindowsIsDoneInTurns) {
  int calls = 0;
  AddPlugin()->process = [&](callout_call_t* call) {
    ++calls;
    CommonResponse common;
    common.mutable_body_mutation()->set_body(std::string(70000, 'y'));
    return RespondCommon(call, common);
  };
  options_.turn_messages_max = 50;
  client_.emplace(0);
  Connect();
  std::vector<int32_t> ids;
  for (int i = 0; i < 200; ++i) {
    ids.push_back(client_->Begin(kProcessPath));
    for (int j = 0; j < 20; ++j) client_->Send(ids.back(), BodyMessage("x"));
  }
  for (int i = 0; i < 100; ++i) Run();
  EXPECT_EQ(calls, 200) << "an answer each is over what a stream may keep";
  client_->OpenWindows(1 << 24);
  int turns = 0;
  for (int before = calls, idle = 0; idle < 10; before = calls) {
    connection_->BeginTurn();
    connection_->OnBytes(client_->TakeBytes());
    std::string out;
    connection_->Fill(&out, SIZE_MAX);
    ASSERT_TRUE(client_->Give(out));
    ASSERT_LE(calls - before, 50);
    idle = calls == before ? idle + 1 : 0;
    ++turns;
  }
  EXPECT_EQ(calls, 4000);
  EXPECT_GE(turns, 80);
}

TEST_F(H2Test, ATurnIsSharedOutAmongManyWhoAreBusy) {
  int calls = 0;
  AddPlugin()->process = [&](callout_call_t*) {
    ++calls;
    return CALLOUT_OK;
  };
  options_.turn_messages_max = 240;
  Connect();
  Run();
  const auto calls_of_a_turn = [&](size_t busy) {
    Run();
    calls = 0;
    for (int i = 0; i < 100; ++i)
      client_->Send(client_->Begin(kProcessPath), HeadersMessage(), true);
    const std::string in = client_->TakeBytes();
    context_->SetBusy(busy);
    connection_->BeginTurn();
    connection_->OnBytes(in);
    connection_->Work();
    return calls;
  };
  const int alone = calls_of_a_turn(1);
  EXPECT_EQ(calls_of_a_turn(3), alone);
  const int among_twelve = calls_of_a_turn(12);
  EXPECT_LT(among_twelve, alone);
  EXPECT_GT(among_twelve, 0);
  EXPECT_LE(calls_of_a_turn(100000), 16) << "the least that there is";
}

TEST_F(H2Test, ALargeMessageTakesMoreOfATurn) {
  int calls = 0;
  AddPlugin()->process = [&](callout_call_t*) {
    ++calls;
    return CALLOUT_OK;
  };
  options_.turn_messages_max = 11;
  Connect();
  Run();
  const int32_t id = client_->Begin(kProcessPath);
  for (int i = 0; i < 10; ++i) client_->Send(id, BodyMessage(std::string(20000, 'x')));
  const std::string in = client_->TakeBytes();
  connection_->BeginTurn();
  connection_->OnBytes(in);
  connection_->Work();
  EXPECT_EQ(calls, 2) << "each costs five of the eleven";
  EXPECT_TRUE(connection_->has_work());
  for (int i = 0; i < 20; ++i) Run();
  EXPECT_EQ(calls, 10);
}

// --- Times and places -------------------------------------------------------

TEST_F(H2Test, AStreamWithoutAMessageEnds) {
  options_.first_message_timeout_ms = 10000;
  Connect();
  Run();
  const int32_t silent = client_->Begin(kProcessPath);
  const int32_t slow = client_->Begin("/grpc.health.v1.Health/Check");
  const int32_t busy = client_->Begin(kProcessPath);
  client_->Send(slow, std::string_view("\0\0\0\0", 4));
  client_->Send(busy, HeadersMessage());
  Run();
  const uint64_t begun_ns = context_->now_ns();
  context_->SetNow(begun_ns + 9'999'999'999);
  EXPECT_EQ(context_->next_deadline_ns(), begun_ns + 10'000'000'000);
  context_->SetNow(begun_ns + 10'000'000'000);
  context_->TakeDeadlines();
  Run();
  EXPECT_EQ(client_->rpc(silent).status(), "4");
  EXPECT_THAT(client_->rpc(silent).headers.at("grpc-message"),
              HasSubstr("--first_message_timeout_ms=10000"));
  EXPECT_EQ(client_->rpc(slow).status(), "4");
  EXPECT_FALSE(client_->rpc(busy).closed);
  EXPECT_EQ(Metric("callout_streams_timed_out_total{limit=\"first_message\"}"), "2");
  EXPECT_EQ(context_->live(), 1U);
}

TEST_F(H2Test, AStreamHasAnHourBetweenItsMessagesAndInAll) {
  options_.stream_duration_ms_max = 7200000;
  Connect();
  Run();
  const int32_t quiet = client_->Begin(kProcessPath);
  const int32_t talks = client_->Begin(kProcessPath);
  const int32_t watch = client_->Begin("/grpc.health.v1.Health/Watch");
  client_->Send(quiet, HeadersMessage());
  client_->Send(talks, HeadersMessage());
  client_->Send(watch, Framed(""), true);
  Run();
  const uint64_t begun_ns = context_->now_ns();
  constexpr uint64_t kHourNs = 3'600'000'000'000;
  context_->SetNow(begun_ns + kHourNs - 1);
  client_->Send(talks, BodyMessage("x"));
  Run();
  EXPECT_EQ(context_->next_deadline_ns(), begun_ns + kHourNs);
  context_->SetNow(begun_ns + kHourNs);
  context_->TakeDeadlines();
  Run();
  EXPECT_EQ(client_->rpc(quiet).status(), "4");
  EXPECT_FALSE(client_->rpc(talks).closed);
  EXPECT_FALSE(client_->rpc(watch).closed) << "it owes no message";
  context_->SetNow(begun_ns + 2 * kHourNs);
  context_->TakeDeadlines();
  Run();
  EXPECT_EQ(client_->rpc(talks).status(), "4");
  EXPECT_EQ(client_->rpc(watch).status(), "4");
  EXPECT_EQ(Metric("callout_streams_timed_out_total{limit=\"message\"}"), "2");
  EXPECT_EQ(Metric("callout_streams_timed_out_total{limit=\"age\"}"), "1");
}

TEST_F(H2Test, AStreamWhoseAnswersNobodyTakesIsResetWhenItsTimeIsOver) {
  client_.emplace(0);
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage(), true);
  for (int i = 0; i < 5; ++i) Run();
  EXPECT_FALSE(client_->rpc(id).closed);
  context_->SetNow(context_->now_ns() + 3'600'000'000'000);
  context_->TakeDeadlines();
  Run();
  EXPECT_EQ(client_->rpc(id).error_code, static_cast<uint32_t>(NGHTTP2_CANCEL));
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2Test, SharesOfPlacesBindAboveHalfOfThem) {
  limits_.live_max = 100;
  options_.live_per_connection_max = 20;
  options_.live_per_peer_max = 60;
  Connect();
  auto one = std::make_shared<H2Peer>();
  one->count = context_->CountOf("ipv4:192.0.2.1:1");
  auto other = std::make_shared<H2Peer>();
  other->count = context_->CountOf("ipv4:192.0.2.2:1");
  ASSERT_NE(one->count, other->count);
  EXPECT_EQ(one->count, context_->CountOf("ipv4:192.0.2.1:2"));
  EXPECT_EQ(context_->CountOf("unix:/x"), nullptr);
  std::vector<H2Call*> calls;
  const auto begin = [&](const H2Peer& peer, size_t of_connection) {
    H2Call* const call = context_->Acquire(peer, of_connection);
    if (call != nullptr) calls.push_back(call);
    return call != nullptr;
  };
  for (size_t i = 0; i < 50; ++i) ASSERT_TRUE(begin(*one, i)) << "half of them are anybody's";
  EXPECT_FALSE(begin(*one, 50)) << "the connection has its share";
  for (size_t i = 0; i < 10; ++i) ASSERT_TRUE(begin(*one, i));
  EXPECT_FALSE(begin(*one, 10)) << "the peer has its share";
  ASSERT_TRUE(begin(*other, 0));
  EXPECT_EQ(Metric("callout_h2_stream_limits_total{limit=\"connection_share\"}"), "1");
  EXPECT_EQ(Metric("callout_h2_stream_limits_total{limit=\"peer_share\"}"), "1");
  context_->Release(calls.back(), *other);
  calls.pop_back();
  while (!calls.empty()) {
    context_->Release(calls.back(), *one);
    calls.pop_back();
  }
  EXPECT_EQ(one->count->live(), 0U);
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

// Who asks each second whether the host is there gets an answer, for hours.
TEST_F(H2Test, APingEachSecondOnAQuietConnectionIsFine) {
  Connect();
  SendPreface();
  for (int i = 0; i < 20000; ++i) {
    context_->SetNow(context_->now_ns() + 1'000'000'000);
    SendRaw(Frame(NGHTTP2_PING, 0, 0, "12345678"));
    ASSERT_FALSE(connection_->broken()) << i;
  }
}

TEST_F(H2Test, WhatIsNoCallIsAnsweredWhileItsBodyIsOpen) {
  Connect();
  Run();
  H2Client::Headers json = H2Client::GrpcHeaders(kProcessPath);
  json.back().second = "application/json";
  const int32_t id = client_->BeginWith(json);
  const int32_t get = client_->BeginWith(
      {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "test"}});
  const int32_t unknown = client_->Begin("/some.Service/Method");
  Run();
  EXPECT_EQ(client_->rpc(id).headers.at(":status"), "415");
  EXPECT_THAT(client_->rpc(id).data, HasSubstr("application/grpc"));
  EXPECT_TRUE(client_->rpc(id).closed);
  EXPECT_EQ(client_->rpc(get).headers.at("grpc-message"), "Bad method header")
      << "as gRPC C++ has it";
  EXPECT_THAT(client_->rpc(unknown).headers.at("grpc-message"), HasSubstr("/some.Service/Method"));
}

// --- Attacks ----------------------------------------------------------------

// By its error code.
class H2ResetTest : public H2Test, public ::testing::WithParamInterface<uint32_t> {};

INSTANTIATE_TEST_SUITE_P(All, H2ResetTest,
                         ::testing::Values(NGHTTP2_NO_ERROR, NGHTTP2_CANCEL,
                                           NGHTTP2_REFUSED_STREAM));

TEST_P(H2ResetTest, RapidResetsEndTheConnectionThatWasAskedToLeaveFirst) {
  options_.unanswered_resets_max = 100;
  options_.concurrent_streams_max = 50;
  Connect();
  int begun = 0;
  const auto reset_until = [&](const std::function<bool()>& done) {
    while (begun < 1000 && !done()) {
      const int32_t id = client_->Begin(kProcessPath);
      connection_->BeginTurn();
      connection_->OnBytes(client_->TakeBytes());
      client_->Reset(id, GetParam());
      connection_->OnBytes(client_->TakeBytes());
      ++begun;
    }
  };
  reset_until([&] { return connection_->shutdown_begun(); });
  EXPECT_EQ(begun, 101);
  EXPECT_FALSE(connection_->broken()) << "a proxy has to be able to finish what it has begun";
  EXPECT_EQ(Metric("callout_h2_connections_drained_total"), "1");
  reset_until([&] { return connection_->broken(); });
  EXPECT_EQ(begun, 202) << "100 more were allowed, then one was one too many";
  std::string out;
  connection_->Fill(&out, SIZE_MAX);
  EXPECT_TRUE(connection_->done());
  EXPECT_EQ(ClosedFor("resets"), "1");
  EXPECT_EQ(context_->live(), 0U);
}

// Envoy ends its streams so, and in observability mode nothing is answered.
TEST_F(H2Test, StreamsThatEndWithoutAnAnswerAreNoRapidResets) {
  options_.unanswered_resets_max = 10;
  Connect();
  for (int i = 0; i < 50; ++i) {
    envoy::service::ext_proc::v3::ProcessingRequest request;
    request.mutable_request_headers()->set_end_of_stream(true);
    request.set_observability_mode(true);
    const int32_t id = client_->Begin(kProcessPath);
    client_->Send(id, Framed(request.SerializeAsString()));
    client_->End(id);
    const std::string bytes = client_->TakeBytes();
    client_->Reset(id, NGHTTP2_NO_ERROR);
    SendRaw(bytes + client_->TakeBytes());
  }
  EXPECT_FALSE(connection_->shutdown_begun());
  EXPECT_EQ(context_->live(), 0U);
}

TEST_F(H2Test, ResetsOfStreamsThatAreOverEndTheConnection) {
  options_.unanswered_resets_max = 100;
  options_.concurrent_streams_max = 50;
  Connect();
  const int32_t id = client_->Begin(kProcessPath);
  client_->Send(id, HeadersMessage(), true);
  Run();
  ASSERT_EQ(client_->rpc(id).status(), "0");
  const std::string reset =
      Frame(NGHTTP2_RST_STREAM, 0, static_cast<uint32_t>(id), std::string(4, '\0'));
  for (int i = 0; i < 100; ++i) SendRaw(reset);
  EXPECT_FALSE(connection_->broken());
  SendRaw(reset);
  EXPECT_TRUE(connection_->broken());
  EXPECT_EQ(ClosedFor("resets"), "1");
}

// The host ends the stream as the client half-closes it, and then the reset comes.
TEST_F(H2Test, AResetThatCrossesTheEndOfItsStreamIsTheNormalEnd) {
  options_.unanswered_resets_max = 10;
  Connect();
  for (int i = 0; i < 500; ++i) {
    const int32_t id = client_->Begin(kProcessPath);
    client_->Send(id, HeadersMessage(), true);
    Run();
    ASSERT_TRUE(client_->rpc(id).closed);
    SendRaw(Frame(NGHTTP2_RST_STREAM, 0, static_cast<uint32_t>(id), std::string(4, '\0')));
  }
  EXPECT_FALSE(connection_->broken());
  EXPECT_EQ(ClosedFor("resets"), "0");
}

TEST_F(H2Test, AClientThatIsAskedToLeaveFinishesItsStreams) {
  options_.unanswered_resets_max = 5;
  Connect();
  Run();
  const int32_t open = client_->Begin(kProcessPath);
  Run();
  std::vector<int32_t> waiting;
  for (int i = 0; i < 6; ++i) waiting.push_back(client_->Begin(kProcessPath));
  Run();
  for (const int32_t id : waiting) client_->Reset(id);
  Run();
  ASSERT_THAT(client_->goaways(), SizeIs(2));
  EXPECT_EQ(client_->goaways().back(), std::make_pair(waiting.back(), 0U))
      << "it names no stream below one that was accepted";
  EXPECT_FALSE(connection_->done());
  client_->Send(open, HeadersMessage(), true);
  Run();
  EXPECT_EQ(client_->rpc(open).status(), "0");
  EXPECT_TRUE(connection_->done());
}

TEST_F(H2DeferralTest, ResetsOfWhatAPluginIsLateWithAreNotTheClientsFault) {
  options_.unanswered_resets_max = 5;
  Connect();
  Run();
  std::vector<int32_t> waiting;
  for (int i = 0; i < 50; ++i) {
    waiting.push_back(client_->Begin(kProcessPath));
    client_->Send(waiting.back(), HeadersMessage());
  }
  Run();
  ASSERT_THAT(deferred_, SizeIs(50));
  for (const int32_t id : waiting) client_->Reset(id);
  Run();
  EXPECT_FALSE(connection_->shutdown_begun());
  EXPECT_TRUE(client_->goaways().empty());
  while (!deferred_.empty()) FinishOnAnotherThread();
  context_->TakePosted();
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

// Adds a header of four thousand bytes to HPACK's table, which kReference then stands for.
constexpr char kReference = '\xbe';
constexpr size_t kEntryBytes = 4001;

std::string HeadThatAddsAnEntry() {
  const auto literal = [](const std::string& name, const std::string& value) {
    const auto text = [](const std::string& bytes) {
      return std::string(1, static_cast<char>(bytes.size())) + bytes;
    };
    return std::string(1, '\0') + text(name) + text(value);
  };
  return "\x83\x86" + literal(":path", kProcessPath) + literal(":authority", "x") +
         literal("content-type", "application/grpc") + literal("te", "trailers") + "\x40\x01" +
         "a" + "\x7f\xa1\x1e" + std::string(kEntryBytes - 1, 'v');
}

// A request of which only the references are many.
std::string HeadOfReferences(size_t count) {
  return "\x83\x86\x84\x01\x01" + std::string("x") + std::string(count, kReference);
}

constexpr uint8_t kWhole = NGHTTP2_FLAG_END_HEADERS;

class HeaderReferences : public H2Test {
 protected:
  // A new connection, with a request on stream 1 after which kReference is good.
  void ConnectWithAnEntry() {
    connection_.reset();
    context_.reset();
    Reset();
    Connect();
    SendPreface();
    SendRaw(Frame(NGHTTP2_HEADERS, kWhole, 1, HeadThatAddsAnEntry()));
  }
};

TEST_F(HeaderReferences, ThatDecodeToFarMoreThanTheyAreEndTheConnection) {
  const size_t fits = 2 * options_.metadata_bytes_max / kEntryBytes;
  const struct {
    std::string frame;
    bool closed;
  } table[] = {
      {Frame(NGHTTP2_HEADERS, kWhole, 3, HeadOfReferences(fits - 1)), false},
      {Frame(NGHTTP2_HEADERS, kWhole, 3, HeadOfReferences(fits + 1)), true},
      {Frame(NGHTTP2_HEADERS, kWhole | NGHTTP2_FLAG_END_STREAM, 1,
             std::string(fits + 1, kReference)),
       true},
      {Frame(NGHTTP2_HEADERS, 0, 3, HeadOfReferences(0)) +
           Frame(NGHTTP2_CONTINUATION, kWhole, 3, std::string(fits + 1, kReference)),
       true},
  };
  int closed = 0;  // the metrics go on
  for (const auto& c : table) {
    ConnectWithAnEntry();
    ASSERT_FALSE(connection_->done());
    SendRaw(c.frame);
    closed += c.closed;
    EXPECT_EQ(ClosedFor("header_block"), std::to_string(closed)) << &c - table;
    EXPECT_EQ(connection_->done(), c.closed) << &c - table;
  }
}

TEST_F(HeaderReferences, TakeMoreOfATurn) {
  for (const size_t references : {size_t{1}, size_t{6}}) {
    ConnectWithAnEntry();
    std::string requests;
    for (int32_t id = 3; id < 603; id += 2) {
      requests += Frame(NGHTTP2_HEADERS, kWhole, id, HeadOfReferences(references));
    }
    connection_->BeginTurn();
    connection_->OnBytes(requests);
    EXPECT_EQ(connection_->turn_is_over(), references == 6);
  }
}

}  // namespace
}  // namespace callout::host
