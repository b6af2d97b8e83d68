// SPDX-License-Identifier: Apache-2.0

// What a hook came to: its answer checked by the guard and joined to those of the
// others.
//
// Tested by tests/host/stream/whole_body_test.cc.

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/status_text.h"
#include "host/plugin/call_log.h"
#include "host/plugin/hook_status.h"
#include "host/plugin/services.h"
#include "host/stream/guard.h"
#include "host/stream/stream.h"
#include "host/wire/annotations.h"
#include "host/wire/mutation.h"
#include "host/wire/refusal.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

constexpr int kServiceUnavailable = 503;

// Whatever is wrong with the response, neither the policy `continue` nor an Envoy that
// fails open turns it into a pass.
void NeverPasses(Finding* found) {
  found->never_passes = true;
  if (found->http_status == 0) found->http_status = kDenyStatusDefault;
}

// Headers that describe the body, which the host mends itself.
bool DescribesBody(std::string_view name) {
  return EqualsIgnoreCase(name, "content-length") || EqualsIgnoreCase(name, "content-encoding");
}

bool OnlyDescribesBody(const HeaderMutationView& mutation) {
  for (const HeaderSet& header : mutation.set) {
    if (!DescribesBody(header.key)) return false;
  }
  for (std::string_view name : mutation.remove) {
    if (!DescribesBody(name)) return false;
  }
  return true;
}

bool MentionsEncoding(const HeaderMutationView& mutation) {
  for (const HeaderSet& header : mutation.set) {
    if (EqualsIgnoreCase(header.key, "content-encoding")) return true;
  }
  for (std::string_view name : mutation.remove) {
    if (EqualsIgnoreCase(name, "content-encoding")) return true;
  }
  return false;
}

size_t BytesSet(const ResponseView& view) {
  size_t bytes = view.body.size();
  for (const HeaderSet& header : view.headers.set) bytes += header.key.size() + header.value.size();
  return bytes;
}

// What comes first of fault, response to the client and change stays the outcome.
void NoteChange(CallResult* result) {
  const bool first =
      result->outcome == CallOutcome::kUnchanged || result->outcome == CallOutcome::kKept;
  if (first) result->outcome = CallOutcome::kChanged;
}

void NoteChange(const ResponseView& view, CallResult* result) {
  const bool changes = !view.headers.empty() || view.clear_route_cache ||
                       view.continue_and_replace ||
                       view.body_mutation != ResponseView::Body::kUnchanged;
  if (!changes) return;
  NoteChange(result);
  result->changed_bytes += BytesSet(view);
}

// Envoy sends an immediate response without a status, or with one below 200, as 200.
void NoteImmediate(const Response& response, CallResult* result) {
  constexpr uint32_t kOk = 200;
  constexpr uint32_t kStatusMax = 599;
  const uint32_t status = ReadImmediateStatus(response.field, response.payload());
  result->outcome = CallOutcome::kImmediate;
  result->http_status =
      static_cast<uint16_t>(status <= kStatusMax ? std::max(status, kOk) : kStatusMax + 1);
}

// Whether what stands beside a response may go to Envoy.
Finding CheckBeside(const CallState& state, const StreamLimits& limits) {
  if (!AnnotationsAreWellFormed(state.annotations)) {
    return {Violation::kMalformed,
            "what stands beside the response is malformed protobuf, or has a string that is not "
            "UTF-8"};
  }
  if (limits.metadata_controls) return {};
  return CheckMetadata(state.annotations, CALLOUT_DYNAMIC_METADATA);
}

// What is wrong with a call, before its response is looked at.
Finding FindFault(const CallState& state, callout_status_t status, size_t message_bytes,
                  const StreamLimits& limits) {
  if (state.fault == ResponseFault::kTooLarge) {
    const size_t bytes_max = state.instance->message_bytes_max();
    return {.violation = Violation::kTooLarge,
            .what = fmt::format("over --max_message_bytes={}", bytes_max),
            .by_peer = IsMostlyOfMessage(message_bytes, bytes_max)};
  }
  if (state.fault == ResponseFault::kMalformed) {
    return {Violation::kMalformed, "the whole response is malformed protobuf"};
  }
  if (!state.annotations.empty()) {
    if (Finding found = CheckBeside(state, limits); !found.ok()) return found;
  }
  if (status == CALLOUT_OK || status == CALLOUT_NO_RESPONSE) return {};
  return {Violation::kBadStatus,
          fmt::format("the hook returned {}; return OK, DEFERRED, NO_RESPONSE or a negative status",
                      StatusName(status))};
}

