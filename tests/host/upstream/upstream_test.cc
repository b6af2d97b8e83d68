// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/upstream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <vector>

#include "host/upstream/connection.h"
#include "host/upstream/grpc_message.h"
#include "tests/host/upstream/upstream_fixture.h"

namespace callout::host {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Pair;
using Act = TestService::Act;
using Reply = TestService::Reply;
using Request = TestService::Request;

// Without retries and with a circuit that stays closed, unless a test is about them.
constexpr char kPlain[] = R"("max_retries": 0, "circuit_failures": 0)";
constexpr char kHttp2[] = R"("protocol": "http2", "max_retries": 0, "circuit_failures": 0)";

std::string With(const std::string& keys, const std::string& more) { return keys + ", " + more; }

// By HTTP/1.1 and by HTTP/2.
class UpstreamTest : public UpstreamFixture, public ::testing::WithParamInterface<bool> {
 protected:
  bool is_http2() const { return GetParam(); }
  TestService::Options Options() const {
    TestService::Options options;
    options.http2 = is_http2();
    return options;
  }
  std::string Keys() const { return is_http2() ? kHttp2 : kPlain; }
};
INSTANTIATE_TEST_SUITE_P(Protocols, UpstreamTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Http2" : "Http1"; });

TEST_P(UpstreamTest, BringsRequestAndResponseAsTheyAre) {
  Request seen;
  TestService service(Options(), [&](const Request& request) {
    seen = request;
    return Reply{.status = 404, .headers = {{"x-kind", "a"}, {"x-kind", "b"}}, .body = "nobody"};
  });
  Make(service.url(), Keys());
  UpstreamRequest request = Post("who=ada");
  request.path = "/users?x=1";
  request.headers = {{"x-token", "secret"}};
  const UpstreamResult result = Call(request);
  EXPECT_EQ(result.status, CALLOUT_OK) << result.message;
  EXPECT_FALSE(result.from_service);
  EXPECT_EQ(result.response.status, 404u);
  EXPECT_EQ(result.response.body, "nobody");
  EXPECT_THAT(result.response.headers, Contains(Pair("x-kind", "a")));
  EXPECT_THAT(result.response.headers, Contains(Pair("x-kind", "b")));
  EXPECT_EQ(result.attempts, 1u);
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.path, "/users?x=1");
  EXPECT_EQ(seen.body, "who=ada");
  EXPECT_EQ(seen.authority, service.url().substr(7));
  EXPECT_EQ(seen.header("x-token"), "secret");
  EXPECT_EQ(seen.header("content-length"), "7");
  EXPECT_EQ(Outcomes("ok"), "1");
}

TEST_P(UpstreamTest, SendsAHostHeaderInThePlaceOfItsOwn) {
  std::string authority;
  TestService service(Options(), [&](const Request& request) {
    authority = request.authority;
    return Reply{};
  });
  Make(service.url(), With(Keys(), R"("authority": "service.example")"));
  Call(Get());
  EXPECT_EQ(authority, "service.example");
  UpstreamRequest request = Get();
  request.headers = {{"host", "other.example"}};
  Call(request);
  EXPECT_EQ(authority, "other.example");
}

TEST_P(UpstreamTest, UsesAConnectionAgain) {
  TestService service(Options(), [](const Request&) { return Reply{.body = "x"}; });
  Make(service.url(), Keys());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Call(Get()).response.body, "x");
  EXPECT_EQ(service.connections(), 1);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_upstream_connections{upstream=\"service\"} 1\n"));
}

