// SPDX-License-Identifier: Apache-2.0

// The wire form of network ext_proc
// (envoy/service/network_ext_proc/v3/network_external_processor.proto): requests and what a plugin
// has set, as views, and what the host writes.
//
// Envoy has given the bytes of a request away: a response that does not have them loses them, and
// one with the other direction's data injects it there.
//
// Tested by tests/host/l4/network_message_test.cc.
#ifndef CALLOUT_HOST_WIRE_NETWORK_MESSAGE_H_
#define CALLOUT_HOST_WIRE_NETWORK_MESSAGE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "host/wire/envelope.h"

namespace callout::host {

// What a ProcessingRequest of network ext_proc is about.
enum class NetworkKind : uint8_t {
  kRead,   // bytes from the client
  kWrite,  // bytes to the client
  kOther,  // no bytes: a message of a later Envoy, such as the announcement of a connection
};

// One ProcessingRequest as views into its bytes.
struct NetworkRequestView {
  std::string_view request;  // all of it
  NetworkKind kind = NetworkKind::kOther;
  std::string_view message;  // the Data
  std::string_view data;
  bool end_of_stream = false;
  std::string_view metadata_context;
  std::vector<std::string_view> attributes;  // entries of the map
};

// INVALID_ARGUMENT if `bytes` is not a ProcessingRequest, or has data of both directions, or of one
// twice. RESOURCE_EXHAUSTED if it has more than `fields_max` attributes.
absl::StatusOr<NetworkRequestView> ParseNetworkRequest(std::string_view bytes, size_t fields_max);

// Records of ext_proc's ProcessingRequest.attributes with the same entries.
std::string WriteNetworkAttributes(const NetworkRequestView& view);

// A Data.
std::string WriteNetworkData(std::string_view data, bool end_of_stream);
// The ProcessingRequest with this Data in the place of its own.
std::string WriteNetworkRequest(const NetworkRequestView& view, std::string_view message);

// ProcessingResponse.ConnectionStatus.
enum class ConnectionStatus : uint8_t { kContinue = 0, kClose = 1, kReset = 2 };

struct NetworkResponseView {
  bool has_read = false, has_write = false;
  std::string_view data;  // of the one that is there, read_data before write_data
  uint64_t connection_status = 0;
};

// The field of `Response` under which a plugin's whole ProcessingResponse is kept, without its
// metadata: no field of the message itself.
inline constexpr callout_field_t kNetworkAnswer = 15;

// Takes a serialized ProcessingResponse apart: dynamic_metadata goes to `annotations`, all else, if
// there is anything, is the answer. False if `bytes` is not well-formed.
bool SplitNetworkResponse(std::string_view bytes, Response* response, std::string* annotations);

// False if what a plugin has set is malformed.
bool ReadNetworkResponse(const Response& response, NetworkResponseView* view);

// Whether the records beside an answer are well-formed dynamic_metadata.
bool NetworkAnnotationsAreWellFormed(std::string_view records);

// What goes out.
struct NetworkAnswer {
  NetworkKind kind = NetworkKind::kOther;
  std::string_view data = {};
  bool end_of_stream = false;
  bool is_modified = false;
  ConnectionStatus connection_status = ConnectionStatus::kContinue;
  bool has_metadata = false;
  std::string_view metadata = {};  // a Struct
};
std::string WriteNetworkResponse(const NetworkAnswer& answer);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_NETWORK_MESSAGE_H_
