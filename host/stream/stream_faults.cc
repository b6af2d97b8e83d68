// SPDX-License-Identifier: Apache-2.0

// What becomes of a fault: the instance's policy, and how a refusal goes out.
//
// Tested by tests/host/stream/endings_test.cc.

#include <fmt/format.h>

#include <utility>

#include "host/base/status_text.h"
#include "host/stream/fault_kinds.h"
#include "host/stream/stream.h"

namespace callout::host {

// Applies the instance's policy, by default to fail. `status` is how the stream then
// ends, unless an immediate response refuses the exchange; OK: made of `finding`.
void Stream::Fault(ChainMessage* message, Part* part, const Finding& finding, absl::Status status) {
  Instance& instance = *part->instance;
  const std::string what = finding.what.empty() ? std::string(MessageOf(status)) : finding.what;
  CountFault(*message, part, finding.violation, what, finding.by_peer);
  CallResult ignored;
  CallResult& result = settling_.state == nullptr ? ignored : settling_.state->result;
  result.outcome = CallOutcome::kFault;
  result.violation = finding.violation;
  result.by_peer = finding.by_peer;
  if (exchange_.observability()) return;
  if (status.ok()) {
    status = absl::InternalError(
        fmt::format("plugin {}: {}{}: {}: {}", instance.name(),
                    IsInvalidResponse(finding.violation) ? "invalid response to " : "",
                    PhaseName(message->phase), ViolationName(finding.violation), what));
  }
  ErrorPolicy policy =
      instance.settings().policy.value_or(ErrorPolicy{ErrorPolicy::Action::kFail, 0});
  // Bytes that an instance has changed or kept make the rest of the body its own:
  // going on without it would silently corrupt what the other side receives. And what
  // a client sends does not decide whether a plugin's change is made.
  const bool must_fail = StageOf(*message, part).altered || finding.never_passes;
  if (must_fail && policy.action == ErrorPolicy::Action::kContinue) {
    policy.action = ErrorPolicy::Action::kFail;
  }
  // Where the client cannot be told any more, an error says at least that the body is not whole.
  if (StageOf(*message, part).altered && !CanReplyAtOnce()) {
    policy.action = ErrorPolicy::Action::kFail;
  }
  result.action = policy.action;
  switch (policy.action) {
    case ErrorPolicy::Action::kContinue:
      return;
    case ErrorPolicy::Action::kDeny:
      return Deny(&instance, policy.http_status, finding.violation);
    case ErrorPolicy::Action::kFail: {
      int http_status =
          finding.http_status != 0 ? finding.http_status : KindOf(finding.violation).http_status;
      // Not an error, with which Envoy may let the request pass.
      if (http_status == 0 && finding.never_passes) http_status = kDenyStatusDefault;
      return Refuse(&instance, http_status, finding.violation, std::move(status));
    }
  }
}

// An error lets the request pass where Envoy is told to fail open; an immediate
// response does not. `http_status` 0: an error. `by`: whose fault it is; null: nobody's.
void Stream::Refuse(Instance* by, int http_status, Violation violation, absl::Status status) {
  if (http_status != 0 && CanReplyAtOnce()) return Deny(by, http_status, violation);
  End(std::move(status));
}

bool Stream::CanReplyAtOnce() const {
  if (reply_part_ != nullptr || exchange_.response_is_out()) return false;
  for (const callout_phase_t phase : {CALLOUT_REQUEST_BODY, CALLOUT_RESPONSE_BODY}) {
    const Direction& way = exchange_.direction(phase);
    const bool duplex_runs = way.body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED && way.body_seen &&
                             (way.headers_answered || !way.headers_seen) && !way.answered_to_end;
    if (duplex_runs) return false;
  }
  return true;
}

void Stream::CountFault(const ChainMessage& message, Part* part, Violation violation,
                        std::string_view why, bool by_peer) {
  CountFault(part->instance, message.phase, violation, why,
             IsHeadersPhase(message.phase) ? message.message : "", by_peer);
}

void Stream::CountFault(Instance* instance, callout_phase_t phase, Violation violation,
                        std::string_view why, std::string_view headers, bool by_peer) {
  const SpanWriter* const span = observers_ == nullptr ? nullptr : observers_->span_writer();
  instance->CountViolation(violation, phase, why,
                           {id_, headers, rpc_, request_id_.view(), span, by_peer});
  if (observers_ == nullptr) return;
  const FaultView fault{instance, phase, violation, why};
  observers_->Each([&](RpcObserver* observer) { observer->OnFault(fault); });
}

// The whole response, where nothing of it is used, is for the result of the call.
void Stream::Overrule(const ChainMessage& message, Part* part, Overruled overruled) {
  part->instance->CountOverruled(overruled);
  if (observers_ == nullptr) return;
  const OverruledView view{part->instance, message.phase, overruled};
  observers_->Each([&](RpcObserver* observer) { observer->OnOverruled(view); });
}

// A response without details leaves nothing in Envoy's access log that would tell which
// plugin it came from.
void Stream::AddDetails(const Part& part, Response* response) {
  const std::string details =
      WriteImmediateDetails(fmt::format("callout_{}", part.instance->name()));
  const std::string_view payload = response->payload();
  const callout_bytes_t parts[] = {ToBytes(payload), ToBytes(details)};
  Response whole;
  BuildRecord(CALLOUT_IMMEDIATE_RESPONSE, parts, 2, payload.size() + details.size(), &whole);
  *response = std::move(whole);
}

void Stream::Deny(Instance* by, int http_status, Violation violation) {
  // A streamed local reply has begun in the other direction, and Envoy takes no second one.
  if (reply_part_ != nullptr) {
    return End(absl::InternalError(
        fmt::format("{} after a streamed_immediate_response had begun", ViolationName(violation))));
  }
  if (by != nullptr) by->CountPolicyDenial(http_status);
  if (settling_.state != nullptr) {
    settling_.state->result.http_status = static_cast<uint16_t>(http_status);
  }
  Response response;
  BuildRecord(
      CALLOUT_IMMEDIATE_RESPONSE,
      WriteImmediateResponse(http_status, fmt::format("callout_{}", ViolationName(violation))),
      &response);
  EmitImmediate(std::move(response), {});
}

}  // namespace callout::host
