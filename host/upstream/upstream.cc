// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/upstream.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/upstream/grpc_message.h"

namespace callout::host {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr uint64_t kMs = 1'000'000;
// How long the addresses of a name are used before they are looked up again.
constexpr uint64_t kAddressesFreshNs = 10'000 * kMs;

constexpr std::array<const char*, 10> kOutcomeNames = {
    "ok",      "error_response", "connect_failed",   "reset",    "invalid_response", "too_large",
    "timeout", "circuit_open",   "pending_rejected", "cancelled"};

callout_status_t StatusOf(UpstreamOutcome outcome) {
  switch (outcome) {
    case UpstreamOutcome::kResponse:
      return CALLOUT_OK;
    case UpstreamOutcome::kConnectFailed:
    case UpstreamOutcome::kRefused:
    case UpstreamOutcome::kReset:
    case UpstreamOutcome::kCircuitOpen:
      return CALLOUT_UNAVAILABLE;
    case UpstreamOutcome::kInvalidResponse:
      return CALLOUT_DATA_LOSS;
    case UpstreamOutcome::kTooLarge:
    case UpstreamOutcome::kPendingRejected:
      return CALLOUT_RESOURCE_EXHAUSTED;
    case UpstreamOutcome::kTimeout:
      return CALLOUT_DEADLINE_EXCEEDED;
  }
  return CALLOUT_UNKNOWN;
}

// The service, or what stands before it, says that it cannot serve. A 500 is no such thing: the
// content of one request may cause it, and must not open the circuit for all others.
bool MeansUnavailable(uint32_t http_status) {
  return http_status == 502 || http_status == 503 || http_status == 504;
}

bool SaysUnavailable(const UpstreamResult& result) {
  if (result.from_service) return result.status == CALLOUT_UNAVAILABLE;
  return MeansUnavailable(result.response.status);
}

// Of a response that is neither a failure of the service nor gRPC: a proxy before it has refused
// the request, as with 413 or 431, which says nothing of other requests.
bool IsRefusal(uint32_t http_status) {
  return http_status != 0 && http_status != 200 && !MeansUnavailable(http_status);
}

// Whether the call counts against the service. `http_status` is that of its response; 0: there was
// none.
bool HasFailed(UpstreamOutcome outcome, const UpstreamResult& result, uint32_t http_status) {
  if (outcome == UpstreamOutcome::kResponse) return SaysUnavailable(result);
  if (outcome == UpstreamOutcome::kInvalidResponse) return !IsRefusal(http_status);
  return outcome != UpstreamOutcome::kTooLarge;
}

// What a response says that counts as a failure.
std::string DescribeFailure(const UpstreamResult& result) {
  if (!result.from_service) return fmt::format("HTTP status {}", result.response.status);
  return fmt::format("gRPC status {} (UNAVAILABLE)", -CALLOUT_UNAVAILABLE);
}

bool IsErrorResponse(const UpstreamResult& result) {
  if (!result.from_service) return result.response.status >= 500;
  switch (result.status) {
    case CALLOUT_UNKNOWN:
    case CALLOUT_DEADLINE_EXCEEDED:
    case CALLOUT_UNIMPLEMENTED:
    case CALLOUT_INTERNAL:
    case CALLOUT_UNAVAILABLE:
    case CALLOUT_DATA_LOSS:
      return true;
    default:
      return false;
  }
}

// Puts the gRPC message in the place of the body, and its status in that of HTTP.
AttemptResult TakeGrpc(AttemptResult attempt, UpstreamResult* result) {
  GrpcReply reply = ReadGrpcReply(attempt.response);
  if (!reply.valid) {
    return {UpstreamOutcome::kInvalidResponse, fmt::format("not gRPC: {}", reply.why)};
  }
  attempt.response.body = std::move(reply.body);
  result->status = reply.status;
  result->from_service = true;
  result->message = std::move(reply.message);
  return attempt;
}

std::chrono::nanoseconds Ns(uint64_t ns) {
  return std::chrono::nanoseconds(static_cast<int64_t>(ns));
}

}  // namespace

