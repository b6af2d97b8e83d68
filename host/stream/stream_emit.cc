// SPDX-License-Identifier: Apache-2.0

// The only place that makes ProcessingResponses: settled messages, in order, in the
// form that Envoy takes in the state it is in.
//
// Tested by tests/host/stream/pipeline_test.cc.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/stream/stream.h"
#include "host/wire/annotations.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

// Google's load balancer takes 128 kB in a message.
constexpr size_t kDuplexPieceBytesMax = 65536;

}  // namespace

void Stream::EmitResponse(ChainMessage* message) {
  Direction& way = exchange_.direction(message->response_phase);
  const bool is_headers = IsHeadersPhase(message->response_phase);
  if (is_headers) way.headers_answered = true;
  // The body is in the response, and Envoy sends none of its own.
  if (is_headers && way.replaced) way.answered_to_end = true;
  // Outside of the streamed modes one answer is all there is.
  const bool chunked = message->body_mode == CALLOUT_BODY_STREAMED ||
                       message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  const bool only_one = !chunked && !message->mode_open;
  if (!is_headers && !message->dropped &&
      (message->end_of_stream || only_one || message->stalls_envoy)) {
    way.answered_to_end = true;
    ForgetHeadersAtEnvoy(message->response_phase % 2);
  }
  if (exchange_.observability()) return;
  if (message->dropped) return KeepBeside(*message);
  ObserveResponse(*message);
  if (message->stalls_envoy && !BeginStalled(*message)) return;
  if (IsBodyPhase(message->response_phase)) return EmitBodyResponse(message);
  if (is_headers) {
    if (RemovesEncoding(*message)) message->response.RemoveHeader("content-encoding");
    PrunePhases(message);
    AskForTrailers(message);
  }
  const std::string annotations = MakeAnnotations(message);
  Response response = message->response.Take(ResponseField(message->response_phase));
  if (is_headers) KeepHeadersAtEnvoy(*message, response);
  Emit(std::move(response), annotations);
}

void Stream::KeepHeadersAtEnvoy(const ChainMessage& message, const Response& response) {
  const Direction& way = exchange_.direction(message.response_phase);
  const bool holds = way.MayBe(CALLOUT_BODY_BUFFERED) || way.MayBe(CALLOUT_BODY_BUFFERED_PARTIAL);
  if (!holds || way.ended || way.replaced || !Wanted(message.response_phase + 2)) return;
  auto kept = std::make_unique<HeadersAtEnvoy>();
  kept->headers = message.original;
  if (!response.payload().empty()) kept->response = response;
  kept_bytes_ += kept->bytes();
  at_envoy_[message.response_phase % 2] = std::move(kept);
}

void Stream::ForgetHeadersAtEnvoy(size_t direction) {
  const std::unique_ptr<HeadersAtEnvoy> kept = std::move(at_envoy_[direction]);
  if (kept != nullptr) kept_bytes_ -= kept->bytes();
}

// One that did not have to wait is answered when its last call is over.
void Stream::ObserveResponse(const ChainMessage& message) {
  if (!message.of_envoy) return;
  const bool waits = !message.at_transport || (message.called_ns == 0 && message.since_ns != 0);
  const uint64_t now_ns = waits ? MonotonicNs() : message.called_ns;
  const uint64_t taken_ns = now_ns > message.since_ns ? now_ns - message.since_ns : 0;
  environment_->ObserveMessage(message.response_phase, taken_ns, now_ns, rpc_);
}

