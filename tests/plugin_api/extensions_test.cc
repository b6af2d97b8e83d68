// SPDX-License-Identifier: Apache-2.0

// Timers, calls, shared data and traces: the C++ layer, by extensions_plugin.cc and
// plugins/client_limit, under the fake host with its clock. both_hosts_test.cc compares the fakes
// with the real ones.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <callout/testing.hpp>

namespace callout::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

const char kPlugin[] = CALLOUT_EXTENSIONS_PLUGIN;
const std::string kClientLimit = std::string(CALLOUT_PLUGIN_DIR) + "/client_limit.so";

Answer Ask(Plugin& plugin, const HeaderList& headers) {
  Stream stream(plugin);
  return stream.request_headers(headers, true);
}

TEST(Timers, RunWhenTheTestLetsTimePass) {
  Plugin plugin(kPlugin);
  ASSERT_EQ(plugin.status(), CALLOUT_OK);
  EXPECT_EQ(plugin.timer_count(), 1u);
  plugin.advance(seconds(30));
  EXPECT_EQ(plugin.metric("refreshes_total"), 0);
  plugin.advance(seconds(31));
  EXPECT_EQ(plugin.metric("refreshes_total"), 1);
  plugin.advance(minutes(10));
  EXPECT_EQ(plugin.metric("refreshes_total"), 11);
  Ask(plugin, {{"x-stop", "1"}});
  EXPECT_EQ(plugin.timer_count(), 0u);
  plugin.advance(minutes(10));
  EXPECT_EQ(plugin.metric("refreshes_total"), 11);
}

TEST(Timers, FinishADeferredCall) {
  Plugin plugin(kPlugin);
  const Answer answer = Ask(plugin, {{"x-late-ms", "2"}});
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.header("x-late"), "1");
}

TEST(Timers, WhatTheyThrowIsLogged) {
  Plugin plugin(kPlugin);
  Ask(plugin, {{"x-throw", "1"}});
  plugin.advance(milliseconds(0));
  ASSERT_EQ(plugin.logs().size(), 1u);
  EXPECT_EQ(plugin.logs()[0].text, "a timer threw: no luck");
  EXPECT_EQ(plugin.logs()[0].level, uint32_t{CALLOUT_LOG_ERROR});
}

TEST(Timers, OfAnInstanceThatIsNotMadeAreGone) {
  Plugin plugin(kPlugin, "fail");
  EXPECT_EQ(plugin.status(), CALLOUT_INVALID_ARGUMENT);
  EXPECT_EQ(plugin.timer_count(), 0u);
}

TEST(SharedData, KeepsValuesForTheirTime) {
  Plugin plugin(kPlugin);
  EXPECT_EQ(Ask(plugin, {{"x-keep", "one"}}).header("x-kept"), "one");
  EXPECT_EQ(plugin.store().get("", "kept"), "one");
  plugin.advance(seconds(9));
  EXPECT_EQ(Ask(plugin, {{"x-append", "two"}}).header("x-kept"), "onetwo");
  plugin.advance(seconds(9));
  EXPECT_EQ(Ask(plugin, {}).header("x-kept"), "onetwo") << "update() was given no time";
  EXPECT_EQ(Ask(plugin, {{"x-forget", "1"}}).header("x-status"), "0");
  EXPECT_EQ(Ask(plugin, {{"x-forget", "1"}}).header("x-status"), "-5");
  plugin.store().put("", "kept", std::string(5000, 'x'));
  EXPECT_EQ(Ask(plugin, {}).header("x-kept"), std::string(5000, 'x'));
}

TEST(SharedData, IsSharedByTheInstancesThatHaveTheStore) {
  const auto store = std::make_shared<Store>();
  Plugin one(kPlugin, "", store), other(kPlugin, "", store);
  EXPECT_EQ(Ask(one, {{"x-count", "1"}}).header("x-sum"), "1");
  EXPECT_EQ(Ask(other, {{"x-count", "1"}}).header("x-sum"), "2");
  EXPECT_EQ(store->count("common", "count"), 2);
  one.advance(seconds(11));
  EXPECT_EQ(Ask(other, {{"x-count", "1"}}).header("x-sum"), "1");
}

