#include "host/stream/stream.h"

#include <fmt/format.h>

#include <utility>

#include "host/base/log.h"
#include "host/plugin/match.h"
#include "host/plugin/services.h"
#include "host/wire/annotations.h"
#include "host/wire/response.h"

namespace callout::host {

Stream::Stream(StreamEnvironment* environment, RpcContext* rpc)
    : environment_(environment),
      rpc_(rpc),
      chain_(environment->chains().current()),
      parts_(chain_->instances.size()),
      id_(environment->NextStreamId()) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    InitializeState(chain_->instances[i].get(), &parts_[i].state);
  }
  environment_->metrics().Add(environment_->ids().streams_started);
}

Stream::~Stream() = default;

// --- Messages in ------------------------------------------------------------

void Stream::OnMessage(std::string_view bytes) {
  if (end_.has_value() || silenced_) return;
  Metrics& metrics = environment_->metrics();
  metrics.Add(environment_->ids().messages);
  metrics.Add(environment_->ids().request_bytes, static_cast<double>(bytes.size()));
  absl::StatusOr<RequestView> view = ParseRequest(bytes, environment_->limits().message_fields_max);
  if (!view.ok()) return Refuse(view.status());
  exchange_.Remember(*view);
  if (!Remember(*view)) return;
  if (view->phase == 0) {
    // A message of a kind yet to be invented wants no answer that this host could give.
    if (view->has_unknown_field) return;
    return End(absl::InvalidArgumentError(
        "a ProcessingRequest has no phase: one of request_headers, response_headers, "
        "request_body, response_body, request_trailers or response_trailers must be set"));
  }
  if (exchange_.direction(view->phase).replaced) return;
  root_.Reset(view->phase, bytes, view->message);
  if (absl::Status status = exchange_.Enter(*view, &root_); !status.ok()) {
    return End(std::move(status));
  }
  busy_ = true;
  if (!std::exchange(matched_, true)) MatchParts(*view);
  Run();
}

// What has too many headers is the doing of Envoy's client, and an error would let its
// request pass where Envoy is told to fail open.
void Stream::Refuse(absl::Status status) {
  constexpr int kHeadersTooLarge = 431;
  if (absl::IsResourceExhausted(status) && !silenced_ && reply_part_ == nullptr &&
      !exchange_.observability()) {
    environment_->metrics().Add(environment_->ids().messages_refused);
    Response response;
    BuildRecord(CALLOUT_IMMEDIATE_RESPONSE,
                WriteImmediateResponse(kHeadersTooLarge, "callout_too_many_headers"), &response);
    Emit(std::move(response), {});
    silenced_ = true;
  }
  End(std::move(status));
}

// Keeps what Envoy says once and later calls are to know; false if that is too
// much. What a late call may still read is replaced, never changed.
bool Stream::Remember(const RequestView& view) {
  size_t bytes = kept_bytes() + view.metadata_context.size();
  for (std::string_view record : view.attribute_records) bytes += record.size();
  if (bytes > environment_->limits().stream_memory_bytes_max) {
    End(absl::ResourceExhaustedError(fmt::format(
        "attributes, metadata and bodies of {} bytes are over --max_stream_memory_bytes={}", bytes,
        environment_->limits().stream_memory_bytes_max)));
    return false;
  }
  if (!view.attribute_records.empty()) {
    std::string records = attributes_ == nullptr ? std::string() : *attributes_;
    for (std::string_view record : view.attribute_records) records.append(record);
    attributes_ = std::make_shared<const std::string>(std::move(records));
  }
  if (!view.metadata_context.empty()) {
    metadata_context_ = std::make_shared<const std::string>(view.metadata_context);
  }
  return true;
}

// What the stream itself keeps for later.
size_t Stream::kept_bytes() const {
  size_t bytes = attributes_ == nullptr ? 0 : attributes_->size();
  for (size_t i = 0; i < parts_.size(); ++i) {
    bytes += parts_[i].gathered[0].size() + parts_[i].gathered[1].size();
  }
  return bytes;
}

void Stream::MatchParts(const RequestView& view) {
  if (!chain_->has_match) return;
  const StreamFacts facts(view);
  for (size_t i = 0; i < parts_.size(); ++i) {
    const StreamMatch& match = chain_->instances[i]->settings().match;
    if (!match.empty() && !facts.Match(match)) parts_[i].usable = false;
  }
}

// --- Answers out ------------------------------------------------------------

