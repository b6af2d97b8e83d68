// SPDX-License-Identifier: Apache-2.0

#include "host/wire/annotations.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "host/base/utf8.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

constexpr int kStructDepthMax = 64;

// Entries of a Struct in the order of their first appearance. The last entry of a key counts, as in
// any protobuf map.
struct StructEntry {
  std::string_view key;
  std::string_view value;  // google.protobuf.Value
};

bool ReadEntry(std::string_view bytes, StructEntry* entry) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::FieldsEntry::kKey)) entry->key = reader.bytes();
    if (reader.Is(field::FieldsEntry::kValue)) entry->value = reader.bytes();
  }
  return reader.ok();
}

bool ReadEntries(std::string_view bytes, std::vector<StructEntry>* entries) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::Struct::kFields)) continue;
    StructEntry entry;
    if (!ReadEntry(reader.bytes(), &entry)) return false;
    const auto same = std::find_if(entries->begin(), entries->end(),
                                   [&](const StructEntry& e) { return e.key == entry.key; });
    if (same == entries->end()) {
      entries->push_back(entry);
    } else {
      same->value = entry.value;
    }
  }
  return reader.ok();
}

// The Struct inside a Value; nullopt if it holds something else.
std::optional<std::string_view> StructIn(std::string_view value) {
  std::optional<std::string_view> found;
  WireReader reader(value);
  while (reader.Next()) {
    found = reader.Is(field::Value::kStructValue) ? std::optional(reader.bytes()) : std::nullopt;
  }
  return reader.ok() ? found : std::nullopt;
}

void AppendEntry(std::string_view key, std::string_view value, std::string* out) {
  AppendBytesHead(field::Struct::kFields,
                  BytesSize(field::FieldsEntry::kKey, key.size()) +
                      BytesSize(field::FieldsEntry::kValue, value.size()),
                  out);
  AppendBytes(field::FieldsEntry::kKey, key, out);
  AppendBytes(field::FieldsEntry::kValue, value, out);
}

bool Merge(std::string_view earlier, std::string_view later, int depth, std::string* merged) {
  if (depth > kStructDepthMax) return false;
  std::vector<StructEntry> entries;
  std::vector<StructEntry> over;
  if (!ReadEntries(earlier, &entries) || !ReadEntries(later, &over)) return false;
  std::string out;
  for (const StructEntry& entry : entries) {
    const auto same = std::find_if(over.begin(), over.end(),
                                   [&](const StructEntry& e) { return e.key == entry.key; });
    if (same == over.end()) {
      AppendEntry(entry.key, entry.value, &out);
      continue;
    }
    const auto old_struct = StructIn(entry.value);
    const auto new_struct = StructIn(same->value);
    if (old_struct.has_value() && new_struct.has_value()) {
      std::string inner;
      if (!Merge(*old_struct, *new_struct, depth + 1, &inner)) return false;
      std::string value;
      AppendBytes(field::Value::kStructValue, inner, &value);
      AppendEntry(entry.key, value, &out);
    } else {
      AppendEntry(entry.key, same->value, &out);
    }
    over.erase(same);
  }
  for (const StructEntry& entry : over) AppendEntry(entry.key, entry.value, &out);
  *merged = std::move(out);
  return true;
}

// The body mode that suits both: a hook for chunks also works with a whole body, but not the other
// way round.
int BodyModeRank(callout_body_mode_t mode) {
  switch (mode) {
    case CALLOUT_BODY_NONE:
      return 0;
    case CALLOUT_BODY_STREAMED:
      return 1;
    case CALLOUT_BODY_BUFFERED_PARTIAL:
      return 2;
    case CALLOUT_BODY_BUFFERED:
      return 3;
    default:
      return 4;
  }
}

void UniteBodyModes(uint32_t mode, std::optional<callout_body_mode_t>* with) {
  if (!with->has_value() || BodyModeRank(mode) > BodyModeRank(**with)) *with = mode;
}

// DEFAULT 0, SEND 1, SKIP 2: SEND wins, so that whoever wants a message gets it.
void UniteSendModes(uint32_t mode, std::optional<uint32_t>* with) {
  constexpr uint32_t kSend = 1;
  if (!with->has_value() || **with == 0 || mode == kSend) *with = mode;
}

