// SPDX-License-Identifier: Apache-2.0

#include "host/replay/comparison.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "host/diff/outcome.h"
#include "host/record/recording.h"
#include "host/wire/envelope.h"
#include "host/wire/message_redaction.h"
#include "host/wire/phase.h"

namespace callout::host {
namespace {

// A response of one side.
struct Said {
  std::string_view bytes;
  size_t after = 0;  // so many requests
  uint64_t body_bytes = 0;
  bool body_left_out = false;
};
using Sides = absl::InlinedVector<Said, 8>;

Sides ResponsesOf(const RecordedExchange& exchange) {
  Sides said;
  size_t requests = 0;
  for (const RecordedMessage& message : exchange.messages) {
    if (message.kind == MessageKind::kRequest) {
      ++requests;
    } else if (!IsTimeRequest(message.bytes)) {
      said.push_back({message.bytes, requests, message.body_bytes, message.body_left_out});
    }
  }
  return said;
}

Sides ResponsesOf(const Played& played) {
  Sides said;
  for (const Played::Response& response : played.responses) {
    said.push_back({response.bytes, response.after});
  }
  return said;
}

// Of the RPC. That the client has left is its normal end.
absl::Status EndOf(const RecordedExchange& exchange) {
  const auto code = static_cast<absl::StatusCode>(exchange.end_code);
  if (code == absl::StatusCode::kCancelled) return absl::OkStatus();
  return absl::Status(code, {exchange.end_message.data(), exchange.end_message.size()});
}

bool SameSaid(const Sides& before, const Sides& after) {
  return std::equal(before.begin(), before.end(), after.begin(), after.end(),
                    [](const Said& a, const Said& b) {
                      return a.bytes == b.bytes && a.body_left_out == b.body_left_out;
                    });
}

// What Envoy sent, read once for both sides.
struct Shown {
  callout_phase_t phase = 0;
  std::string_view message;
  bool body_left_out = false;
};
using Messages = absl::InlinedVector<Shown, 8>;

Messages ReadMessages(const RecordedExchange& exchange, const Requests& requests) {
  Messages messages;
  for (const RecordedMessage& recorded : exchange.messages) {
    if (recorded.kind != MessageKind::kRequest) continue;
    Shown& shown = messages.emplace_back();
    shown.body_left_out = recorded.body_left_out;
    const absl::StatusOr<RequestView> view = ParseRequest(requests[messages.size() - 1]);
    if (view.ok()) {
      shown.phase = view->phase;
      shown.message = view->message;
    }
  }
  return messages;
}

bool IsReply(callout_field_t field) {
  return field == CALLOUT_IMMEDIATE_RESPONSE || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
}

callout_field_t FieldOf(std::string_view bytes) {
  Response response;
  std::string annotations;
  return SplitResponse(bytes, &response, &annotations) ? response.field : 0;
}

// One side of the comparison. Nothing: what it did depends on a body that nobody knows.
class Side {
 public:
  // `sizes_only`: the recording has no bytes of new bodies.
  Side(const Messages& messages, MessageRedactor* redactor, bool sizes_only)
      : messages_(messages), redactor_(redactor), sizes_only_(sizes_only) {}

  std::optional<ExchangeOutcome> Outcome(const Sides& said, const absl::Status& end, bool redact) {
    size_t shown = 0;
    for (const Said& one : said) {
      while (shown < std::min(one.after, messages_.size())) Show(messages_[shown++]);
      if (!Take(one, redact)) return std::nullopt;
    }
    while (shown < messages_.size()) Show(messages_[shown++]);
    if (!end.ok()) {
      if (last_unknown_) return std::nullopt;
      builder_.OnEnd(end);
    }
    return builder_.Finish();
  }

 private:
  void Show(const Shown& message) {
    last_unknown_ = message.body_left_out;
    unknown_[message.phase % 2] |= message.body_left_out;
    if (message.phase != 0) builder_.OnMessage(message.phase, message.message);
  }