Upstream::Upstream(asio::io_context* io, UpstreamConfig config, Metrics* metrics)
    : io_(io),
      config_(std::move(config)),
      metrics_(metrics),
      circuit_({.failures = config_.circuit_failures, .open_ns = config_.circuit_open_ms * kMs}),
      expects_http2_(config_.may_be_http2()),
      tls_(&config_),
      sweep_(*io),
      resolver_(*io) {
  DefineMetrics(metrics);
  if (!config_.tls_files.verify) {
    Log(LogLevel::kWarning,
        "upstream {}: \"tls.verify\" is false: anyone on the way can answer in its place",
        config_.name);
  }
}

Upstream::~Upstream() { Close(); }

void Upstream::DefineMetrics(Metrics* metrics) {
  const auto define = [&](Metrics::Kind kind, const char* name, const char* help,
                          Metrics::Labels more = {}) {
    more.emplace_back("upstream", config_.name);
    return metrics->Define(kind, name, help, std::move(more)).value_or(0);
  };
  for (size_t i = 0; i < kCounted; ++i) {
    outcomes_[i] =
        define(Metrics::Kind::kCounter, "callout_upstream_calls_total",
               "Calls of plugins to an upstream, by outcome", {{"outcome", kOutcomeNames[i]}});
  }
  seconds_ = define(Metrics::Kind::kHistogram, "callout_upstream_seconds",
                    "Time from the start of a call to an upstream to its end");
  active_ = define(Metrics::Kind::kGauge, "callout_upstream_active",
                   "Calls to an upstream that are under way");
  pending_gauge_ = define(Metrics::Kind::kGauge, "callout_upstream_pending",
                          "Calls to an upstream that wait for a connection");
  connections_ =
      define(Metrics::Kind::kGauge, "callout_upstream_connections", "Connections to an upstream");
  retries_ = define(Metrics::Kind::kCounter, "callout_upstream_retries_total",
                    "Attempts to call an upstream again");
  circuit_open_ = define(Metrics::Kind::kGauge, "callout_upstream_circuit_open",
                         "Processes whose circuit to an upstream is open or half open");
  circuit_opens_ = define(Metrics::Kind::kCounter, "callout_upstream_circuit_opens_total",
                          "Times that the circuit to an upstream has opened");
}

// --- Calls ---

Upstream::Call* Upstream::Find(uint64_t id) {
  const auto found = calls_.find(id);
  return found == calls_.end() ? nullptr : found->second.get();
}

void Upstream::Start(NewCall given) {
  const uint64_t id = given.id;
  auto made = std::make_unique<Call>(std::move(given), io_);
  Call* const call = made.get();
  calls_.emplace(id, std::move(made));
  metrics_->Add(active_, 1);
  call->state = CallState::kWaitsToRetry;  // it is in no line yet
  const uint64_t limit_ns = config_.timeout_ms * kMs;
  const uint64_t wanted_ns = call->given.request.timeout_ns;
  call->deadline_ns =
      call->given.started_ns + (wanted_ns == 0 ? limit_ns : std::min(wanted_ns, limit_ns));
  call->deadline.expires_at(std::chrono::steady_clock::time_point(Ns(call->deadline_ns)));
  call->deadline.async_wait([this, id](error_code error) {
    if (!error) OnDeadline(id);
  });
  call->admission = circuit_.Admit(MonotonicNs());
  if (call->admission == CircuitBreaker::Admission::kNone) {
    return FinishSoon(id, UpstreamOutcome::kCircuitOpen,
                      fmt::format("the circuit is open, after \"circuit_failures\": {} failures in "
                                  "a row",
                                  config_.circuit_failures));
  }
  Enqueue(call);
  Dispatch();
  // Dispatch may have ended it.
  Call* const waiting = Find(id);
  if (waiting == nullptr || waiting->state != CallState::kPending) return;
  if (pending_.size() <= config_.max_pending) return;
  Unqueue(waiting);
  FinishSoon(id, UpstreamOutcome::kPendingRejected,
             fmt::format("\"max_pending\": {} calls wait for one of {} connections",
                         config_.max_pending, links_.size()));
}