void Stream::EmitResponse(ChainMessage* message) {
  if (exchange_.observability()) return;
  if (message->dropped) return;
  Response response = IsBodyPhase(message->response_phase)
                          ? MakeBodyResponse(message)
                          : message->response.Take(ResponseField(message->response_phase));
  Emit(std::move(response), MakeAnnotations(message));
  // Outside of the streamed modes one answer is all there is.
  const bool chunked = message->body_mode == CALLOUT_BODY_STREAMED ||
                       message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  if (!IsHeadersPhase(message->response_phase) && (message->end_of_stream || !chunked)) {
    body_responded_[message->response_phase % 2] = true;
  }
}

void Stream::Emit(Response response, std::string_view annotations) {
  response.record.append(annotations);
  environment_->metrics().Add(environment_->ids().response_bytes,
                              static_cast<double>(response.record.size()));
  output_.push_back(std::move(response.record));
}

// Ends the chain and everything after it: Envoy reads nothing more.
void Stream::EmitImmediate(Response response, std::string_view annotations) {
  Emit(std::move(response), annotations);
  silenced_ = true;
  Release();
}

// A body answer written the simple way (replace, clear, leave) is put into the
// form that the body mode asks for.
Response Stream::MakeBodyResponse(ChainMessage* message) {
  ChainResponse& merged = message->response;
  const callout_field_t field = ResponseField(message->response_phase);
  const ResponseView::Body mutation = merged.body_mutation();
  if (message->body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED) {
    // The last answer to a message ends the body exactly where the message did.
    if (merged.IsStreamedBody(message->end_of_stream)) return merged.Take(field);
    std::string_view body = message->body;
    if (mutation != ResponseView::Body::kUnchanged) body = merged.body();
    Response streamed;
    BuildRecord(field, WriteStreamedBody(body, message->end_of_stream), &streamed);
    merged.Clear();
    return streamed;
  }
  const bool sets_length = SetsContentLength(*message);
  const size_t body_bytes = mutation == ResponseView::Body::kReplaced ? merged.body().size() : 0;
  Response response = merged.Take(field);
  if (sets_length) AppendContentLength(*message, body_bytes, &response);
  return response;
}

// Envoy answers 500 if a buffered body and content-length disagree.
bool Stream::SetsContentLength(const ChainMessage& message) const {
  const Direction& way = exchange_.direction(message.phase);
  if (!way.keeps_content_length() || way.content_length == Direction::ContentLength::kAbsent) {
    return false;
  }
  const ResponseView::Body mutation = message.response.body_mutation();
  return (mutation == ResponseView::Body::kReplaced || mutation == ResponseView::Body::kCleared) &&
         !message.response.MentionsHeader("content-length");
}

void Stream::AppendContentLength(const ChainMessage& message, size_t body_bytes,
                                 Response* response) const {
  const Direction& way = exchange_.direction(message.phase);
  const bool partial = message.body_mode == CALLOUT_BODY_BUFFERED_PARTIAL;
  // Part of a body has no length that could be right.
  const bool known = message.end_of_stream ||
                     (!partial && way.content_length == Direction::ContentLength::kPresent);
  std::string payload(response->payload());
  payload += known ? WriteBodyHeaderSet("content-length", fmt::format_int(body_bytes).str())
                   : WriteBodyHeaderRemoval("content-length");
  BuildRecord(response->field, payload, response);
}

std::string Stream::MakeAnnotations(ChainMessage* message) {
  if (!NeedsWork(message->annotations)) return std::move(message->annotations);
  Annotations read = ReadAnnotations(message->annotations);
  std::string records = std::move(read.rest);
  if (read.has_dynamic_metadata) {
    AppendRecord(CALLOUT_DYNAMIC_METADATA, read.dynamic_metadata, &records);
  }
  if (read.mode_override.present) {
    CompleteModes(message, &read.mode_override);
    AppendRecord(CALLOUT_MODE_OVERRIDE, read.mode_override.Write(), &records);
  }
  return records;
}

