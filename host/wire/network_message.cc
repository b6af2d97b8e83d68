// SPDX-License-Identifier: Apache-2.0

#include "host/wire/network_message.h"

#include <fmt/format.h>

#include "absl/status/status.h"
#include "host/wire/annotations.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

using RequestField = field::NetworkProcessingRequest;
using ResponseField = field::NetworkProcessingResponse;

absl::Status MalformedNetworkMessage() {
  return absl::InvalidArgumentError("the message is not a ProcessingRequest of network ext_proc");
}

bool ReadData(std::string_view bytes, std::string_view* data, bool* end_of_stream) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::Data::kData)) *data = reader.bytes();
    if (reader.IsVarint(field::Data::kEndOfStream)) *end_of_stream = reader.varint() != 0;
  }
  return reader.ok();
}

uint32_t NumberOf(NetworkKind kind) {
  return kind == NetworkKind::kRead ? RequestField::kReadData : RequestField::kWriteData;
}

bool ReadWhole(std::string_view payload, NetworkResponseView* view) {
  bool end_of_stream = false;
  WireReader reader(payload);
  while (reader.Next()) {
    if (reader.Is(ResponseField::kReadData)) {
      view->has_read = true;
      if (!ReadData(reader.bytes(), &view->data, &end_of_stream)) return false;
    } else if (reader.Is(ResponseField::kWriteData)) {
      std::string_view data;
      view->has_write = true;
      if (!ReadData(reader.bytes(), &data, &end_of_stream)) return false;
      if (!view->has_read) view->data = data;
    } else if (reader.IsVarint(ResponseField::kConnectionStatus)) {
      view->connection_status = reader.varint();
    }
  }
  return reader.ok();
}

}  // namespace

absl::StatusOr<NetworkRequestView> ParseNetworkRequest(std::string_view bytes, size_t fields_max) {
  NetworkRequestView view;
  view.request = bytes;
  size_t attributes = 0;
  WireReader reader(bytes);
  while (reader.Next()) {
    const bool is_read = reader.Is(RequestField::kReadData);
    if (is_read || reader.Is(RequestField::kWriteData)) {
      if (view.kind != NetworkKind::kOther) return MalformedNetworkMessage();
      view.kind = is_read ? NetworkKind::kRead : NetworkKind::kWrite;
      view.message = reader.bytes();
      if (!ReadData(view.message, &view.data, &view.end_of_stream))
        return MalformedNetworkMessage();
    } else if (reader.Is(RequestField::kMetadata)) {
      view.metadata_context = reader.bytes();
      if (!IsWellFormed(reader.bytes())) return MalformedNetworkMessage();
    } else if (reader.Is(RequestField::kAttributes)) {
      if (!IsWellFormed(reader.bytes())) return MalformedNetworkMessage();
      if (++attributes <= fields_max) view.attributes.push_back(reader.bytes());
    }
  }
  if (!reader.ok()) return MalformedNetworkMessage();
  if (attributes > fields_max) {
    return absl::ResourceExhaustedError(
        fmt::format("{} attributes in a ProcessingRequest, limit --max_message_fields={}",
                    attributes, fields_max));
  }
  return view;
}

std::string WriteNetworkAttributes(const NetworkRequestView& view) {
  std::string records;
  for (std::string_view entry : view.attributes) {
    AppendBytes(field::ProcessingRequest::kAttributes, entry, &records);
  }
  return records;
}

std::string WriteNetworkData(std::string_view data, bool end_of_stream) {
  std::string message;
  if (!data.empty()) AppendBytes(field::Data::kData, data, &message);
  if (end_of_stream) AppendVarint(field::Data::kEndOfStream, 1, &message);
  return message;
}

std::string WriteNetworkRequest(const NetworkRequestView& view, std::string_view message) {
  std::string request;
  AppendBytes(NumberOf(view.kind), message, &request);
  WireReader reader(view.request);
  while (reader.Next()) {
    if (!reader.Is(NumberOf(view.kind))) request.append(reader.record());
  }
  return request;
}

bool SplitNetworkResponse(std::string_view bytes, Response* response, std::string* annotations) {
  std::string answer;
  WireReader reader(bytes);
  while (reader.Next()) {
    const bool is_metadata = reader.Is(CALLOUT_DATA_DYNAMIC_METADATA);
    (is_metadata ? annotations : &answer)->append(reader.record());
  }
  if (!reader.ok()) return false;
  if (!answer.empty()) BuildRecord(kNetworkAnswer, answer, response);
  return true;
}

bool ReadNetworkResponse(const Response& response, NetworkResponseView* view) {
  if (response.field == 0) return true;
  if (response.field == kNetworkAnswer) return ReadWhole(response.payload(), view);
  return ReadWhole(response.record, view);
}

bool NetworkAnnotationsAreWellFormed(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(CALLOUT_DATA_DYNAMIC_METADATA)) continue;
    std::string as_ext_proc;
    AppendRecord(CALLOUT_DYNAMIC_METADATA, reader.bytes(), &as_ext_proc);
    if (!AnnotationsAreWellFormed(as_ext_proc)) return false;
  }
  return reader.ok();
}

std::string WriteNetworkResponse(const NetworkAnswer& answer) {
  // DataProcessedStatus
  constexpr uint64_t kUnmodified = 1;
  constexpr uint64_t kModified = 2;
  std::string response;
  if (answer.kind != NetworkKind::kOther) {
    size_t size = answer.end_of_stream ? 2 : 0;
    if (!answer.data.empty()) size += BytesSize(field::Data::kData, answer.data.size());
    AppendBytesHead(NumberOf(answer.kind), size, &response);
    if (!answer.data.empty()) AppendBytes(field::Data::kData, answer.data, &response);
    if (answer.end_of_stream) AppendVarint(field::Data::kEndOfStream, 1, &response);
    AppendVarint(ResponseField::kDataProcessingStatus, answer.is_modified ? kModified : kUnmodified,
                 &response);
  }
  if (answer.connection_status != ConnectionStatus::kContinue) {
    AppendVarint(ResponseField::kConnectionStatus, static_cast<uint64_t>(answer.connection_status),
                 &response);
  }
  if (answer.has_metadata) {
    AppendBytes(ResponseField::kDynamicMetadata, answer.metadata, &response);
  }
  return response;
}

}  // namespace callout::host
