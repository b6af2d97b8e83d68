// SPDX-License-Identifier: Apache-2.0

#include "host/unary/unary_rpc.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "host/base/clock.h"
#include "host/base/status_text.h"
#include "host/stream/fault_kinds.h"

namespace callout::host {

UnaryRpc::UnaryRpc(StreamEnvironment* environment, RpcContext* rpc,
                   std::unique_ptr<UnaryService> service)
    : ChainRpc(environment, rpc, service->service()),
      service_(std::move(service)),
      parts_(chain_->instances.size()) {
  for (size_t i = 0; i < parts_.size(); ++i) InitializeState(i, &parts_[i].call);
}

// --- In -----------------------------------------------------------------------

void UnaryRpc::OnMessage(std::string_view bytes) {
  if (!wants_message()) return;
  state_ = State::kRuns;
  begun_ns_ = MonotonicNs();
  if (absl::Status status = service_->Begin(bytes); !status.ok()) {
    if (!absl::IsResourceExhausted(status)) return EndWithError(std::move(status));
    // The doing of Envoy's client, which an error would let pass where Envoy fails open.
    constexpr int kHeadersTooLarge = 431;
    environment_->metrics().Add(environment_->ids().messages_refused);
    service_->Refuse(kHeadersTooLarge, MessageOf(status));
    return Respond();
  }
  if (environment_->watchers().active()) {
    const std::string_view headers = service_->headers_for_log();
    BeginWatch(service_->phase(), headers);
    const MessageView seen{CALLOUT_REQUEST_HEADERS, headers, begun_ns_};
    TellObservers([&](RpcObserver* observer) { observer->OnMessage(seen); });
  }
  Run();
}

void UnaryRpc::OnHalfClose() {
  if (wants_message()) EndWithError(absl::InternalError("the RPC came without a request"));
}

void UnaryRpc::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  CountRpc(RpcOutcome::kCancelled);
  told_end_.outcome = CALLOUT_END_CANCELLED;
  Leave(absl::CancelledError("the client has left"), CALLOUT_CANCELLED);
}

void UnaryRpc::OnDrainDeadline() {
  EndWithError(
      absl::UnavailableError("the server drains, and its time is up (--drain_timeout_ms)"));
}

void UnaryRpc::OnDeadline(uint64_t now_ns) {
  if (!live() || deadline_ns_ == 0 || deadline_ns_ > now_ns) return;
  deadline_ns_ = 0;
  if (!Expire(&parts_[next_])) return;
  ++next_;
  Run();
}

// --- The way through the chain --------------------------------------------------

void UnaryRpc::Run() {
  while (live() && !service_->decided() && next_ < parts_.size()) {
    if (!Visit(&parts_[next_])) return;
    ++next_;
  }
  if (live()) Respond();
}

// False: it waits for the part's call.
bool UnaryRpc::Visit(Part* part) {
  const Instance& instance = *part->call.instance;
  const UnaryService::Role role = service_->RoleOf(instance);
  if (role == UnaryService::Role::kNone) return true;
  const StreamMatch& match = instance.settings().match;
  if (!match.empty() && !service_->Facts().Match(match)) return true;
  const auto header = [this](const std::string& name) { return service_->Facts().Header(name); };
  if (!chain_->Shares(part->call.part, id_, header)) return true;
  part->phase = service_->PhaseOf(instance);
  if (role == UnaryService::Role::kCannot) {
    Fault(part, {Violation::kNotCarried, service_->WhyNot(instance)});
    return true;
  }
  if (!Invoke(part)) return false;
  deadline_ns_ = 0;
  return true;
}

void UnaryRpc::FillCall(Part* part) {
  service_->FillCall(*part->call.instance, &part->call.slot->call);
}

void UnaryRpc::OnWait(Part*, uint64_t deadline_ns) { deadline_ns_ = deadline_ns; }

void UnaryRpc::OnCallOver(Part*, bool counts) {
  if (!counts) return;
  deadline_ns_ = 0;
  ++next_;
  Run();
}

// --- What a hook came to --------------------------------------------------------

Finding UnaryRpc::Take(Part* part) {
  Finding finding = service_->Take(part->call, part->phase);
  if (!finding.ok()) return finding;
  const UnaryService::Effect effect = service_->last_effect();
  CallResult& result = part->call.result;
  result.changed_bytes = effect.set_bytes;
  result.http_status = effect.http_status;
  if (effect.http_status != 0) {
    result.outcome = CallOutcome::kImmediate;
  } else if (effect.changes) {
    result.outcome = CallOutcome::kChanged;
  }
  return finding;
}

void UnaryRpc::TakeDenial(Part* part, callout_status_t status, std::string_view why) {
  service_->TakeDenial(status, why);
  part->call.result.http_status = service_->last_effect().http_status;
}

// Even under the policy `fail` the request is refused by a response: an error would let it pass
// where Envoy fails open.
void UnaryRpc::Fault(Part* part, Finding finding) {
  Instance& instance = *part->call.instance;
  if (CountFault(part, part->phase, finding, service_->headers_for_log())) {
    // What is not known to have a hook for the request has not let it pass.
    if (!instance.plugin().stands_in_for_unknown()) service_->Pass();
    return;
  }
  CallResult& result = part->call.result;
  // The text of an error status names plugin and phase already.
  const std::string why =
      finding.violation == Violation::kErrorStatus
          ? finding.what
          : fmt::format("plugin {}: {}{}: {}: {}", instance.name(),
                        IsInvalidResponse(finding.violation) ? "invalid response to " : "",
                        PhaseName(part->phase), ViolationName(finding.violation), finding.what);
  int http_status = finding.http_status;
  // A client may have brought the plugin into quarantine, or it is still to come: as for streams.
  constexpr int kServiceUnavailable = 503;
  if (http_status == 0 && instance.plugin().stands_in()) http_status = kServiceUnavailable;
  if (http_status == 0) http_status = KindOf(finding.violation).http_status;
  if (http_status == 0) http_status = kDenyStatusDefault;
  if (result.action == ErrorPolicy::Action::kDeny) {
    http_status = instance.settings().policy->http_status;
  }
  service_->Refuse(http_status, why);
  result.http_status = service_->last_effect().http_status;
  instance.CountPolicyDenial(result.http_status);
}

void UnaryRpc::Describe(LiveRpc* rpc) const {
  rpc->kind = InfoOf(service_->service()).name;
  rpc->stream_id = id_;
  rpc->state = wants_message() ? "waits for the request" : "over; a plugin still has a call";
  if (!live() || next_ >= parts_.size()) return;
  rpc->phase = PhaseName(parts_[next_].phase);
  rpc->plugin = parts_[next_].call.instance->name();
  rpc->state = "called";
}

// --- Out ------------------------------------------------------------------------

void UnaryRpc::Respond() {
  output_.push_back(service_->Write());
  const uint64_t now_ns = MonotonicNs();
  environment_->ObserveMessage(service_->phase(), now_ns - begun_ns_, now_ns, rpc_);
  TellResponse();
  const bool allowed = service_->allowed();
  CountRpc(allowed ? RpcOutcome::kAllowed : RpcOutcome::kDenied);
  told_end_.outcome = allowed ? CALLOUT_END_COMPLETED : CALLOUT_END_IMMEDIATE;
  EndWith(absl::OkStatus());
}

void UnaryRpc::EndWithError(absl::Status status) {
  if (end_.has_value()) return;
  CountRpc(RpcOutcome::kError);
  told_end_.outcome = CALLOUT_END_ERROR;
  EndWith(std::move(status));
}

}  // namespace callout::host