// What a hook that has set a refusal returns beside it adds nothing. PERMISSION_DENIED would let
// the request pass where Envoy fails open, NO_RESPONSE anywhere.
bool AddsNothing(callout_status_t status) {
  return status == CALLOUT_NO_RESPONSE || IsDecision(status);
}

// What is wrong with a response that send() was given, before its bytes are looked at.
Finding CheckSent(callout_field_t field, bool duplex) {
  if (field == CALLOUT_IMMEDIATE_RESPONSE) {
    return {Violation::kSecondResponse,
            "send() of an immediate response, which is the last one: give it to respond()"};
  }
  if (!duplex && field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    return {Violation::kSecondResponse,
            "send() belongs to bodies in FULL_DUPLEX_STREAMED and to streamed immediate responses"};
  }
  return {};
}

Finding TooManyEntries() {
  return {Violation::kIllegalHeader,
          fmt::format("the mutation, with those of the rest of the chain and what the host adds to "
                      "it, has more than {} entries, Envoy's limit",
                      kHeaderMutationEntriesMax)};
}

// Records of a body or trailers call, merged: a mode override counts in a headers call only.
std::string WithoutModes(std::string_view records) {
  return ReadAnnotations(records).WriteWithoutModes();
}

void NotUsed(CallResult* result, Overruled why) {
  if (result->outcome == CallOutcome::kFault) return;
  result->outcome = CallOutcome::kOverruled;
  result->overruled = why;
}

}  // namespace

// --- Outcomes ---------------------------------------------------------------

void Stream::Settle(ChainMessage* message, Part* part, callout_status_t status) {
  CallState& state = CallOf(*message, part);
  state.result.status = status;
  if (observers_ != nullptr) {
    const SaidView said{state, message->phase, message->message};
    observers_->Each([&](RpcObserver* observer) { observer->OnSaid(said); });
  }
  const bool is_there = IsRefusalField(message->phase, state.response.field);
  if (is_there && AddsNothing(status)) status = CALLOUT_OK;
  const bool refuses = is_there || state.refusal == Refusal::kStands;
  if (status < 0) {
    absl::Status error(ToStatusCode(status), ErrorText(state, message->phase, status));
    if (!IsDecision(status)) {
      Finding found{Violation::kErrorStatus, std::string(MessageOf(error))};
      // A client may have brought the plugin into quarantine: not even an Envoy that fails open is
      // to let it pass.
      if (part->instance->plugin().stands_in()) found.http_status = kServiceUnavailable;
      if (refuses) NeverPasses(&found);
      return Fault(message, part, found, std::move(error));
    }
    if (exchange_.observability()) return NotUsed(&state.result, Overruled::kObservability);
    state.result.outcome = CallOutcome::kDenied;
    End(std::move(error));
    return;
  }
  if (Finding found = FindFault(state, status, message->message.size(), environment_->limits());
      !found.ok()) {
    if (refuses) NeverPasses(&found);
    Fault(message, part, found);
  } else {
    if (SettlesHeldHeaders(*message, part, state.response.field)) {
      SettleHeldHeaders(message, part, std::exchange(state.response, {}));
      if (!live()) return;
    }
    status == CALLOUT_OK ? TakeResponse(message, part) : TakeNoResponse(message, part);
  }
  if (reply_part_ == part && live()) FinishReply();
}

Finding Stream::Check(ChainMessage* message, callout_field_t field,
                      const ResponseView& view) const {
  const callout_phase_t phase = message->phase;
  Situation situation{phase, message->body_mode};
  if (phase != message->response_phase) situation.body_mode = CALLOUT_BODY_BUFFERED;
  const Direction& way = exchange_.direction(phase);
  if (IsHeadersPhase(phase)) {
    // As it is now, or may be: the other direction's answer may have changed it.
    const bool may_be_asked = way.mode_open && way.body_mode == CALLOUT_BODY_NONE;
    situation.body_mode = may_be_asked ? way.asked_mode : way.body_mode;
  }
  if (Finding found = CheckResponse(situation, field, view); !found.ok()) return found;
  if (IsBodyPhase(phase) || field != ResponseField(phase)) return {};
  const StreamLimits& limits = environment_->limits();
  // First as if nothing were replaced or removed, which nearly always settles it.
  const HeaderSize most = message->LargestHeaders(view.headers);
  if (most.count <= limits.header_count_max && most.bytes <= limits.header_bytes_max) return {};
  return CheckHeaderLimits(message->message, view.headers, limits.header_count_max,
                           limits.header_bytes_max);
}

