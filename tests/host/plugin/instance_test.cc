// SPDX-License-Identifier: Apache-2.0

// What an instance and its table of services hold a plugin to, beyond what streams show.

#include "host/plugin/instance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "host/plugin/recent_faults.h"
#include "host/plugin/services.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class InstanceTest : public StreamTest {
 protected:
  static callout_bytes_t Text(std::string_view text) { return {text.data(), text.size()}; }
};

// --- Phases: one rule ---

struct PhaseCase {
  bool exports_process;
  uint64_t cleared;
  std::vector<std::string> called;  // in order
};

TEST_F(InstanceTest, ClearedPhaseBitsKeepAPhaseFromEveryHook) {
  const uint64_t process = CALLOUT_PHASE_BIT(0);
  const uint64_t headers = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
  const uint64_t response = CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_HEADERS);
  const std::vector<PhaseCase> kTable = {
      {true, 0, {"process 2", "hook 2", "process 3"}},
      {true, headers, {"process 3"}},
      {true, response, {"process 2", "hook 2"}},
      {true, process, {"hook 2"}},
      {true, process | headers, {}},
      {false, 0, {"hook 2"}},
      {false, headers, {}},
  };
  for (const PhaseCase& row : kTable) {
    std::vector<std::string> called;
    FakePlugin plugin;
    if (row.exports_process) {
      plugin.process = [&](callout_call_t* call) {
        called.push_back("process " + std::to_string(call->phase));
        return CALLOUT_NEXT;
      };
    }
    plugin.phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t*) {
      called.emplace_back("hook 2");
      return CALLOUT_OK;
    };
    plugin.create = [&](callout_create_args_t* args) {
      EXPECT_EQ(args->phases, row.exports_process ? 0xfdu : headers);
      args->phases &= ~row.cleared;
    };
    FakePlugin::creating = &plugin;
    InstanceContext context;
    context.metrics = &metrics_;
    auto instance = Instance::Create(plugin.Load(), "phases", "", {}, context);
    ASSERT_TRUE(instance.ok()) << instance.status();
    chains_ = std::make_unique<ChainSource>(
        std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>{*instance}));
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
    Exchange(Headers(CALLOUT_REQUEST_HEADERS));
    Exchange(Headers(CALLOUT_RESPONSE_HEADERS));
    stream_->OnHalfClose();
    EXPECT_EQ(called, row.called) << row.exports_process << " " << row.cleared;
    stream_.reset();
    instance->reset();
    chains_.reset();
  }
}

// --- The configuration ---

// Whoever writes one believes that it does something.
TEST_F(InstanceTest, AConfigurationThatNobodyReadsIsAWarning) {
  Hooks hooks;
  hooks.phases[PhaseSlot(CALLOUT_REQUEST_HEADERS)] = [](callout_call_t*) {
    return callout_status_t{CALLOUT_OK};
  };
  Plugin::Fields fields;
  fields.path = "plain.so";
  fields.name = "plain";
  fields.hooks = hooks;
  const auto plugin = std::make_shared<const Plugin>(std::move(fields));
  InstanceContext context;
  context.metrics = &metrics_;
  const auto create = [&](const std::string& config) {
    testing::internal::CaptureStderr();
    EXPECT_TRUE(Instance::Create(plugin, "plain", config, {}, context).ok()) << config;
    return testing::internal::GetCapturedStderr();
  };
  for (const char* none : {"", " \n", "{}", " { }\n"}) EXPECT_EQ(create(none), "") << none;
  for (const char* config : {"s3cret", R"({"key": "s3cret"})", "{}{}", "[]"}) {
    const std::string said = create(config);
    EXPECT_THAT(said, HasSubstr("WARNING plugin plain: it was given a configuration and does not "
                                "read one: plain.so exports no callout_plugin_create"));
    EXPECT_THAT(said, Not(HasSubstr("s3cret")));
  }
}

// --- Open and close ---

TEST_F(InstanceTest, AnAnswerAtOpenIsAFaultThatOpensNothing) {
  FakePlugin* plugin = AddPlugin();
  plugin->open = [](callout_call_t* call) {
    // A hurried author looks at no status.
    EXPECT_EQ(call->host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, nullptr, 0),
              CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  // Not an error of the RPC, which Envoy may be told to ignore: it was to be a refusal.
  EXPECT_EQ(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).immediate_response().status().code(), 500);
  EXPECT_THAT(RecentFaults::InProcess().List().at(0).what,
              HasSubstr("callout_on_stream_open called respond(), which works in the hook of a "
                        "phase only"));
  EXPECT_EQ(plugin->closed, 1) << "what it opened is freed";
}