TEST_P(UpstreamTest, ReadsAResponseOfAnySizeUpToItsLimitAndNotBeyond) {
  TestService service(Options(), [](const Request& request) {
    return Reply{.body = std::string(std::stoul(request.path.substr(1)), 'x')};
  });
  Make(service.url(), With(Keys(), R"("max_response_bytes": 300000)"));
  EXPECT_EQ(Call(Get("/0")).response.body, "");
  EXPECT_EQ(Call(Get("/300000")).response.body.size(), 300000u);
  const UpstreamResult result = Call(Get("/300001"));
  EXPECT_EQ(result.status, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_THAT(result.message, HasSubstr("\"max_response_bytes\": 300000"));
  EXPECT_EQ(result.response.body, "");
  EXPECT_EQ(Outcomes("too_large"), "1");
  EXPECT_EQ(Call(Get("/1")).response.body, "x");
}

TEST_P(UpstreamTest, RefusesHeadersOverTheirLimit) {
  TestService service(Options(), [](const Request&) {
    return Reply{.headers = {{"x-long", std::string(5000, 'x')}}};
  });
  Make(service.url(), With(Keys(), R"("max_response_header_bytes": 4096)"));
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.status, CALLOUT_RESOURCE_EXHAUSTED) << result.message;
  EXPECT_THAT(result.message, HasSubstr("\"max_response_header_bytes\": 4096"));
}

TEST_P(UpstreamTest, SendsALargeBody) {
  size_t size = 0;
  TestService service(Options(), [&](const Request& request) {
    size = request.body.size();
    return Reply{};
  });
  Make(service.url(), Keys());
  EXPECT_EQ(Call(Post(std::string(1 << 20, 'x'))).status, CALLOUT_OK);
  EXPECT_EQ(size, size_t{1} << 20);
}

TEST_P(UpstreamTest, GivesUpAtTheTimeoutAndEndsWhatWaits) {
  TestService service(Options(), [](const Request& request) {
    return request.path == "/hang" ? Reply{.act = Act::kHang} : Reply{.body = "x"};
  });
  Make(service.url(), With(Keys(), R"("timeout_ms": 60000)"));
  EXPECT_EQ(Call(Get()).response.body, "x");
  UpstreamRequest request = Get("/hang");
  request.timeout_ns = 20'000'000;
  const UpstreamResult result = Call(request);
  EXPECT_EQ(result.status, CALLOUT_DEADLINE_EXCEEDED);
  EXPECT_THAT(result.message, HasSubstr("no response within 20 ms: waiting for the response"));
  EXPECT_EQ(Outcomes("timeout"), "1");
  // HTTP/2 may go on with the connection, if something has come on it since.
  EXPECT_EQ(Call(Get()).response.body, "x");
}

TEST_P(UpstreamTest, TellsOfAResetAndOfAResponseThatIsCut) {
  TestService service(Options(), [](const Request& request) {
    return Reply{.act = request.path == "/cut" ? Act::kCut : Act::kReset, .body = "abc"};
  });
  Make(service.url(), Keys());
  for (const char* path : {"/reset", "/cut"}) {
    const UpstreamResult result = Call(Get(path));
    EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE) << path;
    EXPECT_FALSE(result.message.empty());
    EXPECT_EQ(result.response.status, 0u);
    EXPECT_EQ(result.response.body, "");
  }
  EXPECT_EQ(Outcomes("reset"), "2");
}

TEST_P(UpstreamTest, TellsOfWhatIsNotHttp) {
  TestService service(Options(), [](const Request&) { return Reply{.act = Act::kGarbage}; });
  Make(service.url(), Keys());
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.status, CALLOUT_DATA_LOSS) << result.message;
  EXPECT_THAT(result.message, HasSubstr("not HTTP/"));
  EXPECT_EQ(Outcomes("invalid_response"), "1");
}

TEST_P(UpstreamTest, TellsOfAServiceThatIsDownAndOfOneThatComesBack) {
  TestService::Options options = Options();
  const TempDir directory;
  options.unix_path = directory.Path("socket");
  Make("unix:" + options.unix_path, Keys());
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
  EXPECT_THAT(result.message, HasSubstr("connecting: No such file or directory"));
  EXPECT_EQ(Outcomes("connect_failed"), "1");
  TestService service(options, [](const Request&) { return Reply{.body = "x"}; });
  EXPECT_EQ(Call(Get()).response.body, "x");
}

TEST_P(UpstreamTest, RetriesWhatTheServiceCannotHaveSeen) {
  std::atomic<int> count{0};
  TestService::Options options = Options();
  TestService service(options, [&](const Request&) {
    return ++count == 1 ? Reply{.act = Act::kRefuse} : Reply{.body = "x"};
  });
  Make(service.url(), is_http2() ? R"("protocol": "http2")" : "");
  // Only HTTP/2 can say so.
  const UpstreamResult result = Call(Post("once"));
  EXPECT_EQ(result.status, is_http2() ? CALLOUT_OK : CALLOUT_UNAVAILABLE);
  EXPECT_EQ(result.attempts, is_http2() ? 2u : 1u);
}