// The response to this message alone would leave Envoy waiting for ever; an end with OK
// along with it does not, and lets the rest of the exchange pass. False: something is
// to come of the rest, so the exchange has been refused.
bool Stream::BeginStalled(const ChainMessage& message) {
  const StreamEnvironment::MetricIds& ids = environment_->ids();
  const Instance* keeper = Keeper();
  const bool duplex = exchange_.duplex_unended();
  if (keeper == nullptr && !duplex) {
    exchange_.direction(message.response_phase).stalled = true;
    environment_->metrics().Add(ids.stalls_ended);
    return true;
  }
  environment_->metrics().Add(ids.stalls_refused);
  const std::string why = fmt::format(
      "Envoy's buffer filled up with all bytes of content-length before it saw the end of the body "
      "(BUFFERED_PARTIAL); it goes on only if the stream ends, but {}",
      keeper == nullptr ? "the other direction's body mode is FULL_DUPLEX_STREAMED"
                        : fmt::format("plugin {} is to see the rest", keeper->name()));
  LogLimited(LogLevel::kWarning, "stalled body",
             "{}: refused: {}. Use BUFFERED or STREAMED, raise Envoy's "
             "per_connection_buffer_limit_bytes, or set \"drain\": \"pass\" in the plugin's "
             "settings",
             PhaseName(message.phase), why);
  // As Envoy refuses a body that is over its limit in BUFFERED.
  constexpr int kContentTooLarge = 413;
  Refuse(nullptr, IsRequestPhase(message.response_phase) ? kContentTooLarge : kDenyStatusDefault,
         Violation::kBodyTooLarge, absl::ResourceExhaustedError(why));
  return false;
}

void Stream::Emit(Response response, std::string_view annotations) {
  const bool immediate = response.field == CALLOUT_IMMEDIATE_RESPONSE ||
                         response.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
  if (immediate && chain_->has_close) {
    const uint32_t status = ReadImmediateStatus(response.field, response.payload());
    if (status != 0) told_end_.http_status = status;
  }
  if (observers_ != nullptr) {
    observers_->Each(
        [&](RpcObserver* observer) { observer->OnResponse(response.field, response.payload()); });
  }
  response.record.append(annotations);
  if (observers_ != nullptr) {
    observers_->Each([&](RpcObserver* observer) { observer->OnSent(response.record); });
  }
  environment_->metrics().Add(environment_->ids().response_bytes,
                              static_cast<double>(response.record.size()));
  output_.push_back(std::move(response.record));
}

// Ends the chain and everything after it: Envoy reads nothing more.
void Stream::EmitImmediate(Response response, std::string_view annotations) {
  for (const Line& line : lines_) {
    if (!line.empty()) ObserveResponse(*line.front());
  }
  Emit(std::move(response), annotations);
  silenced_ = true;
}

// --- Bodies -----------------------------------------------------------------

// A body answer written the simple way (replace, clear, leave) is put into the
// form that the body mode asks for.
void Stream::EmitBodyResponse(ChainMessage* message) {
  if (message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED) return EmitDuplexBody(message);
  ChainResponse& merged = message->response;
  const callout_field_t field = ResponseField(message->response_phase);
  const ResponseView::Body mutation = merged.body_mutation();
  const bool sets_length = SetsContentLength(*message);
  const bool removes_encoding = RemovesEncoding(*message);
  const size_t body_bytes = mutation == ResponseView::Body::kReplaced ? merged.body().size() : 0;
  Response response = merged.Take(field);
  if (sets_length) AppendContentLength(*message, body_bytes, &response);
  if (removes_encoding) {
    std::string payload(response.payload());
    payload += WriteBodyHeaderRemoval("content-encoding");
    BuildRecord(field, payload, &response);
  }
  Emit(std::move(response), MakeAnnotations(message));
}

// The last answer to a message ends the body exactly where the message did.
void Stream::EmitDuplexBody(ChainMessage* message) {
  ChainResponse& merged = message->response;
  const callout_field_t field = ResponseField(message->response_phase);
  std::string_view body = message->body;
  if (merged.body_mutation() != ResponseView::Body::kUnchanged) body = merged.body();
  const std::string annotations = MakeAnnotations(message);
  if (merged.IsStreamedBody(message->end_of_stream) && body.size() <= kDuplexPieceBytesMax) {
    return Emit(merged.Take(field), annotations);
  }
  std::string_view beside = annotations;
  do {
    const std::string_view piece = body.substr(0, kDuplexPieceBytesMax);
    body.remove_prefix(piece.size());
    Response streamed;
    BuildRecord(field, WriteStreamedBody(piece, message->end_of_stream && body.empty()), &streamed);
    Emit(std::move(streamed), std::exchange(beside, {}));
  } while (!body.empty());
  merged.Clear();
}