TEST_F(InstanceTest, APositiveStatusOfOpenIsAFaultThatOpensNothing) {
  for (const callout_status_t status : {CALLOUT_DEFERRED, CALLOUT_NEXT, CALLOUT_NO_RESPONSE}) {
    FakePlugin* plugin = AddPlugin();
    plugin->open = Returns(status);
    plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
    Begin();
    Feed(Headers(CALLOUT_REQUEST_HEADERS));
    ASSERT_TRUE(stream_->end().has_value()) << status;
    EXPECT_THAT(std::string(stream_->end()->message()),
                HasSubstr("it may return CALLOUT_OK or a negative status"));
    Reset();
  }
}

TEST_F(InstanceTest, CloseHasPhaseZeroAndEmptyViewsAndTellsTheEnd) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t seen = {};
  callout_stream_end_t end = {};
  plugin->close = [&](callout_call_t* call) {
    seen = *call;
    if (call->end != nullptr) end = *call->end;
  };
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    call->stream = call;
    return CALLOUT_OK;
  };
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kBuffered, 0));
  Exchange(Body(CALLOUT_REQUEST_BODY, "body", true));
  stream_->OnHalfClose();
  EXPECT_EQ(plugin->closed, 1);
  EXPECT_EQ(seen.phase, 0u);
  EXPECT_EQ(seen.message.size + seen.request.size + seen.attributes.size +
                seen.metadata_context.size + seen.request_headers.size,
            0u);
  EXPECT_EQ(seen.message.data, nullptr);
  EXPECT_EQ(seen.flags, 0u);
  EXPECT_EQ(seen.body_offset, 0u);
  EXPECT_EQ(seen.deadline_ns, 0u);
  EXPECT_EQ(seen.body_mode, 0u);
  EXPECT_NE(seen.stream, nullptr) << "to be freed";
  EXPECT_EQ(end.struct_size, sizeof(end));
  EXPECT_GT(end.instance_ns, 0u);
}

// --- Services ---

TEST_F(InstanceTest, ACopyOfACallIsRefusedByEveryService) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    // As small as the plugin knows it, so that AddressSanitizer sees who reads beyond.
    auto* copy = static_cast<callout_call_t*>(std::malloc(sizeof(callout_call_t)));
    std::memcpy(copy, call, sizeof(*copy));
    callout_bytes_t value;
    const callout_host_t* host = call->host;
    EXPECT_EQ(host->respond(copy, CALLOUT_IMMEDIATE_RESPONSE, nullptr, 0),
              CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(host->send(copy, CALLOUT_REQUEST_BODY_RESPONSE, nullptr, 0),
              CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(host->annotate(copy, CALLOUT_DYNAMIC_METADATA, {}), CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(host->finish(copy, CALLOUT_OK), CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(host->get_property(copy, CALLOUT_PEER, &value), CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(host->get_metadata(copy, {}, 0, &value), CALLOUT_FAILED_PRECONDITION);
    EXPECT_EQ(host->is_cancelled(copy), 0);
    EXPECT_EQ(host->send_room(copy), 0u);
    host->set_error(copy, {"x", 1});
    std::free(copy);
    return CALLOUT_OK;
  };
  Begin();
  testing::internal::CaptureStderr();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("send() was refused in request_headers: it was given a copy of a "
                        "callout_call_t; pass the pointer that the hook got"));
}

TEST_F(InstanceTest, AFinishOfACallThatWasFinishedIsCountedAndSettlesNothing) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_EQ(call->host->finish(call, CALLOUT_OK), CALLOUT_OK);
    EXPECT_EQ(call->host->finish(call, CALLOUT_INTERNAL), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_DEFERRED;
  };
  Begin();
  EXPECT_TRUE(Exchange(Headers(CALLOUT_REQUEST_HEADERS)).has_request_headers());
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_faults_total{kind=\"stale_finish\","
                                         "plugin=\"fake0\"} 1"));
}

TEST_F(InstanceTest, SendTakesNoMoreThanMayWaitAndSaysHowMuchThatIs) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_BODY] = [](callout_call_t* call) {
    const std::string piece(8 << 20, 'x');  // 8 MiB
    size_t taken = 0;
    const uint64_t room = call->host->send_room(call);
    EXPECT_EQ(room, 67108864u);
    callout_status_t status = CALLOUT_OK;
    while ((status = SendChunk(call, piece)) == CALLOUT_OK && taken < 100) ++taken;
    EXPECT_EQ(status, CALLOUT_RESOURCE_EXHAUSTED);
    EXPECT_EQ(taken, 7u);
    EXPECT_LT(call->host->send_room(call), piece.size());
    EXPECT_EQ(SendChunk(call, "small"), CALLOUT_OK) << "what fits is taken";
    return CALLOUT_OK;
  };
  message_bytes_max_ = 16777216;
  limits_.sent_bytes_max = 67108864;
  Begin();
  Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, 0));
  Feed(Body(CALLOUT_REQUEST_BODY, "c", true));
  // Seven of 128 pieces of 64 KiB, the small one, and the end.
  EXPECT_EQ(Take().size(), 898u) << "a refusal is no fault";
}