TEST_P(UpstreamTest, RetriesAnIdempotentRequestAfterAReset) {
  std::atomic<int> count{0};
  TestService service(Options(), [&](const Request&) {
    return ++count == 1 ? Reply{.act = Act::kReset} : Reply{.body = "x"};
  });
  Make(service.url(), is_http2() ? R"("protocol": "http2")" : "");
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.response.body, "x");
  EXPECT_EQ(result.attempts, 2u);
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_upstream_retries_total{upstream=\"service\"} 1\n"));
}

TEST_P(UpstreamTest, RetriesNoOtherRequestAfterAResetNorMoreOftenThanItMay) {
  TestService service(Options(), [](const Request&) { return Reply{.act = Act::kReset}; });
  Make(service.url(), is_http2() ? R"("protocol": "http2", "max_retries": 2, "retry_wait_ms": 1)"
                                 : R"("max_retries": 2, "retry_wait_ms": 1)");
  EXPECT_EQ(Call(Post("once")).attempts, 1u);
  EXPECT_EQ(service.requests(), 1);
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
  EXPECT_EQ(result.attempts, 3u);
  EXPECT_EQ(service.requests(), 4);
}

TEST_P(UpstreamTest, OpensTheCircuitAfterFailuresInARowAndClosesItAfterATrial) {
  std::atomic<bool> is_down{true};
  TestService service(Options(), [&](const Request&) {
    return is_down ? Reply{.status = 503} : Reply{.body = "x"};
  });
  Make(service.url(), R"("circuit_failures": 2, "circuit_open_ms": 50)" +
                          std::string(is_http2() ? R"(, "protocol": "http2")" : ""));
  EXPECT_EQ(Call(Get()).response.status, 503u);
  EXPECT_EQ(Call(Get()).response.status, 503u);
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_upstream_circuit_open{upstream=\"service\"} 1\n"));
  is_down = false;
  UpstreamResult result = Call(Get());
  for (int tries = 0; result.status != CALLOUT_OK; ++tries) {
    EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
    EXPECT_THAT(result.message, HasSubstr("the circuit is open"));
    EXPECT_EQ(result.attempts, 0u);
    result = Call(Get());
  }
  EXPECT_EQ(result.response.body, "x");
  EXPECT_EQ(service.requests(), 3);
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_upstream_circuit_open{upstream=\"service\"} 0\n"));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_upstream_circuit_opens_total{upstream=\"service\"} 1\n"));
}

// That says something of the plugin, and nothing of the service.
TEST_P(UpstreamTest, CallsThatWereGivenNoTimeDoNotOpenTheCircuitForOthers) {
  TestService service(Options(), [](const Request&) { return Reply{.body = "x"}; });
  Make(service.url(), R"("circuit_failures": 2, "circuit_open_ms": 60000)" +
                          std::string(is_http2() ? R"(, "protocol": "http2")" : ""));
  UpstreamRequest request = Get();
  request.timeout_ns = 1;
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Call(request).status, CALLOUT_DEADLINE_EXCEEDED);
  EXPECT_EQ(Call(Get()).response.body, "x");
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("callout_upstream_circuit_opens_total{upstream=\"service\"} 0\n"));
}

TEST_P(UpstreamTest, RefusesWhatWaitsBeyondItsLimit) {
  TestService service(Options(), [](const Request&) { return Reply{.act = Act::kHang}; });
  Make(service.url(), With(Keys(), R"("max_connections": 1, "max_streams": 1, "max_pending": 2,
                                      "timeout_ms": 60000)"));
  std::vector<std::future<UpstreamResult>> calls;
  uint64_t first = 0;
  calls.push_back(Begin(Get(), &first));
  ASSERT_TRUE(service.AwaitRequests(1));
  for (int i = 0; i < 2; ++i) calls.push_back(Begin(Get()));
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.status, CALLOUT_RESOURCE_EXHAUSTED);
  EXPECT_THAT(result.message, HasSubstr("\"max_pending\": 2"));
  EXPECT_EQ(Outcomes("pending_rejected"), "1");
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_upstream_pending{upstream=\"service\"} 2\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_upstream_active{upstream=\"service\"} 3\n"));
  // A place that becomes free goes to the next one.
  pool_->Cancel(*pool_->Find("service"), first);
  EXPECT_TRUE(service.AwaitRequests(2));
}