// A coding goes with the body that had it.
bool Stream::RemovesEncoding(const ChainMessage& message) const {
  const Direction& way = exchange_.direction(message.response_phase);
  const ChainResponse& response = message.response;
  if (!way.encoded || response.body_mutation() == ResponseView::Body::kUnchanged ||
      response.MentionsHeader("content-encoding")) {
    return false;
  }
  if (IsHeadersPhase(message.response_phase)) return response.continue_and_replace();
  return IsBodyPhase(message.response_phase) && way.keeps_content_length() &&
         !way.encoding_settled && !message.hidden;
}

// Envoy answers 500 if a buffered body and content-length disagree.
bool Stream::SetsContentLength(const ChainMessage& message) const {
  const Direction& way = exchange_.direction(message.phase);
  if (!way.keeps_content_length() || way.content_length == Direction::Presence::kAbsent) {
    return false;
  }
  const ResponseView::Body mutation = message.response.body_mutation();
  return (mutation == ResponseView::Body::kReplaced || mutation == ResponseView::Body::kCleared) &&
         !message.response.MentionsHeader("content-length");
}

// Part of a body has no length that could be right.
bool Stream::KnowsLength(const ChainMessage& message) const {
  const Direction& way = exchange_.direction(message.phase);
  const bool partial = message.body_mode == CALLOUT_BODY_BUFFERED_PARTIAL;
  return message.end_of_stream || message.stalls_envoy ||
         (!partial && way.content_length == Direction::Presence::kPresent);
}

void Stream::AppendContentLength(const ChainMessage& message, size_t body_bytes,
                                 Response* response) const {
  std::string payload(response->payload());
  payload += KnowsLength(message)
                 ? WriteBodyHeaderSet("content-length", fmt::format_int(body_bytes).str())
                 : WriteBodyHeaderRemoval("content-length");
  BuildRecord(response->field, payload, response);
}

// --- Beside the answer ------------------------------------------------------

std::string Stream::MakeAnnotations(ChainMessage* message) {
  if (std::string& kept = beside_[message->response_phase % 2]; !kept.empty()) {
    kept_bytes_ -= kept.size();
    message->annotations.insert(0, std::exchange(kept, {}));
  }
  if (!NeedsWork(message->annotations)) return std::move(message->annotations);
  Annotations read = ReadAnnotations(message->annotations);
  std::string records = read.WriteWithoutModes();
  if (read.mode_override.present) {
    CompleteModes(message, &read.mode_override);
    AppendRecord(CALLOUT_MODE_OVERRIDE, read.mode_override.Write(), &records);
  }
  return records;
}

// Where Envoy obeys, trailers are asked for if a body is gathered in STREAMED: without
// them its end might not be seen.
void Stream::AskForTrailers(ChainMessage* message) {
  if (!chain_->has_whole_body || !exchange_.override_is_certain() || message->end_of_stream ||
      DirectionToCome(*message).body_mode != CALLOUT_BODY_STREAMED) {
    return;
  }
  const size_t side = message->response_phase % 2;
  bool gathers = false;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Stage& stage = parts_[i].stages[side];
    gathers |= parts_[i].usable && !stage.body_passes && !stage.chunks &&
               TakesWhole(parts_[i], message->response_phase + 2);
  }
  if (!gathers) return;
  constexpr uint32_t kSend = 1;
  ModeOverride override;
  (side == 0 ? override.modes.request_trailers : override.modes.response_trailers) = kSend;
  AppendRecord(CALLOUT_MODE_OVERRIDE, override.Write(), &message->annotations);
}

