// SPDX-License-Identifier: Apache-2.0

// plugins/oauth2_introspect: under the fake host, in a real host that asks a real service, and
// behind a real Envoy.
#include <callout/plugin.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <callout/testing.hpp>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../host/upstream/test_service.h"
#include "host_process.h"
#include "oauth2_introspect/introspection.h"
#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using callout::testing::Answer;
using callout::testing::CallRequest;
using callout::testing::CallResponse;
using callout::testing::CheckAnswer;
using callout::testing::CheckQuestion;
using callout::testing::HeaderList;
using callout::testing::Plugin;
using callout::testing::Store;
using callout::testing::Stream;
using host::TestService;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

int64_t Now() {
  return std::chrono::duration_cast<seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// --- Introspection ---

TEST(Introspection, FindsTheTokenOfAHeader) {
  using oauth2_introspect::BearerToken;
  EXPECT_EQ(BearerToken("Bearer abc.DEF-_~+/=="), "abc.DEF-_~+/==");
  EXPECT_EQ(BearerToken("bEaReR   abc"), "abc");
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "Bearer  ", "Basic abc", "Bearerabc", "Bearer a b",
        "Bearer =", "Bearer a=b", "Bearer a,Bearer b", "Bearer a\tb", "Bearer \xc3\xa4"}) {
    EXPECT_EQ(BearerToken(wrong), std::nullopt) << wrong;
  }
}

TEST(Introspection, EncodesWhatItSends) {
  EXPECT_EQ(oauth2_introspect::IntrospectionForm("a+b/c="),
            "token=a%2Bb%2Fc%3D&token_type_hint=access_token");
  // "a%3Ab:c%26d"
  EXPECT_EQ(oauth2_introspect::BasicAuthorization("a:b", "c&d"), "Basic YSUzQWI6YyUyNmQ=");
  EXPECT_NE(oauth2_introspect::DigestOf({"ab", "c"}), oauth2_introspect::DigestOf({"a", "bc"}));
  EXPECT_EQ(oauth2_introspect::DigestOf({"x"}).size(), 64u);
}

TEST(Introspection, ReadsWhatTheServiceSays) {
  using oauth2_introspect::ReadResponse;
  const auto claims = ReadResponse(R"({"active": true, "sub": "ada", "client_id": "web", "exp": 100,
                                      "username": "Ada", "scope": "read write", "aud": ["a", "b"],
                                      "iss": "i", "more": {"x": [1]}})",
                                   {.issuer = "i", .audience = "b"}, 99);
  ASSERT_TRUE(claims.has_value());
  EXPECT_TRUE(claims->active);
  EXPECT_EQ(claims->subject, "ada");
  EXPECT_EQ(claims->expires, 100);
  EXPECT_TRUE(claims->HasScopes({"write", "read"}));
  EXPECT_FALSE(claims->HasScopes({"rea"}));
  const auto again = oauth2_introspect::Unpack(oauth2_introspect::Pack(*claims));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->client_id, "web");
  EXPECT_EQ(again->username, "Ada");
  EXPECT_EQ(again->scope, "read write");
  EXPECT_EQ(again->expires, 100);
  EXPECT_FALSE(oauth2_introspect::Unpack("0")->active);
  EXPECT_FALSE(oauth2_introspect::Unpack("x").has_value());

  for (const char* garbage : {"", "{", "[]", "true", "{}", R"({"active": "true"})",
                              R"({"active": 1})", R"({"active": true, "active": false})"}) {
    EXPECT_FALSE(ReadResponse(garbage, {}, 0).has_value()) << garbage;
  }
  const std::string deep(100, '[');
  EXPECT_FALSE(ReadResponse("{\"active\": true, \"x\": " + deep, {}, 0).has_value());
  for (const char* inactive :
       {R"({"active": false})", R"({"active": true, "exp": 99})", R"({"active": true, "exp": "x"})",
        R"({"active": true, "nbf": 101})", R"({"active": true, "exp": -5})",
        R"({"active": true, "sub": "a\nb"})", R"({"active": true, "sub": 5})",
        R"({"active": true, "exp": 1e300})"}) {
    const auto read = ReadResponse(inactive, {}, 99);
    ASSERT_TRUE(read.has_value()) << inactive;
    EXPECT_FALSE(read->active) << inactive;
  }
  for (const char* active : {R"({"active": true, "nbf": 0})", R"({"active": true, "nbf": null})",
                             R"({"active": true, "nbf": 99, "exp": 100})"}) {
    EXPECT_TRUE(ReadResponse(active, {}, 99)->active) << active;
  }
  EXPECT_FALSE(ReadResponse(R"({"active": true, "nbf": -1})", {}, 99)->active);
  const std::string good = R"({"active": true, "iss": "i", "aud": "a"})";
  EXPECT_TRUE(ReadResponse(good, {.issuer = "i", .audience = "a"}, 0)->active);
  EXPECT_FALSE(ReadResponse(good, {.issuer = "j"}, 0)->active);
  EXPECT_FALSE(ReadResponse(good, {.audience = "b"}, 0)->active);
}