void Upstream::Enqueue(Call* call) {
  call->state = CallState::kPending;
  call->pending = pending_.insert(pending_.end(), call);
  metrics_->Add(pending_gauge_, 1);
}

void Upstream::Unqueue(Call* call) {
  if (call->state != CallState::kPending) return;
  pending_.erase(call->pending);
  call->state = CallState::kWaitsToRetry;
  metrics_->Add(pending_gauge_, -1);
}

void Upstream::Dispatch() {
  SendWaiting();
  OpenMore();
}

// In their order. But a call that waits for HTTP/2 holds up none that HTTP/1.1 can carry: the
// connection that it waits for may take its whole connect timeout, and then fail.
void Upstream::SendWaiting() {
  for (auto next = pending_.begin(); next != pending_.end();) {
    Call* const call = *next++;  // it may leave the list
    const bool grpc = call->given.request.grpc;
    Link* const link = FindRoom(grpc);
    if (link != nullptr) {
      Unqueue(call);
      SendOn(link, call);
    } else if (grpc && SpeaksHttp1()) {
      Unqueue(call);
      FinishSoon(call->given.id, UpstreamOutcome::kInvalidResponse,
                 "gRPC needs HTTP/2, and the server has chosen HTTP/1.1 (ALPN)");
    } else if (!grpc || FindRoom(false) == nullptr) {
      return;  // nor is there room for any other
    }
  }
}

// The server has chosen HTTP/1.1 on each connection, and none is about to show otherwise.
bool Upstream::SpeaksHttp1() const {
  bool any = false;
  for (const auto& link : links_) {
    if (link->state == LinkState::kClosed) continue;
    if (link->state != LinkState::kOpen || link->connection->IsHttp2()) return false;
    any = true;
  }
  return any;
}

void Upstream::SendOn(Link* link, Call* call) {
  const uint64_t id = call->given.id;
  call->state = CallState::kSent;
  call->link = link;
  call->sent_ns = link->used_ns = MonotonicNs();
  if (link->silent_since_ns <= link->received_ns) link->silent_since_ns = call->sent_ns;
  ++call->attempts;
  const uint64_t left_ns =
      call->deadline_ns > call->sent_ns ? call->deadline_ns - call->sent_ns : 0;
  link->connection->Send(call->given.request, id, left_ns,
                         [this, id](AttemptResult result) { OnResult(id, std::move(result)); });
}

void Upstream::OnResult(uint64_t id, AttemptResult result) {
  Call* const call = Find(id);
  if (call == nullptr) return;
  if (call->link != nullptr) call->link->used_ns = MonotonicNs();
  call->link = nullptr;
  call->state = CallState::kWaitsToRetry;
  uint64_t wait_ns = 0;
  if (MayRetry(*call, result.outcome, &wait_ns)) return RetryLater(call, wait_ns);
  Finish(call, std::move(result));
}

bool Upstream::MayRetry(const Call& call, UpstreamOutcome outcome, uint64_t* wait_ns) const {
  if (call.attempts == 0 || call.attempts > config_.max_retries) return false;
  if (call.admission == CircuitBreaker::Admission::kTrial) return false;
  const bool unseen =
      outcome == UpstreamOutcome::kConnectFailed || outcome == UpstreamOutcome::kRefused;
  const bool harmless = outcome == UpstreamOutcome::kReset && call.given.request.idempotent;
  if (!unseen && !harmless) return false;
  *wait_ns = (config_.retry_wait_ms * kMs) << (call.attempts - 1);
  return MonotonicNs() + *wait_ns < call.deadline_ns;
}

void Upstream::RetryLater(Call* call, uint64_t wait_ns) {
  metrics_->Add(retries_);
  call->retry.expires_after(Ns(wait_ns));
  call->retry.async_wait([this, id = call->given.id](error_code error) {
    Call* const again = Find(id);
    if (error || again == nullptr) return;
    Enqueue(again);
    Dispatch();
  });
}

