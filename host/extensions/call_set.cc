// SPDX-License-Identifier: Apache-2.0

#include "host/extensions/call_set.h"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "host/base/log.h"
#include "host/base/nearest_name.h"
#include "host/base/status_text.h"
#include "host/base/utf8.h"
#include "host/upstream/request_rules.h"

namespace callout::host {
namespace {

// How long the end of an instance waits for a `done` before the log says so.
constexpr std::chrono::seconds kCallPatience{5};

std::string_view View(callout_bytes_t bytes) {
  return bytes.size == 0 ? std::string_view() : std::string_view(bytes.data, bytes.size);
}
callout_bytes_t Bytes(const std::string& text) { return {text.data(), text.size()}; }

std::vector<callout_header_field_t> FieldsOf(const HeaderFields& headers) {
  std::vector<callout_header_field_t> fields;
  fields.reserve(headers.size());
  for (const auto& [name, value] : headers) fields.push_back({Bytes(name), Bytes(value)});
  return fields;
}

bool IsWhole(const callout_outgoing_t& outgoing) {
  return CALLOUT_HAS(&outgoing, callout_outgoing_t, data) && outgoing.done != nullptr &&
         (outgoing.headers != nullptr || outgoing.header_count == 0) &&
         (outgoing.flags & ~(CALLOUT_OUTGOING_GRPC | CALLOUT_OUTGOING_IDEMPOTENT)) == 0;
}

}  // namespace

class CallSet::Table {
 public:
  struct Record {
    const UpstreamConfig* upstream = nullptr;
    void (*done)(void*, const callout_incoming_t*) = nullptr;
    void (*release)(void*) = nullptr;
    void* data = nullptr;
  };
  enum class State : uint8_t { kNew, kOpen, kClosed };

  Table(const Options& options, Metrics* metrics)
      : options_(options),
        metrics_(metrics),
        gauge_(metrics
                   ->Define(Metrics::Kind::kGauge, "callout_calls",
                            "Calls of a plugin to upstreams that are under way",
                            {{"plugin", options.name}})
                   .value_or(0)) {}

  void Open() {
    const std::lock_guard lock(mutex_);
    if (state_ == State::kNew) state_ = State::kOpen;
  }

  // OK, FAILED_PRECONDITION or RESOURCE_EXHAUSTED.
  callout_status_t Add(uint64_t id, const Record& record) {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kOpen) return CALLOUT_FAILED_PRECONDITION;
    if (records_.size() + (running_ ? 1 : 0) >= options_.calls_max) {
      return CALLOUT_RESOURCE_EXHAUSTED;
    }
    records_.emplace(id, record);
    metrics_->Add(gauge_, 1);
    return CALLOUT_OK;
  }

  // It was never started. False: it has been ended meanwhile, and released.
  bool Forget(uint64_t id) {
    const std::lock_guard lock(mutex_);
    if (records_.erase(id) == 0) return false;
    metrics_->Add(gauge_, -1);
    return true;
  }

  void OnResult(uint64_t id, const UpstreamResult& result) {
    Record record;
    {
      const std::lock_guard lock(mutex_);
      const auto found = records_.find(id);
      if (found == records_.end()) return;
      record = found->second;
      records_.erase(found);
      running_ = true;
      telling_ = id;
    }
    options_.call([&] { Tell(record, result); });
    {
      const std::lock_guard lock(mutex_);
      telling_ = 0;  // a cancel finds that it is over
    }
    Release(record);
    std::function<void()> on_idle;
    {
      const std::lock_guard lock(mutex_);
      running_ = false;
      if (state_ == State::kClosed) on_idle.swap(on_idle_);
      returned_.notify_all();
    }
    if (on_idle != nullptr) on_idle();
  }

  // OK with the upstream; ABORTED or NOT_FOUND.
  callout_status_t Cancel(uint64_t id, const UpstreamConfig** upstream) {
    Record record;
    {
      const std::lock_guard lock(mutex_);
      if (id != 0 && id == telling_) return CALLOUT_ABORTED;
      const auto found = records_.find(id);
      if (found == records_.end()) return CALLOUT_NOT_FOUND;
      record = found->second;
      records_.erase(found);
    }
    *upstream = record.upstream;
    Release(record);
    return CALLOUT_OK;
  }