callout_status_t Whole(callout_call_t* call, const ProcessingResponse& response) {
  const std::string bytes = response.SerializeAsString();
  const callout_bytes_t part = ToBytes(bytes);
  return call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &part, 1);
}

TEST_F(InstanceTest, OfSeveralWholeResponsesTheLastCountsWithWhatIsBesideIt) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    for (int i = 0; i < 10; ++i) {
      ProcessingResponse response;
      response.mutable_request_headers()->mutable_response()->set_clear_route_cache(i == 9);
      (*response.mutable_dynamic_metadata()->mutable_fields())["n" + std::to_string(i)]
          .set_number_value(i);
      EXPECT_EQ(Whole(call, response), CALLOUT_OK);
    }
    return CALLOUT_OK;
  };
  Begin();
  const auto told = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_TRUE(told.request_headers().response().clear_route_cache());
  ASSERT_EQ(told.dynamic_metadata().fields_size(), 1);
  EXPECT_EQ(told.dynamic_metadata().fields().count("n9"), 1u);
}

TEST_F(InstanceTest, ARefusedWholeResponseTakesNoEffectInAnyPart) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    ProcessingResponse response;
    (*response.mutable_dynamic_metadata()->mutable_fields())["x"].set_bool_value(true);
    std::string cut = response.SerializeAsString() + "\x0a\x7f";
    callout_bytes_t part = ToBytes(cut);
    EXPECT_EQ(call->host->annotate(call, CALLOUT_WHOLE_RESPONSE, part), CALLOUT_INVALID_ARGUMENT);
    response.mutable_request_headers();
    const std::string answer = response.SerializeAsString();
    EXPECT_EQ(call->host->annotate(call, CALLOUT_WHOLE_RESPONSE, ToBytes(answer)),
              CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(call->host->respond(call, CALLOUT_WHOLE_RESPONSE, &part, 1),
              CALLOUT_INVALID_ARGUMENT);
    // And the next one mends it.
    return SetsHeader("x-a", "1")(call);
  };
  Begin();
  const auto told = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(told.dynamic_metadata().fields_size(), 0);
  EXPECT_THAT(Mutations(told.request_headers().response().header_mutation()),
              ElementsAre("set x-a=1"));
}

