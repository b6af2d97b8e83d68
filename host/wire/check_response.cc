// SPDX-License-Identifier: Apache-2.0

#include "host/wire/check_response.h"

#include "host/base/ascii.h"
#include "host/wire/annotations.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"
#include "host/wire/wire_put.h"

namespace callout::host {

namespace {

bool ReadHeader(std::string_view bytes, CheckHeaderOption* option) {
  std::string_view raw;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderValue::kKey)) option->name = reader.bytes();
    if (reader.Is(field::HeaderValue::kValue)) option->value = reader.bytes();
    if (reader.Is(field::HeaderValue::kRawValue)) raw = reader.bytes();
  }
  if (!raw.empty()) option->value = raw;
  return reader.ok();
}

bool ReadBool(std::string_view bytes, bool* value) {
  *value = false;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(field::BoolValue::kValue)) *value = reader.varint() != 0;
  }
  return reader.ok();
}

// An action that does not exist is malformed: what it means would be a guess.
bool ReadOption(std::string_view bytes, HeaderAction unsaid, CheckHeaderOption* option) {
  bool has_append = false;
  bool append = false;
  uint64_t action = 0;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderValueOption::kHeader)) {
      if (!ReadHeader(reader.bytes(), option)) return false;
    } else if (reader.Is(field::HeaderValueOption::kAppend)) {
      has_append = true;
      if (!ReadBool(reader.bytes(), &append)) return false;
    } else if (reader.IsVarint(field::HeaderValueOption::kAppendAction)) {
      action = reader.varint();
      if (action > static_cast<uint64_t>(HeaderAction::kSetIfExists)) return false;
    }
  }
  option->says_action = has_append || action != 0;
  option->action = unsaid;
  if (action != 0) option->action = static_cast<HeaderAction>(action);
  if (has_append) option->action = append ? HeaderAction::kAppend : option->action;
  if (has_append && !append && action == 0) option->action = HeaderAction::kSet;
  return reader.ok();
}

bool AddOption(std::string_view bytes, HeaderAction unsaid,
               std::vector<CheckHeaderOption>* options) {
  options->emplace_back();
  return ReadOption(bytes, unsaid, &options->back());
}

bool ReadQueryParameter(std::string_view bytes, CheckResponseView* view) {
  std::pair<std::string_view, std::string_view> parameter;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::QueryParameter::kKey)) parameter.first = reader.bytes();
    if (reader.Is(field::QueryParameter::kValue)) parameter.second = reader.bytes();
  }
  view->query_set.push_back(parameter);
  return reader.ok();
}

bool ReadOk(std::string_view payload, CheckResponseView* view) {
  WireReader reader(payload);
  while (reader.Next()) {
    const std::string_view bytes = reader.bytes();
    bool good = true;
    if (reader.Is(field::OkHttpResponse::kHeaders)) {
      good = AddOption(bytes, HeaderAction::kSet, &view->headers);
    } else if (reader.Is(field::OkHttpResponse::kHeadersToRemove)) {
      view->remove.push_back(bytes);
    } else if (reader.Is(field::OkHttpResponse::kResponseHeadersToAdd)) {
      good = AddOption(bytes, HeaderAction::kAppend, &view->response_headers);
    } else if (reader.Is(field::OkHttpResponse::kQueryParametersToSet)) {
      good = ReadQueryParameter(bytes, view);
    } else if (reader.Is(field::OkHttpResponse::kQueryParametersToRemove)) {
      view->query_remove.push_back(bytes);
    } else if (reader.Is(field::OkHttpResponse::kDynamicMetadata)) {
      view->metadata.push_back(bytes);
    }
    if (!good) return false;
  }
  return reader.ok();
}

bool ReadStatusCode(std::string_view bytes, uint64_t* code) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.IsVarint(field::HttpStatus::kCode)) *code = reader.varint();
  }
  return reader.ok();
}

bool ReadDenied(std::string_view payload, CheckResponseView* view) {
  WireReader reader(payload);
  while (reader.Next()) {
    bool good = true;
    if (reader.Is(field::DeniedHttpResponse::kStatus)) {
      good = ReadStatusCode(reader.bytes(), &view->http_status);
    } else if (reader.Is(field::DeniedHttpResponse::kHeaders)) {
      good = AddOption(reader.bytes(), HeaderAction::kAppend, &view->headers);
    } else if (reader.Is(field::DeniedHttpResponse::kBody)) {
      view->body = reader.bytes();
    }
    if (!good) return false;
  }
  return reader.ok();
}