  // False: a `done` is running.
  bool Close(std::function<void()> on_idle, UpstreamPool* pool) {
    std::map<uint64_t, Record> records;
    {
      const std::lock_guard lock(mutex_);
      state_ = State::kClosed;
      records.swap(records_);
    }
    for (const auto& [id, record] : records) {
      pool->Cancel(*record.upstream, id);
      Release(record);
    }
    const std::lock_guard lock(mutex_);
    if (!running_) return true;
    on_idle_ = std::move(on_idle);
    return false;
  }

  void AwaitIdle() {
    std::unique_lock lock(mutex_);
    while (!returned_.wait_for(lock, kCallPatience, [this] { return !running_; })) {
      LogLimited(LogLevel::kWarning, options_.name + "/calls",
                 "plugin {}: the end of a call to an upstream has not returned, and the end of the "
                 "instance waits for it",
                 options_.name);
    }
  }

 private:
  static void Tell(const Record& record, const UpstreamResult& result) {
    const std::vector<callout_header_field_t> headers = FieldsOf(result.response.headers);
    const std::vector<callout_header_field_t> trailers = FieldsOf(result.response.trailers);
    const std::string message = IsUtf8(result.message) ? result.message : "(not UTF-8)";
    callout_incoming_t incoming = {};
    incoming.struct_size = sizeof(incoming);
    incoming.status = result.status;
    incoming.from_service = result.from_service ? 1 : 0;
    incoming.http_status = result.response.status;
    incoming.body = Bytes(result.response.body);
    incoming.headers = headers.data();
    incoming.header_count = headers.size();
    incoming.trailers = trailers.data();
    incoming.trailer_count = trailers.size();
    incoming.message = Bytes(message);
    incoming.elapsed_ns = result.elapsed_ns;
    incoming.attempts = result.attempts;
    record.done(record.data, &incoming);
  }

  void Release(const Record& record) {
    if (record.release != nullptr) options_.call([&] { record.release(record.data); });
    metrics_->Add(gauge_, -1);
  }

  const Options options_;
  Metrics* const metrics_;
  const Metrics::Id gauge_;

  std::mutex mutex_;  // guards the following
  std::condition_variable returned_;
  State state_ = State::kNew;
  std::map<uint64_t, Record> records_;
  bool running_ = false;  // a `done`, or the `release` after it
  uint64_t telling_ = 0;  // whose `done` is running; 0: none
  std::function<void()> on_idle_;
};

