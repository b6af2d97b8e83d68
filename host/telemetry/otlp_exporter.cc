// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_exporter.h"

#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/base/clock.h"
#include "host/base/file.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"
#include "host/telemetry/gzip.h"
#include "host/telemetry/http_post.h"
#include "host/telemetry/otlp_encoding.h"

namespace callout::host {
namespace {

constexpr uint64_t kFirstBackoffMs = 1000;
constexpr uint64_t kBackoffMaxMs = 16000;
constexpr uint64_t kRetryAfterMaxMs = 300'000;

using Batch = std::vector<std::unique_ptr<ExchangeTrace>>;

// The clock of the spans is CLOCK_MONOTONIC.
uint64_t UnixOffsetNs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto unix_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  return static_cast<uint64_t>(unix_ns) - MonotonicNs();
}

OtlpResource ResourceOf(const OtlpConfig& config) {
  OtlpResource resource = config.resource;
  const auto add = [&resource](const char* key, std::string value) {
    const bool given = std::any_of(resource.begin(), resource.end(),
                                   [key](const auto& pair) { return pair.first == key; });
    if (!given && !value.empty()) resource.emplace_back(key, std::move(value));
  };
  char host[HOST_NAME_MAX + 1] = {};
  if (gethostname(host, sizeof(host) - 1) == 0) add("host.name", host);
  add("process.pid", fmt::format("{}", getpid()));
  add("service.version", CALLOUT_HOST_VERSION);
  add("service.instance.id", ToHex(NewTraceId()));
  add("telemetry.sdk.name", "callout-host");
  add("telemetry.sdk.language", "cpp");
  add("telemetry.sdk.version", CALLOUT_HOST_VERSION);
  return resource;
}

// Which versions of the certificates are there.
using CertificateStamps = std::array<FileStamp, 3>;
CertificateStamps StampsOf(const OtlpConfig& config) {
  return {StampOf(config.ca_path), StampOf(config.client_cert_path),
          StampOf(config.client_key_path)};
}

bool IsTemporary(unsigned status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

size_t SpansOf(const Batch& batch) {
  size_t spans = 0;
  for (const auto& trace : batch) spans += trace->span_count();
  return spans;
}

}  // namespace

class OtlpExporter::Core {
 public:
  // `stamps`: of the certificates that `post` has.
  Core(const OtlpConfig& config, std::unique_ptr<HttpPost> post, const CertificateStamps& stamps)
      : config_(config), resource_(ResourceOf(config)), post_(std::move(post)), stamps_(stamps) {
    headers_ = config.headers;
    headers_.emplace_back("Content-Type", "application/x-protobuf");
    headers_.emplace_back("User-Agent", "OTel-OTLP-Exporter-callout-host/" CALLOUT_HOST_VERSION);
  }

