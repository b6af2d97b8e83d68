// SPDX-License-Identifier: Apache-2.0

#include "host/record/recorder.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "host/base/clock.h"
#include "host/base/status_text.h"
#include "host/wire/message_redaction.h"

namespace callout::host {
namespace {

// A message's own memory beside its bytes, and an exchange's beside its messages: so that there are
// only so many of them, too, if they are empty.
constexpr size_t kMessageBytes = sizeof(CapturedExchange::Message);
constexpr size_t kExchangeBytes = sizeof(CapturedExchange);

class RecordObserver final : public RpcObserver {
 public:
  // The session has been charged kExchangeBytes.
  RecordObserver(std::shared_ptr<RecordSession> session, const RpcStart& start)
      : session_(std::move(session)),
        began_ns_(start.at_ns),
        exchange_(std::make_unique<CapturedExchange>()) {
    exchange_->recorded.stream_id = start.stream_id;
    exchange_->recorded.service = InfoOf(start.service).name;  // static text
    exchange_->recorded.began_unix_ns = UnixNs();
    exchange_->charged = kExchangeBytes;
    set_wants_real_end();
  }
  // An RPC whose end nobody has told.
  ~RecordObserver() override {
    if (exchange_ != nullptr) GiveUp(RecordDrop::kStopped);
  }

  void OnMessage(const MessageView& message) override {
    Add(MessageKind::kRequest, message.request, message.at_ns);
  }
  void OnSent(std::string_view response) override {
    Add(MessageKind::kResponse, response, MonotonicNs());
  }
  void OnEnd(const RpcEnd& end) override {
    if (exchange_ == nullptr) return;
    RecordedExchange& recorded = exchange_->recorded;
    recorded.duration_ns = SinceBegin(end.at_ns);
    recorded.end_code = static_cast<uint32_t>(end.status.code());
    recorded.outcome = end.outcome;
    if (!Charge(end.status.message().size())) return;
    exchange_->end_message = MessageOf(end.status);
    session_->Push(std::move(exchange_));
  }

 private:
  uint64_t SinceBegin(uint64_t at_ns) const { return at_ns > began_ns_ ? at_ns - began_ns_ : 0; }

  void GiveUp(RecordDrop reason) {
    session_->Release(exchange_->charged);
    session_->Drop(reason);
    exchange_ = nullptr;
  }

  // False: the exchange was given up.
  bool Charge(size_t bytes) {
    if (!session_->Charge(bytes)) {
      GiveUp(RecordDrop::kQueueFull);
      return false;
    }
    exchange_->charged += bytes;
    return true;
  }

  void Add(MessageKind kind, std::string_view bytes, uint64_t at_ns) {
    if (exchange_ == nullptr) return;
    if (!session_->open()) return GiveUp(RecordDrop::kStopped);
    if (exchange_->recorded.messages_left_out > 0) {
      ++exchange_->recorded.messages_left_out;
      return;
    }
    CapturedExchange::Message message;
    message.recorded.kind = kind;
    message.recorded.at_ns = SinceBegin(at_ns);
    message.recorded.size = bytes.size();
    // A body that is too large goes first, then the rest of the exchange.
    const bool keeps_body = session_->options().bodies && HasRoom(bytes.size());
    std::string stripped;
    if (keeps_body) {
      message.recorded.body_bytes = BodyBytes(kind, bytes);
    } else {
      if (!StripBody(kind, bytes, &stripped, &message.recorded.body_bytes)) {
        return GiveUp(RecordDrop::kMalformed);
      }
      message.recorded.body_left_out = message.recorded.body_bytes > 0;
      bytes = stripped;
    }
    if (!HasRoom(bytes.size())) {
      ++exchange_->recorded.messages_left_out;
      return;
    }
    if (!Charge(bytes.size() + kMessageBytes)) return;
    message.begin = exchange_->bytes.size();
    message.size = bytes.size();
    exchange_->bytes += bytes;
    exchange_->messages.push_back(message);
  }

  bool HasRoom(size_t bytes) const {
    return exchange_->charged - kExchangeBytes + bytes + kMessageBytes <=
           session_->options().exchange_bytes_max;
  }