// `why` without what may differ from call to call: numbers, and the name of a header, which stands
// in "(…)". So a client's text makes no new cause.
static std::string CauseOf(std::string_view why) {
  const size_t open = why.find('(');
  const size_t close = why.rfind(')');
  std::string cause(why);
  if (open != why.npos && close != why.npos && close > open) cause.erase(open, close + 1 - open);
  std::erase_if(cause, [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
  return cause;
}

CallSet::CallSet(UpstreamPool* pool, Metrics* metrics, Options options)
    : pool_(pool),
      metrics_(metrics),
      options_(std::move(options)),
      refused_(metrics
                   ->Define(Metrics::Kind::kCounter, "callout_calls_refused_total",
                            "Calls to upstreams that the host did not start for a plugin",
                            {{"plugin", options_.name}})
                   .value_or(0)),
      table_(std::make_shared<Table>(options_, metrics)) {}

CallSet::~CallSet() { CloseAndWait(); }

void CallSet::Open() { table_->Open(); }

bool CallSet::Close(std::function<void()> on_idle) {
  return table_->Close(std::move(on_idle), pool_);
}

void CallSet::CloseAndWait() {
  if (!Close(nullptr)) table_->AwaitIdle();
}

callout_status_t CallSet::Refuse(callout_status_t status, std::string_view upstream,
                                 std::string_view why) const {
  metrics_->Add(refused_);
  const std::string line =
      fmt::format("plugin {}: a call to upstream {} was not started: {}", options_.name,
                  upstream.substr(0, CALLOUT_UPSTREAM_NAME_BYTES_MAX), why);
  if (options_.strict) {
    Log(LogLevel::kWarning, "{}", line);
  } else {
    LogLimited(LogLevel::kWarning, fmt::format("{}/calls/refused/{}", options_.name, CauseOf(why)),
               "{}", line);
  }
  return status;
}

callout_status_t CallSet::Find(std::string_view upstream, callout_upstream_info_t* info) const {
  const UpstreamConfig* const found = pool_->Find(upstream);
  if (found == nullptr) return CALLOUT_NOT_FOUND;
  if (info == nullptr) return CALLOUT_OK;
  if (!CALLOUT_HAS(info, callout_upstream_info_t, response_bytes_max)) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  info->flags = found->may_be_http2() ? CALLOUT_UPSTREAM_GRPC : 0;
  info->timeout_ns = found->timeout_ms * 1'000'000;
  info->request_bytes_max = found->max_request_bytes;
  info->response_bytes_max = found->max_response_bytes;
  return CALLOUT_OK;
}

callout_status_t CallSet::Start(const callout_outgoing_t& outgoing, uint64_t* id) {
  const std::string_view name =
      CALLOUT_HAS(&outgoing, callout_outgoing_t, upstream) ? View(outgoing.upstream) : "";
  if (!IsWhole(outgoing)) {
    return Refuse(CALLOUT_INVALID_ARGUMENT, name,
                  "it has no `done`, an incomplete callout_outgoing_t, or an unknown flag");
  }
  const UpstreamConfig* const upstream = pool_->Find(name);
  if (upstream == nullptr) {
    const std::string_view nearest = NearestName(name, pool_->names(), 3);
    return Refuse(CALLOUT_NOT_FOUND, name,
                  fmt::format("the file of --upstreams has none of this name{}",
                              nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest)));
  }
  absl::StatusOr<UpstreamRequest> request = TakeRequest(
      outgoing,
      {.allow_host = upstream->allow_host_header, .body_bytes_max = upstream->max_request_bytes});
  if (!request.ok()) {
    return Refuse(request.status().code() == absl::StatusCode::kResourceExhausted
                      ? CALLOUT_RESOURCE_EXHAUSTED
                      : CALLOUT_INVALID_ARGUMENT,
                  name, MessageOf(request.status()));
  }
  if (request->grpc && !upstream->may_be_http2()) {
    return Refuse(CALLOUT_FAILED_PRECONDITION, name,
                  "gRPC needs HTTP/2; give the upstream \"protocol\": \"http2\"");
  }
  const uint64_t number = pool_->NextId();
  const callout_status_t added =
      table_->Add(number, {upstream, outgoing.done, outgoing.release, outgoing.data});
  if (added == CALLOUT_RESOURCE_EXHAUSTED) {
    return Refuse(
        added, name,
        fmt::format("the instance has {} of them, the limit --max_calls", options_.calls_max));
  }
  if (added != CALLOUT_OK) {
    return Refuse(added, name,
                  "callout_plugin_create has not returned, or the instance is being destroyed");
  }
  // Before the call can end: `done` may look for it.
  if (id != nullptr) *id = number;
  const absl::Status started = pool_->Start(
      *upstream, number, options_.name, *std::move(request),
      [table = table_, number](const UpstreamResult& result) { table->OnResult(number, result); });
  if (started.ok() || !table_->Forget(number)) return CALLOUT_OK;
  return Refuse(CALLOUT_UNAVAILABLE, name, MessageOf(started));
}

callout_status_t CallSet::Cancel(uint64_t id) {
  const UpstreamConfig* upstream = nullptr;
  const callout_status_t status = table_->Cancel(id, &upstream);
  if (status == CALLOUT_OK) pool_->Cancel(*upstream, id);
  return status;
}

}  // namespace callout::host
