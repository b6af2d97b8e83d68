// SPDX-License-Identifier: Apache-2.0

// Rate limits behind a real Envoy: what client and backend see of each kind of answer, on filters
// that fail closed and open; nothing that a plugin says lets a header in or a refused request
// pass; a chain of two is as two filters in a row; local_rate_limit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "envoy_config.h"
#include "service_fixture.h"

namespace callout::tests {
namespace {

using envoy::service::ratelimit::v3::RateLimitResponse;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kOk = RateLimitResponse::OK;
constexpr auto kOverLimit = RateLimitResponse::OVER_LIMIT;

template <class Headers>
void Add(Headers* headers, const std::string& name, const std::string& value) {
  auto* header = headers->Add();
  header->set_key(name);
  header->set_value(value);
}

class EnvoyRateLimitTest : public EnvoyServiceTest {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const auto host = [&](const std::string& name, const std::vector<std::string>& options) {
      AddHost(name, options, &config);
    };
    const std::string limiting = BuiltFile("tests/envoy/plugins/limiting.so");
    host("host", {"--plugin=limiting=" + limiting, "--plugin_config=limiting=as x-limit"});
    host("both", ChainOf(limiting, "as x-limit-", {"a", "b"}));
    host("first", ChainOf(limiting, "as x-limit-", {"a"}));
    host("second", ChainOf(limiting, "as x-limit-", {"b"}));
    host("local", {"--plugin=" + BuiltPlugin("local_rate_limit"),
                   "--plugin_config=local_rate_limit=" +
                       std::string(R"({"limits": [{"name": "user", "descriptor": [)"
                                   R"({"key": "x-limit"}], "count": 2, "per": "day"}]})")});
    const auto add = [&](const std::string& name, std::vector<json> filters) {
      EnvoyListener listener = {.name = name, .filters = std::move(filters)};
      listener.route = RateLimitedRoute({"x-limit", "x-limit-a", "x-limit-b"});
      const json shown = {{"header",
                           {{"key", "x-metadata"},
                            {"value", "%DYNAMIC_METADATA(envoy.filters.http.ratelimit:user)%"}}}};
      listener.route["response_headers_to_add"] = json::array({shown});
      config.listeners.push_back(listener);
    };
    const json shown = {{"enable_x_ratelimit_headers", "DRAFT_VERSION_03"}};
    json closed = shown;
    closed["failure_mode_deny"] = true;
    add("closed", {RateLimit(closed)});
    add("open", {RateLimit(shown)});
    add("chain", {RateLimit(json::object(), "both")});
    add("filters", {RateLimit(json::object(), "first"),
                    RateLimit(json::object(), "second", "envoy.filters.http.ratelimit2")});
    add("local", {RateLimit(closed, "local")});
    // Envoy reads `hits_addend` from the limits of the filter, and not from those of a route.
    json for_five = RateLimitedRoute({"x-limit"})["route"]["rate_limits"][0];
    for_five["hits_addend"]["number"] = 5;
    json five = closed;
    five["rate_limits"] = json::array({for_five});
    config.listeners.push_back({.name = "five", .filters = {RateLimit(five)}});
    EnvoyListener limited = {.name = "limited", .route = RateLimitedRoute({"x-limit"})};
    const json key = {{"key", "limits"}, {"path", json::array({{{"key", "user"}}})}};
    limited.route["route"]["rate_limits"][0]["limit"]["dynamic_metadata"]["metadata_key"] = key;
    limited.filters = {
        SetMetadata("limits", {{"user", {{"requests_per_unit", 42}, {"unit", "HOUR"}}}}),
        RateLimit(closed)};
    config.listeners.push_back(limited);
    envoy_.emplace(MakeBootstrap(config));
    backend_.Answer({.headers = {{"from", "backend"}}, .body = {.pieces = {"original"}}});
  }

