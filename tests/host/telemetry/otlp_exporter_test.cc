// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_exporter.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "host/base/clock.h"
#include "host/net/certificate.h"
#include "host/telemetry/otlp_encoding.h"
#include "host/wire/wire.h"
#include "tests/host/pki.h"
#include "tests/host/telemetry/collector.h"
#include "tests/host/telemetry/gunzip.h"

namespace callout::host {
namespace {

constexpr uint64_t kLongMs = 30000;

HttpResponse Plain(unsigned status, std::string body = "") {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

// A trace of `calls` + 1 spans.
std::unique_ptr<ExchangeTrace> AnyTrace(size_t calls = 0) {
  SpanContext context;
  context.trace_id = NewTraceId();
  context.span_id = NewSpanId();
  auto trace = std::make_unique<ExchangeTrace>("service/Method", context, std::nullopt, 1);
  for (size_t i = 0; i < calls; ++i) trace->AddCall({.plugin = "p", .phase = "check"});
  trace->End({.status = "OK", .end_ns = 2});
  return trace;
}

class OtlpExporterTest : public ::testing::Test {
 protected:
  void Start(const std::string& url) {
    config_.endpoint = *ParseOtlpEndpoint(url);
    auto exporter = OtlpExporter::Start(config_, &metrics_);
    ASSERT_TRUE(exporter.ok()) << exporter.status();
    exporter_ = *std::move(exporter);
  }
  double Count(const std::string& family_name, const std::string& outcome) {
    exporter_->UpdateMetrics();
    for (const prometheus::MetricFamily& family : metrics_.Collect()) {
      if (family.name != family_name) continue;
      for (const prometheus::ClientMetric& metric : family.metric) {
        if (metric.label.at(0).value == outcome) return metric.counter.value;
      }
    }
    ADD_FAILURE() << family_name << " " << outcome;
    return -1;
  }
  double Spans(const std::string& outcome) { return Count("callout_trace_spans_total", outcome); }
  double Exports(const std::string& outcome) {
    return Count("callout_trace_exports_total", outcome);
  }
  void AwaitSpans(const std::string& outcome, double count) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(kLongMs);
    while (Spans(outcome) < count) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up) << metrics_.Text();
      std::this_thread::yield();
    }
  }

  OtlpConfig config_ = [] {
    OtlpConfig config;
    config.enabled = true;
    config.schedule_delay_ms = 1;
    return config;
  }();
  Metrics metrics_;
  std::unique_ptr<OtlpExporter> exporter_;
};

TEST_F(OtlpExporterTest, SendsWhatItTakes) {
  Collector collector([](int) { return Plain(200); });
  Start(collector.url());
  exporter_->Take(AnyTrace(2));
  AwaitSpans("sent", 3);
  EXPECT_EQ(Exports("ok"), 1);
  ASSERT_EQ(collector.requests().size(), 1u);
  EXPECT_EQ(collector.requests()[0].target, "/v1/traces");
  EXPECT_EQ(collector.requests()[0].content_type, "application/x-protobuf");
  EXPECT_TRUE(IsWellFormed(collector.requests()[0].body));
}

// A server's context for "localhost"; its CA, a new one, goes to `ca_path`.
TlsContext ServerOfNewCa(const std::string& ca_path) {
  const TestKey ca_key = MakeEcKey();
  const TestCertificate ca =
      MakeCertificate({.name = "ca", .is_ca = true}, ca_key.get(), nullptr, ca_key.get());
  const TestKey key = MakeEcKey();
  const TestCertificate certificate = MakeCertificate(
      {.name = "server", .alt_names = "DNS:localhost"}, key.get(), ca.get(), ca_key.get());
  std::ofstream(ca_path) << PemOf(ca.get());
  auto context = MakeTlsContext(PemOf(certificate.get()), PemOf(key.get()));
  EXPECT_TRUE(context.ok()) << context.status();
  return context.value_or(nullptr);
}

TEST_F(OtlpExporterTest, ChangedCertificatesCountForTheNextExport) {
  const TempDir dir;
  config_.ca_path = dir.Path("ca.pem");
  config_.export_timeout_ms = 500;
  std::mutex mutex;
  TlsContext server = ServerOfNewCa(config_.ca_path);
  Collector collector([](int) { return Plain(200); },
                      [&] {
                        const std::lock_guard<std::mutex> lock(mutex);
                        return server;
                      });
  Start(collector.url());
  exporter_->Take(AnyTrace());
  AwaitSpans("sent", 1);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    server = ServerOfNewCa(config_.ca_path);
  }
  exporter_->Take(AnyTrace());
  AwaitSpans("sent", 2);
  EXPECT_EQ(Spans("failed"), 0);
  // Those that are invalid do not count.
  std::ofstream(config_.ca_path) << "no certificate";
  exporter_->Take(AnyTrace());
  AwaitSpans("sent", 3);
  exporter_->Stop(kLongMs);
}

TEST_F(OtlpExporterTest, CompressesByGzip) {
  config_.gzip = true;
  Collector collector([](int) { return Plain(200); });
  Start(collector.url());
  exporter_->Take(AnyTrace(100));
  AwaitSpans("sent", 101);
  const std::string body = Gunzip(collector.requests().at(0).body);
  EXPECT_TRUE(IsWellFormed(body));
  EXPECT_GT(body.size(), 4 * collector.requests().at(0).body.size());
}