TEST_P(UpstreamTest, CancelsACallThatIsUnderWay) {
  TestService service(Options(), [](const Request& request) {
    return request.path == "/hang" ? Reply{.act = Act::kHang} : Reply{.body = "x"};
  });
  Make(service.url(), With(Keys(), R"("timeout_ms": 60000)"));
  uint64_t id = 0;
  std::future<UpstreamResult> call = Begin(Get("/hang"), &id);
  ASSERT_TRUE(service.AwaitRequests(1));
  pool_->Cancel(*pool_->Find("service"), id);
  EXPECT_EQ(Call(Get()).response.body, "x");
  EXPECT_THROW(call.get(), std::future_error) << "dropped without a result";
  EXPECT_EQ(Outcomes("cancelled"), "1");
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_upstream_active{upstream=\"service\"} 0\n"));
}

TEST_P(UpstreamTest, GoesOnWithANewConnectionWhenTheServiceHasClosedTheOld) {
  TestService service(Options(), [](const Request& request) {
    return Reply{.act = request.path == "/last" ? Act::kRespondAndClose : Act::kRespond,
                 .body = "x"};
  });
  Make(service.url(), Keys());
  // The end of a connection may not have been read yet when the next request is sent.
  const auto body = [&] {
    UpstreamResult result = Call(Get());
    if (result.status != CALLOUT_OK) result = Call(Get());
    return result.response.body;
  };
  EXPECT_EQ(Call(Get("/last")).response.body, "x");
  ASSERT_TRUE(service.AwaitOpen(0));
  EXPECT_EQ(body(), "x");
  service.CloseConnections();
  ASSERT_TRUE(service.AwaitOpen(0));
  EXPECT_EQ(body(), "x");
}

TEST_P(UpstreamTest, ClosesAConnectionThatIsIdle) {
  TestService service(Options(), [](const Request&) { return Reply{}; });
  Make(service.url(), With(Keys(), R"("idle_timeout_ms": 20)"));
  Call(Get());
  EXPECT_TRUE(service.AwaitOpen(0));
}

TEST_P(UpstreamTest, SendsNothingOnAConnectionThatIsTooOld) {
  TestService service(Options(), [](const Request&) { return Reply{}; });
  Make(service.url(), With(Keys(), R"("max_connection_age_ms": 1)"));
  for (int i = 0; i < 3; ++i) {
    const int before = service.connections();
    EXPECT_EQ(Call(Get()).status, CALLOUT_OK);
    // Until the next millisecond the connection is young.
    while (service.connections() == before) EXPECT_EQ(Call(Get()).status, CALLOUT_OK);
  }
  EXPECT_TRUE(service.AwaitOpen(1));
}

