// SPDX-License-Identifier: Apache-2.0

#include "host/record/record_session.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/base/thread.h"

namespace callout::host {
namespace {

constexpr size_t kWriteBytes = 262144;

}  // namespace

std::string_view RecordDropName(RecordDrop reason) {
  constexpr std::array<std::string_view, kRecordDrops> kNames = {
      "queue_full", "write_failed", "too_large", "malformed", "stopped"};
  return kNames[static_cast<size_t>(reason)];
}

RecordSession::RecordSession(Options options, Metrics* metrics, const RecordMetricIds& ids)
    : options_(std::move(options)),
      ids_(ids),
      metrics_(metrics),
      file_({.path = options_.path,
             .bytes_max = options_.file_bytes_max,
             .files = options_.files,
             .begin = [this] { return FileBegin(); }}) {}

absl::StatusOr<std::shared_ptr<RecordSession>> RecordSession::Start(Options options,
                                                                    Metrics* metrics,
                                                                    const RecordMetricIds& ids) {
  std::shared_ptr<RecordSession> session(new RecordSession(std::move(options), metrics, ids));
  if (absl::Status status = session->file_.Open(); !status.ok()) return status;
  // A disk that is full now may have room later.
  if (absl::Status status = session->file_.Append({}); !status.ok()) {
    session->Complain(MessageOf(status));
  }
  // Before the thread, which sets it to 0.
  metrics->Set(ids.active, 1);
  absl::StatusOr<std::thread> thread = StartThread("a recording", [session] { session->Run(); });
  if (!thread.ok()) {
    metrics->Set(ids.active, 0);
    return thread.status();
  }
  // Nobody can join a thread that a file system keeps. It owns the session, too.
  thread->detach();
  RecordSession* const raw = session.get();
  return std::shared_ptr<RecordSession>(
      raw, [session = std::move(session)](RecordSession*) { session->End(); });
}

// The last pointer outside of the thread goes.
void RecordSession::End() {
  Finish();
  if (Join(kEndMs)) return;
  const uint64_t lost = waiting_.load(std::memory_order_relaxed);
  Count(ids_.dropped[static_cast<size_t>(RecordDrop::kWriteFailed)], static_cast<double>(lost));
  Tell(ids_.active, 0);
  Log(LogLevel::kWarning,
      "recording {}: its file system has taken nothing for {} ms; {} exchanges are lost, and the "
      "thread that writes is left to itself",
      options_.path, kEndMs, lost);
  const std::lock_guard<std::mutex> lock(metrics_mutex_);
  metrics_ = nullptr;
}

// False: nobody is there to be told.
bool RecordSession::Count(Metrics::Id counter, double count) {
  const std::lock_guard<std::mutex> lock(metrics_mutex_);
  if (metrics_ != nullptr) metrics_->Add(counter, count);
  return metrics_ != nullptr;
}

bool RecordSession::Tell(Metrics::Id gauge, double value) {
  const std::lock_guard<std::mutex> lock(metrics_mutex_);
  if (metrics_ != nullptr) metrics_->Set(gauge, value);
  return metrics_ != nullptr;
}

bool RecordSession::left_alone() const {
  const std::lock_guard<std::mutex> lock(metrics_mutex_);
  return metrics_ == nullptr;
}

std::string RecordSession::FileBegin() const {
  std::string begin(kRecordingMagic);
  AppendFrame(WriteHeader({.host_version = options_.host_version,
                           .began_unix_ns = UnixNs(),
                           .bodies = options_.bodies,
                           .redacted = options_.redaction.patterns(),
                           .rule = options_.rule.text}),
              &begin);
  return begin;
}

// --- On the threads of streams ------------------------------------------------------

bool RecordSession::Charge(size_t bytes) {
  if (charged_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= options_.queue_bytes_max) {
    return true;
  }
  Release(bytes);
  return false;
}

void RecordSession::Release(size_t bytes) { charged_.fetch_sub(bytes, std::memory_order_relaxed); }

void RecordSession::Drop(RecordDrop reason, uint64_t exchanges) {
  dropped_.fetch_add(exchanges, std::memory_order_relaxed);
  Count(ids_.dropped[static_cast<size_t>(reason)], static_cast<double>(exchanges));
  if (reason == RecordDrop::kQueueFull) {
    Complain(
        fmt::format("the queue is full, --max_record_queue_bytes={}", options_.queue_bytes_max));
  }
}

void RecordSession::Push(std::unique_ptr<CapturedExchange> exchange) {
  const size_t charged = exchange->charged;
  bool taken = false;
  bool wakes = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!finishing_) {
      wakes = queue_.empty();
      queue_.push_back(std::move(exchange));
      waiting_.fetch_add(1, std::memory_order_relaxed);
      taken = true;
    }
  }
  if (wakes) changed_.notify_all();
  if (taken) return;
  Release(charged);
  Drop(RecordDrop::kStopped);
}

void RecordSession::Complain(std::string_view why) const {
  if (left_alone()) return;
  LogLimited(LogLevel::kWarning, fmt::format("recording {}", options_.path),
             "recording {}: exchanges are dropped: {}; see callout_record_dropped_total",
             options_.path, why);
}

