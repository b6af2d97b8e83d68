// SPDX-License-Identifier: Apache-2.0

// The seam at which an RPC can be watched: each plugin call as it ends, each fault, and the
// messages around them. Traces and explanations are made here; metrics take the same records.
//
//   class Tracer final : public RpcWatcher { … };          // one for the process
//   environment.watchers().Add(&tracer);                   // before the first RPC
//   environment.watchers().SetActive(&tracer, true);       // any time, any thread
//
//   std::unique_ptr<RpcObserver> Tracer::Watch(const RpcStart& start) {
//     return IsSampled(start) ? std::make_unique<Span>(start) : nullptr;
//   }
//
// A Stream (host/stream/) or UnaryRpc (host/unary/) asks the active watchers once, when its first
// message has come, and owns the observers that they return. It then calls, on its own thread:
//
//   OnMessage     a message has come from Envoy, before any call
//   OnPlace       a message has come to an instance's place in the chain, as those before have
//                 changed it, or to the end; only for observers that want its phase
//   OnSaid        a call is over: what the plugin was shown and has said, before the host judges it
//   OnFault       something is a fault, in a call or between calls; and what the policy does
//   OnOverruled   a part of a response is left out
//   OnCall        a call is over, with all that came of it. Exactly one for each call that was
//   begun
//                 or refused for lack of a thread, in the order of their ends
//   OnResponse    a response goes out to Envoy; of streams OnSent follows, with the whole message
//   OnEnd         the RPC has ended. Once; a call that a plugin still holds was told before, as
//                 kOverruled
//
// While no watcher is active, an RPC pays one relaxed load, and a call one comparison of a pointer
// with null. The CallState of each call points to the RPC's observers, for services that plugins
// call (attributes of a span, for example): `state->observers`, null if there are none. They live
// as long as the RPC; a plugin may call from any thread, so that an observer with such a function
// needs a lock for it.
//
// Lifetime: a watcher outlives all RPCs. Views are good for the call of the function.
//
// Tested by tests/host/stream/call_observer_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_OBSERVER_H_
#define CALLOUT_HOST_PLUGIN_CALL_OBSERVER_H_

#include <callout/plugin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/base/log.h"
#include "host/plugin/settings.h"
#include "host/plugin/violation.h"
#include "host/wire/phase.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

class Instance;
class RpcContext;
class SpanWriter;
struct Chain;
struct CallState;

// What a call came to. The names are values of the label `outcome` at /metrics.
enum class CallOutcome : uint8_t {
  kUnchanged,  // unchanged: the message passes as it was
  kChanged,    // changed: the plugin has changed it, or has said something beside it
  kKept,       // kept: CALLOUT_NO_RESPONSE, the plugin holds the message or drops it
  kImmediate,  // immediate: the plugin has responded to the client itself: `http_status`
  kDenied,     // denied: the plugin has refused the exchange by a gRPC status
  kFault,      // fault: no valid response: `violation`, and `action` is what the host did
  kOverruled,  // overruled: the response was not used: `overruled`
};
inline constexpr size_t kCallOutcomes = 7;
std::string_view CallOutcomeName(CallOutcome outcome);

// Why the host, or Envoy, did not use what a plugin said. The names are values of the label `what`
// of callout_ignored_total.
enum class Overruled : uint8_t {
  kNot,
  kEnded,            // ended: the RPC was over before the call was
  kReplied,          // replied: a streamed reply to the client had begun
  kObservability,    // observability: Envoy ignores all responses in observability mode
  kModeOverride,     // mode_override: not passed on, since nothing would show whether it holds
  kLateMode,         // late_mode: a mode override outside of a response to headers
  kLateBodyHeaders,  // late_body_headers: headers that describe a body, and have gone out
  kHeadersBody,      // headers_body: a body in a response to headers without CONTINUE_AND_REPLACE
  kReplace,          // continue_and_replace: without a body, where another plugin wants the body
  kRouteCache,       // route_cache: clear_route_cache without a header change, or of a response
  kHeaderValue,      // header_value: `value` of a header, where Envoy reads raw_value only
  kAppendAction,     // append_action: ADD_IF_ABSENT or OVERWRITE_IF_EXISTS, which overwrite
  kHeaderRemoval,    // header_removal: of host or of a pseudo-header
};
inline constexpr size_t kOverruledCount = 13;
std::string_view OverruledName(Overruled overruled);

