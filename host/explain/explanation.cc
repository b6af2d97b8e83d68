// SPDX-License-Identifier: Apache-2.0

#include "host/explain/explanation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/clock.h"
#include "host/base/redaction.h"
#include "host/base/status_text.h"
#include "host/plugin/call.h"
#include "host/plugin/call_log.h"
#include "host/plugin/instance.h"
#include "host/plugin/request_ids.h"
#include "host/plugin/shown_redaction.h"
#include "host/wire/annotations.h"
#include "host/wire/response.h"

namespace callout::host {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string ShowText(std::string_view text, const MessageRedactor& secrets) {
  return secrets.complete() ? secrets.RewriteText(text) : std::string(kRedacted);
}

// [["x-a", "1"], …]
Json ShowHeaders(const HeaderMutationView& headers, const MessageRedactor& secrets) {
  Json list = Json::array();
  for (const HeaderSet& header : headers.set) {
    Json entry = {std::string(header.key),
                  ShowText(ShownHeaderValue(header.key, header.value), secrets)};
    if (header.append) entry.push_back("append");
    list.push_back(std::move(entry));
  }
  return list;
}

// HttpHeaders, HttpTrailers or HttpBody.
Json ShowMessage(callout_phase_t phase, std::string_view message, const MessageRedactor& secrets) {
  Json shown = Json::object();
  if (IsBodyPhase(phase)) {
    std::string_view body;
    bool ends = false;
    if (!ReadBodyMessage(message, &body, &ends)) return shown;
    shown["body_bytes"] = body.size();
    shown["end_of_stream"] = ends;
    return shown;
  }
  ResponseView view;
  if (!ReadHttpHeaders(message, &view)) return shown;
  shown["headers"] = ShowHeaders(view.headers, secrets);
  if (IsHeadersPhase(phase) || phase == CALLOUT_CHECK) shown["end_of_stream"] = view.end_of_stream;
  return shown;
}

std::string_view FieldName(callout_field_t field) {
  switch (field) {
    case CALLOUT_IMMEDIATE_RESPONSE:
      return "immediate_response";
    case CALLOUT_STREAMED_IMMEDIATE_RESPONSE:
      return "streamed_immediate_response";
    default:
      return PhaseName(field + 1);
  }
}

void ShowBody(const ResponseView& view, Json* shown) {
  switch (view.body_mutation) {
    case ResponseView::Body::kUnchanged:
      if (!view.body.empty()) (*shown)["body_bytes"] = view.body.size();
      return;
    case ResponseView::Body::kReplaced:
    case ResponseView::Body::kStreamed:
      (*shown)["new_body_bytes"] = view.body.size();
      return;
    case ResponseView::Body::kCleared:
      (*shown)["clears_body"] = true;
      return;
  }
}

// A member of ProcessingResponse's oneof.
Json ShowResponse(callout_field_t field, std::string_view payload, const MessageRedactor& secrets) {
  Json shown = {{"response", std::string(FieldName(field))}};
  ResponseView view;
  if (!ReadResponse(field, payload, &view)) {
    shown["malformed_bytes"] = payload.size();
    return shown;
  }
  if (field == CALLOUT_IMMEDIATE_RESPONSE || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    const uint32_t status = ReadImmediateStatus(field, payload);
    if (status != 0) shown["http_status"] = status;
  }
  if (!view.headers.set.empty()) shown["set"] = ShowHeaders(view.headers, secrets);
  if (!view.headers.remove.empty()) {
    for (std::string_view name : view.headers.remove) shown["remove"].push_back(std::string(name));
  }
  if (view.clear_route_cache) shown["clear_route_cache"] = true;
  if (view.continue_and_replace) shown["continue_and_replace"] = true;
  ShowBody(view, &shown);
  return shown;
}

// What a hook has left in its call.
Json ShowSaid(const CallState& state, callout_phase_t phase, const MessageRedactor& secrets) {
  Json said = Json::object();
  if (state.response.field != 0 && !IsOtherService(phase)) {
    said = ShowResponse(state.response.field, state.response.payload(), secrets);
  } else if (state.response.field != 0) {
    said["response_bytes"] = state.response.payload().size();
  }
  if (!state.annotations.empty() && !IsOtherService(phase)) {
    const Annotations beside = ReadAnnotations(state.annotations);
    if (beside.has_dynamic_metadata) said["dynamic_metadata"] = true;
    if (beside.mode_override.present) said["mode_override"] = true;
  }
  if (!state.error.empty()) said["error"] = ShowText(state.error, secrets);
  return said;
}

std::string_view ActionName(ErrorPolicy::Action action) {
  switch (action) {
    case ErrorPolicy::Action::kContinue:
      return "continue";
    case ErrorPolicy::Action::kDeny:
      return "deny";
    case ErrorPolicy::Action::kFail:
      break;
  }
  return "fail";
}

std::string_view EndName(callout_outcome_t outcome) {
  switch (outcome) {
    case CALLOUT_END_COMPLETED:
      return "completed";
    case CALLOUT_END_CANCELLED:
      return "cancelled";
    case CALLOUT_END_IMMEDIATE:
      return "immediate";
    case CALLOUT_END_EARLY:
      return "early";
    case CALLOUT_END_DRAINED:
      return "drained";
    default:
      return "error";
  }
}

}  // namespace