TEST(Introspection, TakesNoClaimThatAHeaderWouldChange) {
  for (const char* name : {"sub", "username", "client_id", "scope"}) {
    for (const char* value : {" ada", "ada ", " "}) {
      const std::string body =
          std::string(R"({"active": true, ")") + name + R"(": ")" + value + R"("})";
      const auto claims = oauth2_introspect::ReadResponse(body, {}, 1);
      ASSERT_TRUE(claims.has_value()) << body;
      EXPECT_FALSE(claims->active) << body;
    }
  }
}

// --- Under the fake host ---

CallResponse Says(const std::string& body) { return CallResponse::of(body); }

class OAuth2IntrospectTest : public ::testing::Test {
 protected:
  void Make(const std::string& more = "") {
    store_->upstreams.add("tokens",
                          [this](const CallRequest& request) { return answers_(request); });
    plugin_ = std::make_unique<Plugin>(BuiltPlugin("oauth2_introspect"),
                                       R"({"upstream": "tokens")" + more + "}", store_);
    ASSERT_EQ(plugin_->status(), CALLOUT_OK);
  }
  Answer Ask(const std::string& authorization, HeaderList more = {}) {
    if (!authorization.empty()) more.emplace_back("authorization", authorization);
    Stream stream(*plugin_);
    return stream.request_headers(more, true);
  }
  size_t asked() const { return store_->upstreams.requests().size(); }

  std::function<CallResponse(const CallRequest&)> answers_ = [](const CallRequest&) {
    return Says(R"({"active": true, "sub": "ada", "scope": "read"})");
  };
  const std::shared_ptr<Store> store_ = std::make_shared<Store>();
  std::unique_ptr<Plugin> plugin_;
};

TEST_F(OAuth2IntrospectTest, TellsTheServicesBehindWhoseTokenItIs) {
  Make(R"(, "client_id": "me", "client_secret": "s3cret")");
  const Answer answer = Ask("Bearer abc", {{"x-auth-client", "evil"}, {"x-auth-subject", "eve"}});
  EXPECT_EQ(answer.problem, "");
  EXPECT_EQ(answer.header("x-auth-subject"), "ada");
  EXPECT_EQ(answer.header("x-auth-scope"), "read");
  EXPECT_TRUE(answer.removed("x-auth-client"));
  EXPECT_TRUE(answer.removed("x-auth-username"));
  EXPECT_FALSE(answer.removed("authorization"));
  ASSERT_EQ(asked(), 1u);
  const CallRequest request = store_->upstreams.requests()[0];
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/introspect");
  EXPECT_EQ(request.body, "token=abc&token_type_hint=access_token");
  EXPECT_EQ(request.header("authorization"), "Basic bWU6czNjcmV0");
  EXPECT_EQ(request.header("content-type"), "application/x-www-form-urlencoded");
  EXPECT_TRUE(request.idempotent);
}

TEST_F(OAuth2IntrospectTest, RefusesWithoutAGoodToken) {
  Make(R"(, "scopes": ["read", "write"], "realm": "api")");
  const auto refusal = [](const Answer& answer) {
    return std::to_string(answer.http_status) + " " +
           answer.header("www-authenticate").value_or("");
  };
  EXPECT_EQ(refusal(Ask("")), "401 Bearer realm=\"api\"");
  EXPECT_EQ(refusal(Ask("Basic abc")), "401 Bearer realm=\"api\", error=\"invalid_request\"");
  EXPECT_EQ(refusal(Ask("Bearer a", {{"authorization", "Bearer b"}})),
            "400 Bearer realm=\"api\", error=\"invalid_request\"");
  EXPECT_EQ(refusal(Ask("Bearer " + std::string(8193, 'x'))),
            "401 Bearer realm=\"api\", error=\"invalid_token\"");
  EXPECT_EQ(asked(), 0u);
  EXPECT_EQ(refusal(Ask("Bearer abc")),
            "403 Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"read write\"");
  answers_ = [](const CallRequest&) { return Says(R"({"active": false})"); };
  EXPECT_EQ(refusal(Ask("Bearer old")), "401 Bearer realm=\"api\", error=\"invalid_token\"");
  EXPECT_EQ(plugin_->metric("oauth2_introspect_refused_total"), 6);
}

TEST_F(OAuth2IntrospectTest, RefusesWhatTheServiceDoesNotTell) {
  Make(R"(, "unavailable_status": 502)");
  const CallResponse none[] = {CallResponse::failure(CALLOUT_UNAVAILABLE),
                               CallResponse::failure(CALLOUT_DEADLINE_EXCEEDED),
                               CallResponse::failure(CALLOUT_DATA_LOSS),
                               Says("what?"),
                               Says("{}"),
                               Says("")};
  for (const CallResponse& response : none) {
    answers_ = [&](const CallRequest&) { return response; };
    const Answer answer = Ask("Bearer abc");
    EXPECT_EQ(answer.http_status, 502u) << response.message << response.body;
    EXPECT_EQ(answer.header("retry-after"), "1");
    EXPECT_EQ(answer.header("www-authenticate"), std::nullopt);
  }
  for (const uint32_t status : {204u, 302u, 400u, 401u, 500u, 503u}) {
    answers_ = [&](const CallRequest&) {
      CallResponse response = Says(R"({"active": true})");
      response.http_status = status;
      return response;
    };
    EXPECT_EQ(Ask("Bearer abc").http_status, 502u) << status;
  }
  EXPECT_EQ(plugin_->metric("oauth2_introspect_unavailable_total"), 12);
  // Nothing of it was kept.
  answers_ = [](const CallRequest&) { return Says(R"({"active": true})"); };
  EXPECT_EQ(Ask("Bearer abc").http_status, 0u);
  for (const Plugin::Log& log : plugin_->logs()) EXPECT_THAT(log.text, Not(HasSubstr("abc")));
}

TEST_F(OAuth2IntrospectTest, KeepsAnAnswerForItsTime) {
  Make(R"(, "cache_seconds": 30, "inactive_cache_seconds": 3)");
  const int64_t exp = Now() + 10;
  answers_ = [exp](const CallRequest& request) {
    if (request.body.starts_with("token=short&")) {
      return Says(R"({"active": true, "exp": )" + std::to_string(exp) + "}");
    }
    return Says(request.body.starts_with("token=off&") ? R"({"active": false})"
                                                       : R"({"active": true})");
  };
  const auto asks = [&](const std::string& token) {
    const size_t before = asked();
    Ask("Bearer " + token);
    return asked() - before;
  };
  EXPECT_EQ(asks("long") + asks("short") + asks("off"), 3u);
  EXPECT_EQ(asks("long") + asks("short") + asks("off"), 0u);
  plugin_->advance(seconds(4));
  EXPECT_EQ(asks("off"), 1u);
  EXPECT_EQ(asks("long") + asks("short"), 0u);
  plugin_->advance(seconds(7));
  EXPECT_EQ(asks("short"), 1u) << "its own time is over";
  EXPECT_EQ(asks("long"), 0u);
  plugin_->advance(seconds(20));
  EXPECT_EQ(asks("long"), 1u);
  EXPECT_EQ(plugin_->metric("oauth2_introspect_cache_hits_total"), 6);
}

TEST_F(OAuth2IntrospectTest, KeepsNoTokenAndNothingForAnotherQuestion) {
  Make();
  Ask("Bearer abcdefgh");
  EXPECT_EQ(store_->size(), 1u);
  EXPECT_EQ(store_->get("", "abcdefgh"), std::nullopt);
  Plugin other(BuiltPlugin("oauth2_introspect"), R"({"upstream": "tokens", "audience": "b"})",
               store_);
  Stream stream(other);
  EXPECT_EQ(stream.request_headers({{"authorization", "Bearer abcdefgh"}}, true).http_status, 401u);
  EXPECT_EQ(asked(), 2u);
}

TEST_F(OAuth2IntrospectTest, KeepsNothingForOtherTimes) {
  Make(R"(, "cache_seconds": 3600)");
  EXPECT_EQ(Ask("Bearer abc").header("x-auth-subject"), "ada");
  answers_ = [](const CallRequest&) { return Says(R"({"active": false})"); };
  EXPECT_EQ(Ask("Bearer abc").header("x-auth-subject"), "ada") << "it is kept";
  for (const char* times : {R"("cache_seconds": 0)", R"("cache_seconds": 60)",
                            R"("cache_seconds": 3600, "inactive_cache_seconds": 0)"}) {
    Plugin other(BuiltPlugin("oauth2_introspect"),
                 std::string(R"({"upstream": "tokens", )") + times + "}", store_);
    Stream stream(other);
    EXPECT_EQ(stream.request_headers({{"authorization", "Bearer abc"}}, true).http_status, 401u)
        << times;
  }
}

TEST_F(OAuth2IntrospectTest, RequestsWithOneTokenWaitForOneQuestion) {
  Make();
  answers_ = [](const CallRequest&) {
    CallResponse response = Says(R"({"active": true, "sub": "ada"})");
    response.delay = milliseconds(200);
    return response;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(Ask("Bearer abc").header("x-auth-subject"), "ada"); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(asked() + static_cast<size_t>(plugin_->metric("oauth2_introspect_joined_total")) +
                static_cast<size_t>(plugin_->metric("oauth2_introspect_cache_hits_total")),
            8u);
  EXPECT_EQ(asked(), 1u);
}

TEST_F(OAuth2IntrospectTest, AnswersAnExtAuthzCheckTheSameWay) {
  Make(R"(, "forward_token": false, "header_prefix": "x-id-")");
  const auto check = [&](const HeaderList& headers) {
    Stream stream(*plugin_);
    CheckQuestion question;
    question.headers.insert(question.headers.end(), headers.begin(), headers.end());
    return stream.check(question);
  };
  const CheckAnswer good = check({{"authorization", "Bearer abc"}});
  EXPECT_TRUE(good.allowed()) << good.problem;
  EXPECT_EQ(good.header("x-id-subject"), "ada");
  EXPECT_TRUE(good.removed("x-id-client"));
  EXPECT_TRUE(good.removed("authorization"));
  const CheckAnswer none = check({});
  EXPECT_FALSE(none.allowed());
  EXPECT_EQ(none.http_status, 401u);
  EXPECT_EQ(none.header("www-authenticate"), "Bearer realm=\"callout\"");
  answers_ = [](const CallRequest&) { return CallResponse::failure(CALLOUT_UNAVAILABLE); };
  EXPECT_EQ(check({{"authorization", "Bearer other"}}).http_status, 503u);
}

TEST(OAuth2IntrospectConfig, RefusesAConfigurationThatItCannotUse) {
  const auto store = std::make_shared<Store>();
  store->upstreams.add("tokens", [](const CallRequest&) { return CallResponse(); });
  const auto error = [&](const std::string& config) -> std::string {
    Plugin plugin(BuiltPlugin("oauth2_introspect"), config, store);
    EXPECT_NE(plugin.status(), CALLOUT_OK) << config;
    return plugin.logs().empty() ? "" : plugin.logs().front().text;
  };
  EXPECT_THAT(error("{}"), HasSubstr("\"upstream\""));
  EXPECT_THAT(error(R"({"upstream": "others"})"), HasSubstr("there is no upstream \"others\""));
  EXPECT_THAT(error(R"({"upstream": "tokens", "path": "x"})"), HasSubstr("\"path\""));
  EXPECT_THAT(error(R"({"upstream": "tokens", "scopes": ["a b"]})"), HasSubstr("\"scopes\""));
  EXPECT_THAT(error(R"({"upstream": "tokens", "realm": "a\"b"})"), HasSubstr("\"realm\""));
  EXPECT_THAT(error(R"({"upstream": "tokens", "header_prefix": "X-"})"),
              HasSubstr("\"header_prefix\""));
  EXPECT_THAT(error(R"({"upstream": "tokens", "client_secret": "s3cret"})"),
              Not(HasSubstr("s3cret")));
}