bool ReadProcessingMode(std::string_view bytes, ModeOverride::Modes* modes) {
  WireReader reader(bytes);
  while (reader.Next()) {
    const auto value = static_cast<uint32_t>(reader.varint());
    if (reader.IsVarint(field::ProcessingMode::kRequestHeaderMode)) modes->request_headers = value;
    if (reader.IsVarint(field::ProcessingMode::kResponseHeaderMode))
      modes->response_headers = value;
    if (reader.IsVarint(field::ProcessingMode::kRequestBodyMode)) modes->request_body = value;
    if (reader.IsVarint(field::ProcessingMode::kResponseBodyMode)) modes->response_body = value;
    if (reader.IsVarint(field::ProcessingMode::kRequestTrailerMode))
      modes->request_trailers = value;
    if (reader.IsVarint(field::ProcessingMode::kResponseTrailerMode))
      modes->response_trailers = value;
  }
  return reader.ok();
}

// Protobuf refuses more than 100 nested messages, and a Struct within a Struct is three.
constexpr int kNestingMax = 32;
bool IsStruct(std::string_view bytes, int nesting);

bool IsValue(std::string_view bytes, int nesting) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::Value::kStringValue) && !IsUtf8(reader.bytes())) return false;
    if (reader.Is(field::Value::kStructValue) && !IsStruct(reader.bytes(), nesting + 1))
      return false;
    if (!reader.Is(field::Value::kListValue)) continue;
    if (nesting >= kNestingMax) return false;
    WireReader list(reader.bytes());
    while (list.Next()) {
      if (list.Is(field::ListValue::kValues) && !IsValue(list.bytes(), nesting + 1)) return false;
    }
    if (!list.ok()) return false;
  }
  return reader.ok();
}

bool IsStruct(std::string_view bytes, int nesting) {
  if (nesting > kNestingMax) return false;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (!reader.Is(field::Struct::kFields)) continue;
    WireReader entry(reader.bytes());
    while (entry.Next()) {
      if (entry.Is(field::FieldsEntry::kKey) && !IsUtf8(entry.bytes())) return false;
      if (entry.Is(field::FieldsEntry::kValue) && !IsValue(entry.bytes(), nesting)) return false;
    }
    if (!entry.ok()) return false;
  }
  return reader.ok();
}

bool ValueHasControls(std::string_view bytes) {
  constexpr std::string_view kControls("\r\n\0", 3);
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::Value::kStringValue) &&
        reader.bytes().find_first_of(kControls) != std::string_view::npos) {
      return true;
    }
    if (reader.Is(field::Value::kStructValue) && StructHasControls(reader.bytes())) return true;
    if (!reader.Is(field::Value::kListValue)) continue;
    WireReader list(reader.bytes());
    while (list.Next()) {
      if (list.Is(field::ListValue::kValues) && ValueHasControls(list.bytes())) return true;
    }
  }
  return false;
}

// An entry of map<string, Any>.
bool IsAnyEntry(std::string_view bytes) {
  WireReader entry(bytes);
  while (entry.Next()) {
    if (entry.Is(field::TypedFilterMetadataEntry::kKey) && !IsUtf8(entry.bytes())) return false;
    if (!entry.Is(field::TypedFilterMetadataEntry::kValue)) continue;
    WireReader any(entry.bytes());
    while (any.Next()) {
      if (any.Is(field::Any::kTypeUrl) && !IsUtf8(any.bytes())) return false;
    }
    if (!any.ok()) return false;
  }
  return entry.ok();
}

void Unite(const ModeOverride::Modes& from, ModeOverride* with) {
  ModeOverride::Modes& to = with->modes;
  with->present = true;
  if (from.request_headers) UniteSendModes(*from.request_headers, &to.request_headers);
  if (from.response_headers) UniteSendModes(*from.response_headers, &to.response_headers);
  if (from.request_body) UniteBodyModes(*from.request_body, &to.request_body);
  if (from.response_body) UniteBodyModes(*from.response_body, &to.response_body);
  if (from.request_trailers) UniteSendModes(*from.request_trailers, &to.request_trailers);
  if (from.response_trailers) UniteSendModes(*from.response_trailers, &to.response_trailers);
}

}  // namespace