Explanation::Explanation(const RpcStart& start, std::string_view marked_by, Done done)
    : began_ns_(start.at_ns),
      is_ext_proc_(start.service == RpcService::kExtProc),
      done_(std::move(done)),
      secrets_(ShownRedaction()) {
  request_id_ = FindHeader(start.headers, "x-request-id").substr(0, kRequestIdBytesMax);
  Json head = {{"stream", start.stream_id},
               {"service", std::string(InfoOf(start.service).name)},
               {"marked_by", std::string(marked_by)}};
  if (!request_id_.empty()) head["x-request-id"] = request_id_;
  const TraceRef trace = FindTrace(start.rpc, start.headers);
  if (!trace.id.empty()) head["trace_id"] = std::string(trace.id);
  head_ = Dump(head);
  head_.back() = ',';  // in place of the brace
}

Explanation::~Explanation() { Finish("unknown", "unknown", MonotonicNs()); }

uint64_t Explanation::SinceStartUs(uint64_t at_ns) const {
  return at_ns > began_ns_ ? (at_ns - began_ns_) / 1000 : 0;
}

void Explanation::AddStep(const Json& step) {
  const std::string text = Dump(step);
  if (steps_.size() + text.size() > kExplanationBytesMax) {
    ++left_out_;
    return;
  }
  if (!steps_.empty()) steps_ += ',';
  steps_ += text;
}

void Explanation::Learn(const MessageView& message) {
  if (is_ext_proc_) {
    secrets_.Learn(MessageKind::kRequest, message.request);
  } else if (!IsBodyPhase(message.phase)) {
    secrets_.LearnHeaders(message.message);
  }
}

void Explanation::OnMessage(const MessageView& message) {
  Learn(message);
  TellFaults();
  Json step = {{"at_us", SinceStartUs(message.at_ns)},
               {"message", std::string(PhaseName(message.phase))}};
  step.update(ShowMessage(message.phase, message.message, secrets_));
  AddStep(step);
}

void Explanation::OnSaid(const SaidView& said) {
  // A plugin may set a secret, and show it elsewhere.
  if (is_ext_proc_) secrets_.Learn(MessageKind::kResponse, said.state.response.record);
  saw_ = Dump(ShowMessage(said.phase, said.message, secrets_));
  said_ = Dump(ShowSaid(said.state, said.phase, secrets_));
}

void Explanation::OnFault(const FaultView& fault) {
  faults_.push_back({fault.instance, fault.phase, fault.violation, std::string(fault.what)});
}

void Explanation::OnOverruled(const OverruledView& part) { overruled_.push_back(part.overruled); }

void Explanation::OnCall(const CallRecord& call) {
  const CallResult& result = call.result;
  Json step = {{"at_us", SinceStartUs(call.begin_ns)},
               {"plugin", call.instance->name()},
               {"generation", call.instance->generation()},
               {"phase", std::string(PhaseName(call.phase))}};
  step["saw"] = saw_.empty() ? Json{{"bytes", call.message_bytes}} : Json::parse(saw_);
  if (!said_.empty()) step["said"] = Json::parse(said_);
  step["outcome"] = std::string(CallOutcomeName(result.outcome));
  if (result.outcome == CallOutcome::kFault) {
    step["fault"] = std::string(ViolationName(result.violation));
    for (const Fault& fault : faults_) step["why"].push_back(ShowText(fault.what, secrets_));
    faults_.clear();
    step["policy"] = std::string(ActionName(result.action));
  }
  if (result.overruled != Overruled::kNot) {
    step["overruled"] = std::string(OverruledName(result.overruled));
  }
  if (result.http_status != 0) step["http_status"] = result.http_status;
  for (const Overruled part : overruled_) step["left_out"].push_back(OverruledName(part));
  step["took_us"] = call.taken_ns() / 1000;
  step["in_hook_us"] = call.hook_ns / 1000;
  if (call.deferred) step["deferred"] = true;
  if (call.blocking) step["blocking"] = true;
  if (!call.begun) step["called"] = false;
  saw_.clear();
  said_.clear();
  overruled_.clear();
  AddStep(step);
  TellFaults();
}

// Those that no call has taken.
void Explanation::TellFaults() {
  for (const Fault& fault : std::exchange(faults_, {})) {
    AddStep({{"plugin", fault.instance->name()},
             {"phase", std::string(PhaseName(fault.phase))},
             {"fault", std::string(ViolationName(fault.violation))},
             {"why", ShowText(fault.what, secrets_)}});
  }
}

void Explanation::OnResponse(callout_field_t field, std::string_view payload) {
  Json step = {{"at_us", SinceStartUs(MonotonicNs())}, {"to_envoy", true}};
  if (field == 0) {
    step["response_bytes"] = payload.size();
  } else {
    step.update(ShowResponse(field, payload, secrets_));
  }
  AddStep(step);
}

void Explanation::OnEnd(const RpcEnd& end) {
  TellFaults();
  Finish(end.status.ok() ? "OK"
                         : fmt::format("{}: {}", absl::StatusCodeToString(end.status.code()),
                                       ShowText(MessageOf(end.status), secrets_)),
         EndName(end.outcome), end.at_ns);
}

void Explanation::Finish(std::string_view end, std::string_view outcome, uint64_t at_ns) {
  if (std::exchange(finished_, true)) return;
  Json tail = {{"end", std::string(end)},
               {"outcome", std::string(outcome)},
               {"took_us", SinceStartUs(at_ns)}};
  if (left_out_ > 0) tail["steps_left_out"] = left_out_;
  std::string rest = Dump(tail);
  rest.erase(0, 1);  // the opening brace
  rest.pop_back();   // and the closing one
  done_(fmt::format("{}{},\"steps\":[{}]", head_, rest, steps_), request_id_);
}

}  // namespace callout::host
