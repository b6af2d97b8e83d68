// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_messages.h"

#include <gtest/gtest.h>

#include <iterator>
#include <random>

#include "host/base/plain_codec.h"
#include "host/metrics/metric_sum.h"
#include "host/metrics/metrics.h"

namespace callout::host {
namespace {

GenerationSource SomeSource() {
  GenerationSource source;
  source.id = 7;
  source.number = 3;
  source.name = "10-auth";
  source.path = "/plugins/10-auth.so";
  source.sha256 = "aa";
  source.load_path = "/tmp/copy.so";
  source.config = std::string("any\0bytes\xff", 10);
  source.settings_text = "{}";
  source.policy = ErrorPolicy{ErrorPolicy::Action::kDeny, 503};
  source.quarantine = "crashed";
  source.phases = CALLOUT_PHASE_BIT(CALLOUT_CHECK);
  source.on_trial = source.canary = true;
  return source;
}

TEST(WorkerMessages, ASourceArrivesAsItWas) {
  const GenerationSource source = SomeSource();
  const auto order = Decode<PrepareOrder>(Encode(PrepareOrder{source, true}));
  ASSERT_TRUE(order.has_value());
  EXPECT_TRUE(order->must);
  EXPECT_EQ(order->source.id, source.id);
  EXPECT_EQ(order->source.number, source.number);
  EXPECT_EQ(order->source.name, source.name);
  EXPECT_EQ(order->source.path, source.path);
  EXPECT_EQ(order->source.sha256, source.sha256);
  EXPECT_EQ(order->source.load_path, source.load_path);
  EXPECT_EQ(order->source.config, source.config);
  EXPECT_EQ(order->source.settings_text, source.settings_text);
  ASSERT_TRUE(order->source.policy.has_value());
  EXPECT_EQ(order->source.policy->action, ErrorPolicy::Action::kDeny);
  EXPECT_EQ(order->source.policy->http_status, 503);
  EXPECT_EQ(order->source.quarantine, source.quarantine);
  EXPECT_EQ(order->source.phases, source.phases);
  EXPECT_TRUE(order->source.on_trial);
  EXPECT_TRUE(order->source.canary);
}

TEST(WorkerMessages, MetricsArriveAsTheyWere) {
  Metrics metrics;
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "c", "Help.", {{"a", "x"}}), 0.1);
  metrics.Set(*metrics.Define(Metrics::Kind::kGauge, "g", "Help."), -5);
  metrics.Observe(*metrics.Define(Metrics::Kind::kHistogram, "h", "Help."), 0.3);
  const auto families = Decode<std::vector<prometheus::MetricFamily>>(Encode(metrics.Collect()));
  ASSERT_TRUE(families.has_value());
  EXPECT_EQ(MetricsText(*families), metrics.Text());
}

TEST(WorkerMessages, UsageArrivesAsItWas) {
  const auto usage = Decode<GenerationTarget::Usage>(
      Encode(GenerationTarget::Usage{.streams = {{7, 1}, {9, 2}},
                                     .calls = {{9, {5, 1, 7, {5}}}},
                                     .mapped = 3,
                                     .last_crash = {{"p", "SIGSEGV"}}}));
  ASSERT_TRUE(usage.has_value());
  EXPECT_EQ(usage->streams, (std::map<GenerationId, size_t>{{7, 1}, {9, 2}}));
  EXPECT_EQ(usage->calls.at(9).faults, 1u);
  EXPECT_EQ(usage->calls.at(9).buckets, std::vector<uint64_t>{5});
  EXPECT_EQ(usage->mapped, 3u);
  EXPECT_EQ(usage->last_crash.at("p"), "SIGSEGV");
}

TEST(WorkerMessages, FollowedFilesArriveAsTheyWereWhenThePluginFollowedThem) {
  const FollowedFiles files = {{"/", StampOf("/")}, {"/no/file", StampOf("/no/file")}};
  GenerationFacts sent;
  sent.followed_files = files;
  const auto facts = Decode<GenerationFacts>(Encode(std::move(sent)));
  ASSERT_TRUE(facts.has_value());
  EXPECT_EQ(facts->followed_files, files);
}

TEST(WorkerMessages, AnAnswerIsAStatusOrABody) {
  const auto good = BodyOf({0, "", "body"});
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, "body");
  const absl::Status error = absl::NotFoundError("no such thing");
  EXPECT_EQ(BodyOf(AnswerOf(error)).status(), error);
}

// A worker in which a plugin has run wild may send anything.
TEST(WorkerMessages, WhatIsCutOffOrHasMoreIsRefused) {
  const std::string bytes = Encode(PrepareOrder{SomeSource(), true});
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Decode<PrepareOrder>(bytes.substr(0, size)).has_value()) << size;
  }
  EXPECT_FALSE(Decode<PrepareOrder>(bytes + "x").has_value());
}

