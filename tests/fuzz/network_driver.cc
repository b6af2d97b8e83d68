// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/network_driver.h"

#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "host/wire/network_message.h"
#include "tests/fuzz/proto_oracle.h"

namespace callout::host {
namespace {

namespace network = envoy::service::network_ext_proc::v3;

// What protobuf reads of the same bytes, where it takes them.
std::string CompareRequest(std::string_view bytes, const NetworkRequestView& view) {
  network::ProcessingRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return "";
  const bool is_read = view.kind == NetworkKind::kRead;
  if (request.has_read_data() != is_read ||
      request.has_write_data() != (view.kind == NetworkKind::kWrite)) {
    return "the direction";
  }
  const network::Data& data = is_read ? request.read_data() : request.write_data();
  if (view.kind != NetworkKind::kOther && data.data() != view.data) return "the data";
  if (data.end_of_stream() != view.end_of_stream) return "the end";
  return "";
}

std::string CompareAnswer(std::string_view said, const NetworkResponseView& view) {
  network::ProcessingResponse response;
  if (!response.ParseFromArray(said.data(), static_cast<int>(said.size()))) return "";
  if (response.has_read_data() != view.has_read) return "read_data";
  if (response.has_write_data() != view.has_write) return "write_data";
  const std::string& data =
      view.has_read ? response.read_data().data() : response.write_data().data();
  // Two records of one message merge, of which the view has the last. Both directions are a fault.
  const bool is_one = view.has_read != view.has_write;
  if (is_one && data != view.data && !view.data.empty()) return "the data of the answer";
  if (view.connection_status <= 2 &&
      static_cast<uint64_t>(response.connection_status()) != view.connection_status) {
    return "the connection status";
  }
  return "";
}

}  // namespace

std::string RunNetwork(std::string_view request, std::string_view said) {
  const absl::StatusOr<NetworkRequestView> view = ParseNetworkRequest(request, 8);
  if (!view.ok()) return "";
  if (std::string found = CompareRequest(request, *view); !found.empty()) return found;
  WriteNetworkAttributes(*view);

  Response response;
  std::string beside;
  NetworkResponseView answer;
  network::ProcessingResponse told_beside;
  if (!SplitNetworkResponse(said, &response, &beside)) return "";
  if (NetworkAnnotationsAreWellFormed(beside) && !ParsesAs(beside, &told_beside)) {
    return "what protobuf refuses is called well formed";
  }
  const bool is_readable = ReadNetworkResponse(response, &answer);
  if (is_readable) {
    if (std::string found = CompareAnswer(said, answer); !found.empty()) return found;
  }
  const bool is_modified = is_readable && (answer.has_read || answer.has_write);
  const std::string_view data = is_modified ? answer.data : view->data;
  network::ProcessingResponse told;
  if (!told.ParseFromString(WriteNetworkResponse({.kind = view->kind,
                                                  .data = data,
                                                  .end_of_stream = view->end_of_stream,
                                                  .is_modified = is_modified}))) {
    return "what goes out is no ProcessingResponse";
  }
  const bool is_read = view->kind == NetworkKind::kRead;
  if (told.has_read_data() != is_read ||
      told.has_write_data() != (view->kind == NetworkKind::kWrite)) {
    return "the direction that goes out";
  }
  const network::Data& sent = is_read ? told.read_data() : told.write_data();
  if (view->kind != NetworkKind::kOther && sent.data() != data) return "the data that goes out";
  if (view->kind == NetworkKind::kOther) return "";
  if (sent.end_of_stream() != view->end_of_stream) return "the end that goes out";

  // An answer that closes the connection and says why.
  const std::string metadata = told_beside.dynamic_metadata().SerializeAsString();
  network::ProcessingResponse closes;
  if (!closes.ParseFromString(WriteNetworkResponse({.kind = view->kind,
                                                    .connection_status = ConnectionStatus::kReset,
                                                    .has_metadata = true,
                                                    .metadata = metadata})) ||
      closes.connection_status() != network::ProcessingResponse::CLOSE_RST ||
      closes.dynamic_metadata().fields_size() != told_beside.dynamic_metadata().fields_size()) {
    return "an end that goes out is another";
  }

  // What the next instance would be shown.
  const std::string message = WriteNetworkData(data, view->end_of_stream);
  const auto next = ParseNetworkRequest(WriteNetworkRequest(*view, message), SIZE_MAX);
  return next.ok() ? "" : "the next instance gets no request";
}

}  // namespace callout::host
