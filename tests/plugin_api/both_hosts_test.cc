// SPDX-License-Identifier: Apache-2.0

// The fake host of <callout/testing.hpp> holds a plugin to the rules of the real one: the
// same plugin (witness.c) is driven by both, and writes down the same.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "host/stream/trace_watcher.h"
#include "tests/host/stream_fixture.h"
#include "tests/plugin_api/hosts.h"
#include "tests/plugin_api/witness.h"

namespace callout::host {
namespace {

constexpr size_t kBigBytes = 3000000;

using plugin_api_test::Host;
using plugin_api_test::kTraceparent;
using plugin_api_test::MakeFakeHost;
using plugin_api_test::Modes;

// The stream of the real host, without a transport.
class RealHost final : public Host, public StreamTest {
 public:
  RealHost(const std::string& config, Modes modes) : modes_(modes) {
    Hooks hooks;
    hooks.plugin_create = callout_plugin_create;
    hooks.plugin_destroy = callout_plugin_destroy;
    hooks.stream_open = callout_on_stream_open;
    hooks.stream_close = callout_on_stream_close;
    hooks.on_process = callout_on_process;
    hooks.phases[CALLOUT_REQUEST_HEADERS] = callout_on_request_headers;
    hooks.phases[CALLOUT_REQUEST_BODY] = callout_on_request_body;
    hooks.phases[CALLOUT_REQUEST_TRAILERS] = callout_on_request_trailers;
    hooks.phases[CALLOUT_RESPONSE_HEADERS] = callout_on_response_headers;
    hooks.phases[CALLOUT_RESPONSE_BODY] = callout_on_response_body;
    Plugin::Fields fields;
    fields.path = "witness";
    fields.name = "witness";
    fields.hooks = hooks;
    auto instance =
        Instance::Create(std::make_shared<host::Plugin>(std::move(fields)), "fake0", config, {},
                         {.metrics = &metrics_, .extensions = &extensions_});
    EXPECT_TRUE(instance.ok()) << instance.status();
    chains_ = std::make_unique<ChainSource>(
        std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>{*std::move(instance)}));
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    environment_->watchers().Add(&watcher_);
    environment_->watchers().SetActive(&watcher_, true);
    rpc_.metadata["traceparent"] = kTraceparent;
    rpc_.metadata["tracestate"] = "a=1";
    stream_ = std::make_unique<host::Stream>(environment_.get(), &rpc_);
  }
  ~RealHost() override {
    stream_->OnHalfClose();
    EXPECT_TRUE(stream_->closed());
    Reset();  // before the extensions
  }
  void TestBody() override {}

  void Headers(callout_phase_t phase, const Pairs& headers, bool end_of_stream) override {
    Drive(StreamTest::Headers(phase, end_of_stream, headers));
  }
  void Body(callout_phase_t phase, const std::string& body, bool end_of_stream) override {
    Drive(StreamTest::Body(phase, body, end_of_stream));
  }
  void Trailers(callout_phase_t phase) override {
    Drive(StreamTest::Trailers(phase, {{"t", "1"}}));
  }

 private:
  void Drive(ProcessingRequest request) {
    if (!std::exchange(begun_, true)) {
      request =
          WithModes(request, static_cast<int>(modes_.request), static_cast<int>(modes_.response));
      auto& attributes = (*request.mutable_attributes())["envoy.filters.http.ext_proc"];
      (*attributes.mutable_fields())["k"].set_string_value("v");
    }
    Feed(request);
    if (!stream_->idle()) WaitAndDeliver();
    Take();
  }

  // The base's metrics and chain are there before it, and the instance goes with the environment.
  Extensions extensions_{{}, &metrics_};
  class NoSink final : public TraceSink {
    void Take(std::unique_ptr<ExchangeTrace>) override {}
  };
  NoSink sink_;
  TraceWatcher watcher_{Sampler(), &sink_};
  const Modes modes_;
  bool begun_ = false;
};

template <class Scenario>
void ExpectTheSame(const std::string& config, Modes modes, Scenario&& scenario) {
  witness_begin();
  scenario(MakeFakeHost(config, modes).get());
  const std::string fake = witness_transcript();
  witness_begin();
  scenario(std::make_unique<RealHost>(config, modes).get());
  EXPECT_EQ(fake, witness_transcript());
  EXPECT_GT(fake.size(), 1000u);
}

TEST(BothHosts, ShowAPluginTheSame) {
  for (const Modes modes : {Modes{CALLOUT_BODY_STREAMED, CALLOUT_BODY_STREAMED},
                            Modes{CALLOUT_BODY_FULL_DUPLEX_STREAMED, CALLOUT_BODY_STREAMED}}) {
    ExpectTheSame("", modes, [](Host* host) {
      host->Headers(CALLOUT_REQUEST_HEADERS, {{":path", "/"}, {"a", "1"}}, false);
      host->Body(CALLOUT_REQUEST_BODY, "", false);
      host->Body(CALLOUT_REQUEST_BODY, "one", false);
      host->Body(CALLOUT_REQUEST_BODY, std::string(kBigBytes, 'x'), false);
      host->Trailers(CALLOUT_REQUEST_TRAILERS);
      host->Headers(CALLOUT_RESPONSE_HEADERS, {{":status", "204"}}, false);
      host->Body(CALLOUT_RESPONSE_BODY, "two", true);
    });
  }
}

TEST(BothHosts, ShowAPluginTheSameOfBodiesThatAreWhole) {
  ExpectTheSame("", {CALLOUT_BODY_BUFFERED, CALLOUT_BODY_BUFFERED}, [](Host* host) {
    host->Headers(CALLOUT_REQUEST_HEADERS, {{":path", "/"}}, false);
    host->Body(CALLOUT_REQUEST_BODY, "all", true);
    host->Headers(CALLOUT_RESPONSE_HEADERS, {{":status", "200"}}, true);
  });
}

TEST(BothHosts, TakeNothingAfterARefusal) {
  ExpectTheSame("refuse", {CALLOUT_BODY_NONE, CALLOUT_BODY_NONE}, [](Host* host) {
    host->Headers(CALLOUT_REQUEST_HEADERS, {{":path", "/"}}, true);
  });
  EXPECT_NE(std::string(witness_transcript()).find("header: 0, deny: 0, header: -9, deny: -9, "),
            std::string::npos);
}

TEST(BothHosts, ShowAPluginNoPhaseWhoseBitIsCleared) {
  ExpectTheSame("less", {CALLOUT_BODY_STREAMED, CALLOUT_BODY_STREAMED}, [](Host* host) {
    host->Headers(CALLOUT_REQUEST_HEADERS, {{":path", "/"}}, true);
    host->Headers(CALLOUT_RESPONSE_HEADERS, {{":status", "200"}}, false);
    host->Body(CALLOUT_RESPONSE_BODY, "two", true);
  });
}

}  // namespace
}  // namespace callout::host