TEST(WorkerMessages, ASizeBeyondTheMessageIsRefusedWithoutTakingMemory) {
  const std::string size(8, '\xff');
  EXPECT_FALSE(Decode<std::string>(size).has_value());
  EXPECT_FALSE(Decode<std::vector<uint64_t>>(size).has_value());
  EXPECT_FALSE((Decode<std::map<std::string, std::string>>(size).has_value()));
}

// Or one value would have many forms.
TEST(WorkerMessages, OnlyWhatEncodingGivesIsDecoded) {
  using Map = std::map<std::string, uint8_t>;
  const std::string map = Encode(Map{{"a", 1}, {"b", 2}});
  ASSERT_TRUE(Decode<Map>(map).has_value());
  std::string turned = map;
  std::swap(turned[16], turned[26]);
  EXPECT_FALSE(Decode<Map>(turned).has_value()) << "keys out of order";
  turned[26] = turned[16];
  EXPECT_FALSE(Decode<Map>(turned).has_value()) << "a key twice";
  EXPECT_FALSE(Decode<bool>("\x02").has_value());
  EXPECT_TRUE(Decode<bool>("\x01").has_value());
  std::string optional = Encode(std::optional<uint8_t>(7));
  optional[0] = 2;
  EXPECT_FALSE(Decode<std::optional<uint8_t>>(optional).has_value());
}

// --- What a worker says is not believed: a plugin may have said it ---

TEST(WorkerMessages, AnErrorIsAnErrorWhateverItsCode) {
  for (int32_t code : {-1, 17, INT32_MAX, INT32_MIN}) {
    const auto body = BodyOf({code, std::string(1 << 20, 'e'), "body"});
    ASSERT_FALSE(body.ok());
    EXPECT_EQ(body.status().code(), absl::StatusCode::kUnknown) << code;
    EXPECT_LE(body.status().message().size(), 4096u);
  }
}

TEST(WorkerMessages, MetricsThatNobodyCouldHaveDefinedAreLeftOut) {
  using prometheus::ClientMetric;
  using prometheus::MetricFamily;
  using prometheus::MetricType;
  ClientMetric plain;
  ClientMetric bad_label;
  bad_label.label = {{"a\nb", "x"}};
  ClientMetric bad_value;
  bad_value.label = {{"a", "\xff"}};
  ClientMetric many_buckets;
  many_buckets.histogram.bucket.resize(1000);
  const auto family = [](std::string name, MetricType type, ClientMetric metric) {
    MetricFamily made;
    made.name = std::move(name);
    made.type = type;
    made.metric.push_back(std::move(metric));
    return made;
  };
  std::vector<MetricFamily> families = {
      family("good", MetricType::Counter, plain),
      family("forged 1\nother", MetricType::Counter, plain),
      family("label", MetricType::Counter, bad_label),
      family("value", MetricType::Gauge, bad_value),
      family("type", static_cast<MetricType>(99), plain),
      family("buckets", MetricType::Histogram, many_buckets),
  };
  DropUnsound(&families);
  ASSERT_EQ(families.size(), 1u);
  EXPECT_EQ(families[0].name, "good");
}

// A member follows it on the page, for which an empty object has no place.
TEST(WorkerMessages, AnExplanationOfNothingIsNone) {
  std::vector<Explained> explained = {
      {"{", "", 0}, {"{\"a\":1", "", 0}, {"{ ", "", 0}, {std::string("{}\0", 3), "", 0}};
  DropUnsound(&explained, 9);
  ASSERT_EQ(explained.size(), 1u);
  EXPECT_EQ(explained[0].document, "{\"a\":1");
}

// Bytes of any kind, and bytes that are nearly right.
TEST(WorkerMessages, WhateverAWorkerSendsIsReadOrRefused) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Metrics metrics;
  metrics.Add(*metrics.Define(Metrics::Kind::kCounter, "c", "Help.", {{"a", "x"}}), 1);
  metrics.Observe(*metrics.Define(Metrics::Kind::kHistogram, "h", "Help."), 0.3);
  const std::string good[] = {
      Encode(metrics.Collect()),
      Encode(GenerationTarget::Usage{.streams = {{7, 1}}, .last_crash = {{"p", "SIGSEGV"}}}),
      Encode(WorkerReply{3, "error", "body"}), Encode(std::vector<GenerationId>{1, 2, 3}),
      Encode(GenerationFacts{.name = "n",
                             .version = "v",
                             .description = "d",
                             .abi_version = 1,
                             .config_schema = "{}",
                             .followed_files = {{"/file", StampOf("/")}},
                             .hooks = {"hook"},
                             .warnings = {"warning"}})};
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good[random() % std::size(good)];
    for (uint64_t left = random() % 8; left > 0 && !bytes.empty(); --left) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 1));
    if (auto families = Decode<std::vector<prometheus::MetricFamily>>(bytes)) {
      DropUnsound(&*families);
      MetricSum sum;
      sum.Add(metrics.Collect());
      sum.Add(*families);
      MetricsText(sum.Get());
    }
    Decode<GenerationTarget::Usage>(bytes);
    Decode<std::vector<GenerationId>>(bytes);
    Decode<GenerationFacts>(bytes);
    if (auto reply = Decode<WorkerReply>(bytes)) BodyOf(*std::move(reply)).IgnoreError();
  }
}

