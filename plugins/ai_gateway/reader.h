// SPDX-License-Identifier: Apache-2.0

// The answer of a provider on its way to the client, piece by piece: translated if the
// provider speaks another shape, and looked into for what it cost.
//
//   Reader reader(provider, wants_usage, limits);
//   reader.Begin(content_type);
//   Piece piece = reader.Take(bytes, is_last);
//
// For one thread.
#ifndef CALLOUT_PLUGINS_AI_GATEWAY_READER_H_
#define CALLOUT_PLUGINS_AI_GATEWAY_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "anthropic.h"
#include "openai.h"
#include "providers.h"
#include "sse.h"

namespace ai_gateway {

struct Limits {
  size_t response_bytes_max = 0;  // of an answer that is read as a whole
  size_t event_bytes_max = 0;     // of one event of a stream
};

// What becomes of a piece.
struct Piece {
  std::optional<std::string> body;  // instead of it; nullopt: it stays
  const char* failure = nullptr;    // the answer cannot go on; static
};

class Reader {
 public:
  // The provider has to live as long.
  Reader(const Provider& provider, bool wants_usage, const Limits& limits);

  // `content_type` is "" for what is not to be read.
  void Begin(std::string_view content_type);
  // Whether pieces are changed, so that each of them has to pass here.
  bool is_translating() const { return translates_ && kind_ != Kind::kNone; }
  Piece Take(std::string_view bytes, bool is_last);
  // Something was taken that was not given back, and no more pieces come.
  bool is_cut_off() const { return translates_ && kind_ == Kind::kWhole && !gathered_.empty(); }
  // What is known so far; to be asked at the end, since the answer is read for it.
  std::optional<Usage> usage() const;
  // Why `usage` knows nothing.
  const char* WhyUncounted() const;

 private:
  enum class Kind { kNone, kWhole, kEvents };

  Piece TakeWhole(std::string_view bytes, bool is_last);
  Piece TakeEvents(std::string_view bytes, bool is_last);
  std::string Translate(const SseEvent& event);

  const bool translates_;
  const Limits limits_;
  const int64_t created_s_;
  Kind kind_ = Kind::kNone;
  bool is_too_large_ = false;
  std::string gathered_;
  std::optional<Usage> usage_;  // of a whole answer that was translated
  SseReader events_;
  bool broken_ = false;  // of the events: the rest passes, or is dropped if it cannot
  OpenaiStream openai_;
  AnthropicStream anthropic_;
};

}  // namespace ai_gateway

#endif  // CALLOUT_PLUGINS_AI_GATEWAY_READER_H_