// If nothing comes for less than that, it says nothing of the service.
uint64_t Upstream::TellingNs() const {
  constexpr uint64_t kTellingMs = 10;
  return std::min(kTellingMs, config_.timeout_ms) * kMs;
}

bool Upstream::HadTime(const Call& call) const {
  return call.deadline_ns >= call.given.started_ns + TellingNs();
}

void Upstream::OnDeadline(uint64_t id) {
  Call* const call = Find(id);
  if (call == nullptr) return;
  Link* const link = call->link;
  std::string_view where = "waiting to be sent again";
  if (call->state == CallState::kPending) where = "waiting for a connection";
  if (link != nullptr) {
    where = "waiting for the response";
    link->connection->Abandon(id);
    // A connection on which nothing has come since may be dead, and nobody has been told.
    const bool is_silent =
        link->received_ns < call->sent_ns && MonotonicNs() >= link->silent_since_ns + TellingNs();
    if (is_silent) link->connection->Retire();
    call->link = nullptr;
  }
  Unqueue(call);
  const uint64_t ms = (call->deadline_ns - call->given.started_ns) / kMs;
  Finish(call, {UpstreamOutcome::kTimeout, fmt::format("no response within {} ms: {}", ms, where)});
  if (link != nullptr) CloseIfOver(link);
  Dispatch();
}

void Upstream::Cancel(uint64_t id) {
  Call* const call = Find(id);
  if (call == nullptr) return;
  Link* const link = call->link;
  if (link != nullptr) link->connection->Abandon(id);
  const std::unique_ptr<Call> ended = Take(call);
  circuit_.Abandoned(ended->admission);
  metrics_->Add(outcomes_[static_cast<size_t>(Counted::kCancelled)]);
  if (link != nullptr) CloseIfOver(link);
  Dispatch();
}

// Out of all lists, with its timers.
std::unique_ptr<Upstream::Call> Upstream::Take(Call* call) {
  Unqueue(call);
  const auto found = calls_.find(call->given.id);
  std::unique_ptr<Call> taken = std::move(found->second);
  calls_.erase(found);
  metrics_->Add(active_, -1);
  return taken;
}

// On a later turn of the thread: whoever starts a call does not expect its end at once.
void Upstream::FinishSoon(uint64_t id, UpstreamOutcome outcome, std::string why) {
  asio::post(*io_, [this, id, outcome, why = std::move(why)]() mutable {
    Call* const call = Find(id);
    if (call != nullptr) Finish(call, {outcome, std::move(why)});
  });
}

void Upstream::Finish(Call* call, AttemptResult attempt) {
  const std::unique_ptr<Call> ended = Take(call);
  const uint32_t http_status = attempt.response.status;
  UpstreamResult result;
  if (attempt.outcome == UpstreamOutcome::kResponse && ended->given.request.grpc) {
    attempt = TakeGrpc(std::move(attempt), &result);
  }
  if (!result.from_service) {
    result.status = StatusOf(attempt.outcome);
    result.message = std::move(attempt.why);
  }
  result.response = std::move(attempt.response);
  result.attempts = ended->attempts;
  result.elapsed_ns = MonotonicNs() - ended->given.started_ns;
  Count(attempt.outcome, result);
  TellCircuit(*ended, HasFailed(attempt.outcome, result, http_status), attempt.outcome);
  LogFailure(*ended, attempt.outcome, result);
  ended->given.done(std::move(result));
}