Finding Stream::ReadAndCheck(ChainMessage* message, const Response& response,
                             ResponseView* view) const {
  if (ReadResponse(response.field, response.payload(), view)) {
    return Check(message, response.field, *view);
  }
  return {Violation::kMalformed,
          fmt::format("{} bytes that are no {} message, or a string that is not UTF-8",
                      response.payload().size(), PhaseName(message->phase))};
}

// A body is changed whose content-encoding nobody has set or removed.
bool Stream::LosesEncoding(const ChainMessage& message, const ResponseView& view) const {
  const Direction& way = exchange_.direction(message.phase);
  return view.body_mutation != ResponseView::Body::kUnchanged && way.encoded &&
         !way.encoding_settled;
}

// What a body response asks for that the headers, which have gone, would have to say.
Finding Stream::CheckBodyResponse(const ChainMessage& message, const Part& part,
                                  const ResponseView& view) const {
  if (message.phase != message.response_phase) return {};
  const Stage& stage = part.stages[DirectionOf(message)];
  const bool buffered = IsBuffered(message.body_mode);
  const bool headers_held = (buffered && !message.mode_open) ||
                            (stage.held != nullptr && IsHeadersPhase(stage.held->phase));
  if (headers_held) return {};
  if (!OnlyDescribesBody(view.headers)) {
    return {Violation::kLateHeader,
            message.mode_open
                ? "a header change in a body response, while nothing has shown whether Envoy obeys "
                  "the mode override; say so by --envoy_mode_override"
                : "a header change in a body response, when the headers have gone: make it in the "
                  "headers hook, or take whole bodies in BUFFERED or FULL_DUPLEX_STREAMED"};
  }
  if (LosesEncoding(message, view)) {
    return {Violation::kEncodedBody,
            message.mode_open
                ? "a new body under the content-encoding of the old one, while nothing has shown "
                  "whether Envoy obeys the mode override; say so by --envoy_mode_override"
                : "a new body under the content-encoding of the old one, which has gone out: "
                  "remove or set content-encoding in the headers hook, or use BUFFERED",
            0, true};
  }
  return {};
}

void Stream::TakeResponse(ChainMessage* message, Part* part) {
  CallState& state = CallOf(*message, part);
  Response& response = state.response;
  if (reply_part_ != nullptr && response.field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    // The client is being answered already.
    if (response.field != 0) {
      CountFault(*message, part, Violation::kSecondResponse,
                 "another response within a streamed_immediate_response");
      if (reply_part_ != part) NotUsed(&state.result, Overruled::kReplied);
    }
    return;
  }
  if (response.field != 0) {
    ResponseView view;
    if (Finding found = ReadAndCheck(message, response, &view); !found.ok()) {
      if (IsRefusalField(message->phase, response.field)) NeverPasses(&found);
      return Fault(message, part, found);
    }
    if (exchange_.observability()) return NotUsed(&state.result, Overruled::kObservability);
    if (response.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
      return TakeReply(message, part, std::move(response), view);
    }
    if (response.field == CALLOUT_IMMEDIATE_RESPONSE) {
      NoteImmediate(response, &state.result);
      // What was to go out with the headers, which will not.
      const ChainMessage* const front = LineOf(*message).front();
      if (front != message) message->annotations.insert(0, WithoutModes(front->annotations));
      message->annotations.append(state.annotations);
      if (!view.has_details) AddDetails(*part, &response);
      return EmitImmediate(std::move(response), MakeAnnotations(message));
    }
    if (IsBodyPhase(message->phase)) {
      if (Finding found = CheckBodyResponse(*message, *part, view); !found.ok()) {
        return Fault(message, part, found);
      }
    }
    JoinResponse(message, part, &response, view);
    if (!live()) return;
    NoteChange(view, &state.result);
  }
  NoteModes(*message, part);
  if (state.annotations.empty()) return;
  NoteChange(&state.result);
  TakeAnnotations(message, state.annotations);
}