  bool Take(const Said& said, bool redact) {
    const callout_field_t field = FieldOf(said.bytes);
    if (IsReply(field) && last_unknown_) return false;
    const bool is_body =
        field == CALLOUT_REQUEST_BODY_RESPONSE || field == CALLOUT_RESPONSE_BODY_RESPONSE;
    const callout_phase_t phase = field + 1;  // as ResponseField has it
    if (is_body && unknown_[phase % 2]) {
      Response plain;
      BuildRecord(field, std::string_view(), &plain);
      builder_.OnResponse(plain.record);
      return true;
    }
    std::string kept;
    std::string_view bytes = said.bytes;
    if (redact && redactor_->Rewrite(MessageKind::kResponse, bytes, &kept)) bytes = kept;
    // On both sides, so that sizes are what is compared.
    std::string stripped, filled;
    uint64_t body_bytes = 0;
    if (sizes_only_ && StripBody(MessageKind::kResponse, bytes, &stripped, &body_bytes)) {
      if (said.body_left_out) body_bytes = said.body_bytes;
      // A recording may claim any size, and what is over the limit of a record is not built.
      body_bytes = std::min<uint64_t>(body_bytes, room_);
      room_ -= body_bytes;
      if (FillBody(MessageKind::kResponse, stripped, body_bytes, &filled)) bytes = filled;
    }
    builder_.OnResponse(bytes);
    return true;
  }

  const Messages& messages_;
  MessageRedactor* const redactor_;
  const bool sizes_only_;
  uint64_t room_ = kRecordBytesMax;  // for bodies
  OutcomeBuilder builder_;
  bool last_unknown_ = false;
  std::array<bool, 2> unknown_{};  // by direction
};

}  // namespace

Comparison::Comparison(const RecordingHeader& header) : redaction_(header.redacted) {}

Comparison::Result Comparison::Compare(const RecordedExchange& exchange, const Requests& requests,
                                       const Played* before, const Played& after,
                                       std::vector<Difference>* found) const {
  if (exchange.messages_left_out > 0 || exchange.outcome == CALLOUT_END_DRAINED) {
    return Result::kIncomplete;
  }
  const Sides old_said = before == nullptr ? ResponsesOf(exchange) : ResponsesOf(*before);
  const Sides new_said = ResponsesOf(after);
  const absl::Status old_end = before == nullptr ? EndOf(exchange) : before->end;
  const bool same_end = old_end.code() == after.end.code();
  if (same_end && SameSaid(old_said, new_said)) return Result::kCompared;

  // The recording itself has no secrets to be learned.
  MessageRedactor redactor(redaction_);
  for (const Said& said : new_said) redactor.Learn(MessageKind::kResponse, said.bytes);
  if (before != nullptr) {
    for (const Said& said : old_said) redactor.Learn(MessageKind::kResponse, said.bytes);
  }
  const Messages messages = ReadMessages(exchange, requests);
  const bool sizes_only = std::any_of(old_said.begin(), old_said.end(),
                                      [](const Said& said) { return said.body_left_out; });
  const std::optional<ExchangeOutcome> old_outcome =
      Side(messages, &redactor, sizes_only).Outcome(old_said, old_end, before != nullptr);
  const std::optional<ExchangeOutcome> new_outcome =
      Side(messages, &redactor, sizes_only).Outcome(new_said, after.end, true);
  if (!old_outcome.has_value() || !new_outcome.has_value()) return Result::kUnknown;
  // A recording without redaction has secrets, which a report is not to show.
  *found = host::Compare(*old_outcome, *new_outcome, [&](MessageRedactor* secrets) {
    for (size_t i = 0; i < requests.size(); ++i) secrets->Learn(MessageKind::kRequest, requests[i]);
  });
  return Result::kCompared;
}

}  // namespace callout::host