Upstream::Counted Upstream::CountedAs(UpstreamOutcome outcome, const UpstreamResult& result) {
  switch (outcome) {
    case UpstreamOutcome::kResponse:
      return IsErrorResponse(result) ? Counted::kErrorResponse : Counted::kOk;
    case UpstreamOutcome::kConnectFailed:
      return Counted::kConnectFailed;
    case UpstreamOutcome::kRefused:
    case UpstreamOutcome::kReset:
      return Counted::kReset;
    case UpstreamOutcome::kInvalidResponse:
      return Counted::kInvalidResponse;
    case UpstreamOutcome::kTooLarge:
      return Counted::kTooLarge;
    case UpstreamOutcome::kTimeout:
      return Counted::kTimeout;
    case UpstreamOutcome::kCircuitOpen:
      return Counted::kCircuitOpen;
    case UpstreamOutcome::kPendingRejected:
      break;
  }
  return Counted::kPendingRejected;
}

void Upstream::Count(UpstreamOutcome outcome, const UpstreamResult& result) {
  const Counted counted = CountedAs(outcome, result);
  metrics_->Add(outcomes_[static_cast<size_t>(counted)]);
  if (counted == Counted::kCircuitOpen || counted == Counted::kPendingRejected) return;
  metrics_->Observe(seconds_, static_cast<double>(result.elapsed_ns) * 1e-9);
}

void Upstream::TellCircuit(const Call& call, bool has_failed, UpstreamOutcome outcome) {
  if (outcome == UpstreamOutcome::kCircuitOpen) return;
  const bool never_sent = outcome == UpstreamOutcome::kInvalidResponse && call.attempts == 0;
  if (outcome == UpstreamOutcome::kPendingRejected || never_sent ||
      (outcome == UpstreamOutcome::kTimeout && !HadTime(call))) {
    return circuit_.Abandoned(call.admission);
  }
  if (!has_failed) {
    circuit_.Succeeded(call.admission);
    if (call.admission == CircuitBreaker::Admission::kTrial) metrics_->Set(circuit_open_, 0);
    return;
  }
  if (!circuit_.Failed(call.admission, MonotonicNs())) return;
  metrics_->Set(circuit_open_, 1);
  metrics_->Add(circuit_opens_);
  LogLimited(LogLevel::kWarning, config_.name + "/upstream/circuit",
             "upstream {}: the circuit is open for {} ms (\"circuit_open_ms\") after "
             "\"circuit_failures\": {} failures in a row; calls fail at once meanwhile",
             config_.name, config_.circuit_open_ms, config_.circuit_failures);
}

void Upstream::LogFailure(const Call& call, UpstreamOutcome outcome,
                          const UpstreamResult& result) const {
  if (outcome == UpstreamOutcome::kResponse && !SaysUnavailable(result)) return;
  const std::string found =
      outcome == UpstreamOutcome::kResponse ? DescribeFailure(result) : result.message;
  LogLimited(
      LogLevel::kWarning,
      fmt::format("{}/upstream/{}/{}", config_.name, call.given.owner, static_cast<int>(outcome)),
      "plugin {}: a call to upstream {} failed: {} ({} attempts)", call.given.owner, config_.name,
      found, call.attempts);
}

void Upstream::Close() {
  for (auto& link : links_) CloseLink(link.get());
  metrics_->Add(pending_gauge_, -static_cast<double>(pending_.size()));
  metrics_->Add(active_, -static_cast<double>(calls_.size()));
  pending_.clear();
  calls_.clear();
  sweep_.cancel();
  resolver_.cancel();
}

// --- Connections ---

Upstream::Link* Upstream::FindRoom(bool grpc) {
  Link* best = nullptr;
  const uint64_t now_ns = MonotonicNs();
  for (const auto& link : links_) {
    if (link->state != LinkState::kOpen || link->connection->Room() == 0) continue;
    if (now_ns - link->opened_ns > config_.max_connection_age_ms * kMs) {
      link->connection->Retire();
      CloseIfOver(link.get());
      continue;
    }
    if (grpc && !link->connection->IsHttp2()) continue;
    if (best == nullptr || link->used_ns > best->used_ns) best = link.get();
  }
  return best;
}

// As many as the calls that wait need, which are those of HTTP/2 much fewer.
void Upstream::OpenMore() {
  const size_t each = expects_http2_ ? config_.max_streams : 1;
  while (links_.size() - closed_links_ < config_.max_connections &&
         connecting_ * each < pending_.size()) {
    OpenLink();
  }
}