// What a call says beside its response goes out with it; or earlier, with headers that wait for the
// body: Envoy's later filters act on metadata when the headers reach them.
void Stream::TakeAnnotations(ChainMessage* message, std::string_view records) {
  if (records.empty()) return;
  ChainMessage* const front = LineOf(*message).front();
  if (front == message || !IsHeadersPhase(front->response_phase)) {
    message->annotations.append(records);
    return;
  }
  AddBeside(front, records);
}

// Of a message that is dropped: for the one before it, or the next response of the direction.
void Stream::KeepBeside(const ChainMessage& message) {
  if (message.annotations.empty()) return;
  const Line& line = LineOf(message);
  const auto at = std::find(line.begin(), line.end(), &message);
  if (at != line.begin()) return AddBeside(*(at - 1), message.annotations);
  std::string& kept = beside_[message.response_phase % 2];
  kept_bytes_ -= kept.size();
  kept.append(message.annotations);
  kept = WithoutModes(kept);
  kept_bytes_ += kept.size();
  IsWithinMemory();
}

void Stream::AddBeside(ChainMessage* to, std::string_view records) {
  const std::string beside = WithoutModes(records);
  to->annotations.append(beside);
  to->beside_bytes += beside.size();
  kept_bytes_ += beside.size();
  IsWithinMemory();
}

// Adds a legal response to those of the other instances.
void Stream::JoinResponse(ChainMessage* message, Part* part, Response* response,
                          const ResponseView& view) {
  Stage& stage = StageOf(*message, part);
  if (!message->response.Add(response, view)) return Fault(message, part, TooManyEntries());
  NoteEncoding(*message, view);
  for (uint32_t ignored = FindIgnored(message->phase, view); ignored != 0; ignored &= ignored - 1) {
    Overrule(*message, part, static_cast<Overruled>(std::countr_zero(ignored)));
  }
  const bool is_body = IsBodyPhase(message->phase);
  if (IsHeadersPhase(message->phase) && view.continue_and_replace) {
    TakeReplacement(message, part, view);
  }
  if (is_body && view.body_mutation != ResponseView::Body::kUnchanged) stage.altered = true;
  if (is_body) {
    if (Finding found = SettleBodyHeaders(message, part, view); !found.ok()) {
      return Fault(message, part, found);
    }
  }
  if (parts_.size() > 1 && !view.headers.empty()) KeepHeaderOrder(message, part, view);
  // In the order of the chain, as they go out.
  if (is_body) {
    if (Finding found = CheckHeadersOfBody(*message, stage, view); !found.ok()) {
      return Fault(message, part, found);
    }
  }
  if (Finding found = CheckEntries(*message); !found.ok()) return Fault(message, part, found);
  if (HasLaterReader(*message)) ShowToLater(message, view);
}

// CONTINUE_AND_REPLACE. Without a body it only says that this instance wants no more of the
// direction, which is not to keep it from the others: Envoy would send it to none.
void Stream::TakeReplacement(ChainMessage* message, Part* part, const ResponseView& view) {
  const callout_phase_t body = message->phase + 2;
  const auto wants = [&](const Part& other) {
    return &other != part && other.usable &&
           (other.instance->Wants(body) || other.instance->Wants(body + 2));
  };
  const bool brings = view.body_mutation != ResponseView::Body::kUnchanged;
  const bool brought = message->response.body_mutation() != ResponseView::Body::kUnchanged;
  if (!brings && brought) {
    // By an instance before, for those after that one.
    StageOf(*message, part).body_passes = true;
  } else if (!brings && std::any_of(parts_.begin(), parts_.end(), wants)) {
    message->response.Continue();
    StageOf(*message, part).body_passes = true;
    Overrule(*message, part, Overruled::kReplace);
  } else {
    message->replace_position = message->position;
  }
}