uint64_t ModeOverride::Named() const {
  const auto bit = [](const std::optional<uint32_t>& mode, callout_phase_t phase) {
    return mode.has_value() ? CALLOUT_PHASE_BIT(phase) : 0;
  };
  return bit(modes.request_headers, CALLOUT_REQUEST_HEADERS) |
         bit(modes.response_headers, CALLOUT_RESPONSE_HEADERS) |
         bit(modes.request_body, CALLOUT_REQUEST_BODY) |
         bit(modes.response_body, CALLOUT_RESPONSE_BODY) |
         bit(modes.request_trailers, CALLOUT_REQUEST_TRAILERS) |
         bit(modes.response_trailers, CALLOUT_RESPONSE_TRAILERS);
}

void ModeOverride::Keep(uint64_t phases, const Modes& now) {
  constexpr uint32_t kDefault = 0;
  constexpr uint32_t kSend = 1;
  constexpr uint32_t kSkip = 2;
  const auto wants = [phases](callout_phase_t phase) {
    return (phases & CALLOUT_PHASE_BIT(phase)) != 0;
  };
  // The configured modes of headers and trailers are not known here; DEFAULT keeps them.
  const auto keep = [&](callout_phase_t phase, const std::optional<uint32_t>& held,
                        std::optional<uint32_t>* mode) {
    if (!wants(phase)) return;
    const bool takes = *mode == kSkip || (*mode == kDefault && held == kSend);
    if (takes) *mode = held.value_or(kDefault);
  };
  keep(CALLOUT_REQUEST_HEADERS, now.request_headers, &modes.request_headers);
  keep(CALLOUT_RESPONSE_HEADERS, now.response_headers, &modes.response_headers);
  keep(CALLOUT_REQUEST_TRAILERS, now.request_trailers, &modes.request_trailers);
  keep(CALLOUT_RESPONSE_TRAILERS, now.response_trailers, &modes.response_trailers);
  const auto keep_body = [&](callout_phase_t phase, const std::optional<callout_body_mode_t>& held,
                             std::optional<callout_body_mode_t>* mode) {
    if (wants(phase) && held.has_value()) UniteBodyModes(*held, mode);
  };
  keep_body(CALLOUT_REQUEST_BODY, now.request_body, &modes.request_body);
  keep_body(CALLOUT_RESPONSE_BODY, now.response_body, &modes.response_body);
}

void ModeOverride::Complete(const Modes& now) {
  const auto complete = [](const std::optional<uint32_t>& held, std::optional<uint32_t>* mode) {
    if (!mode->has_value()) *mode = held;
  };
  complete(now.request_headers, &modes.request_headers);
  complete(now.response_headers, &modes.response_headers);
  complete(now.request_body, &modes.request_body);
  complete(now.response_body, &modes.response_body);
  complete(now.request_trailers, &modes.request_trailers);
  complete(now.response_trailers, &modes.response_trailers);
}

std::string Annotations::WriteWithoutModes() const {
  std::string records = rest;
  if (has_dynamic_metadata) AppendBytes(CALLOUT_DYNAMIC_METADATA, dynamic_metadata, &records);
  return records;
}

std::string ModeOverride::Write() const {
  std::string out;
  const auto append = [&out](uint32_t number, const std::optional<uint32_t>& value) {
    if (value.has_value()) AppendVarint(number, *value, &out);
  };
  append(field::ProcessingMode::kRequestHeaderMode, modes.request_headers);
  append(field::ProcessingMode::kResponseHeaderMode, modes.response_headers);
  append(field::ProcessingMode::kRequestBodyMode, modes.request_body);
  append(field::ProcessingMode::kResponseBodyMode, modes.response_body);
  append(field::ProcessingMode::kRequestTrailerMode, modes.request_trailers);
  append(field::ProcessingMode::kResponseTrailerMode, modes.response_trailers);
  return out;
}

