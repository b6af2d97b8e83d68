// SPDX-License-Identifier: Apache-2.0

#include "host/diff/outcome.h"

#include <utility>

#include "host/wire/annotations.h"
#include "host/wire/mutation.h"
#include "host/wire/phase.h"

namespace callout::host {

void BodySum::Add(std::string_view piece) {
  bytes += piece.size();
  sum = Fnv1a(piece, sum);
}

void OutcomeBuilder::OnMessage(callout_phase_t phase, std::string_view message) {
  if (outcome_.immediate || !outcome_.error.empty()) return;
  const size_t side = phase % 2;
  if (IsHeadersPhase(phase)) {
    outcome_.sides[side].headers = message;
  } else if (IsTrailersPhase(phase)) {
    outcome_.sides[side].trailers = message;
  } else if (IsBodyPhase(phase)) {
    std::string_view body;
    bool ends = false;
    if (!ReadBodyMessage(message, &body, &ends)) return;
    waiting_[side].emplace_back(body);
  }
}

void OutcomeBuilder::OnResponse(std::string_view bytes) {
  if (outcome_.immediate || !outcome_.error.empty()) return;
  Response response;
  std::string annotations;
  if (!SplitResponse(bytes, &response, &annotations)) return;
  MergeBeside(annotations);
  if (response.field != 0) Take(response.field, response.payload());
}

void OutcomeBuilder::Take(uint32_t field, std::string_view payload) {
  ResponseView view;
  if (!ReadResponse(field, payload, &view)) return;
  if (field == CALLOUT_IMMEDIATE_RESPONSE || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    return TakeImmediate(field, payload, view);
  }
  for (const callout_phase_t phase : kPhases) {
    if (IsOtherService(phase) || ResponseField(phase) != field) continue;
    const size_t side = phase % 2;
    ExchangeOutcome::Side& out = outcome_.sides[side];
    // A response to a body changes headers that Envoy still holds.
    std::string& changed = IsTrailersPhase(phase) ? out.trailers : out.headers;
    if (!view.headers.empty()) changed = ApplyHeaderMutation(changed, view.headers);
    if (IsBodyPhase(phase)) return TakeBody(side, view);
    if (IsHeadersPhase(phase) && view.continue_and_replace) {
      bodies_[side] = Body::kReplaced;
      out.body = {};
      out.body.Add(view.body);
    }
    return;
  }
}

void OutcomeBuilder::TakeBody(size_t side, const ResponseView& view) {
  BodySum& body = outcome_.sides[side].body;
  if (view.body_mutation == ResponseView::Body::kStreamed) {
    bodies_[side] = Body::kStreamed;
    return body.Add(view.body);
  }
  std::deque<std::string>& waiting = waiting_[side];
  if (waiting.empty()) return;
  if (view.body_mutation == ResponseView::Body::kUnchanged) body.Add(waiting.front());
  if (view.body_mutation == ResponseView::Body::kReplaced) body.Add(view.body);
  waiting.pop_front();
}

// A streamed one comes in parts: its headers say the status.
void OutcomeBuilder::TakeImmediate(uint32_t field, std::string_view payload,
                                   const ResponseView& view) {
  ExchangeOutcome::Side& response = outcome_.sides[1];
  const bool streamed = field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
  const bool begins = !streamed || view.streamed_part == ResponseView::Streamed::kHeaders;
  if (begins) {
    response = {};
    waiting_[1].clear();
    response.headers = ApplyHeaderMutation(std::string_view(), view.headers);
    outcome_.status = ReadImmediateStatus(field, payload);
    // Envoy sends one without a status as 200.
    constexpr uint32_t kOk = 200;
    if (outcome_.status == 0) outcome_.status = kOk;
    bodies_[1] = Body::kReplaced;
  }
  response.body.Add(view.body);
  // Of a streamed one more parts come, and nothing else.
  outcome_.immediate = !streamed;
}

void OutcomeBuilder::MergeBeside(std::string_view annotations) {
  if (annotations.empty() || !AnnotationsAreWellFormed(annotations)) return;
  Annotations beside = ReadAnnotations(annotations);
  if (beside.has_dynamic_metadata) {
    std::string merged;
    if (MergeStructs(outcome_.dynamic_metadata, beside.dynamic_metadata, &merged)) {
      outcome_.dynamic_metadata = std::move(merged);
    }
  }
  if (beside.mode_override.present) outcome_.mode_override = beside.mode_override.Write();
}

void OutcomeBuilder::OnLateHeaders(callout_phase_t phase, const Response& response) {
  ResponseView view;
  if (response.field == 0 || !ReadResponse(response.field, response.payload(), &view)) return;
  std::string& headers = outcome_.sides[phase % 2].headers;
  if (!view.headers.empty()) headers = ApplyHeaderMutation(headers, view.headers);
}

// The text may have anything in it that a plugin has seen.
void OutcomeBuilder::OnEnd(const absl::Status& status) {
  if (!status.ok()) outcome_.error = absl::StatusCodeToString(status.code());
}

ExchangeOutcome OutcomeBuilder::Finish() {
  for (size_t side = 0; side < 2; ++side) {
    if (bodies_[side] != Body::kPasses) continue;
    for (const std::string& body : waiting_[side]) outcome_.sides[side].body.Add(body);
  }
  if (outcome_.status != 0) outcome_.immediate = true;
  return std::move(outcome_);
}

}  // namespace callout::host
