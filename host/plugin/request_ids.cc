// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/request_ids.h"

#include <algorithm>

#include "host/plugin/rpc_context.h"
#include "host/wire/response.h"

namespace callout::host {
namespace {

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(std::string_view text) { return text.find_first_not_of('0') == text.npos; }

}  // namespace

void RequestId::Keep(std::string_view id) {
  size_ = static_cast<uint8_t>(std::min(id.size(), kBytesMax));
  std::copy_n(id.data(), size_, bytes_.data());
}

// version "-" trace id "-" parent id "-" flags; a later version may have more behind a dash.
TraceRef ReadTraceparent(std::string_view traceparent) {
  constexpr size_t kBytes = 55;
  if (traceparent.size() < kBytes) return {};
  const std::string_view version = traceparent.substr(0, 2);
  const std::string_view trace = traceparent.substr(3, 32);
  const std::string_view parent = traceparent.substr(36, 16);
  const std::string_view flags = traceparent.substr(53, 2);
  const bool dashes =
      traceparent[2] == '-' && traceparent[35] == '-' && traceparent[52] == '-' &&
      (traceparent.size() == kBytes || (version != "00" && traceparent[kBytes] == '-'));
  if (!dashes || !IsHex(version) || version == "ff" || !IsHex(trace) || IsZero(trace) ||
      !IsHex(parent) || IsZero(parent) || !IsHex(flags)) {
    return {};
  }
  const char low = flags[1];
  const int digit = low <= '9' ? low - '0' : low - 'a' + 10;
  return {trace, (digit & 1) != 0};
}

TraceRef FindTrace(const RpcContext* rpc, std::string_view headers) {
  std::string_view traceparent;
  if (rpc != nullptr && rpc->GetMetadata("traceparent", 0, &traceparent)) {
    if (const TraceRef trace = ReadTraceparent(traceparent); !trace.id.empty()) return trace;
  }
  return ReadTraceparent(FindHeader(headers, "traceparent"));
}

std::string_view SampledTrace(const RpcContext* rpc) {
  const TraceRef trace = FindTrace(rpc, {});
  return trace.sampled ? trace.id : std::string_view();
}

}  // namespace callout::host