// Where Envoy obeys, it is asked to leave out the phases that no instance wants, before any of them
// has come. An instance that sets modes itself knows better; one that wants the real end is to see
// the exchange as it is; and if nothing is wanted at all, the stream ends with this response.
void Stream::PrunePhases(ChainMessage* message) {
  const StreamLimits& limits = environment_->limits();
  if (!limits.phase_pruning || message->response_phase != CALLOUT_REQUEST_HEADERS ||
      !exchange_.override_is_certain() || HasModeOverride(message->annotations) || WantsRealEnd() ||
      (limits.early_end && !WantsMore())) {
    return;
  }
  constexpr uint32_t kSkip = 2;
  ModeOverride override;
  bool prunes = false;
  const auto prune_body = [&](callout_phase_t body, std::optional<callout_body_mode_t>* body_mode,
                              std::optional<uint32_t>* trailer_mode) {
    const Direction& way = exchange_.direction(body);
    if (way.ended || !way.may_have_body() || Wanted(body)) return;
    *body_mode = CALLOUT_BODY_NONE;
    if (!Wanted(body + 2)) *trailer_mode = kSkip;
    prunes = true;
  };
  prune_body(CALLOUT_REQUEST_BODY, &override.modes.request_body, &override.modes.request_trailers);
  prune_body(CALLOUT_RESPONSE_BODY, &override.modes.response_body,
             &override.modes.response_trailers);
  // The headers tell those who want the body or trailers what these are to be.
  if (!Wanted(CALLOUT_RESPONSE_HEADERS) && !Wanted(CALLOUT_RESPONSE_BODY) &&
      !Wanted(CALLOUT_RESPONSE_TRAILERS)) {
    override.modes.response_headers = kSkip;
    prunes = true;
  }
  if (!prunes) return;
  environment_->metrics().Add(environment_->ids().phases_pruned);
  AppendRecord(CALLOUT_MODE_OVERRIDE, override.Write(), &message->annotations);
}

// Keeps from Envoy what would leave the stream unsure of what holds.
// `asked`: an instance that asked for them.
void Stream::DropModes(const ChainMessage& message, Part* asked, ModeOverride* override) {
  for (size_t i = 0; i < 2; ++i) {
    std::optional<callout_body_mode_t>& to =
        i == 0 ? override->modes.request_body : override->modes.response_body;
    const Direction& way = exchange_.direction(static_cast<callout_phase_t>(i));
    const bool gone = DirectionOf(message) != i && (way.headers_seen || i == 0);
    const bool length_unknown = gone && way.content_length == Direction::Presence::kUnknown;
    std::string_view why;
    if (!exchange_.MayAskFor(way.body_mode, *to)) {
      why =
          "FULL_DUPLEX_STREAMED, and nothing would show whether Envoy obeys: say so by "
          "--envoy_mode_override=allowed";
    } else if (*to == CALLOUT_BODY_BUFFERED_PARTIAL && *to != way.told_mode() && length_unknown) {
      why =
          "BUFFERED_PARTIAL, for a body whose headers have gone: ask for it in the answer to the "
          "headers of the same direction";
    }
    if (why.empty()) continue;
    environment_->metrics().Add(environment_->ids().modes_refused);
    if (asked != nullptr) Overrule(message, asked, Overruled::kModeOverride);
    LogLimited(LogLevel::kWarning, "mode_override",
               "a plugin's mode_override was not passed on to Envoy: it asks for the body mode {}",
               why);
    to = way.told_mode();
  }
}

// Unites the override with what each instance wants of which it has said nothing, and completes
// it.
void Stream::UniteModes(const ChainMessage& message, ModeOverride* override) const {
  const ModeOverride::Modes now = exchange_.told_modes();
  for (size_t i = 0; i < parts_.size(); ++i) {
    const uint64_t named = parts_[i].stages[DirectionOf(message)].named_modes;
    if (parts_[i].usable) override->Keep(chain_->instances[i]->phases() & ~named, now);
  }
  override->Complete(now);
}

// Completes it, and takes note of it where Envoy will.
void Stream::CompleteModes(ChainMessage* message, ModeOverride* override) {
  if (!exchange_.modes_known()) return;
  UniteModes(*message, override);
  Part* asked = nullptr;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (std::exchange(StageOf(*message, &parts_[i]).named_modes, 0) != 0) asked = &parts_[i];
  }
  DropModes(*message, asked, override);
  if (!IsHeadersPhase(message->response_phase) || !exchange_.mode_can_change()) return;
  exchange_.ChangeModes(override->modes);
  Direction& way = exchange_.direction(message->response_phase);
  if (!way.keeps_content_length()) return;
  HeadersMessageView headers;
  if (way.content_length == Direction::Presence::kUnknown &&
      ReadHeadersMessage(message->message, true, &headers)) {
    way.content_length =
        headers.has_content_length ? Direction::Presence::kPresent : Direction::Presence::kAbsent;
    way.content_length_bytes = headers.content_length;
    way.encoded = headers.has_content_encoding;
  }
}

}  // namespace callout::host