TEST_F(InstanceTest, MetricsHaveLabelsUnitsBucketsAndGoUpAndDown) {
  FakePlugin* plugin = AddPlugin();
  std::array<uint32_t, 3> ids{};
  plugin->create = [&](callout_create_args_t* args) {
    const callout_label_t label = {Text("kind"), Text("a")};
    const std::array<double, 2> buckets = {1, 2};
    callout_metric_spec_t spec = {};
    spec.struct_size = sizeof(spec);
    spec.kind = CALLOUT_METRIC_UP_DOWN;
    spec.name = Text("open");
    spec.help = Text("Open.");
    spec.labels = &label;
    spec.label_count = 1;
    EXPECT_EQ(args->host->define_metric(args->host, &spec, ids.data()), CALLOUT_OK);
    spec.kind = CALLOUT_METRIC_COUNTER;
    EXPECT_EQ(args->host->define_metric(args->host, &spec, &ids[1]), CALLOUT_INVALID_ARGUMENT);
    spec.label_count = 9;
    EXPECT_EQ(args->host->define_metric(args->host, &spec, &ids[1]), CALLOUT_INVALID_ARGUMENT);
    spec.label_count = 0;
    spec.name = Text("took");
    spec.unit = Text("seconds");
    spec.buckets = buckets.data();
    spec.bucket_count = buckets.size();
    EXPECT_EQ(args->host->define_metric(args->host, &spec, &ids[1]), CALLOUT_INVALID_ARGUMENT)
        << "a counter has no buckets";
    spec.kind = CALLOUT_METRIC_HISTOGRAM;
    EXPECT_EQ(args->host->define_metric(args->host, &spec, &ids[1]), CALLOUT_OK);
    EXPECT_EQ(args->host->follow_file(args->host, Text("/etc/keys")), CALLOUT_OK);
    EXPECT_EQ(args->host->follow_file(args->host, Text("keys")), CALLOUT_INVALID_ARGUMENT);
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = [&](callout_call_t* call) {
    call->host->metric_record(call->host, ids[0], 3);
    call->host->metric_record(call->host, ids[0], -1);
    call->host->metric_record(call->host, ids[1], 1.5);
    EXPECT_EQ(call->host->follow_file(call->host, Text("/etc/x")), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_OK;
  };
  Begin();
  Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  const std::string text = metrics_.Text();
  EXPECT_THAT(text, HasSubstr("open{kind=\"a\",plugin=\"fake0\"} 2"));
  EXPECT_THAT(text, HasSubstr("took_seconds_bucket{plugin=\"fake0\",le=\"1\"} 0"));
  EXPECT_THAT(text, HasSubstr("took_seconds_bucket{plugin=\"fake0\",le=\"2\"} 1"));
}

TEST_F(InstanceTest, AMetricOverTheLimitLeavesNoSeries) {
  FakePlugin* plugin = AddPlugin();
  plugin->create = [](callout_create_args_t* args) {
    for (int i = 0; i < 200; ++i) {
      const std::string value = std::to_string(i % 100);
      const callout_label_t label = {Text("i"), Text(value)};
      callout_metric_spec_t spec = {};
      spec.struct_size = sizeof(spec);
      spec.name = Text("many_total");
      spec.labels = &label;
      spec.label_count = 1;
      uint32_t id = 0;
      const uint32_t number = static_cast<uint32_t>(i % 100);
      const bool fits = number < 64;
      EXPECT_EQ(args->host->define_metric(args->host, &spec, &id),
                fits ? CALLOUT_OK : CALLOUT_RESOURCE_EXHAUSTED);
      EXPECT_EQ(id, fits ? number : 0);
    }
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
  const std::string text = metrics_.Text();
  EXPECT_THAT(text, HasSubstr("many_total{i=\"63\""));
  EXPECT_THAT(text, Not(HasSubstr("many_total{i=\"64\"")));
}

// Else the host could not count by that name any more, for any plugin.
TEST_F(InstanceTest, TheNamesOfTheHostsMetricsAreNoPlugins) {
  FakePlugin* plugin = AddPlugin();
  plugin->create = [](callout_create_args_t* args) {
    uint32_t id = 0;
    EXPECT_EQ(args->host->metric_define(args->host, CALLOUT_METRIC_GAUGE,
                                        Text("callout_denials_total"), Text("h"), &id),
              CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(args->host->metric_define(args->host, CALLOUT_METRIC_GAUGE,
                                        Text("callout_mine_total"), Text("h"), &id),
              CALLOUT_OK);
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
}

// For the sanitizers: a thread that create has begun records while create goes on defining.
TEST_F(InstanceTest, MetricsMayBeRecordedWhileMoreAreDefined) {
  FakePlugin* plugin = AddPlugin();
  plugin->create = [](callout_create_args_t* args) {
    const auto define = [args](int i) {
      uint32_t id = 0;
      const std::string name = "m" + std::to_string(i) + "_total";
      return args->host->metric_define(args->host, CALLOUT_METRIC_COUNTER, Text(name), Text("h"),
                                       &id);
    };
    EXPECT_EQ(define(0), CALLOUT_OK);
    std::atomic<bool> over{false};
    std::thread records([&] {
      do {
        args->host->metric_record(args->host, 0, 1);
      } while (!over);
    });
    for (int i = 1; i < 64; ++i) EXPECT_EQ(define(i), CALLOUT_OK);
    over = true;
    records.join();
  };
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  Begin();
}

// Threads that the plugin has not joined.
TEST_F(InstanceTest, TheTableOutlivesItsInstanceAndSaysWhoStillUsesIt) {
  const callout_host_t* host = nullptr;
  FakePlugin plugin;
  plugin.phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin.create = [&](callout_create_args_t* args) { host = args->host; };
  FakePlugin::creating = &plugin;
  InstanceContext context;
  context.metrics = &metrics_;
  Instance::Create(plugin.Load(), "late", "", {}, context)->reset();
  EXPECT_EQ(plugin.destroyed, 1);
  testing::internal::CaptureStderr();
  host->log(host, CALLOUT_LOG_INFO, Text("tick"));
  host->metric_record(host, 0, 1);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("plugin late: log() was called after callout_plugin_destroy and does "
                        "nothing; join the plugin's threads before destroy returns"));
}

}  // namespace
}  // namespace callout::host
