// SPDX-License-Identifier: Apache-2.0

// What a request is known by elsewhere, for log lines, exemplars and explanations: its x-request-id
// and its trace.
//
//   RequestId id;
//   id.Keep(FindHeader(message, "x-request-id"));
//   const TraceRef trace = FindTrace(rpc, message);
//
// Any thread. A client may have written both.
//
// Tested by tests/host/plugin/request_ids_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_REQUEST_IDS_H_
#define CALLOUT_HOST_PLUGIN_REQUEST_IDS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace callout::host {

class RpcContext;

// Of an x-request-id that is kept or shown; the rest is cut off.
inline constexpr size_t kRequestIdBytesMax = 128;

// Keeps an id without memory of its own: every stream has one. Most are UUIDs.
class RequestId {
 public:
  static constexpr size_t kBytesMax = 63;

  void Keep(std::string_view id);
  std::string_view view() const { return {bytes_.data(), size_}; }

 private:
  uint8_t size_ = 0;
  std::array<char, kBytesMax> bytes_;  // of which `size_` are set
};

// By W3C Trace Context. Views into what it was read from.
struct TraceRef {
  std::string_view id;  // 32 lower-case hexadecimal digits; "": there is none
  bool sampled = false;
};

// None if `traceparent` is not valid by the specification.
TraceRef ReadTraceparent(std::string_view traceparent);

// From the RPC's metadata, where Envoy says it of its own span, else from the HTTP headers
// (HttpHeaders; may be ""). `rpc` may be null.
TraceRef FindTrace(const RpcContext* rpc, std::string_view headers);

// The id of the trace that the RPC is a part of, if it is sampled: others lead nowhere.
std::string_view SampledTrace(const RpcContext* rpc);

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_REQUEST_IDS_H_