void Upstream::OpenLink() {
  auto made = std::make_unique<Link>();
  Link* const link = made.get();
  link->number = ++last_link_;
  link->connect_timer = std::make_unique<asio::steady_timer>(*io_);
  links_.push_back(std::move(made));
  ++connecting_;
  metrics_->Add(connections_, 1);
  link->connect_timer->expires_after(std::chrono::milliseconds(config_.connect_timeout_ms));
  link->connect_timer->async_wait([this, number = link->number](error_code error) {
    if (error) return;
    FailIfConnecting(number, fmt::format("no connection within \"connect_timeout_ms\": {}",
                                         config_.connect_timeout_ms));
  });
  if (endpoints_.empty() || MonotonicNs() - resolved_ns_ > kAddressesFreshNs) Resolve();
  if (!endpoints_.empty()) Connect(link);
}

// Addresses that are known stay in use meanwhile, and if the lookup fails.
void Upstream::Resolve() {
  if (!config_.unix_path.empty()) {
    endpoints_ = {StreamEndpoint(asio::local::stream_protocol::endpoint(config_.unix_path))};
    return;
  }
  error_code not_literal;
  const auto address = asio::ip::make_address(config_.host, not_literal);
  if (!not_literal) {
    endpoints_ = {StreamEndpoint(asio::ip::tcp::endpoint(address, config_.port))};
    return;
  }
  if (lookups_ > 0) return;
  ++lookups_;
  resolver_.async_resolve(
      config_.host, std::to_string(config_.port),
      [this](const error_code& error, const asio::ip::tcp::resolver::results_type& found) {
        --lookups_;
        if (error != asio::error::operation_aborted) OnResolved(error, found);
      });
}

void Upstream::OnResolved(const error_code& error,
                          const asio::ip::tcp::resolver::results_type& found) {
  const bool is_first = endpoints_.empty();
  if (!error) {
    resolved_ns_ = MonotonicNs();
    endpoints_.clear();
    for (const auto& entry : found) endpoints_.emplace_back(entry.endpoint());
  } else if (!is_first) {
    LogLimited(LogLevel::kWarning, config_.name + "/upstream/lookup",
               "upstream {}: looking {} up failed: {}; its last addresses stay in use",
               config_.name, config_.host, error.message());
  }
  if (!is_first) return;
  std::vector<Link*> waiting;
  for (const auto& link : links_) {
    if (link->state == LinkState::kConnecting && link->stream == nullptr) {
      waiting.push_back(link.get());
    }
  }
  for (Link* const link : waiting) {
    if (endpoints_.empty()) {
      OnLinkFailed(link, fmt::format("looking {} up: {}", config_.host, error.message()));
    } else {
      Connect(link);
    }
  }
}

void Upstream::Connect(Link* link) {
  TlsContext tls;
  if (config_.tls) {
    absl::StatusOr<TlsContext> current = tls_.Current();
    if (!current.ok()) {
      // Later: the caller is still walking through the links.
      return asio::post(*io_, [this, number = link->number, why = current.status()] {
        FailIfConnecting(number, std::string(MessageOf(why)));
      });
    }
    tls = *std::move(current);
  }
  link->stream =
      ByteStream::Make(io_, tls,
                       {.on_open = [this, link] { OnLinkOpen(link); },
                        .on_bytes =
                            [this, link](std::string_view bytes) {
                              link->received_ns = MonotonicNs();
                              link->connection->OnBytes(bytes);
                              CloseIfOver(link);
                              Dispatch();
                            },
                        .on_closed = [this, link](const std::string& why,
                                                  bool clean) { OnLinkClosed(link, why, clean); }});
  std::vector<StreamEndpoint> endpoints = endpoints_;
  // Connections are spread over the addresses.
  std::rotate(endpoints.begin(),
              endpoints.begin() + static_cast<std::ptrdiff_t>(rotation_++ % endpoints.size()),
              endpoints.end());
  const std::string& name = config_.tls_files.server_name;
  link->stream->Open(std::move(endpoints), name.empty() ? config_.host : name,
                     config_.tls_files.verify);
}

