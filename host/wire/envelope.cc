// SPDX-License-Identifier: Apache-2.0

#include "host/wire/envelope.h"

#include <fmt/format.h>

#include "host/base/spare_bytes.h"
#include "host/wire/field_numbers.h"
#include "host/wire/phase.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

bool ReadProtocolConfig(std::string_view bytes, ProtocolConfig* config) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(field::ProtocolConfiguration::kRequestBodyMode)) {
      config->request_body_mode = static_cast<uint32_t>(reader.varint());
    } else if (reader.IsVarint(field::ProtocolConfiguration::kResponseBodyMode)) {
      config->response_body_mode = static_cast<uint32_t>(reader.varint());
    } else if (reader.IsVarint(
                   field::ProtocolConfiguration::kSendBodyWithoutWaitingForHeaderResponse)) {
      config->send_body_without_waiting = reader.varint() != 0;
    }
  }
  return reader.ok();
}

// A field takes two bytes at least: most messages need no count.
bool MayHaveMoreThan(size_t fields_max, std::string_view bytes) {
  return bytes.size() / 2 > fields_max;
}

// Adds its records to `*count`, until that is more than `fields_max`.
void CountUpTo(size_t fields_max, std::string_view message, size_t* count) {
  WireReader reader(message);
  while (*count <= fields_max && reader.Next()) ++*count;
}

// HttpHeaders and HttpTrailers have their HeaderMap in the same field.
constexpr uint32_t kHeaderMapField = field::HttpHeaders::kHeaders;
static_assert(kHeaderMapField == field::HttpTrailers::kTrailers);

// Counts the records of HttpHeaders or HttpTrailers, and those of their HeaderMaps.
bool HasMoreHeadersThan(size_t fields_max, std::string_view message) {
  if (!MayHaveMoreThan(fields_max, message)) return false;
  size_t count = 0;
  WireReader reader(message);
  while (count <= fields_max && reader.Next()) {
    ++count;
    if (reader.Is(kHeaderMapField)) CountUpTo(fields_max, reader.bytes(), &count);
  }
  return count > fields_max;
}

// Counts an entry of the map `attributes`: the entry itself, and the records of its Struct.
void CountAttributes(size_t fields_max, std::string_view record, size_t* count) {
  ++*count;
  WireReader outer(record);
  while (*count <= fields_max && outer.Next()) {
    WireReader entry(outer.bytes());
    while (*count <= fields_max && entry.Next()) {
      ++*count;
      if (entry.Is(field::AttributesEntry::kValue)) CountUpTo(fields_max, entry.bytes(), count);
    }
  }
}

absl::Status TooMany(std::string_view what, size_t fields_max) {
  return absl::ResourceExhaustedError(
      fmt::format("reading a ProcessingRequest: it has more {} than --max_message_fields={}", what,
                  fields_max));
}

bool IsHeaderMessage(uint32_t phase) {
  return phase != CALLOUT_REQUEST_BODY && phase != CALLOUT_RESPONSE_BODY;
}

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(
      fmt::format("reading a ProcessingRequest: {} is malformed protobuf", what));
}

}  // namespace

absl::StatusOr<RequestView> ParseRequest(std::string_view bytes, size_t fields_max) {
  RequestView view;
  const bool counts = MayHaveMoreThan(fields_max, bytes);
  size_t attributes = 0;
  WireReader reader(bytes);
  while (reader.Next()) {
    const uint32_t number = reader.number();
    if (number >= CALLOUT_REQUEST_HEADERS && number <= CALLOUT_RESPONSE_TRAILERS) {
      if (!reader.Is(number)) return Malformed("the phase's message");
      if (view.phase == number) {
        return absl::InvalidArgumentError(fmt::format(
            "reading a ProcessingRequest: field {} occurs twice; send each message once", number));
      }
      view.phase = number;
      view.message = reader.bytes();
      if (counts && IsHeaderMessage(number) && HasMoreHeadersThan(fields_max, view.message)) {
        return TooMany("headers", fields_max);
      }
    } else if (reader.Is(field::ProcessingRequest::kMetadataContext)) {
      view.metadata_context = reader.bytes();
    } else if (reader.Is(field::ProcessingRequest::kAttributes)) {
      if (counts) CountAttributes(fields_max, reader.record(), &attributes);
      if (attributes > fields_max) return TooMany("attributes", fields_max);
      view.attribute_records.push_back(reader.record());
    } else if (reader.IsVarint(field::ProcessingRequest::kObservabilityMode)) {
      view.observability_mode = reader.varint() != 0;
    } else if (reader.Is(field::ProcessingRequest::kProtocolConfig)) {
      view.has_protocol_config = true;
      if (!ReadProtocolConfig(reader.bytes(), &view.protocol_config)) {
        return Malformed("protocol_config");
      }
    } else {
      view.has_unknown_field = true;
    }
  }
  if (!reader.ok()) return Malformed("the message");
  return view;
}

std::string_view MessageOf(std::string_view request, callout_phase_t phase) {
  std::string_view message;
  WireReader reader(request);
  while (reader.Next()) {
    // The last one counts, as of any oneof.
    if (reader.Is(phase)) message = reader.bytes();
  }
  return message;
}

void BuildRecord(callout_field_t field, const callout_bytes_t* parts, size_t part_count,
                 size_t size, Response* response) {
  response->Clear();
  response->field = field;
  const size_t bytes = BytesSize(field, size);
  if (bytes > response->record.capacity()) TakeSpareBytes(&response->record);
  // A string that is appended to checks its room each time; one that is resized writes zeros first,
  // which a body would notice.
  constexpr size_t kShortBytes = 512;
  if (bytes <= kShortBytes) {
    response->record.resize(bytes);
    WireWriter writer(response->record.data());
    writer.Head(field, size);
    response->payload_offset = bytes - size;
    for (size_t i = 0; i < part_count; ++i) writer.Bytes(ToView(parts[i]));
    return;
  }
  response->record.reserve(bytes);
  AppendBytesHead(field, size, &response->record);
  response->payload_offset = response->record.size();
  for (size_t i = 0; i < part_count; ++i) response->record.append(ToView(parts[i]));
}

void AppendRecord(uint32_t field, std::string_view payload, std::string* out) {
  AppendBytes(field, payload, out);
}

bool SplitResponse(std::string_view bytes, Response* response, std::string* annotations) {
  std::string rest;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (IsResponseField(reader.number()) && reader.Is(reader.number())) {
      BuildRecord(reader.number(), reader.bytes(), response);
    } else {
      rest.append(reader.record());
    }
  }
  if (!reader.ok()) return false;
  annotations->append(rest);
  return true;
}

}  // namespace callout::host
