// SPDX-License-Identifier: Apache-2.0

#include "host/trace/span_notes.h"

#include <algorithm>
#include <utility>

namespace callout::host {
namespace {

size_t SizeOf(const SpanAttribute& attribute) {
  const auto* const text = std::get_if<std::string>(&attribute.value);
  return SpanNotes::kAttributeBytes + attribute.key.size() + (text == nullptr ? 0 : text->size());
}

bool Take(size_t bytes, SpanBudget* budget) {
  if (bytes > budget->left) return false;
  budget->left -= bytes;
  return true;
}

void Cut(SpanAttribute* attribute, const SpanLimits& limits) {
  auto* const text = std::get_if<std::string>(&attribute->value);
  if (text != nullptr) text->resize(CutText(*text, limits.text_bytes_max).size());
}

}  // namespace

std::string_view CutText(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  size_t size = bytes_max;
  while (size > 0 && continues(text[size])) --size;
  return text.substr(0, size);
}

bool SpanNotes::Set(SpanAttribute attribute, const SpanLimits& limits, SpanBudget* budget) {
  Cut(&attribute, limits);
  const auto same = std::find_if(attributes_.begin(), attributes_.end(),
                                 [&](const auto& other) { return other.key == attribute.key; });
  const bool has_place = same != attributes_.end() || attributes_.size() < limits.attributes_max;
  // One that is replaced is not given back, so that a plugin that goes on setting comes to an end.
  if (!has_place || !Take(SizeOf(attribute), budget)) {
    ++dropped_attributes_;
    return false;
  }
  if (same != attributes_.end()) {
    *same = std::move(attribute);
  } else {
    attributes_.push_back(std::move(attribute));
  }
  return true;
}

bool SpanNotes::Add(SpanEvent event, const SpanLimits& limits, SpanBudget* budget) {
  if (event.attributes.size() > limits.event_attributes_max) {
    event.dropped_attributes += event.attributes.size() - limits.event_attributes_max;
    event.attributes.resize(limits.event_attributes_max);
  }
  size_t bytes = kEventBytes + event.name.size();
  for (SpanAttribute& attribute : event.attributes) {
    Cut(&attribute, limits);
    bytes += SizeOf(attribute);
  }
  if (events_.size() >= limits.events_max || !Take(bytes, budget)) {
    ++dropped_events_;
    return false;
  }
  events_.push_back(std::move(event));
  return true;
}

}  // namespace callout::host