// What a body response does to headers: to those that are held for it, which go out first; in
// BUFFERED to those at Envoy, with the response itself; else to none, for they have gone.
Finding Stream::SettleBodyHeaders(ChainMessage* message, Part* part, const ResponseView& view) {
  Stage& stage = StageOf(*message, part);
  if (stage.held != nullptr && IsHeadersPhase(stage.held->phase)) {
    ResponseView change;
    change.headers = view.headers;
    Direction& way = exchange_.direction(message->phase);
    if (MentionsEncoding(view.headers)) way.encoding_settled = true;
    if (LosesEncoding(*message, view)) {
      // A coding goes with the body that had it.
      change.headers.present = true;
      change.headers.remove.push_back("content-encoding");
      way.encoding_settled = true;
    }
    if (!stage.held->response.AddHeaders(change.headers, view.clear_route_cache)) {
      return TooManyEntries();
    }
    if (HasLaterReader(*stage.held)) ShowToLater(stage.held, change);
    message->response.DropHeaders();
  } else if (message->phase == message->response_phase && !view.headers.empty() &&
             (message->body_mode == CALLOUT_BODY_STREAMED ||
              message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED)) {
    // Headers that describe the body, and have gone.
    environment_->metrics().Add(environment_->ids().late_body_headers);
    Overrule(*message, part, Overruled::kLateBodyHeaders);
    message->response.DropHeaders();
  }
  return {};
}

// Whoever asks for no body gets none, whether Envoy obeys or not.
void Stream::NoteModes(const ChainMessage& message, Part* part) {
  const std::string& annotations = CallOf(message, part).annotations;
  if (!IsHeadersPhase(message.phase)) {
    if (HasModeOverride(annotations)) Overrule(message, part, Overruled::kLateMode);
    return;
  }
  StageOf(message, part).named_modes = 0;
  if (annotations.empty() || !HasModeOverride(annotations)) return;
  const ModeOverride override = ReadAnnotations(annotations).mode_override;
  StageOf(message, part).named_modes = override.Named();
  const std::array<std::optional<callout_body_mode_t>, 2> modes = {override.modes.request_body,
                                                                   override.modes.response_body};
  for (size_t i = 0; i < 2; ++i) {
    Direction& way = exchange_.direction(static_cast<callout_phase_t>(i));
    if (!modes[i].has_value() || way.body_seen) continue;
    Stage& stage = part->stages[i];
    const bool declines = *modes[i] == CALLOUT_BODY_NONE;
    // The last word counts, but for a body that passes for another reason.
    if (declines == stage.declined || (declines && stage.body_passes)) continue;
    stage.declined = stage.body_passes = declines;
    // Of a body that nobody was to read the headers may not have been looked into.
    HeadersMessageView headers;
    if (!declines && i == DirectionOf(message) &&
        ReadHeadersMessage(message.original, true, &headers)) {
      way.encoded = headers.has_content_encoding;
      way.encoding_settled |= message.response.MentionsHeader("content-encoding");
    }
  }
}

// With a new body the host mends the headers that describe it.
Finding Stream::CheckEntries(const ChainMessage& message) const {
  HeaderEntries entries = message.response.entries();
  if (entries.longer() < kHeaderMutationEntriesMax) return {};
  if (RemovesEncoding(message)) ++entries.removed;
  if (IsBodyPhase(message.response_phase) && SetsContentLength(message)) {
    ++(KnowsLength(message) ? entries.set : entries.removed);
  }
  if (entries.longer() <= kHeaderMutationEntriesMax) return {};
  Finding found = TooManyEntries();
  // Whether the host has something to mend is up to the headers of the client.
  found.never_passes = true;
  return found;
}

// What a body hook has set goes to headers that have passed before: of a direction in BUFFERED,
// where Envoy holds them; of one whose headers the host holds; or of a headers response that brings
// the body itself. All that goes out counts together, since no single hook may be over the limit.
Finding Stream::CheckHeadersOfBody(const ChainMessage& message, const Stage& stage,
                                   const ResponseView& view) const {
  if (view.headers.set.empty()) return {};
  const bool held = stage.held != nullptr && IsHeadersPhase(stage.held->phase);
  const ChainMessage& carrier = held ? *stage.held : message;
  const HeadersAtEnvoy* const at_envoy = at_envoy_[DirectionOf(message)].get();
  std::string_view headers = carrier.original;
  MergedHeaders changes;
  if (IsBodyPhase(carrier.response_phase)) {
    if (at_envoy == nullptr) return {};  // the host has not seen them, or they have gone
    headers = at_envoy->headers;
    ResponseView answered;
    ReadResponse(at_envoy->response.field, at_envoy->response.payload(), &answered);
    changes.Add(answered.headers);
  }
  const std::string of_body = carrier.response.HeaderMutation();
  HeaderMutationView mutation;
  ReadHeaderMutation(of_body, &mutation);
  changes.Add(mutation);
  const std::string all = changes.Write();
  HeaderMutationView whole;
  ReadHeaderMutation(all, &whole);
  const StreamLimits& limits = environment_->limits();
  return CheckHeaderLimits(headers, whole, limits.header_count_max, limits.header_bytes_max);
}