// --- With a real service ---

class TokenService {
 public:
  using Reply = TestService::Reply;
  TokenService()
      : service_({}, [](const TestService::Request& request) {
          const auto token = request.body.substr(6, request.body.find('&') - 6);
          if (token == "slow") return Reply{.act = TestService::Act::kHang};
          if (token == "reset") return Reply{.act = TestService::Act::kReset};
          if (token == "garbage") return Reply{.act = TestService::Act::kGarbage};
          if (token == "large") return Reply{.body = std::string(200000, ' ')};
          if (token != "good") return Reply{.body = R"({"active": false})"};
          return Reply{.body = R"({"active": true, "sub": "ada", "scope": "read"})"};
        }) {
    std::ofstream(directory_.Path("upstreams.json"))
        << R"({"tokens": {"url": ")" << service_.url()
        << R"(", "timeout_ms": 60000, "max_response_bytes": 100000, "circuit_failures": 0},
              "nobody": {"url": ")"
        << host::UnusedUrl() << R"("}})";
  }
  std::vector<std::string> options() const {
    // It bounds the question, since the upstream's own limit is far away.
    return {"--upstreams=" + directory_.Path("upstreams.json"), "--hook_deadline_ms=2000"};
  }
  TestService& service() { return service_; }

 private:
  const host::TempDir directory_;
  TestService service_;
};