bool AnnotationsAreWellFormed(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    bool good = true;
    if (reader.Is(CALLOUT_DYNAMIC_METADATA)) good = IsStruct(reader.bytes(), 0);
    if (reader.Is(CALLOUT_TYPED_DYNAMIC_METADATA)) good = IsAnyEntry(reader.bytes());
    if (reader.Is(CALLOUT_MODE_OVERRIDE) || reader.Is(CALLOUT_OVERRIDE_MESSAGE_TIMEOUT) ||
        reader.Is(field::ProcessingResponse::kServerWindowUpdate)) {
      good = IsWellFormed(reader.bytes());
    }
    if (!good) return false;
  }
  return reader.ok();
}

bool StructHasControls(std::string_view payload) {
  WireReader reader(payload);
  while (reader.Next()) {
    if (!reader.Is(field::Struct::kFields)) continue;
    WireReader entry(reader.bytes());
    while (entry.Next()) {
      if (entry.Is(field::FieldsEntry::kValue) && ValueHasControls(entry.bytes())) return true;
    }
  }
  return false;
}

Annotations ReadAnnotations(std::string_view records) {
  Annotations annotations;
  WireReader reader(records);
  while (reader.Next()) {
    if (reader.Is(CALLOUT_DYNAMIC_METADATA)) {
      if (MergeStructs(annotations.dynamic_metadata, reader.bytes(),
                       &annotations.dynamic_metadata)) {
        annotations.has_dynamic_metadata = true;
      }
    } else if (reader.Is(CALLOUT_MODE_OVERRIDE)) {
      ModeOverride::Modes modes;
      if (ReadProcessingMode(reader.bytes(), &modes)) Unite(modes, &annotations.mode_override);
    } else if (!reader.Is(CALLOUT_OVERRIDE_MESSAGE_TIMEOUT)) {
      annotations.rest.append(reader.record());
    }
  }
  return annotations;
}

uint64_t ReadTimeoutMs(std::string_view records) {
  uint64_t timeout_ms = 0;
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(CALLOUT_OVERRIDE_MESSAGE_TIMEOUT)) continue;
    uint64_t seconds = 0;
    uint64_t nanos = 0;
    WireReader duration(reader.bytes());
    while (duration.Next()) {
      if (duration.IsVarint(field::Duration::kSeconds)) seconds = duration.varint();
      if (duration.IsVarint(field::Duration::kNanos)) nanos = duration.varint();
    }
    constexpr uint64_t kSecondsMax = 86400;
    const bool valid = duration.ok() && seconds <= kSecondsMax && nanos < 1000000000;
    timeout_ms = valid ? seconds * 1000 + nanos / 1000000 : 0;
  }
  return timeout_ms;
}

bool HasModeOverride(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    if (reader.Is(CALLOUT_MODE_OVERRIDE)) return true;
  }
  return false;
}

bool NeedsWork(std::string_view records) {
  WireReader reader(records);
  int metadata_records = 0;
  while (reader.Next()) {
    if (reader.Is(CALLOUT_DYNAMIC_METADATA) && ++metadata_records > 1) return true;
    if (reader.Is(CALLOUT_MODE_OVERRIDE) || reader.Is(CALLOUT_OVERRIDE_MESSAGE_TIMEOUT)) {
      return true;
    }
  }
  return false;
}

std::string WriteTimeoutResponse(uint64_t timeout_ms) {
  std::string duration;
  if (timeout_ms >= 1000) AppendVarint(field::Duration::kSeconds, timeout_ms / 1000, &duration);
  if (timeout_ms % 1000 != 0)
    AppendVarint(field::Duration::kNanos, timeout_ms % 1000 * 1000000, &duration);
  std::string response;
  AppendBytes(CALLOUT_OVERRIDE_MESSAGE_TIMEOUT, duration, &response);
  return response;
}

bool MergeStructs(std::string_view earlier, std::string_view later, std::string* merged) {
  std::string out;
  if (!Merge(earlier, later, 0, &out)) return false;
  *merged = std::move(out);
  return true;
}

}  // namespace callout::host