void Stream::NoteEncoding(const ChainMessage& message, const ResponseView& view) {
  if (!IsHeadersPhase(message.phase)) return;
  Direction& way = exchange_.direction(message.phase);
  if (way.encoded && MentionsEncoding(view.headers)) way.encoding_settled = true;
}

// Whether an override may still bring these headers a buffered body, for a hook that comes before
// the instance whose turn it is.
bool Stream::MayBecomeBuffered(const ChainMessage& message) const {
  if (!IsHeadersPhase(message.phase) || message.end_of_stream) return false;
  const uint64_t body = CALLOUT_PHASE_BIT(message.phase + 2);
  if ((chain_->phases & body) == 0 || !exchange_.mode_can_change()) return false;
  for (size_t i = 0; i < message.position; ++i) {
    const Part& earlier = PartAt(message, i);
    if (earlier.usable && earlier.instance->Wants(message.phase + 2)) return true;
  }
  return false;
}

// In BUFFERED modes Envoy holds the headers until the body is answered, so a
// filter's header mutations of both phases come before those of the next filter.
// Here the header answers of all instances went out before any body came: what
// the later ones did then has to be done again over a mutation that comes now.
void Stream::KeepHeaderOrder(ChainMessage* message, Part* part, const ResponseView& view) {
  // A body that the headers bring passes the instances as one in BUFFERED does.
  const bool brings_body = message->response.continue_and_replace();
  if (!IsBuffered(message->body_mode) && !MayBecomeBuffered(*message) && !brings_body) return;
  if (IsHeadersPhase(message->phase)) {
    std::unique_ptr<MergedHeaders>& effects = StageOf(*message, part).header_effects;
    if (effects == nullptr) effects = std::make_unique<MergedHeaders>();
    effects->Add(view.headers);
    return;
  }
  if (!IsBodyPhase(message->phase)) return;
  for (size_t i = message->position + 1; i < parts_.size(); ++i) {
    const Stage& later = PartAt(*message, i).stages[DirectionOf(*message)];
    if (later.header_effects != nullptr) {
      message->response.PutUnder(view.headers, *later.header_effects);
    }
  }
}

// Makes the message what it would be after Envoy has applied the answer.
void Stream::ShowToLater(ChainMessage* message, const ResponseView& view) {
  if (!IsBodyPhase(message->phase)) {
    if (!view.headers.empty()) message->RebuildHeaders(view.headers);
    if (view.continue_and_replace && view.body_mutation != ResponseView::Body::kUnchanged &&
        std::exchange(message->end_of_stream, false)) {
      message->Rebuild(WithoutEndOfStream(message->message));
    }
    return;
  }
  if (view.body_mutation != ResponseView::Body::kUnchanged) message->RebuildAroundBody(view.body);
}