TEST(SharedData, SaysSoIfThereIsNoRoom) {
  const auto store = std::make_shared<Store>();
  store->keys_max = 1;
  Plugin plugin(kPlugin, "", store);
  EXPECT_EQ(Ask(plugin, {{"x-keep", "one"}}).header("x-status"), "0");
  EXPECT_EQ(Ask(plugin, {{"x-count", "1"}}).header("x-sum"), "none");
}

class Calls : public ::testing::Test {
 protected:
  Calls() {
    store_->upstreams.add("service",
                          [this](const CallRequest& request) { return answers_(request); });
  }
  std::function<CallResponse(const CallRequest&)> answers_ = [](const CallRequest&) {
    CallResponse response;
    response.headers = {{"x-kind", "a"}};
    response.body = "hello";
    return response;
  };
  const std::shared_ptr<Store> store_ = std::make_shared<Store>();
};

TEST_F(Calls, AnswerADeferredCall) {
  Plugin plugin(kPlugin, "", store_);
  const Answer answer = Ask(plugin, {{"x-ask", "/a"}, {"x-more", "m"}});
  EXPECT_TRUE(answer.deferred);
  EXPECT_EQ(answer.header("x-status"), "0");
  EXPECT_EQ(answer.header("x-body"), "hello");
  EXPECT_EQ(answer.header("x-kind"), "a");
  const std::vector<CallRequest> requests = store_->upstreams.requests();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].method, "GET");
  EXPECT_EQ(requests[0].path, "/a");
  EXPECT_EQ(requests[0].header("x-more"), "m");
  EXPECT_EQ(plugin.call_count(), 0u);
}

TEST_F(Calls, AnswerItTooIfTheHostHasNotStartedThem) {
  Plugin plugin(kPlugin, "", store_);
  EXPECT_EQ(Ask(plugin, {{"x-ask", "no path"}}).header("x-status"), "-3");
  EXPECT_EQ(Ask(plugin, {{"x-ask", "/"}, {"x-more", "a\r\nb"}}).header("x-status"), "-3");
  Plugin other(kPlugin);
  EXPECT_EQ(Ask(other, {{"x-ask", "/"}}).header("x-status"), "-5");
}

TEST_F(Calls, EndAtTheirTimeoutByTheClockOfTheTest) {
  answers_ = [](const CallRequest&) {
    CallResponse response;
    response.delay = minutes(1);
    return response;
  };
  store_->upstreams.timeout = milliseconds(2);
  Plugin plugin(kPlugin, "", store_);
  EXPECT_EQ(Ask(plugin, {{"x-ask", "/"}}).header("x-status"), "-4");
}

TEST_F(Calls, WhatTheirEndThrowsIsAnErrorOfTheCall) {
  answers_ = [](const CallRequest&) {
    CallResponse response;
    response.body = "throw";
    return response;
  };
  Plugin plugin(kPlugin, "", store_);
  const Answer answer = Ask(plugin, {{"x-ask", "/"}});
  EXPECT_EQ(answer.status, CALLOUT_INTERNAL);
  EXPECT_EQ(answer.error, "as told");
}

TEST_F(Calls, GoOnInTheBackgroundUntilTheyEndOrAreCancelled) {
  answers_ = [](const CallRequest& request) {
    EXPECT_TRUE(request.grpc);
    CallResponse response;
    response.status = CALLOUT_NOT_FOUND;
    response.message = "nobody";
    response.delay = minutes(20);
    return response;
  };
  store_->upstreams.timeout = minutes(60);
  Plugin plugin(kPlugin, "", store_);
  Ask(plugin, {{"x-begin", "/a.B/C"}});
  EXPECT_EQ(plugin.call_count(), 1u);
  plugin.advance(minutes(19));
  EXPECT_EQ(store_->get("", "begun"), std::nullopt);
  plugin.advance(minutes(2));
  EXPECT_EQ(store_->get("", "begun"), "-5 nobody");
  ASSERT_EQ(plugin.logs().size(), 1u);
  EXPECT_EQ(plugin.logs()[0].text, "the end of a call threw: no luck");

  Ask(plugin, {{"x-begin", "/a.B/D"}});
  Ask(plugin, {{"x-end", "1"}});
  EXPECT_EQ(plugin.call_count(), 0u);
  plugin.advance(minutes(1));
  EXPECT_EQ(plugin.logs().size(), 1u);
}