void RecordSession::Finish() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_.store(false, std::memory_order_relaxed);
    finishing_ = true;
  }
  changed_.notify_all();
}

bool RecordSession::Join(uint64_t timeout_ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] { return ended_; });
}

// --- On its own thread --------------------------------------------------------------

// False: it is to end, and nothing waits.
bool RecordSession::AwaitWork(Queue* work) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto has_work = [this] { return finishing_ || !queue_.empty(); };
  if (options_.until_ns == 0) {
    changed_.wait(lock, has_work);
  } else {
    const uint64_t now_ns = MonotonicNs();
    const uint64_t left_ns = options_.until_ns > now_ns ? options_.until_ns - now_ns : 0;
    if (!changed_.wait_for(lock, std::chrono::nanoseconds(left_ns), has_work) || left_ns == 0) {
      finishing_ = true;
      open_.store(false, std::memory_order_relaxed);
    }
  }
  work->swap(queue_);
  return !work->empty() || !finishing_;
}

void RecordSession::Run() {
  Queue work;
  while (AwaitWork(&work)) {
    WriteAll(work);
    waiting_.fetch_sub(work.size(), std::memory_order_relaxed);
    work.clear();
    TellQueue();
    if (!open()) Finish();
  }
  TellQueue();
  if (Tell(ids_.active, 0)) {
    Log(LogLevel::kInfo, "recording {} has ended: {} exchanges, {} bytes; {} were dropped",
        options_.path, written_, written_bytes_, dropped_.load(std::memory_order_relaxed));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void RecordSession::TellQueue() {
  Tell(ids_.queue_bytes, static_cast<double>(charged_.load(std::memory_order_relaxed)));
}

void RecordSession::WriteAll(const Queue& work) {
  for (const std::unique_ptr<CapturedExchange>& exchange : work) {
    if (options_.count_max != 0 && taken_ >= options_.count_max) {
      open_.store(false, std::memory_order_relaxed);
      Drop(RecordDrop::kStopped);
    } else {
      ++taken_;
      Encode(exchange.get());
      if (taken_ == options_.count_max) open_.store(false, std::memory_order_relaxed);
    }
    Release(exchange->charged);
  }
  Flush();
}

// Adds its frame to frames_. Bodies lose what is secret where they lie.
void RecordSession::Encode(CapturedExchange* captured) {
  CapturedExchange& exchange = *captured;
  const std::string_view bytes = exchange.bytes;
  MessageRedactor redactor(options_.redaction);
  for (const CapturedExchange::Message& message : exchange.messages) {
    redactor.Learn(message.recorded.kind, bytes.substr(message.begin, message.size));
  }
  if (!redactor.complete()) {
    Complain(fmt::format("an exchange has more than {} values to leave out",
                         MessageRedactor::kSecretsMax));
    return Drop(RecordDrop::kTooLarge);
  }
  if (options_.bodies) {
    std::vector<MessagePiece> pieces;
    for (const CapturedExchange::Message& message : exchange.messages) {
      pieces.push_back({message.recorded.kind, exchange.bytes.data() + message.begin, message.size,
                        message.recorded.body_left_out});
    }
    redactor.RewriteBodies(pieces, exchange.recorded.messages_left_out > 0);
  }
  RecordedExchange recorded = exchange.recorded;
  std::vector<std::string> rewritten(exchange.messages.size());
  for (size_t i = 0; i < rewritten.size(); ++i) {
    const CapturedExchange::Message& message = exchange.messages[i];
    const std::string_view whole = bytes.substr(message.begin, message.size);
    if (!redactor.Rewrite(message.recorded.kind, whole, &rewritten[i])) {
      return Drop(RecordDrop::kMalformed);
    }
    recorded.messages.push_back(message.recorded);
    recorded.messages.back().bytes = rewritten[i];
  }
  const std::string end_message = redactor.RewriteText(exchange.end_message);
  recorded.end_message = end_message;
  const std::string record = WriteExchange(recorded);
  if (record.size() > kRecordBytesMax) return Drop(RecordDrop::kTooLarge);
  std::string frame;
  AppendFrame(record, &frame);
  if (frames_.size() + frame.size() > kWriteBytes || !file_.Fits(frames_.size() + frame.size())) {
    Flush();
  }
  if (!options_.rotates && !file_.Fits(frame.size())) {
    open_.store(false, std::memory_order_relaxed);
    return Drop(RecordDrop::kStopped);
  }
  frames_ += frame;
  ++frames_exchanges_;
}

void RecordSession::Flush() {
  if (frames_.empty()) return;
  const uint64_t exchanges = std::exchange(frames_exchanges_, 0);
  const absl::Status status = file_.Append(frames_);
  if (status.ok()) {
    written_ += exchanges;
    written_bytes_ += frames_.size();
    Count(ids_.exchanges, static_cast<double>(exchanges));
    Count(ids_.bytes, static_cast<double>(frames_.size()));
  } else {
    const bool too_large = absl::IsResourceExhausted(status);
    Drop(too_large ? RecordDrop::kTooLarge : RecordDrop::kWriteFailed, exchanges);
    Complain(MessageOf(status));
  }
  frames_.clear();
}

}  // namespace callout::host