// In FULL_DUPLEX_STREAMED only: a chunk is kept or dropped by the plugin; headers are
// held until one of its body calls answers.
void Stream::TakeNoResponse(ChainMessage* message, Part* part) {
  Stage& stage = StageOf(*message, part);
  const bool duplex = message->phase == message->response_phase &&
                      message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  const bool may_hold = IsHeadersPhase(message->phase) && !message->end_of_stream &&
                        part->instance->Wants(message->phase + 2);
  if (!duplex || (!IsBodyPhase(message->phase) && !may_hold)) {
    return Fault(message, part,
                 {Violation::kBadStatus,
                  "CALLOUT_NO_RESPONSE, which belongs to FULL_DUPLEX_STREAMED: to a body, or to "
                  "headers whose body the plugin takes"});
  }
  NoteModes(*message, part);
  CallState& state = CallOf(*message, part);
  TakeAnnotations(message, state.annotations);
  if (!live()) return;
  if (exchange_.observability()) return NotUsed(&state.result, Overruled::kObservability);
  if (state.result.outcome == CallOutcome::kUnchanged) state.result.outcome = CallOutcome::kKept;
  if (may_hold) {
    // An instance before has brought the body with the headers: it comes next, and no other will.
    if (message->response.continue_and_replace()) return;
    if (chain_->has_whole_body) CheckBodyToCome(message, part, message->message);
    if (!live() || stage.body_passes) return;
    stage.plugin_holds = true;
    return Hold(message, part, environment_->limits().body_wait_ms);
  }
  if (!message->body.empty()) stage.altered = true;
  if (stage.held != nullptr) {
    stage.held_bytes += message->body.size();
    const size_t bytes_max = environment_->limits().stream_memory_bytes_max;
    if (stage.held_bytes > bytes_max) {
      constexpr int kContentTooLarge = 413;
      const std::string what = fmt::format(
          "{} bytes while the plugin holds the headers, limit --max_stream_memory_bytes={}",
          stage.held_bytes, bytes_max);
      CountFault(*message, part, Violation::kBodyTooLarge, what);
      return Refuse(part->instance, kContentTooLarge, Violation::kBodyTooLarge,
                    absl::ResourceExhaustedError(what));
    }
  }
  CheckHeldHeaders(message, part);
  if (!live()) return;
  message->dropped = !message->end_of_stream;
  // The end goes on all the same, with nothing before it.
  if (message->end_of_stream) {
    message->response.SetBody(ResponseView::Body::kCleared, {});
    message->RebuildAroundBody(std::string_view());
  }
}

// --- Headers that the plugin has held ------------------------------------------

// Of the message's direction; null: there are none.
ChainMessage* Stream::HeldHeaders(const ChainMessage& message, Part* part) {
  const Stage& stage = StageOf(message, part);
  return stage.plugin_holds && stage.held != &message ? stage.held : nullptr;
}

// Whether a response in a body or trailers call is the one to the headers.
bool Stream::SettlesHeldHeaders(const ChainMessage& message, Part* part, callout_field_t field) {
  const ChainMessage* const held = HeldHeaders(message, part);
  return held != nullptr && field == ResponseField(held->phase);
}

// They go on, ahead of `message`.
void Stream::SettleHeldHeaders(ChainMessage* message, Part* part, Response response) {
  ChainMessage* const held = HeldHeaders(*message, part);
  ResponseView view;
  Finding found;
  if (!ReadResponse(response.field, response.payload(), &view)) {
    found = {Violation::kMalformed, "bytes for the held headers that are no HeadersResponse"};
  } else if (view.continue_and_replace) {
    found = {Violation::kIllegalBody,
             "CONTINUE_AND_REPLACE for headers that were held, when their body has begun"};
  } else {
    found = Check(held, response.field, view);
  }
  if (!found.ok()) return Fault(message, part, found);
  JoinResponse(held, part, &response, view);
  NoteChange(view, &CallOf(*message, part).result);
  held->response.Own();
  if (live()) LetGo(&StageOf(*message, part));
}

// The direction ends with `message`, and nothing that the plugin has said would let its
// headers go.
void Stream::CheckHeldHeaders(ChainMessage* message, Part* part) {
  if (!message->end_of_stream || HeldHeaders(*message, part) == nullptr) return;
  StageOf(*message, part).plugin_holds = false;
  Fault(message, part,
        {Violation::kHeadersHeld,
         "the direction has ended, and the headers that the plugin held with CALLOUT_NO_RESPONSE "
         "were not settled: respond() or send() their response in a body or trailers call"});
}

// --- Answers sent ahead -----------------------------------------------------

// Lets on what send() has queued, in order, ahead of the answer.
void Stream::TakeSent(ChainMessage* message, Part* part) {
  CallState& state = CallOf(*message, part);
  std::vector<Response> sent;
  // What comes meanwhile posts an event of its own.
  if (state.has_sent.load(std::memory_order_acquire)) {
    std::lock_guard<std::mutex> lock(state.sent_mutex);
    state.has_sent.store(false, std::memory_order_relaxed);
    sent.swap(state.sent);
    state.sent_bytes = 0;
  }
  const bool duplex = IsBodyPhase(message->phase) && message->phase == message->response_phase &&
                      message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  for (Response& response : sent) {
    if (!live()) return;
    if (SettlesHeldHeaders(*message, part, response.field)) {
      SettleHeldHeaders(message, part, std::move(response));
      continue;
    }
    ResponseView view;
    Finding found = CheckSent(response.field, duplex);
    if (found.ok() && !ReadResponse(response.field, response.payload(), &view)) {
      found = {Violation::kMalformed, "bytes given to send() that are no such message"};
    }
    if (found.ok()) found = Check(message, response.field, view);
    if (!found.ok()) {
      if (IsRefusalField(message->phase, response.field)) NeverPasses(&found);
      FaultOfSent(message, part, found, duplex && response.field == ResponseField(message->phase));
    } else if (exchange_.observability()) {
      continue;
    } else if (duplex) {
      TakeSentChunk(message, part, view);
    } else {
      TakeReply(message, part, std::move(response), view);
    }
  }
  NoteUnsent(*message, &state);
}

