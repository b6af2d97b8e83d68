// SPDX-License-Identifier: Apache-2.0

#include "sse.h"

#include <utility>

namespace ai_gateway {

bool SseReader::Read(std::string_view piece, const std::function<void(const SseEvent&)>& take) {
  while (!piece.empty() && !failed_) {
    if (std::exchange(after_cr_, false) && piece.front() == '\n') {
      event_.raw.push_back('\n');
      piece.remove_prefix(1);
      continue;
    }
    const size_t end = piece.find_first_of("\r\n");
    const std::string_view text = piece.substr(0, end);
    failed_ = event_.raw.size() + text.size() + 1 > max_;
    if (failed_) break;
    line_.append(text);
    event_.raw.append(text);
    piece.remove_prefix(text.size());
    if (piece.empty()) break;
    after_cr_ = piece.front() == '\r';
    event_.raw.push_back(piece.front());
    piece.remove_prefix(1);
    EndLine(take);
  }
  event_.raw.append(piece);  // what a failure has left
  return !failed_;
}

void SseReader::EndLine(const std::function<void(const SseEvent&)>& take) {
  const std::string line = std::exchange(line_, {});
  if (line.empty()) {
    has_data_ = false;
    take(std::exchange(event_, {}));
    return;
  }
  const size_t colon = line.find(':');
  const std::string_view field = std::string_view(line).substr(0, colon);
  std::string_view value;
  if (colon != std::string::npos) value = std::string_view(line).substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (field == "event") event_.name = value;
  if (field == "data") {
    if (std::exchange(has_data_, true)) event_.data.push_back('\n');
    event_.data.append(value);
  }
}

}  // namespace ai_gateway