ext_proc::ProcessingRequest Bearing(const std::string& token) {
  return RequestHeaders({{":path", "/"}, {"authorization", "Bearer " + token}}, true);
}

TEST(OAuth2IntrospectHost, EveryKindOfTroubleOfTheServiceHasItsOutcome) {
  TokenService tokens;
  std::vector<std::string> options = tokens.options();
  // Another plugin behind it, which goes on as ever.
  options.push_back("--plugin=" + BuiltPlugin("add_header"));
  SampleHost sample("oauth2_introspect", R"({"upstream": "tokens"})", options);
  const auto first = [&](const std::string& token) {
    const Lines lines = sample.Ask({Bearing(token)});
    return lines.empty() ? "" : lines.front();
  };
  EXPECT_THAT(sample.Ask({Bearing("good")}), Contains("set x-auth-subject: ada"));
  EXPECT_EQ(first("other"), "immediate 401");
  for (const char* trouble : {"slow", "reset", "garbage", "large"}) {
    EXPECT_EQ(first(trouble), "immediate 503") << trouble;
  }
  EXPECT_THAT(sample.Ask({Bearing("good")}), Contains("set x-auth-subject: ada"));
  // A call is over for the host a little after its response has gone out.
  const std::string none_left = "callout_calls{plugin=\"oauth2_introspect\"} 0\n";
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  std::string metrics;
  do {
    metrics = MetricsOf(sample.host());
  } while (metrics.find(none_left) == metrics.npos && std::chrono::steady_clock::now() < give_up);
  const auto count = [](const std::string& outcome, int value) {
    return "callout_upstream_calls_total{outcome=\"" + outcome + "\",upstream=\"tokens\"} " +
           std::to_string(value) + "\n";
  };
  EXPECT_THAT(metrics, HasSubstr(count("ok", 2)));
  EXPECT_THAT(metrics, HasSubstr(count("timeout", 1)));
  EXPECT_THAT(metrics, HasSubstr(count("reset", 1)));
  EXPECT_THAT(metrics, HasSubstr(count("invalid_response", 1)));
  EXPECT_THAT(metrics, HasSubstr(count("too_large", 1)));
  EXPECT_THAT(metrics, HasSubstr("callout_upstream_retries_total{upstream=\"tokens\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr(none_left));
  EXPECT_THAT(metrics, Not(HasSubstr("callout_plugin_faults_total{kind=\"plugin_error\","
                                     "plugin=\"oauth2_introspect\"} 1")));
}

TEST(OAuth2IntrospectHost, AServiceThatIsDownRefusesRequests) {
  TokenService tokens;
  SampleHost sample("oauth2_introspect", R"({"upstream": "nobody"})", tokens.options());
  const Lines lines = sample.Ask({Bearing("good")});
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(lines.front(), "immediate 503");
  EXPECT_THAT(lines, Contains("set retry-after: 1"));
}

TEST(OAuth2IntrospectHost, AnUpstreamThatIsNotConfiguredEndsTheStart) {
  EXPECT_THAT(RefusalOf("oauth2_introspect", R"({"upstream": "tokens"})"),
              HasSubstr("there is no upstream \"tokens\": add it to the file of --upstreams"));
}

class OAuth2IntrospectEnvoyTest : public SampleEnvoy {};

TEST_F(OAuth2IntrospectEnvoyTest, LetsRequestsWithAGoodTokenThrough) {
  TokenService tokens;
  Start("oauth2_introspect", {{"failure_mode_allow", true}, {"message_timeout", "5s"}},
        R"({"upstream": "tokens", "forward_token": false})", nlohmann::json::array(), {},
        tokens.options());
  for (int i = 0; i < 2; ++i) {
    const HttpMessage response = Send({.headers = {{"authorization", "Bearer good"},
                                                   {"x-auth-subject", "eve"},
                                                   {"x-auth-username", "eve"}}});
    EXPECT_EQ(response.status, 200);
    const HttpMessage received = Received();
    EXPECT_EQ(received.Header("x-auth-subject"), "ada");
    EXPECT_EQ(received.Header("x-auth-scope"), "read");
    EXPECT_EQ(received.Header("x-auth-username"), std::nullopt);
    EXPECT_EQ(received.Header("authorization"), std::nullopt);
  }
  EXPECT_EQ(tokens.service().requests(), 1) << "the second comes from the cache";
  const HttpMessage refused = Send({.headers = {{"authorization", "Bearer other"}}});
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.Header("www-authenticate"),
            "Bearer realm=\"callout\", error=\"invalid_token\"");
  // Even where Envoy is told to fail open.
  tokens.service().Stop();
  EXPECT_EQ(Send({.headers = {{"authorization", "Bearer new"}}}).status, 503);
  EXPECT_FALSE(BackendGotOne());
}

}  // namespace
}  // namespace callout::tests