TEST_F(OtlpExporterTest, SendsAFullBatchAtOnce) {
  config_.schedule_delay_ms = 86'400'000;
  config_.batch_spans_max = 4;
  Collector collector([](int) { return Plain(200); });
  Start(collector.url());
  exporter_->Take(AnyTrace(3));
  AwaitSpans("sent", 4);
}

TEST_F(OtlpExporterTest, TheStopSendsWhatWaits) {
  config_.schedule_delay_ms = 86'400'000;
  Collector collector([](int) { return Plain(200); });
  Start(collector.url());
  for (int i = 0; i < 3; ++i) exporter_->Take(AnyTrace());
  exporter_->Stop(kLongMs);
  EXPECT_EQ(Spans("sent"), 3);
  exporter_->Take(AnyTrace());
  EXPECT_EQ(Spans("queue_full"), 1);
}

TEST_F(OtlpExporterTest, DropsWhatComesWhileTheQueueIsFull) {
  config_.schedule_delay_ms = 86'400'000;
  config_.queue_spans_max = 5;
  Collector collector([](int) { return Plain(200); });
  Start(collector.url());
  exporter_->Take(AnyTrace(2));
  exporter_->Take(AnyTrace(2));  // does not fit
  exporter_->Take(AnyTrace(1));
  EXPECT_EQ(Spans("queue_full"), 3);
  exporter_->Stop(kLongMs);
  EXPECT_EQ(Spans("sent"), 5);
}

TEST_F(OtlpExporterTest, TriesAgainOnWhatIsTemporary) {
  Collector collector([](int number) {
    HttpResponse response = Plain(number == 0 ? 503u : 200u);
    return response;
  });
  Start(collector.url());
  exporter_->Take(AnyTrace());
  collector.Await(2);
  AwaitSpans("sent", 1);
  EXPECT_EQ(Exports("retry"), 1);
  EXPECT_EQ(collector.requests()[0].body, collector.requests()[1].body);
}

TEST_F(OtlpExporterTest, DoesNotTryAgainOnWhatIsFinal) {
  Collector collector([](int) { return Plain(400, "no such tenant"); });
  Start(collector.url());
  exporter_->Take(AnyTrace(1));
  AwaitSpans("rejected", 2);
  EXPECT_EQ(Exports("refused"), 1);
  exporter_->Stop(kLongMs);
  EXPECT_EQ(collector.requests().size(), 1u);
}

// What the collector asks for goes beyond OTEL_BSP_EXPORT_TIMEOUT.
TEST_F(OtlpExporterTest, GivesUpWithTheExportTimeout) {
  Collector collector([](int) {
    HttpResponse response = Plain(429);
    response.headers.emplace_back("Retry-After", "3600");
    return response;
  });
  Start(collector.url());
  exporter_->Take(AnyTrace(1));
  AwaitSpans("failed", 2);
  // The collector has asked not to be asked for an hour.
  exporter_->Take(AnyTrace());
  exporter_->Stop(0);
  EXPECT_EQ(collector.requests().size(), 1u);
}

TEST_F(OtlpExporterTest, CountsWhatTheCollectorRejects) {
  std::string partial, reply;
  AppendVarint(1, 2, &partial);
  AppendBytes(1, partial, &reply);
  Collector collector([reply](int) { return Plain(200, reply); });
  Start(collector.url());
  exporter_->Take(AnyTrace(4));
  AwaitSpans("sent", 3);
  EXPECT_EQ(Spans("rejected"), 2);
}

// A hostile number does not spoil the counts.
TEST_F(OtlpExporterTest, RejectsNoMoreThanItHasSent) {
  std::string partial, reply;
  AppendVarint(1, UINT64_MAX, &partial);
  AppendBytes(1, partial, &reply);
  Collector collector([reply](int) { return Plain(200, reply); });
  Start(collector.url());
  exporter_->Take(AnyTrace(4));
  AwaitSpans("rejected", 5);
  EXPECT_EQ(Spans("sent"), 0);
}

TEST_F(OtlpExporterTest, CountsAReplyThatIsNoneOfOtlp) {
  Collector collector([](int) { return Plain(200, "<html>welcome</html>"); });
  Start(collector.url());
  exporter_->Take(AnyTrace());
  AwaitSpans("sent", 1);
  EXPECT_EQ(Exports("invalid_response"), 1);
  EXPECT_EQ(Exports("ok"), 0);
}

TEST_F(OtlpExporterTest, ACollectorThatIsDownCostsTheSpansOnly) {
  config_.export_timeout_ms = 10;
  config_.queue_spans_max = 8;
  std::string url;
  {
    Collector gone([](int) { return Plain(200); });
    url = gone.url();
  }
  Start(url);
  for (int i = 0; i < 1000; ++i) exporter_->Take(AnyTrace());
  exporter_->Stop(0);
  EXPECT_EQ(Spans("sent"), 0);
  EXPECT_EQ(Spans("queue_full") + Spans("failed"), 1000);
}

// It takes connections, and never says a word.
TEST_F(OtlpExporterTest, ASilentCollectorDoesNotHoldTheStop) {
  const ListenSocket silent = *ListenSocket::Open(ParsedAddress("127.0.0.1:0"));
  config_.request_timeout_ms = config_.export_timeout_ms = 86'400'000;
  Start("http://127.0.0.1:" + std::to_string(silent.bound().port()) + "/");
  exporter_->Take(AnyTrace());
  ASSERT_TRUE(WaitReadable(silent.fd()));
  exporter_->Stop(10);
  EXPECT_EQ(Spans("failed"), 1);
}

}  // namespace
}  // namespace callout::host