// Unites the override with what the instances want that said nothing, completes
// it, and takes note of it where Envoy will.
void Stream::CompleteModes(ChainMessage* message, ModeOverride* override) {
  if (!exchange_.modes_known()) return;
  const callout_body_mode_t request_mode = exchange_.direction(CALLOUT_REQUEST_BODY).body_mode;
  const callout_body_mode_t response_mode = exchange_.direction(CALLOUT_RESPONSE_BODY).body_mode;
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    const bool said_nothing = !std::exchange(part.gave_mode, false);
    if (said_nothing && part.usable) {
      override->Keep(chain_->instances[i]->phases(), request_mode, response_mode);
    }
  }
  override->Complete(request_mode, response_mode);
  if (!IsHeadersPhase(message->response_phase) || !exchange_.mode_can_change()) return;
  exchange_.ChangeModes(*override->modes.request_body, *override->modes.response_body);
  Direction& way = exchange_.direction(message->response_phase);
  if (way.mode_overridden && way.content_length == Direction::ContentLength::kUnknown) {
    HeadersMessageView headers;
    if (ReadHeadersMessage(root_.message, true, &headers)) {
      way.content_length = headers.has_content_length ? Direction::ContentLength::kPresent
                                                      : Direction::ContentLength::kAbsent;
    }
  }
}

// The message is settled. A client that has half-closed meanwhile wants no more.
void Stream::Release() {
  busy_ = false;
  // An immediate response may have come while another instance still works on
  // the message.
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].waiting != nullptr) rpc_->RetainMessage();
  }
  if (half_closed_) End(absl::OkStatus());
}

// --- Ends -------------------------------------------------------------------

void Stream::OnHalfClose() {
  if (half_closed_) return;
  half_closed_ = true;
  if (busy_) return;
  // To end with OK would say that all is well.
  if (owes_body() && !silenced_) {
    return End(absl::AbortedError(
        "the client ended the stream in the middle of a body that a plugin changes or gathers"));
  }
  End(absl::OkStatus());
}

void Stream::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  if (end_.has_value()) return;
  environment_->metrics().Add(environment_->ids().streams_cancelled);
  end_ = absl::CancelledError("the client has left");
  busy_ = false;
  deadline_ns_ = 0;
  output_.clear();
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    const bool at_work = (part.waiting != nullptr || part.late) && part.open_then;
    if (at_work && part.state.instance->has_stream_cancel()) Notify(part);
  }
  CloseIfIdle();
}

// The deferred call itself belongs to the plugin, on whatever thread; the hook
// gets a call of its own.
void Stream::Notify(const Part& part) {
  CallState state;
  InitializeState(part.state.instance, &state);
  state.call.stream = part.stream_then;
  state.instance->CancelStream(&state);
}

// Body bytes that were taken from Envoy and have not all gone back.
bool Stream::owes_body() const {
  for (size_t way = 0; way < 2; ++way) {
    if (body_responded_[way]) continue;
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i].altered[way] || !parts_[i].gathered[way].empty()) return true;
    }
  }
  return false;
}

void Stream::End(absl::Status status) {
  if (end_.has_value()) return;
  // Where Envoy is told to fail open it would let the rest of the body pass after
  // an error (seen on 1.40 with STREAMED: "aaabbbccc" arrived as "bbbccc" with a
  // 200). An immediate response ends the request whatever Envoy is told.
  if (!status.ok() && !silenced_ && reply_part_ == nullptr && owes_body() &&
      !exchange_.observability()) {
    Response response;
    BuildRecord(CALLOUT_IMMEDIATE_RESPONSE,
                WriteImmediateResponse(kDenyStatusDefault, "callout_failed_within_a_body"),
                &response);
    Emit(std::move(response), {});
    silenced_ = true;
  }
  const StreamEnvironment::MetricIds& ids = environment_->ids();
  environment_->metrics().Add(status.ok() ? ids.streams_ended_ok : ids.streams_ended_error);
  end_ = std::move(status);
  busy_ = false;
  deadline_ns_ = 0;
  CloseIfIdle();
}

// Close comes after the last call of an instance: not while one is deferred.
void Stream::CloseIfIdle() {
  if (closed_ || !end_.has_value()) return;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].late || parts_[i].waiting != nullptr) return;
  }
  for (size_t i = 0; i < parts_.size(); ++i) ClosePart(&parts_[i]);
  closed_ = closing_ == 0;
}

void Stream::ClosePart(Part* part) {
  if (part->openness != Part::Openness::kOpen) return;
  part->openness = Part::Openness::kUnopened;
  CallState* state = &part->state;
  state->may_respond = false;
  if (!state->instance->blocking() || !state->instance->has_stream_close()) {
    return state->instance->CloseStream(state);
  }
  ++closing_;
  environment_->blocking_pool().Submit([state] {
    state->instance->CloseStream(state);
    state->rpc->Post(state, RpcContext::Event::kClosed);
  });
}

}  // namespace callout::host