  void Take(std::unique_ptr<ExchangeTrace> trace) {
    const size_t spans = trace->span_count();
    bool wakes = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_ || queued_spans_ + spans > config_.queue_spans_max) {
        AddTo(kQueueFull, spans);
        return;
      }
      const bool was_full = queued_spans_ >= config_.batch_spans_max;
      wakes = queue_.empty();
      queue_.push_back(std::move(trace));
      queued_spans_ += spans;
      wakes |= queued_spans_ >= config_.batch_spans_max && !was_full;
    }
    if (wakes) changed_.notify_all();
  }

  void Run() {
    for (;;) {
      Batch batch = AwaitBatch();
      if (batch.empty()) break;
      Export(batch);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  // Run returns soon afterwards.
  void Stop(uint64_t flush_ms) {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    flush_until_ = Clock::now() + std::chrono::milliseconds(flush_ms);
    changed_.notify_all();
    if (!changed_.wait_until(lock, flush_until_, [this] { return ended_; })) post_->Cancel();
  }

  uint64_t count(Count which) const { return counts_[which].load(std::memory_order_relaxed); }

  size_t queued_spans() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return queued_spans_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void AddTo(Count which, size_t number) {
    counts_[which].fetch_add(number, std::memory_order_relaxed);
  }

  // Empty: the exporter stops, and nothing waits.
  Batch AwaitBatch() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    changed_.wait_for(lock, std::chrono::milliseconds(config_.schedule_delay_ms),
                      [this] { return stopping_ || queued_spans_ >= config_.batch_spans_max; });
    changed_.wait_until(lock, not_before_, [this] { return stopping_; });
    Batch batch;
    size_t spans = 0;
    while (!queue_.empty()) {
      const size_t more = queue_.front()->span_count();
      if (!batch.empty() && spans + more > config_.batch_spans_max) break;
      spans += more;
      batch.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    queued_spans_ -= spans;
    return batch;
  }

  void Export(const Batch& batch) {
    const size_t spans = SpansOf(batch);
    std::string body = EncodeTraces(resource_, batch, UnixOffsetNs());
    HttpPost::Headers headers = headers_;
    if (config_.gzip) Compress(&body, &headers);
    const Clock::time_point end =
        Clock::now() + std::chrono::milliseconds(config_.export_timeout_ms);
    uint64_t backoff_ms = kFirstBackoffMs;
    for (;;) {
      const uint64_t left_ms = LeftMs(end);
      if (left_ms == 0) break;
      TakeChangedCertificates();
      absl::StatusOr<HttpPost::Reply> reply =
          post_->Send(headers, body, std::min(left_ms, config_.request_timeout_ms));
      uint64_t wait_ms = backoff_ms;
      if (reply.ok()) {
        if (!IsTemporary(reply->status)) return Settle(*reply, spans);
        Complain("HTTP status {}, to be tried again", reply->status);
        if (reply->retry_after_ms != 0) wait_ms = reply->retry_after_ms;
      } else {
        Complain("{}", MessageOf(reply.status()));
      }
      AddTo(kExportRetry, 1);
      backoff_ms = std::min(backoff_ms * 2, kBackoffMaxMs);
      if (!Pause(std::min(wait_ms, kRetryAfterMaxMs), end)) break;
    }
    AddTo(kFailed, spans);
    Complain("given up after OTEL_BSP_EXPORT_TIMEOUT={}: {} spans", config_.export_timeout_ms,
             spans);
  }

  // Those that are invalid are not taken, and those before stay.
  void TakeChangedCertificates() {
    if (!config_.endpoint.tls) return;
    const CertificateStamps stamps = StampsOf(config_);
    if (stamps == stamps_) return;
    stamps_ = stamps;
    absl::StatusOr<TlsContext> made =
        MakeClientTlsContext(config_.ca_path, config_.client_cert_path, config_.client_key_path);
    if (!made.ok()) {
      return Log(LogLevel::kError,
                 "traces: {}: keeping the certificates in use; the new ones are invalid: {}",
                 config_.endpoint.url, MessageOf(made.status()));
    }
    Log(LogLevel::kInfo, "traces: {}: new connections use the changed certificates",
        config_.endpoint.url);
    post_->UseTls(*std::move(made));
  }

  // Without memory for it the batch is sent as it is.
  static void Compress(std::string* body, HttpPost::Headers* headers) {
    std::optional<std::string> packed = Gzip(*body);
    if (!packed.has_value()) return;
    *body = *std::move(packed);
    headers->emplace_back("Content-Encoding", "gzip");
  }

  // The collector has decided.
  void Settle(const HttpPost::Reply& reply, size_t spans) {
    if (reply.status < 200 || reply.status > 299) {
      AddTo(kExportRefused, 1);
      AddTo(kRejected, spans);
      return Complain("HTTP status {}: {}", reply.status, reply.body.substr(0, kQuotedBytesMax));
    }
    const OtlpReply told = ReadOtlpReply(reply.body);
    const size_t rejected = static_cast<size_t>(std::min<uint64_t>(told.rejected_spans, spans));
    AddTo(told.valid ? kExportOk : kExportInvalid, 1);
    AddTo(kRejected, rejected);
    AddTo(kSent, spans - rejected);
    if (!told.valid) Complain("HTTP status {}, but the body is no response of OTLP", reply.status);
    if (rejected > 0) Complain("{} spans were rejected: {}", rejected, told.message);
  }

  // Of `end`, and of the stop's own time.
  uint64_t LeftMs(Clock::time_point end) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) end = std::min(end, flush_until_);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    return left > 0 ? static_cast<uint64_t>(left) : 0;
  }

  // False if the batch's time is up before the pause is. If the exporter stops, there is one more
  // try.
  bool Pause(uint64_t wait_ms, Clock::time_point end) {
    const Clock::time_point until = Clock::now() + std::chrono::milliseconds(wait_ms);
    std::unique_lock<std::mutex> lock(mutex_);
    if (until >= end) {
      not_before_ = until;  // what the collector has asked for holds for later batches as well
      return false;
    }
    if (stopping_) return false;
    changed_.wait_until(lock, until, [this] { return stopping_; });
    return true;
  }

  template <class... Args>
  void Complain(fmt::format_string<Args...> format, Args&&... args) {
    const std::string what = fmt::format(format, std::forward<Args>(args)...);
    LogLimited(LogLevel::kWarning, "otlp/" + what.substr(0, kKeyBytes),
               "traces: {}: {}; spans so far: {} sent, {} lost; see OTEL_EXPORTER_OTLP_ENDPOINT",
               config_.endpoint.url, what, count(kSent),
               count(kQueueFull) + count(kFailed) + count(kRejected));
  }

  static constexpr size_t kQuotedBytesMax = 200;
  static constexpr size_t kKeyBytes = 24;

  const OtlpConfig config_;
  const OtlpResource resource_;
  HttpPost::Headers headers_;
  const std::unique_ptr<HttpPost> post_;
  CertificateStamps stamps_;
  std::array<std::atomic<uint64_t>, kCounts> counts_{};

  mutable std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::deque<std::unique_ptr<ExchangeTrace>> queue_;
  size_t queued_spans_ = 0;
  bool stopping_ = false;
  bool ended_ = false;
  Clock::time_point flush_until_;
  Clock::time_point not_before_;  // of the next batch
};