// What came of a call, as far as it is known. Reset when the call begins.
struct CallResult {
  CallOutcome outcome = CallOutcome::kUnchanged;
  Violation violation = Violation::kNone;                       // of kFault
  bool by_peer = false;                                         // of kFault: of the Finding
  ErrorPolicy::Action action = ErrorPolicy::Action::kContinue;  // of kFault
  Overruled overruled = Overruled::kNot;                        // of kOverruled
  // HTTP status with which the client is refused: by the plugin (kImmediate), or by the policy
  // (kFault); 0: it is not, or by a gRPC error.
  uint16_t http_status = 0;
  callout_status_t status = CALLOUT_OK;  // of the hook, or finish(); of kDenied the refusal
  // Bytes that the plugin has set: names and values of headers, bodies and pieces of bodies.
  uint64_t changed_bytes = 0;
};

// A call that is over.
struct CallRecord {
  const Instance* instance = nullptr;  // name(), generation()
  // With begin_ns, which call it was. Not to be read: the plugin may still have it.
  const CallState* state = nullptr;
  uint64_t stream_id = 0;
  size_t position = 0;  // of the instance in the chain, in request order
  callout_phase_t phase = 0;
  // CLOCK_MONOTONIC: from the moment at which the message was given to the instance (before its
  // stream open, and before it waits for a thread), to its response, its deadline or its finish().
  uint64_t begin_ns = 0;
  uint64_t end_ns = 0;
  uint64_t hook_ns = 0;  // of that, time in which a hook held a thread
  bool deferred = false;
  bool blocking = false;            // on a thread of the blocking pool
  bool begun = false;               // false: refused before a hook was called (overload)
  const RpcContext* rpc = nullptr;  // of the RPC; for its trace
  uint64_t message_bytes = 0;       // of HttpHeaders, HttpBody, HttpTrailers as the plugin saw it
  CallResult result;

  uint64_t taken_ns() const { return end_ns - begin_ns; }
};

// What a plugin was shown and has said, before the host has judged it.
struct SaidView {
  const CallState& state;  // response, annotations, error, fault
  callout_phase_t phase;
  std::string_view message;  // HttpHeaders, HttpBody or HttpTrailers; of a Check its attributes
};

struct FaultView {
  const Instance* instance;
  callout_phase_t phase;
  Violation violation;
  std::string_view what;  // what was found, with limit and option
};

struct OverruledView {
  const Instance* instance;
  callout_phase_t phase;
  Overruled overruled;
};

struct MessageView {
  callout_phase_t phase;
  std::string_view message;  // HttpHeaders, HttpBody or HttpTrailers; of a Check its attributes
  uint64_t at_ns;
  std::string_view request = {};  // of streams the whole ProcessingRequest
};

// A message of a Stream on its way through the chain.
struct PlaceView {
  callout_phase_t phase;
  // How many instances it has passed, in the order of its direction: response phases go through the
  // chain backwards.
  size_t position;
  std::string_view request;  // the ProcessingRequest around `message`
  std::string_view message;  // HttpHeaders, HttpBody or HttpTrailers
};

// The first message of an RPC.
struct RpcStart {
  uint64_t stream_id;
  RpcService service;
  const RpcContext* rpc;  // lives as long as the observer
  callout_phase_t phase;
  // HttpHeaders of the request, to be read with ReadHttpHeaders; "" if it began with another
  // message.
  std::string_view headers;
  uint64_t at_ns;
  const Chain* chain = nullptr;  // that the RPC takes; lives as long as the observer
};

struct RpcEnd {
  const absl::Status& status;  // that the RPC ends with
  callout_outcome_t outcome;   // CALLOUT_END_…
  uint64_t at_ns;
};