TEST_P(UpstreamTest, ServesManyCallsAtOnceWithinItsConnections) {
  TestService service(Options(),
                      [](const Request& request) { return Reply{.body = request.path}; });
  Make(service.url(), With(Keys(), R"("max_connections": 4, "max_streams": 10,
                                      "timeout_ms": 60000)"));
  std::vector<std::future<UpstreamResult>> calls;
  for (int i = 0; i < 500; ++i) calls.push_back(Begin(Get("/" + std::to_string(i))));
  for (int i = 0; i < 500; ++i) {
    const UpstreamResult result = calls[static_cast<size_t>(i)].get();
    EXPECT_EQ(result.response.body, "/" + std::to_string(i)) << result.message;
  }
  EXPECT_LE(service.connections(), 4);
}

TEST_P(UpstreamTest, StopsForTheEndOfTheProcess) {
  TestService service(Options(), [](const Request&) { return Reply{.act = Act::kHang}; });
  Make(service.url(), With(Keys(), R"("timeout_ms": 60000)"));
  std::future<UpstreamResult> call = Begin(Get());
  ASSERT_TRUE(service.AwaitRequests(1));
  EXPECT_TRUE(pool_->Stop(30000));
  EXPECT_TRUE(service.AwaitOpen(0));
  EXPECT_THROW(call.get(), std::future_error) << "dropped without a result";
}

TEST_P(UpstreamTest, TheEndOfThePoolLeavesACallThatIsUnderWay) {
  TestService service(Options(), [](const Request&) { return Reply{.act = Act::kHang}; });
  Make(service.url(), With(Keys(), R"("timeout_ms": 60000)"));
  std::future<UpstreamResult> call = Begin(Get());
  ASSERT_TRUE(service.AwaitRequests(1));
  pool_.reset();
  EXPECT_TRUE(service.AwaitOpen(0));
  EXPECT_THROW(call.get(), std::future_error);
}

// --- HTTP/1.1 alone ---

using Http1Test = UpstreamFixture;
using Http2Test = UpstreamFixture;

// As a plugin may send them: calls.h.
TEST_F(Http2Test, SendsHeadersUpToTheirLimit) {
  Request seen;
  TestService::Options options;
  options.http2 = true;
  TestService service(options, [&](const Request& request) {
    seen = request;
    return Reply{.status = 200};
  });
  Make(service.url(), kHttp2);
  UpstreamRequest request = Get("/" + std::string(CALLOUT_OUTGOING_PATH_BYTES_MAX - 1, 'p'));
  constexpr size_t kHeaders = CALLOUT_OUTGOING_HEADERS_MAX;
  constexpr size_t kEach = CALLOUT_OUTGOING_HEADER_BYTES_MAX / kHeaders;
  for (size_t i = 0; i < kHeaders; ++i) {
    const std::string name = fmt::format("x-{:03}", i);
    request.headers.emplace_back(name, std::string(kEach - name.size(), '~'));
  }
  const UpstreamResult result = Call(request);
  EXPECT_EQ(result.status, CALLOUT_OK) << result.message;
  EXPECT_EQ(seen.path, request.path);
  EXPECT_EQ(seen.header("x-127").size(), kEach - 5);
}

TEST_F(Http1Test, ReadsEveryFormOfABody) {
  std::string raw;
  TestService service({}, [&](const Request&) { return Reply{.act = Act::kRaw, .raw = raw}; });
  Make(service.url(), kPlain);
  const auto body_of = [&](const std::string& text) {
    raw = text;
    const UpstreamResult result = Call(Get());
    return result.status == CALLOUT_OK ? result.response.body : result.message;
  };
  EXPECT_EQ(
      body_of("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n"
              "x-sum: 5\r\n\r\n"),
      "abcde");
  EXPECT_EQ(body_of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: a\r\n\r\n"
                    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
            "ok");
  EXPECT_EQ(body_of("HTTP/1.1 204 No Content\r\n\r\n"), "");
  EXPECT_THAT(body_of("HTTP/1.1 101 x\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n"),
              HasSubstr("switched protocols"));
  EXPECT_THAT(body_of("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
              HasSubstr("not HTTP/1.1"));
  EXPECT_THAT(body_of("HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n"), HasSubstr("not HTTP/1.1"));
  // The first has a length; the body of the second would end with the connection.
  for (const std::string length : {"content-length: 2\r\n", ""}) {
    EXPECT_THAT(body_of("HTTP/1.1 000 Continue\r\n" + length + "\r\nok"),
                HasSubstr("not HTTP/1.1: a status of 0, under 100"));
  }
}

// Beast's parser ends the process where nothing keeps it from that (chunk_guard.h).
TEST_F(Http1Test, TheEndOfABodyInChunksMayComeByteByByte) {
  UpstreamConfig config;
  config.authority = "service";
  for (const std::string_view end : {"0\r\n\r\n", "1\r\nb\r\n0\r\n\r\n", "0\r\na: b\r\n\r\n"}) {
    std::optional<AttemptResult> result;
    const auto connection = MakeHttp1Connection(&config, [](const std::string&) {});
    connection->Send(Get(), 1, 1'000'000, [&](AttemptResult found) { result = std::move(found); });
    connection->OnBytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < end.size(); ++i) connection->OnBytes(end.substr(i, 1));
    ASSERT_TRUE(result.has_value()) << end;
    EXPECT_EQ(result->outcome, UpstreamOutcome::kResponse) << result->why;
  }
}

// Neither has an end: without a limit, they would fill the memory until the timeout.
TEST_F(Http1Test, LimitsTrailersAndTheLinesOfChunks) {
  const std::string head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  std::string trailers;
  for (int i = 0; i < 5000; ++i) trailers += "x: y\r\n";
  for (const std::string& rest : {"0\r\n" + trailers, "1;a=" + std::string(30000, 'x')}) {
    TestService service(
        {}, [&](const Request&) { return Reply{.act = Act::kRaw, .raw = head + rest}; });
    Make(service.url(), With(kPlain, R"("max_response_header_bytes": 4096)"));
    const UpstreamResult result = Call(Get());
    EXPECT_EQ(result.status, CALLOUT_RESOURCE_EXHAUSTED) << result.message;
    EXPECT_THAT(result.message, HasSubstr("\"max_response_header_bytes\": 4096"));
    pool_ = nullptr;
  }
}

// As over HTTP/2. Among the headers they could pass for some that the service has not sent.
TEST_F(Http1Test, KeepsTrailersApartFromHeaders) {
  const std::string raw =
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-user: ada\r\n\r\n"
      "3\r\nall\r\n0\r\nX-User: eve\r\nx-sum: 7\r\n\r\n";
  TestService service({}, [&](const Request&) { return Reply{.act = Act::kRaw, .raw = raw}; });
  Make(service.url(), kPlain);
  for (int i = 0; i < 2; ++i) {
    const UpstreamResult result = Call(Get());
    EXPECT_EQ(result.response.status, 200u) << result.message;
    EXPECT_EQ(result.response.body, "all");
    EXPECT_EQ(result.response.headers,
              (HeaderFields{{"transfer-encoding", "chunked"}, {"x-user", "ada"}}));
    EXPECT_EQ(result.response.trailers, (HeaderFields{{"x-user", "eve"}, {"x-sum", "7"}}));
  }
}

TEST_F(Http1Test, EndsABodyWithoutALengthWithTheConnection) {
  TestService service({}, [](const Request&) {
    return Reply{.act = Act::kRawAndClose, .raw = "HTTP/1.0 200 OK\r\n\r\nall of it"};
  });
  Make(service.url(), kPlain);
  EXPECT_EQ(Call(Get()).response.body, "all of it");
}

TEST_F(Http1Test, DoesNotUseAConnectionWithBytesBehindTheResponse) {
  TestService service({}, [](const Request&) {
    return Reply{.act = Act::kRaw,
                 .raw =
                     "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\n"
                     "content-length: 4\r\n\r\nevil"};
  });
  Make(service.url(), kPlain);
  EXPECT_EQ(Call(Get()).response.body, "a");
  EXPECT_EQ(Call(Get()).response.body, "a");
  EXPECT_EQ(service.connections(), 2);
}

TEST_F(Http1Test, AHeadHasNoBody) {
  TestService service({}, [](const Request&) { return Reply{}; });
  Make(service.url(), kPlain);
  UpstreamRequest request = Get();
  request.method = "HEAD";
  for (int i = 0; i < 2; ++i) {
    const UpstreamResult result = Call(request);
    EXPECT_EQ(result.status, CALLOUT_OK) << result.message;
    EXPECT_EQ(result.response.body, "");
  }
  EXPECT_EQ(service.connections(), 1);
}

TEST_F(Http1Test, TellsOfANameThatIsNotFound) {
  Make("http://nowhere.invalid:1", kPlain);
  const UpstreamResult result = Call(Get());
  EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
  EXPECT_THAT(result.message, HasSubstr("looking nowhere.invalid up: "));
}

TEST_F(Http1Test, RetriesAConnectionThatFailsForAnyRequest) {
  Make(UnusedUrl(), R"("max_retries": 2, "retry_wait_ms": 1)");
  const UpstreamResult result = Call(Post("x"));
  EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
  EXPECT_EQ(result.attempts, 3u);
}

TEST_F(Http1Test, RunsNothingWherePluginsAreOnlyChecked) {
  const auto configs = ParseUpstreams(R"({"service": {"url": "http://127.0.0.1:1"}})");
  UpstreamPool pool({.upstreams = *configs, .runs = false}, &metrics_);
  EXPECT_EQ(pool.Start(*pool.Find("service"), 1, "p", Get(), nullptr).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(pool.Find("other"), nullptr);
}

// --- HTTP/2 alone ---

// A service's end of a connection, frame by frame.
class Http2ConnectionTest : public ::testing::Test {
 protected:
  static std::string Frame(char type, const std::string& payload = "", char flags = 0,
                           char stream = 0) {
    return std::string({0, 0, static_cast<char>(payload.size()), type, flags, 0, 0, 0, stream}) +
           payload;
  }
  void SetUp() override {
    connection_->OnBytes(Frame(4));  // SETTINGS
    UpstreamRequest request;
    request.method = "GET";
    request.path = "/";
    connection_->Send(request, 1, 0, [this](AttemptResult result) { results_.push_back(result); });
  }
  void Ping(int count) {
    for (int i = 0; i < count; ++i) connection_->OnBytes(Frame(6, "12345678"));
  }

  const UpstreamConfig config_;
  const std::unique_ptr<Connection> connection_ =
      MakeHttp2Connection(&config_, [](const std::string&) {});
  std::vector<AttemptResult> results_;
};

TEST_F(Http2ConnectionTest, TakesNoFurtherCallAfterTenThousandFramesToAcknowledge) {
  Ping(9998);  // and the SETTINGS
  EXPECT_GT(connection_->Room(), 0u);
  Ping(1);
  EXPECT_EQ(connection_->Room(), 0u);
  EXPECT_FALSE(connection_->IsOver()) << "the call that is under way goes on";
  EXPECT_TRUE(results_.empty());
}

TEST_F(Http2ConnectionTest, EndsAfterTwiceAsMany) {
  Ping(19998);
  EXPECT_FALSE(connection_->IsOver());
  EXPECT_TRUE(results_.empty());
  Ping(1);
  EXPECT_TRUE(connection_->IsOver());
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].outcome, UpstreamOutcome::kInvalidResponse);
  EXPECT_EQ(results_[0].why, "not HTTP/2: a flood of PING or SETTINGS frames");
}

TEST_F(Http2ConnectionTest, TakesNoResponseWithAStatusUnder100) {
  const std::string status = std::string("\0\7:status\3", 10) + "099";
  connection_->OnBytes(Frame(1, status, 4, 1));  // HEADERS, END_HEADERS
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_EQ(results_[0].outcome, UpstreamOutcome::kInvalidResponse);
  EXPECT_EQ(results_[0].why, "not HTTP/2: a status of 99, under 100");
}

// --- gRPC ---

class GrpcTest : public UpstreamFixture {
 protected:
  static UpstreamRequest Ask(const std::string& message) {
    UpstreamRequest request;
    request.grpc = true;
    request.method = "POST";
    request.path = "/users.Users/Get";
    request.body = FrameGrpcMessage(message);
    return request;
  }
  UpstreamResult CallOf(const Reply& reply) {
    TestService service({.http2 = true}, [&](const Request& request) {
      seen_ = request;
      return reply;
    });
    Make(service.url(), kHttp2);
    return Call(Ask("who"));
  }
  Request seen_;
};

TEST_F(GrpcTest, BringsMessageStatusAndTrailers) {
  const UpstreamResult result = CallOf({.headers = {{"content-type", "application/grpc"}},
                                        .body = FrameGrpcMessage("ada"),
                                        .trailers = {{"grpc-status", "0"}, {"x-cost", "3"}}});
  EXPECT_EQ(result.status, CALLOUT_OK) << result.message;
  EXPECT_TRUE(result.from_service);
  EXPECT_EQ(result.response.body, "ada");
  EXPECT_THAT(result.response.trailers, Contains(Pair("x-cost", "3")));
  EXPECT_EQ(seen_.body, FrameGrpcMessage("who"));
  EXPECT_EQ(seen_.header("content-type"), "application/grpc");
  EXPECT_EQ(seen_.header("te"), "trailers");
  EXPECT_THAT(seen_.header("grpc-timeout"), ::testing::EndsWith("m"));
  EXPECT_EQ(Outcomes("ok"), "1");
}

TEST_F(GrpcTest, BringsAnErrorOfTheService) {
  const UpstreamResult result = CallOf({.headers = {{"content-type", "application/grpc"},
                                                    {"grpc-status", "5"},
                                                    {"grpc-message", "no%20such user"}}});
  EXPECT_EQ(result.status, CALLOUT_NOT_FOUND);
  EXPECT_TRUE(result.from_service);
  EXPECT_EQ(result.message, "no such user");
  EXPECT_EQ(Outcomes("ok"), "1");
}

TEST_F(GrpcTest, CountsWhatTheServiceCannotDo) {
  const UpstreamResult result =
      CallOf({.headers = {{"content-type", "application/grpc"}, {"grpc-status", "14"}}});
  EXPECT_EQ(result.status, CALLOUT_UNAVAILABLE);
  EXPECT_TRUE(result.from_service);
  EXPECT_EQ(Outcomes("error_response"), "1");
}

TEST_F(GrpcTest, TellsOfWhatIsNotGrpc) {
  struct Case {
    Reply reply;
    std::string why;
  };
  const HeaderFields grpc = {{"content-type", "application/grpc+proto"}};
  const HeaderFields good = {{"grpc-status", "0"}};
  const std::string two = FrameGrpcMessage("a") + FrameGrpcMessage("b");
  const Case cases[] = {
      {{.status = 503}, "not gRPC: HTTP status 503"},
      {{.headers = {{"content-type", "text/html"}}}, "content-type"},
      {{.headers = grpc, .body = FrameGrpcMessage("a")}, "no grpc-status"},
      {{.headers = grpc, .body = two, .trailers = good}, "several"},
      {{.headers = grpc, .body = two.substr(0, 3), .trailers = good}, "no message"},
      {{.headers = grpc, .body = std::string("\1\0\0\0\0", 5), .trailers = good}, "compressed"},
  };
  for (const Case& one : cases) {
    const UpstreamResult result = CallOf(one.reply);
    EXPECT_EQ(result.status, CALLOUT_DATA_LOSS) << one.why;
    EXPECT_FALSE(result.from_service);
    EXPECT_THAT(result.message, HasSubstr(one.why));
  }
}

// What a proxy says about one request must not open the circuit for all others.
TEST_F(GrpcTest, OnlyWhatMeansUnavailableOpensTheCircuit) {
  const HeaderFields grpc = {{"content-type", "application/grpc"}};
  struct Case {
    Reply reply;
    bool opens;
  };
  const Case cases[] = {
      {{.status = 400}, false},
      {{.status = 413}, false},
      {{.status = 431}, false},
      {{.status = 500}, false},
      {{.headers = {{"content-type", "application/grpc"}, {"grpc-status", "3"}}}, false},
      {{.status = 502}, true},
      {{.status = 503}, true},
      {{.status = 504}, true},
      {{.headers = grpc}, true},
      {{.headers = {{"content-type", "application/grpc"}, {"grpc-status", "14"}}}, true},
  };
  for (const Case& one : cases) {
    TestService service({.http2 = true}, [&](const Request&) { return one.reply; });
    Make(service.url(), R"("protocol": "http2", "max_retries": 0, "circuit_failures": 1)");
    Call(Ask("who"));
    const UpstreamResult second = Call(Ask("who"));
    EXPECT_EQ(second.attempts == 0, one.opens) << one.reply.status << ' ' << second.message;
    pool_ = nullptr;
  }
}

TEST_F(GrpcTest, AMessageOfTheLimitPasses) {
  TestService service({.http2 = true}, [](const Request& request) {
    return Reply{.headers = {{"content-type", "application/grpc"}},
                 .body = FrameGrpcMessage(std::string(request.body.size() - kGrpcFrameBytes, 'x')),
                 .trailers = {{"grpc-status", "0"}}};
  });
  Make(service.url(), With(kHttp2, R"("max_response_bytes": 100)"));
  EXPECT_EQ(Call(Ask(std::string(100, 'x'))).response.body.size(), 100u);
  EXPECT_EQ(Call(Ask(std::string(101, 'x'))).status, CALLOUT_RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace callout::host