TEST(Trace, KeepsWhatAPluginAddsToASpan) {
  Plugin plugin(kPlugin);
  Stream stream(plugin);
  const Answer answer = stream.request_headers({{"x-trace", "1"}}, true);
  EXPECT_EQ(answer.header("x-recorded"), "1");
  const AddedToSpan span = stream.span(CALLOUT_REQUEST_HEADERS);
  const TraceAttributes expected = {{"text", "t"},        {"string", "s"}, {"whole", int64_t{-1}},
                                    {"size", int64_t{7}}, {"real", 0.25},  {"flag", true}};
  EXPECT_TRUE(span.attributes == expected);
  ASSERT_EQ(span.events.size(), 2u);
  EXPECT_EQ(span.events[0].name, "looked up");
  const TraceAttributes of_event = {{"hit", false}, {"entries", int64_t{3}}};
  EXPECT_TRUE(span.events[0].attributes == of_event);
  EXPECT_EQ(span.events[1].name, "done");
  EXPECT_TRUE(stream.span(CALLOUT_RESPONSE_HEADERS).attributes.empty());
}

TEST(Trace, ADeferredCallAddsToItsSpan) {
  Plugin plugin(kPlugin);
  Stream stream(plugin);
  stream.request_headers({{"x-late-ms", "1"}}, true);
  EXPECT_EQ(stream.span(CALLOUT_REQUEST_HEADERS).attributes.count("late"), 1u);
}

TEST(Trace, RecordsNothingOfAnExchangeThatIsNotSampled) {
  Plugin plugin(kPlugin);
  Stream stream(plugin);
  stream.set_recorded(false);
  const Answer answer = stream.request_headers({{"x-trace", "1"}}, true);
  EXPECT_EQ(answer.header("x-recorded"), "0");
  EXPECT_EQ(answer.header("x-traceparent"), "none");
  EXPECT_TRUE(stream.span(CALLOUT_REQUEST_HEADERS).attributes.empty());
}

TEST(Trace, GivesTheContextToPassOn) {
  Plugin plugin(kPlugin);
  const std::string trace = "00-11111111111111111111111111111111-";
  for (const bool recorded : {false, true}) {
    Stream stream(plugin);
    stream.set_grpc_metadata("traceparent", trace + "2222222222222222-00")
        .set_grpc_metadata("tracestate", "a=1")
        .set_recorded(recorded);
    const Answer answer = stream.request_headers({{"x-trace", "1"}}, true);
    EXPECT_EQ(answer.header("x-traceparent"),
              trace + (recorded ? "0000000000000001-01" : "2222222222222222-00"));
    EXPECT_EQ(answer.header("x-tracestate"), "a=1");
  }
}

TEST(ClientLimit, CountsWithinAWindowThatBeginsWithTheFirstRequest) {
  Plugin plugin(kClientLimit, R"({"header": "x-client", "limit": 2, "window_seconds": 10})");
  ASSERT_EQ(plugin.status(), CALLOUT_OK);
  const HeaderList ada = {{"x-client", "ada"}};
  EXPECT_TRUE(Ask(plugin, ada).is_empty());
  plugin.advance(seconds(6));
  EXPECT_TRUE(Ask(plugin, ada).is_empty());
  EXPECT_EQ(Ask(plugin, ada).http_status, 429u);
  EXPECT_EQ(Ask(plugin, ada).header("retry-after"), "10");
  plugin.advance(seconds(5));
  EXPECT_TRUE(Ask(plugin, ada).is_empty());
}

TEST(ClientLimit, KeepsItsListWhileTheFileCannotBeRead) {
  const std::string path = std::string(CALLOUT_PLUGIN_DIR) + "/client_limit_test_exempt";
  std::ofstream(path) << "ada\n";
  Plugin plugin(kClientLimit,
                R"({"header": "x-client", "limit": 0, "exempt_file": ")" + path + "\"}");
  ASSERT_EQ(plugin.status(), CALLOUT_OK);
  const HeaderList ada = {{"x-client", "ada"}};
  EXPECT_TRUE(Ask(plugin, ada).is_empty());
  std::remove(path.c_str());
  plugin.advance(seconds(61));
  EXPECT_TRUE(Ask(plugin, ada).is_empty());
  EXPECT_EQ(plugin.metric("client_limit_read_failures_total"), 1);
  std::ofstream(path) << "bob\n";
  plugin.advance(seconds(61));
  EXPECT_EQ(Ask(plugin, ada).http_status, 429u);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace callout::testing