TrafficSight SomeSight() {
  TrafficSight sight;
  sight.live.rpcs = {{"ext_proc", "ipv4:1.2.3.4:5", 1, 2, "request_headers", "p", "called"}};
  sight.live.left_out = 3;
  sight.live.silent_threads = 4;
  sight.faults = {{"p", "check", "deadline", "what", "id", "trace", 5, 6, 7}};
  return sight;
}

TEST(WorkerMessages, ASightArrivesAsItWasSent) {
  const std::optional<TrafficSight> sight = Decode<TrafficSight>(Encode(SomeSight()));
  ASSERT_TRUE(sight.has_value());
  ASSERT_EQ(sight->live.rpcs.size(), 1u);
  EXPECT_EQ(sight->live.rpcs[0].state, "called");
  EXPECT_EQ(sight->live.silent_threads, 4u);
  ASSERT_EQ(sight->faults.size(), 1u);
  EXPECT_EQ(sight->faults[0].trace_id, "trace");
  EXPECT_EQ(sight->faults[0].count, 7u);
}

// A plugin may have written what a worker sends.
TEST(WorkerMessages, ASightIsCutToItsLimits) {
  TrafficSight sight = SomeSight();
  sight.live.rpcs[0].peer = sight.faults[0].what = std::string(1 << 20, 'x');
  sight.live.rpcs.resize(TrafficSight::kRpcsMax + 1, sight.live.rpcs[0]);
  sight.faults.resize(RecentFaults::kMax + 1, sight.faults[0]);
  BoundSight(&sight);
  EXPECT_EQ(sight.live.rpcs.size(), TrafficSight::kRpcsMax);
  EXPECT_EQ(sight.faults.size(), RecentFaults::kMax);
  for (const LiveRpc& rpc : sight.live.rpcs) {
    EXPECT_EQ(rpc.peer.size(), RecentFaults::kTextBytesMax);
  }
  for (const RecentFault& fault : sight.faults) {
    EXPECT_EQ(fault.what.size(), RecentFaults::kTextBytesMax);
  }
}

TEST(WorkerMessages, ReportsOfShadowsArriveAsTheyWereSent) {
  ShadowReport report;
  report.plugin = "auth-new";
  report.generation = 3;
  report.instead_of = "auth";
  report.summary.exchanges = 10;
  report.summary.by_kind[2] = 4;
  report.summary.entries["status response"] = {4, "200", "403", "4711", "GET /a"};
  report.summary.after = {10, 1000};
  const auto sent = Decode<std::vector<ShadowReport>>(Encode(std::vector<ShadowReport>{report}));
  ASSERT_TRUE(sent.has_value());
  EXPECT_EQ(ShadowsJson(*sent), ShadowsJson({report}));
}

TEST(WorkerMessages, ReportsOfShadowsAreCutToTheirLimits) {
  ShadowReport report;
  report.plugin = std::string(1 << 20, 'x');
  const std::string text(kDifferenceTextBytesMax + 1, '\n');
  report.summary.entries["nothing"] = {1, "", "", "", ""};  // no kind
  report.summary.entries[std::string(1 << 20, 'y') + " z"] = {1, "", "", "", ""};
  for (size_t i = 0; i < 2 * kDifferenceEntriesMax; ++i) {
    report.summary.entries["header request x-" + std::to_string(i)] = {1, text, text, text, text};
  }
  std::vector<ShadowReport> reports = {report};
  BoundReports(&reports);
  EXPECT_LE(reports[0].plugin.size(), kDifferenceTextBytesMax);
  EXPECT_EQ(reports[0].summary.entries.size(), kDifferenceEntriesMax);
  for (const auto& [key, entry] : reports[0].summary.entries) {
    EXPECT_TRUE(key.starts_with("header ")) << key;
    for (const std::string& shown : {entry.before, entry.after, entry.request_id, entry.example}) {
      EXPECT_EQ(shown.find('\n'), std::string::npos);
      EXPECT_LE(shown.size(), 4 * kDifferenceTextBytesMax);
    }
  }
}

}  // namespace
}  // namespace callout::host