  const std::shared_ptr<RecordSession> session_;
  const uint64_t began_ns_;
  std::unique_ptr<CapturedExchange> exchange_;  // null: over, or given up
};

}  // namespace

std::string TapPath(const std::string& directory) {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  return fmt::format("{}/tap-{:%Y%m%dT%H%M%S}.{:03}Z.rec", directory,
                     fmt::gmtime(std::chrono::system_clock::to_time_t(now)),
                     now.time_since_epoch().count() % 1000);
}

std::string WorkerPath(const std::string& path, int worker) {
  return fmt::format("{}.w{}", path, worker);
}

Recorder::Recorder(Metrics* metrics, const std::string& by) : metrics_(metrics) {
  using Kind = Metrics::Kind;
  const auto define = [&](Kind kind, const char* name, const char* help,
                          Metrics::Labels labels = {}) {
    labels.insert(labels.begin(), {"by", by});
    return metrics_->Define(kind, name, help, labels).value_or(0);
  };
  ids_.exchanges = define(Kind::kCounter, "callout_record_exchanges_total",
                          "Exchanges that were written to a recording");
  ids_.bytes =
      define(Kind::kCounter, "callout_record_bytes_total", "Bytes of exchanges in recordings");
  ids_.active = define(Kind::kGauge, "callout_record_active", "Recordings in progress");
  ids_.queue_bytes = define(Kind::kGauge, "callout_record_queue_bytes",
                            "Bytes of exchanges that are in progress or wait to be written");
  for (size_t i = 0; i < kRecordDrops; ++i) {
    ids_.dropped[i] = define(Kind::kCounter, "callout_record_dropped_total",
                             "Exchanges that were to be recorded and are not, by reason",
                             {{"reason", std::string(RecordDropName(static_cast<RecordDrop>(i)))}});
  }
}

Recorder::~Recorder() { Stop(); }

void Recorder::Attach(RpcWatchers* watchers) {
  const std::lock_guard<std::mutex> lock(mutex_);
  watchers_ = watchers;
  watchers_->Add(this);
  watchers_->SetActive(this, session_ != nullptr);
}

void Recorder::Detach() {
  const std::lock_guard<std::mutex> lock(mutex_);
  StopLocked();
  watchers_ = nullptr;
}

absl::Status Recorder::Start(RecordSession::Options options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  StopLocked();
  std::erase_if(ending_, [](const auto& session) { return session->Join(0); });
  absl::StatusOr<std::shared_ptr<RecordSession>> session =
      RecordSession::Start(std::move(options), metrics_, ids_);
  if (!session.ok()) return session.status();
  session_ = *std::move(session);
  if (watchers_ != nullptr) watchers_->SetActive(this, true);
  return absl::OkStatus();
}

void Recorder::StopLocked() {
  if (watchers_ != nullptr) watchers_->SetActive(this, false);
  if (session_ == nullptr) return;
  session_->Finish();
  ending_.push_back(std::move(session_));
}

void Recorder::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  StopLocked();
}

bool Recorder::Join(uint64_t timeout_ms) {
  std::vector<std::shared_ptr<RecordSession>> ending;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending = ending_;
  }
  const uint64_t end_ns = MonotonicNs() + timeout_ms * kNsPerMs;
  bool all = true;
  for (const auto& session : ending) {
    const uint64_t now_ns = MonotonicNs();
    all &= session->Join(end_ns > now_ns ? (end_ns - now_ns) / kNsPerMs : 0);
  }
  return all;
}

std::string Recorder::path() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return session_ != nullptr && session_->open() ? session_->options().path : "";
}

std::unique_ptr<RpcObserver> Recorder::Watch(const RpcStart& start) {
  if (start.service != RpcService::kExtProc) return nullptr;
  std::shared_ptr<RecordSession> session;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    session = session_;
    if (session != nullptr && !session->open()) StopLocked();
  }
  if (session == nullptr || !session->open()) return nullptr;
  const RecordRule& rule = session->options().rule;
  if (!rule.Samples(start.stream_id) || !rule.Matches(start.headers)) return nullptr;
  if (!session->Charge(kExchangeBytes)) {
    session->Drop(RecordDrop::kQueueFull);
    return nullptr;
  }
  return std::make_unique<RecordObserver>(std::move(session), start);
}

}  // namespace callout::host