absl::StatusOr<std::unique_ptr<OtlpExporter>> OtlpExporter::Start(const OtlpConfig& config,
                                                                  Metrics* metrics) {
  TlsContext tls;
  const CertificateStamps stamps = StampsOf(config);  // before they are read
  if (config.endpoint.tls) {
    absl::StatusOr<TlsContext> made =
        MakeClientTlsContext(config.ca_path, config.client_cert_path, config.client_key_path);
    if (!made.ok()) return made.status();
    tls = *std::move(made);
  }
  absl::StatusOr<std::unique_ptr<HttpPost>> post = HttpPost::Create(config.endpoint, tls);
  if (!post.ok()) return post.status();
  std::unique_ptr<OtlpExporter> exporter(
      new OtlpExporter(std::make_unique<Core>(config, *std::move(post), stamps), metrics));
  if (absl::Status status = exporter->DefineMetrics(); !status.ok()) return status;
  absl::StatusOr<std::thread> thread =
      StartThread("sending traces", [core = exporter->core_.get()] { core->Run(); });
  if (!thread.ok()) return thread.status();
  exporter->thread_ = *std::move(thread);
  return exporter;
}

OtlpExporter::OtlpExporter(std::unique_ptr<Core> core, Metrics* metrics)
    : core_(std::move(core)), metrics_(metrics) {}

OtlpExporter::~OtlpExporter() { Stop(0); }

absl::Status OtlpExporter::DefineMetrics() {
  struct Series {
    const char* outcome;
    Count count;
  };
  const auto define = [this](const char* name, const char* help,
                             std::initializer_list<Series> all) -> absl::Status {
    for (const Series& series : all) {
      absl::StatusOr<Metrics::Id> id =
          metrics_->Define(Metrics::Kind::kCounter, name, help, {{"outcome", series.outcome}});
      if (!id.ok()) return id.status();
      ids_[series.count] = *id;
    }
    return absl::OkStatus();
  };
  absl::Status status = define(
      "callout_trace_spans_total", "Spans of sampled exchanges, by what became of them",
      {{"sent", kSent}, {"queue_full", kQueueFull}, {"failed", kFailed}, {"rejected", kRejected}});
  if (!status.ok()) return status;
  status = define("callout_trace_exports_total", "POSTs to the collector of traces, by outcome",
                  {{"ok", kExportOk},
                   {"retry", kExportRetry},
                   {"refused", kExportRefused},
                   {"invalid_response", kExportInvalid}});
  if (!status.ok()) return status;
  absl::StatusOr<Metrics::Id> gauge =
      metrics_->Define(Metrics::Kind::kGauge, "callout_trace_queue_spans",
                       "Spans that wait to be sent, of OTEL_BSP_MAX_QUEUE_SIZE");
  if (!gauge.ok()) return gauge.status();
  queue_gauge_ = *gauge;
  return absl::OkStatus();
}

void OtlpExporter::Take(std::unique_ptr<ExchangeTrace> trace) { core_->Take(std::move(trace)); }

void OtlpExporter::UpdateMetrics() {
  const std::lock_guard<std::mutex> lock(update_mutex_);
  for (size_t i = 0; i < kCounts; ++i) {
    const uint64_t now = core_->count(static_cast<Count>(i));
    metrics_->Add(ids_[i], static_cast<double>(now - std::exchange(told_[i], now)));
  }
  metrics_->Set(queue_gauge_, static_cast<double>(core_->queued_spans()));
}

void OtlpExporter::Stop(uint64_t flush_ms) {
  if (!thread_.joinable()) return;
  core_->Stop(flush_ms);
  thread_.join();
}

}  // namespace callout::host