void Upstream::OnLinkOpen(Link* link) {
  const std::string alpn = link->stream->Alpn();
  const bool is_plain_http2 = !config_.tls && config_.protocol == UpstreamProtocol::kHttp2;
  const bool is_http2 = is_plain_http2 || alpn == "h2";
  if (!is_http2 && config_.protocol == UpstreamProtocol::kHttp2) {
    return OnLinkFailed(link, "the server does not offer HTTP/2 (ALPN h2)");
  }
  link->connect_timer.reset();
  link->state = LinkState::kOpen;
  --connecting_;
  expects_http2_ = is_http2;
  link->opened_ns = link->used_ns = MonotonicNs();
  const auto write = [stream = link->stream.get()](std::string bytes) {
    stream->Write(std::move(bytes));
  };
  link->connection =
      is_http2 ? MakeHttp2Connection(&config_, write) : MakeHttp1Connection(&config_, write);
  Sweep();
  Dispatch();
}

void Upstream::OnLinkFailed(Link* link, const std::string& why) {
  CloseLink(link);
  // Those that only HTTP/2 can carry may have waited for this one alone. None is opened in its
  // place: a service that is down would be tried until their deadlines.
  SendWaiting();
  // While there are other connections, the calls that wait will get one of them.
  if (links_.size() > closed_links_) return;
  const std::list<Call*> waiting = pending_;
  for (Call* const call : waiting) {
    Unqueue(call);
    ++call->attempts;
    OnResult(call->given.id, {UpstreamOutcome::kConnectFailed, why});
  }
}

void Upstream::FailIfConnecting(uint64_t number, const std::string& why) {
  const auto link = std::find_if(links_.begin(), links_.end(),
                                 [&](const auto& other) { return other->number == number; });
  if (link != links_.end() && (*link)->state == LinkState::kConnecting) {
    OnLinkFailed(link->get(), why);
  }
}

void Upstream::OnLinkClosed(Link* link, const std::string& why, bool clean) {
  if (link->state == LinkState::kConnecting) return OnLinkFailed(link, why);
  link->connection->OnClosed(why, clean);
  CloseLink(link);
  Dispatch();
}

void Upstream::CloseIfOver(Link* link) {
  if (link->state == LinkState::kOpen && link->connection->IsOver()) CloseLink(link);
}

void Upstream::CloseLink(Link* link) {
  if (link->state == LinkState::kClosed) return;
  if (link->state == LinkState::kConnecting) --connecting_;
  link->state = LinkState::kClosed;
  link->connect_timer.reset();
  if (link->stream != nullptr) link->stream->Close();
  metrics_->Add(connections_, -1);
  ++closed_links_;
  ReapSoon();
}

// Later, since one of the link's own functions may be running.
void Upstream::ReapSoon() {
  if (closed_links_ > 1) return;  // it is under way
  asio::post(*io_, [this] {
    closed_links_ = 0;
    links_.remove_if([](const auto& link) { return link->state == LinkState::kClosed; });
  });
}

// Looks for idle connections now and then while there are connections.
void Upstream::Sweep() {
  if (is_sweeping_) return;
  is_sweeping_ = true;
  sweep_.expires_after(
      std::chrono::milliseconds(std::max<uint64_t>(config_.idle_timeout_ms / 2, 1)));
  sweep_.async_wait([this](error_code error) {
    is_sweeping_ = false;
    if (error) return;
    const uint64_t now_ns = MonotonicNs();
    for (const auto& link : links_) {
      if (link->state != LinkState::kOpen || link->connection->Active() > 0) continue;
      if (now_ns - link->used_ns < config_.idle_timeout_ms * kMs) continue;
      link->connection->Retire();
      CloseIfOver(link.get());
    }
    if (links_.size() > closed_links_) Sweep();
  });
}

}  // namespace callout::host