// As a record of ProcessingResponse, whose metadata is checked already.
bool IsStruct(std::string_view bytes) {
  std::string record;
  AppendBytes(CALLOUT_DYNAMIC_METADATA, bytes, &record);
  return AnnotationsAreWellFormed(record);
}

}  // namespace

bool IsCheckField(callout_field_t field) {
  return field == CALLOUT_CHECK_DENIED || field == CALLOUT_CHECK_OK || field == CALLOUT_CHECK_ERROR;
}

bool ReadCheckResponse(callout_field_t field, std::string_view payload, CheckResponseView* view) {
  if (field == CALLOUT_CHECK_OK) {
    if (!ReadOk(payload, view)) return false;
    for (std::string_view metadata : view->metadata) {
      if (!IsStruct(metadata)) return false;
    }
    return true;
  }
  return ReadDenied(payload, view);
}

bool SplitCheckResponse(std::string_view bytes, Response* response, std::string* annotations) {
  WireReader reader(bytes);
  std::string_view answer;
  uint32_t field = 0;
  std::string joined;
  while (reader.Next()) {
    if (!IsCheckField(reader.number())) {
      annotations->append(reader.record());
      continue;
    }
    if (!reader.Is(reader.number())) return false;
    // Two records of one message merge; another member of the oneof takes its place.
    if (field == reader.number()) {
      if (joined.empty()) joined.assign(answer);
      joined.append(reader.bytes());
      answer = joined;
      continue;
    }
    joined.clear();
    field = reader.number();
    answer = reader.bytes();
  }
  if (!reader.ok()) return false;
  if (field != 0) BuildRecord(field, answer, response);
  return true;
}

bool CheckAnnotationsAreWellFormed(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    if (reader.Is(CALLOUT_CHECK_DYNAMIC_METADATA) && !IsStruct(reader.bytes())) return false;
    if (reader.Is(field::CheckResponse::kStatus) && !IsWellFormed(reader.bytes())) return false;
  }
  return reader.ok();
}

int32_t ReadCheckStatus(std::string_view records) {
  int32_t code = 0;
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(field::CheckResponse::kStatus)) continue;
    WireReader status(reader.bytes());
    while (status.Next()) {
      if (status.IsVarint(field::Status::kCode)) code = static_cast<int32_t>(status.varint());
    }
  }
  return code;
}

void AppendCheckHeader(uint32_t number, std::string_view name, std::string_view value,
                       HeaderAction action, std::string* out) {
  const size_t header_size = BytesSize(field::HeaderValue::kKey, name.size()) +
                             BytesSize(field::HeaderValue::kValue, value.size()) +
                             BytesSize(field::HeaderValue::kRawValue, value.size());
  // `append` would win over the other two actions.
  const bool says_append = action == HeaderAction::kAppend || action == HeaderAction::kSet;
  std::string_view append;  // a BoolValue
  if (action == HeaderAction::kAppend) append = std::string_view("\x08\x01", 2);
  const auto action_number = static_cast<uint64_t>(action);
  size_t size = BytesSize(field::HeaderValueOption::kHeader, header_size) +
                VarintFieldSize(field::HeaderValueOption::kAppendAction, action_number);
  if (says_append) size += BytesSize(field::HeaderValueOption::kAppend, append.size());
  if (value.empty()) size += VarintFieldSize(field::HeaderValueOption::kKeepEmptyValue, 1);

  const size_t before = out->size();
  out->resize(before + BytesSize(number, size));
  char* to = PutBytesHead(number, size, out->data() + before);
  to = PutBytesHead(field::HeaderValueOption::kHeader, header_size, to);
  to = PutBytes(field::HeaderValue::kKey, name, to);
  to = PutBytes(field::HeaderValue::kValue, value, to);
  to = PutBytes(field::HeaderValue::kRawValue, value, to);
  if (says_append) to = PutBytes(field::HeaderValueOption::kAppend, append, to);
  to = PutVarint(field::HeaderValueOption::kAppendAction, action_number, to);
  if (value.empty()) PutVarint(field::HeaderValueOption::kKeepEmptyValue, 1, to);
}

std::string PercentEncode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_letter = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
    const bool is_digit = byte >= '0' && byte <= '9';
    if (is_letter || is_digit || std::string_view("-._~").find(c) != std::string_view::npos) {
      out.push_back(c);
      continue;
    }
    out.push_back('%');
    out.push_back(kHex[byte >> 4]);
    out.push_back(kHex[byte & 15]);
  }
  return out;
}

}  // namespace callout::host
