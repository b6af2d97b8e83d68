// SPDX-License-Identifier: Apache-2.0

#include "reader.h"

#include <ctime>
#include <utility>

namespace ai_gateway {

Reader::Reader(const Provider& provider, bool wants_usage, const Limits& limits)
    : translates_(provider.shape != Shape::kOpenai),
      limits_(limits),
      created_s_(std::time(nullptr)),
      events_(limits.event_bytes_max),
      openai_(wants_usage),
      anthropic_(wants_usage, created_s_) {}

void Reader::Begin(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find_first_of("; "));
  kind_ = Kind::kNone;
  if (type == "application/json") kind_ = Kind::kWhole;
  if (type == "text/event-stream") kind_ = Kind::kEvents;
}

Piece Reader::Take(std::string_view bytes, bool is_last) {
  switch (kind_) {
    case Kind::kWhole:
      return TakeWhole(bytes, is_last);
    case Kind::kEvents:
      return TakeEvents(bytes, is_last);
    default:
      return {};
  }
}

Piece Reader::TakeWhole(std::string_view bytes, bool is_last) {
  if (gathered_.size() + bytes.size() > limits_.response_bytes_max) {
    gathered_.clear();
    is_too_large_ = true;
    kind_ = Kind::kNone;
    if (!translates_) return {};
    return {{}, "the provider's answer is larger than response_bytes_max"};
  }
  gathered_.append(bytes);
  if (!translates_) return {};
  if (!is_last) return {"", nullptr};
  std::string text = std::exchange(gathered_, {});
  const std::optional<Json> answer = ParseBody(text);
  std::optional<Translated> translated;
  if (answer.has_value()) translated = FromAnthropic(*answer, created_s_);
  if (!translated.has_value()) return {std::move(text), nullptr};  // as it came
  usage_ = translated->usage;
  return {Dump(translated->body), nullptr};
}

Piece Reader::TakeEvents(std::string_view bytes, bool is_last) {
  if (broken_) return translates_ ? Piece{"", nullptr} : Piece{};
  std::string out;
  const bool good = events_.Read(bytes, [&](const SseEvent& event) { out += Translate(event); });
  if (good && !is_last) return {std::move(out), nullptr};
  // Of an event that the end has cut off nothing can be translated, but all be passed on.
  if (!translates_) out += events_.pending();
  if (!good && translates_) out += AnthropicStream::Broken("an event of the provider is too large");
  broken_ = !good;
  return {std::move(out), nullptr};
}

std::string Reader::Translate(const SseEvent& event) {
  return translates_ ? anthropic_.Take(event) : openai_.Take(event);
}

std::optional<Usage> Reader::usage() const {
  if (kind_ == Kind::kEvents) return translates_ ? anthropic_.usage() : openai_.usage();
  if (kind_ != Kind::kWhole || translates_) return usage_;
  const std::optional<Json> answer = ParseBody(gathered_);
  return answer.has_value() ? ReadUsage(Member(*answer, "usage")) : std::nullopt;
}

const char* Reader::WhyUncounted() const {
  if (is_too_large_) return "it is larger than response_bytes_max";
  if (broken_) return "one of its events is larger than event_bytes_max";
  if (kind_ == Kind::kNone) return "it is neither JSON nor a stream of events, or compressed";
  return "it has no usage, or ended before it";
}

}  // namespace ai_gateway