// A piece of a body that does not go out: the rest would be another body than the plugin's.
void Stream::FaultOfSent(ChainMessage* message, Part* part, const Finding& finding, bool is_piece) {
  if (is_piece && !exchange_.observability()) StageOf(*message, part).altered = true;
  Fault(message, part, finding);
}

// What send() counts against --max_sent_bytes.
void Stream::NoteUnsent(const ChainMessage& message, CallState* state) {
  size_t unsent = rpc_->unsent_bytes();
  for (const std::string& response : output_) unsent += response.size();
  for (const ChainMessage* ahead : LineOf(message)) {
    if (ahead == &message) break;
    unsent += ahead->body.size();
  }
  state->recount_asked.store(false, std::memory_order_relaxed);
  state->unsent_bytes.store(unsent, std::memory_order_relaxed);
}

// The same while the call goes on: what comes of it is part of the call's result.
void Stream::TakeSentMeanwhile(ChainMessage* message, Part* part) {
  settling_.state = &CallOf(*message, part);
  TakeSent(message, part);
  settling_.state = nullptr;
}

// A chunk that goes ahead is to the later instances a message of its own. More
// is to come after it, so it never ends the body: the end goes with the
// message's own answer.
void Stream::TakeSentChunk(ChainMessage* message, Part* part, const ResponseView& view) {
  Finding found = CheckBodyResponse(*message, *part, view);
  Stage& stage = StageOf(*message, part);
  if (found.ok()) found = SettleBodyHeaders(message, part, view);
  if (found.ok()) found = CheckHeadersOfBody(*message, stage, view);
  if (!found.ok()) return FaultOfSent(message, part, found, true);
  stage.altered = true;
  NoteChange(view, &CallOf(*message, part).result);
  // A body may not go out before its headers.
  if (stage.held != nullptr && IsHeadersPhase(stage.held->phase)) LetGo(&stage);
  ChainMessage* chunk = NewMessage();
  chunk->Begin(message->phase, message->request, message->message);
  chunk->body_mode = message->body_mode;
  chunk->position = message->position + 1;
  chunk->RebuildAroundBody(view.body);
  PutBefore(*message, chunk);
}

// One piece of a streamed local reply: headers first, then body and trailers,
// nothing after the one that ends it. The chain has no more to say.
void Stream::TakeReply(ChainMessage* message, Part* part, Response response,
                       const ResponseView& view) {
  using Piece = ResponseView::Streamed;
  const bool begins = reply_part_ == nullptr;
  const bool in_order = view.streamed_part != Piece::kNone &&
                        begins == (view.streamed_part == Piece::kHeaders) && !reply_ended_;
  if (!in_order && !begins) {
    return CountFault(*message, part, Violation::kSecondResponse,
                      "a piece of a streamed reply out of order");
  }
  if (!in_order) {
    Finding found{Violation::kWrongType, "a streamed reply that does not begin with headers"};
    NeverPasses(&found);
    return Fault(message, part, found);
  }
  if (begins) {
    NoteImmediate(response, &CallOf(*message, part).result);
    ObserveResponse(*message);
  }
  reply_part_ = part;
  reply_ended_ = view.end_of_stream || view.streamed_part == Piece::kTrailers;
  StageOf(*message, part).altered = true;
  Emit(std::move(response), {});
}

// The hook that has begun a streamed local reply is done: the client must not be
// left waiting for an end that will not come.
void Stream::FinishReply() {
  if (!reply_ended_) {
    Response end;
    BuildRecord(CALLOUT_STREAMED_IMMEDIATE_RESPONSE, WriteStreamedImmediateEnd(), &end);
    Emit(std::move(end), {});
    reply_ended_ = true;
  }
  silenced_ = true;
}

}  // namespace callout::host