  HttpMessage Ask(const std::string& listener, const std::string& deed,
                  ClientRequest request = {}) {
    request.headers.push_back({kTestIdHeader, "1"});
    if (!deed.empty()) request.headers.push_back({"x-limit", deed});
    return Exchange(envoy_->port(listener), request);
  }
  HttpMessage Ask(const std::string& listener, const RateLimitResponse& response) {
    return Ask(listener, Hex(response));
  }
};

TEST_F(EnvoyRateLimitTest, WhatIsWithinItsLimitsArrives) {
  RateLimitResponse response;
  response.set_overall_code(kOk);
  Add(response.mutable_request_headers_to_add(), "x-tier", "gold");
  Add(response.mutable_response_headers_to_add(), "x-seen", "1");
  auto* status = response.add_statuses();
  status->set_code(kOk);
  status->mutable_current_limit()->set_requests_per_unit(10);
  status->mutable_current_limit()->set_unit(RateLimitResponse::RateLimit::MINUTE);
  status->mutable_current_limit()->set_name("per user");
  status->set_limit_remaining(7);
  status->mutable_duration_until_reset()->set_seconds(30);
  for (const char* listener : {"closed", "open"}) {
    const HttpMessage seen = Ask(listener, response);
    EXPECT_EQ(seen.status, 200) << listener;
    EXPECT_EQ(seen.Header("x-seen"), "1");
    EXPECT_THAT(seen.Header("x-ratelimit-limit").value_or(""), HasSubstr("10;w=60"));
    EXPECT_THAT(seen.Header("x-ratelimit-limit").value_or(""), HasSubstr("name=\"per user\""));
    EXPECT_EQ(seen.Header("x-ratelimit-remaining"), "7");
    EXPECT_EQ(seen.Header("x-ratelimit-reset"), "30");
    const auto received = backend_.TakeRequest("1");
    ASSERT_TRUE(received.has_value());
    EXPECT_EQ(received->Header("x-tier"), "gold");
  }
}

// Without a header there is no descriptor, and Envoy asks nobody.
TEST_F(EnvoyRateLimitTest, NothingSaidAndNothingAskedPass) {
  for (const char* listener : {"closed", "open"}) {
    EXPECT_EQ(Ask(listener, "nothing").status, 200) << listener;
    EXPECT_TRUE(Reached());
    EXPECT_EQ(Ask(listener, "").status, 200) << listener;
    EXPECT_TRUE(Reached());
  }
}

TEST_F(EnvoyRateLimitTest, ARefusalIsOneWhereverEnvoyIsToldToFail) {
  RateLimitResponse over;
  over.set_overall_code(kOverLimit);
  over.set_raw_body("slow down");
  Add(over.mutable_response_headers_to_add(), "retry-after", "7");
  for (const char* listener : {"closed", "open"}) {
    const HttpMessage seen = Ask(listener, over);
    EXPECT_EQ(seen.status, 429) << listener;
    EXPECT_EQ(seen.body, "slow down");
    EXPECT_EQ(seen.Header("retry-after"), "7");
    EXPECT_EQ(seen.Header("x-envoy-ratelimited"), "true");
    // Each a fault, or a status that refuses; some of them after a refusal.
    for (const char* deed : {"denied", "failed", "over_then_failed", "within_then_failed", "thrown",
                             "late", "never", "12ff", "0801120", "08"}) {
      EXPECT_EQ(Ask(listener, deed).status, 429) << deed << " on " << listener;
    }
    EXPECT_FALSE(Reached()) << listener;
  }
}

TEST_F(EnvoyRateLimitTest, NothingUnheardOfReachesClientOrBackend) {
  const std::string evil = "a\r\nset-cookie: evil=1";
  using Fill = std::function<void(RateLimitResponse*)>;
  const std::map<std::string, Fill> cases = {
      {"response header",
       [&](RateLimitResponse* r) { Add(r->mutable_response_headers_to_add(), "x", evil); }},
      {"request header",
       [&](RateLimitResponse* r) { Add(r->mutable_request_headers_to_add(), "x", evil); }},
      {"content-length",
       [&](RateLimitResponse* r) {
         Add(r->mutable_request_headers_to_add(), "content-length", "5");
       }},
      {"host",
       [&](RateLimitResponse* r) { Add(r->mutable_request_headers_to_add(), "host", "x"); }},
      {"path",
       [&](RateLimitResponse* r) { Add(r->mutable_request_headers_to_add(), ":path", "x"); }},
      {"name of a limit, which Envoy writes into a header",
       [&](RateLimitResponse* r) {
         auto* status = r->add_statuses();
         status->mutable_current_limit()->set_name(evil);
         status->mutable_current_limit()->set_unit(RateLimitResponse::RateLimit::MINUTE);
       }},
      {"another protocol",
       [](RateLimitResponse* r) {
         Add(r->mutable_request_headers_to_add(), "connection", "Upgrade");
         Add(r->mutable_request_headers_to_add(), "upgrade", "websocket");
       }},
      {"content-length of the response",
       [](RateLimitResponse* r) {
         Add(r->mutable_response_headers_to_add(), "content-length", "500");
       }},
      {"a name with a line's end",
       [](RateLimitResponse* r) {
         Add(r->mutable_response_headers_to_add(), "x: a\r\nset-cookie", "evil=1");
       }},
      {"NUL",
       [](RateLimitResponse* r) {
         Add(r->mutable_response_headers_to_add(), "x", std::string("a\0b", 3));
       }},
      {"101 headers",
       [](RateLimitResponse* r) {
         for (int i = 0; i < 101; ++i) Add(r->mutable_request_headers_to_add(), "x", "1");
       }},
      {"metadata",
       [&](RateLimitResponse* r) {
         (*r->mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value(evil);
       }},
      {"metadata of a refusal",
       [&](RateLimitResponse* r) {
         r->set_overall_code(kOverLimit);
         (*r->mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value(evil);
       }},
      {"a code that there is not",
       [](RateLimitResponse* r) { r->set_overall_code(static_cast<RateLimitResponse::Code>(3)); }},
      {"a status over its limit beside an OK",
       [](RateLimitResponse* r) { r->add_statuses()->set_code(kOverLimit); }},
  };
  for (const auto& [name, fill] : cases) {
    for (const char* listener : {"closed", "open"}) {
      RateLimitResponse response;
      response.set_overall_code(kOk);
      fill(&response);
      const HttpMessage seen = Ask(listener, response);
      EXPECT_EQ(seen.status, 429) << name << " on " << listener;
      EXPECT_EQ(seen.Header("set-cookie"), std::nullopt) << name;
      EXPECT_EQ(seen.Header("x-metadata"), std::nullopt) << name;
      EXPECT_TRUE(seen.complete) << name;
      EXPECT_FALSE(Reached()) << name << " on " << listener;
    }
  }
}

TEST_F(EnvoyRateLimitTest, MetadataArrives) {
  RateLimitResponse response;
  (*response.mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value("ada");
  for (const auto code : {kOk, kOverLimit}) {
    response.set_overall_code(code);
    EXPECT_EQ(Ask("closed", response).Header("x-metadata"), "ada") << code;
  }
}

TEST_F(EnvoyRateLimitTest, APluginIsShownWhatEnvoySends) {
  EXPECT_EQ(Ask("closed", "show").body, "test: x-limit=show, 1 hits\n");
  EXPECT_EQ(Ask("closed", "show", {.headers = {{"x-limit-a", "2"}}}).body,
            "test: x-limit=show, 1 hits\ntest: x-limit-a=2, 1 hits\n");
}

// By the route's configuration, and by what a filter before has left as metadata.
TEST_F(EnvoyRateLimitTest, APluginIsShownHitsAndLimitsOfTheRoute) {
  EXPECT_EQ(Ask("five", "show").body, "test: x-limit=show, 5 hits\n");
  EXPECT_EQ(Ask("limited", "show").body,
            absl::StrCat("test: x-limit=show, 1 hits, 42 per 1x",
                         static_cast<int>(RateLimitResponse::RateLimit::HOUR), "\n"));
}

TEST_F(EnvoyRateLimitTest, LocalRateLimitCountsByDescriptor) {
  for (const char* user : {"ada", "bob"}) {
    for (const char* remaining : {"1", "0"}) {
      const HttpMessage seen = Ask("local", user);
      EXPECT_EQ(seen.status, 200) << user;
      EXPECT_EQ(seen.Header("x-ratelimit-remaining"), remaining);
      EXPECT_TRUE(Reached());
    }
    const HttpMessage seen = Ask("local", user);
    EXPECT_EQ(seen.status, 429) << user;
    EXPECT_NE(seen.Header("retry-after"), std::nullopt);
    EXPECT_THAT(seen.Header("x-ratelimit-limit").value_or(""), HasSubstr("name=\"user\""));
    EXPECT_FALSE(Reached());
  }
}

// --- A chain of two, and two filters -------------------------------------------------

RateLimitResponse RandomResponse(std::mt19937* random) {
  const auto below = [random](unsigned end) { return static_cast<unsigned>((*random)() % end); };
  static constexpr const char* kNames[] = {"one", "two", "set-cookie", "from"};
  RateLimitResponse response;
  response.set_overall_code(below(4) == 0 ? kOverLimit : kOk);
  for (unsigned i = below(4); i > 0; --i) {
    Add(response.mutable_response_headers_to_add(), kNames[below(4)], absl::StrCat("v", below(99)));
  }
  for (unsigned i = below(4); i > 0; --i) {
    Add(response.mutable_request_headers_to_add(), kNames[below(2)], absl::StrCat("v", below(99)));
  }
  if (below(2) == 0) response.set_raw_body(absl::StrCat("body ", below(99)));
  return response;
}

HttpFields Comparable(const HttpFields& fields) {
  HttpFields comparable;
  for (const auto& field : fields) {
    const bool varies = field.first == kTestIdHeader || field.first == "x-request-id" ||
                        field.first == "date" || field.first == "x-envoy-upstream-service-time";
    if (!varies) comparable.push_back(field);
  }
  std::stable_sort(comparable.begin(), comparable.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return comparable;
}

TEST_F(EnvoyRateLimitTest, AChainIsAsFiltersInARow) {
  constexpr int kRounds = 100;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const RateLimitResponse a = RandomResponse(&random);
    const RateLimitResponse b = RandomResponse(&random);
    SCOPED_TRACE(absl::StrCat("a {", a.DebugString(), "} b {", b.DebugString(), "}"));
    std::vector<HttpMessage> seen;
    std::vector<std::optional<HttpMessage>> received;
    for (const char* listener : {"chain", "filters"}) {
      seen.push_back(Exchange(
          envoy_->port(listener),
          {.headers = {
               {kTestIdHeader, "1"}, {"x-limit-a", Hex(a)}, {"x-limit-b", Hex(b)}, {"one", "1"}}}));
      received.push_back(backend_.TakeRequest("1"));
    }
    EXPECT_EQ(seen[0].status, seen[1].status);
    EXPECT_EQ(seen[0].body, seen[1].body);
    EXPECT_EQ(Comparable(seen[0].headers), Comparable(seen[1].headers));
    ASSERT_EQ(received[0].has_value(), received[1].has_value());
    if (!received[0].has_value()) continue;
    EXPECT_EQ(Comparable(received[0]->headers), Comparable(received[1]->headers));
  }
}

}  // namespace
}  // namespace callout::tests
