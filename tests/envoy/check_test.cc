// SPDX-License-Identifier: Apache-2.0

// ext_authz behind a real Envoy: what client and backend see of each kind of answer, on
// filters that fail closed and open; nothing that a plugin says lets a header in, hangs a client
// or lets a refused request pass; a chain of two is as two filters in a row.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "check_fixture.h"

namespace callout::tests {
namespace {

using ::testing::ElementsAre;

TEST_F(EnvoyCheckTest, WhatIsAllowedArrivesAsItIsChanged) {
  CheckResponse response;
  auto* ok = response.mutable_ok_response();
  Add(ok->mutable_headers(), "x-list", "new", kAppend);
  Add(ok->mutable_headers(), "x-new", "a", kAppend);
  Add(ok->mutable_headers(), "x-set", "s");
  Add(ok->mutable_headers(), "x-empty", "");
  ok->add_headers_to_remove("x-secret");
  Add(ok->mutable_response_headers_to_add(), "x-both", "added", kAppend);
  Add(ok->mutable_response_headers_to_add(), "from", "plugin");
  auto* parameter = ok->add_query_parameters_to_set();
  parameter->set_key("q");
  parameter->set_value("x y&z");
  ok->add_query_parameters_to_remove("token");
  for (const char* listener : {"closed", "open", "raw"}) {
    ClientRequest request = {.target = "/p?token=t&a=1"};
    request.headers.push_back({"x-secret", "s"});
    const HttpMessage seen = Ask(listener, response, request);
    EXPECT_EQ(seen.status, 200) << listener;
    EXPECT_EQ(seen.Header("from"), "plugin");
    EXPECT_THAT(ValuesOf(seen.headers, "x-both"), ElementsAre("upstream", "added"));
    const auto received = backend_.TakeRequest("1");
    ASSERT_TRUE(received.has_value()) << listener;
    EXPECT_EQ(received->target, "/p?a=1&q=x%20y%26z");
    EXPECT_EQ(received->Header("x-list"), "old,new");
    EXPECT_EQ(received->Header("x-new"), "a") << "Envoy itself would have lost it";
    EXPECT_EQ(received->Header("x-set"), "s");
    EXPECT_EQ(received->Header("x-empty"), "");
    EXPECT_EQ(received->Header("x-secret"), std::nullopt);
  }
}

TEST_F(EnvoyCheckTest, ARefusalIsOneWhereverEnvoyIsToldToFail) {
  CheckResponse denied;  // as the samples make it: with code 0, which Envoy takes for an OK
  denied.mutable_denied_response()->mutable_status()->set_code(envoy::type::v3::Unauthorized);
  denied.mutable_denied_response()->set_body("no");
  Add(denied.mutable_denied_response()->mutable_headers(), "set-cookie", "a=1", kAppend);
  Add(denied.mutable_denied_response()->mutable_headers(), "set-cookie", "b=2", kAppend);
  CheckResponse empty;
  empty.mutable_status();
  for (const char* listener : {"closed", "open", "raw"}) {
    const HttpMessage seen = Ask(listener, denied);
    EXPECT_EQ(seen.status, 401) << listener;
    EXPECT_EQ(seen.body, "no");
    EXPECT_THAT(ValuesOf(seen.headers, "set-cookie"), ElementsAre("a=1", "b=2"));
    EXPECT_EQ(Ask(listener, "nothing").status, 403) << listener;
    EXPECT_EQ(Ask(listener, "denied").status, 403) << listener;
    EXPECT_EQ(Ask(listener, empty).status, 403) << listener;
    // The reader knows no HEAD, and waits for the body or for the end of the connection.
    const ClientRequest head = {.method = "HEAD", .headers = {{"connection", "close"}}};
    EXPECT_EQ(Ask(listener, denied, head).status, 401);
    EXPECT_FALSE(Reached()) << listener;
  }
}

TEST_F(EnvoyCheckTest, StatusesThatEnvoySendsAreSent) {
  for (const int status : {200, 204, 302, 429, 500, 599}) {
    CheckResponse response;
    auto* denied = response.mutable_denied_response();
    denied->mutable_status()->set_code(static_cast<envoy::type::v3::StatusCode>(status));
    denied->set_body("x");
    const HttpMessage seen = Ask("closed", response);
    EXPECT_EQ(seen.status, status);
    EXPECT_TRUE(seen.complete) << status;
    EXPECT_EQ(seen.body, status == 204 ? "" : "x");
  }
  EXPECT_FALSE(Reached());
}

TEST_F(EnvoyCheckTest, NothingUnheardOfReachesClientOrBackend) {
  using Fill = std::function<void(CheckResponse*)>;
  const std::string evil = "a\r\nset-cookie: evil=1";
  const std::vector<std::pair<std::string, Fill>> cases = {
      {"denied header",
       [&](CheckResponse* r) { Add(r->mutable_denied_response()->mutable_headers(), "x", evil); }},
      {"request header",
       [&](CheckResponse* r) { Add(r->mutable_ok_response()->mutable_headers(), "x", evil); }},
      {"response header",
       [&](CheckResponse* r) {
         Add(r->mutable_ok_response()->mutable_response_headers_to_add(), "x", evil);
       }},
      {"content-length",
       [](CheckResponse* r) {
         Add(r->mutable_ok_response()->mutable_headers(), "content-length", "5");
       }},
      {"status 100, which hangs a client",
       [](CheckResponse* r) {
         r->mutable_denied_response()->mutable_status()->set_code(envoy::type::v3::Continue);
       }},
      {"status 999",
       [](CheckResponse* r) {
         r->mutable_denied_response()->mutable_status()->set_code(
             static_cast<envoy::type::v3::StatusCode>(999));
       }},
      {"a host that is not UTF-8 to the client, for which Envoy refuses the whole message",
       [](CheckResponse* r) {
         auto* header = r->mutable_denied_response()->add_headers()->mutable_header();
         header->set_key("host");
         header->set_raw_value("\xe9");
       }},
      {"a path that ends the request line",
       [](CheckResponse* r) {
         Add(r->mutable_ok_response()->mutable_headers(), ":path", "/x HTTP/1.1");
       }},
  };
  for (const auto& [name, fill] : cases) {
    for (const char* listener : {"closed", "open"}) {
      CheckResponse response;
      fill(&response);
      const HttpMessage seen = Ask(listener, response);
      EXPECT_EQ(seen.status, 500) << name << " on " << listener;
      EXPECT_EQ(seen.Header("set-cookie"), std::nullopt) << name;
      EXPECT_FALSE(Reached()) << name << " on " << listener;
    }
  }
}

// A fault of a plugin is no failure of the host, which Envoy may be told to let pass.
TEST_F(EnvoyCheckTest, AFaultIsARefusalWhereverEnvoyIsToldToFail) {
  for (const char* deed : {"failed", "late", "denied_then_failed", "12ff"}) {
    for (const char* listener : {"closed", "open"}) {
      EXPECT_EQ(Ask(listener, deed).status, 500) << deed << " on " << listener;
      EXPECT_FALSE(Reached()) << deed << " on " << listener;
    }
  }
}

TEST_F(EnvoyCheckTest, APluginThatCannotDecideLeavesItToEnvoy) {
  CheckResponse response;
  response.mutable_error_response()->mutable_status()->set_code(
      envoy::type::v3::ServiceUnavailable);
  EXPECT_EQ(Ask("closed", response).status, 503);
  EXPECT_FALSE(Reached());
  EXPECT_EQ(Ask("open", response).status, 200);
  EXPECT_TRUE(Reached());
}

TEST_F(EnvoyCheckTest, TheNetworkFilterAsksAboutConnections) {
  EXPECT_EQ(Ask("network_host", "nothing").status, 200);
  EXPECT_TRUE(Reached());
  EXPECT_EQ(Ask("network_no_connection", "nothing").status, 0) << "closed without a byte";
  EXPECT_FALSE(Reached());
}

TEST_F(EnvoyCheckTest, BlockIpRefusesBlocksOfAddresses) {
  const auto ask = [&](const std::string& forwarded) {
    ClientRequest request;
    if (!forwarded.empty()) request.headers.push_back({"x-forwarded-for", forwarded});
    return Ask("block_ip", "", request);
  };
  EXPECT_EQ(ask("192.0.2.1, 10.0.0.7").status, 200);
  EXPECT_EQ(backend_.TakeRequest("1")->Header("x-client-ip-allowed"), "true");
  for (const char* refused : {"10.0.0.7", "unknown", ""}) {
    const HttpMessage seen = ask(refused);
    EXPECT_EQ(seen.status, 403) << refused;
    EXPECT_EQ(seen.Header("x-client-ip-allowed"), "false");
  }
  EXPECT_FALSE(Reached());
}

TEST_F(EnvoyCheckTest, APluginForExtProcAnswersThroughTheBridge) {
  const HttpMessage seen = Ask("bridge", "");
  EXPECT_EQ(seen.status, 301);
  EXPECT_NE(seen.Header("location"), std::nullopt);
  EXPECT_FALSE(Reached());
}

// --- A chain of two, and two filters -------------------------------------------------

CheckResponse RandomResponse(std::mt19937* random) {
  const auto below = [random](unsigned end) { return static_cast<unsigned>((*random)() % end); };
  const auto value = [&] { return absl::StrCat("v", below(100)); };
  static constexpr const char* kNames[] = {"one", "two", "Two", "x-list", "absent"};
  CheckResponse response;
  if (below(4) == 0) {
    auto* denied = response.mutable_denied_response();
    denied->mutable_status()->set_code(below(2) == 0 ? envoy::type::v3::Forbidden
                                                     : envoy::type::v3::TooManyRequests);
    denied->set_body(value());
    for (unsigned i = below(4); i > 0; --i) {
      Add(denied->mutable_headers(), kNames[below(5)], value(), below(2) == 0 ? kSet : kAppend);
    }
    return response;
  }
  auto* ok = response.mutable_ok_response();
  for (unsigned i = below(6); i > 0; --i) {
    Add(ok->mutable_headers(), kNames[below(5)], value(), static_cast<Action>(below(4)));
  }
  for (unsigned i = below(3); i > 0; --i) ok->add_headers_to_remove(kNames[below(5)]);
  if (below(6) == 0) Add(ok->mutable_headers(), ":path", absl::StrCat("/new?b=", below(9)));
  for (unsigned i = below(3); i > 0; --i) {
    auto* parameter = ok->add_query_parameters_to_set();
    parameter->set_key(below(2) == 0 ? "b" : "c d");
    parameter->set_value(absl::StrCat("x y", below(9)));
  }
  if (below(3) == 0) ok->add_query_parameters_to_remove(below(2) == 0 ? "a" : "b");
  // What one response can say of two: the same name is always set, or always added.
  for (unsigned i = below(4); i > 0; --i) {
    auto* headers = ok->mutable_response_headers_to_add();
    switch (below(4)) {
      case 0:
        Add(headers, "r-set", value());
        break;
      case 1:
        Add(headers, below(2) == 0 ? "r-add" : "x-both", value(), kAppend);
        break;
      case 2:
        Add(headers, below(2) == 0 ? "r-absent" : "from", value(), kAddIfAbsent);
        break;
      default:
        Add(headers, below(2) == 0 ? "r-exists" : "r-gone", value(), kSetIfExists);
        break;
    }
  }
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

TEST_F(EnvoyCheckTest, AChainIsAsFiltersInARow) {
  constexpr int kRounds = 150;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  backend_.Answer({.headers = {{"from", "backend"}, {"x-both", "u"}, {"r-exists", "u"}},
                   .body = {.pieces = {"original"}}});
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const CheckResponse a = RandomResponse(&random);
    const CheckResponse b = RandomResponse(&random);
    SCOPED_TRACE(absl::StrCat("a {", a.DebugString(), "} b {", b.DebugString(), "}"));
    std::vector<HttpMessage> seen;
    std::vector<std::optional<HttpMessage>> received;
    for (const char* listener : {"chain", "filters"}) {
      seen.push_back(Exchange(envoy_->port(listener), {.target = "/p?a=1&b=2",
                                                       .headers = {{kTestIdHeader, "1"},
                                                                   {"x-check-a", Hex(a)},
                                                                   {"x-check-b", Hex(b)},
                                                                   {"one", "1"},
                                                                   {"two", "2"},
                                                                   {"x-list", "l"}}}));
      received.push_back(backend_.TakeRequest("1"));
    }
    EXPECT_EQ(seen[0].status, seen[1].status);
    EXPECT_EQ(seen[0].body, seen[1].body);
    EXPECT_EQ(Comparable(seen[0].headers), Comparable(seen[1].headers));
    ASSERT_EQ(received[0].has_value(), received[1].has_value());
    if (!received[0].has_value()) continue;
    EXPECT_EQ(received[0]->target, received[1]->target);
    EXPECT_EQ(Comparable(received[0]->headers), Comparable(received[1]->headers));
  }
}

}  // namespace
}  // namespace callout::tests