// Of one RPC; on its thread.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;
  virtual void OnMessage(const MessageView& message) { static_cast<void>(message); }
  virtual void OnPlace(const PlaceView& place) { static_cast<void>(place); }
  virtual void OnSaid(const SaidView& said) { static_cast<void>(said); }
  virtual void OnFault(const FaultView& fault) { static_cast<void>(fault); }
  virtual void OnOverruled(const OverruledView& part) { static_cast<void>(part); }
  virtual void OnCall(const CallRecord& call) { static_cast<void>(call); }
  // `field` of ProcessingResponse, and its message; of a Check 0 and the CheckResponse.
  virtual void OnResponse(callout_field_t field, std::string_view payload) {
    static_cast<void>(field), static_cast<void>(payload);
  }
  // The whole ProcessingResponse. Only of streams, where requests for more time come here alone.
  virtual void OnSent(std::string_view response) { static_cast<void>(response); }
  virtual void OnEnd(const RpcEnd& end) { static_cast<void>(end); }
  // Of an observer that records the exchange: takes what plugins add to the spans of their calls.
  virtual SpanWriter* span_writer() { return nullptr; }

  // Lines about the RPC's calls are logged from this level on, if it is below the one in force.
  // Before the observer is given away.
  void set_log_level(std::optional<LogLevel> level) { log_level_ = level; }
  std::optional<LogLevel> log_level() const { return log_level_; }

  // The stream goes on to its real end, as if a plugin wanted every message: no early end, and no
  // phase is left out. Before the observer is given away.
  void set_wants_real_end() { wants_real_end_ = true; }
  bool wants_real_end() const { return wants_real_end_; }

  // CALLOUT_PHASE_BITs of the phases that the observer wants: an ext_proc stream does not end
  // before they have come (--early_end), and tells of their places. Before the observer is given
  // away.
  void set_phases(uint64_t phases) { phases_ = phases; }
  uint64_t phases() const { return phases_; }

 private:
  std::optional<LogLevel> log_level_;
  bool wants_real_end_ = false;
  uint64_t phases_ = 0;
};

class RpcWatcher {
 public:
  virtual ~RpcWatcher() = default;
  // Null: not this RPC. Any thread, several at a time.
  virtual std::unique_ptr<RpcObserver> Watch(const RpcStart& start) = 0;
};

// The observers of one RPC.
class RpcObservers {
 public:
  void Add(std::unique_ptr<RpcObserver> observer) {
    if (observer->log_level().has_value()) {
      log_level_ = std::min(log_level_.value_or(LogLevel::kError), *observer->log_level());
    }
    wants_real_end_ |= observer->wants_real_end();
    phases_ |= observer->phases();
    if (span_writer_ == nullptr) span_writer_ = observer->span_writer();
    observers_.push_back(std::move(observer));
  }
  // Whether one of them wants a phase.
  bool Want(callout_phase_t phase) const { return (phases_ & CALLOUT_PHASE_BIT(phase)) != 0; }
  // One of them does.
  bool wants_real_end() const { return wants_real_end_; }
  // Null: the exchange is not recorded. Any thread.
  SpanWriter* span_writer() const { return span_writer_; }
  // The lowest of the observers'; any thread.
  std::optional<LogLevel> log_level() const { return log_level_; }
  bool empty() const { return observers_.empty(); }
  const std::vector<std::unique_ptr<RpcObserver>>& list() const { return observers_; }

  // Calls `tell` with each.
  template <class Tell>
  void Each(Tell tell) {
    for (const std::unique_ptr<RpcObserver>& observer : observers_) tell(observer.get());
  }

 private:
  std::vector<std::unique_ptr<RpcObserver>> observers_;
  SpanWriter* span_writer_ = nullptr;
  std::optional<LogLevel> log_level_;
  bool wants_real_end_ = false;
  uint64_t phases_ = 0;
};

// The watchers of the process.
class RpcWatchers {
 public:
  static constexpr size_t kWatchersMax = 8;

  // Before the first RPC; not active yet. At most kWatchersMax.
  void Add(RpcWatcher* watcher);
  // Whether it is asked about new RPCs. Any thread.
  void SetActive(const RpcWatcher* watcher, bool active);
  bool active() const { return active_.load(std::memory_order_relaxed) != 0; }
  // Asks the active watchers; null if none of them wants this RPC. Any thread.
  std::unique_ptr<RpcObservers> Watch(const RpcStart& start) const;

 private:
  std::array<RpcWatcher*, kWatchersMax> watchers_{};
  size_t count_ = 0;
  std::atomic<uint32_t> active_{0};  // a bit for each
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_OBSERVER_H_
