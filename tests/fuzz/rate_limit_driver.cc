// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/rate_limit_driver.h"

#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "host/base/ascii.h"
#include "host/unary/rate_limit_service.h"
#include "host/wire/refusal.h"
#include "tests/fuzz/header_text.h"

namespace callout::host {
namespace {

using envoy::service::ratelimit::v3::RateLimitResponse;

template <class Headers>
std::string LookAtHeaders(const Headers& headers) {
  for (const auto& header : headers) {
    for (const std::string* text : {&header.key(), &header.value()}) {
      if (HasForbiddenByte(*text)) {
        return "CR, LF or NUL in a header";
      }
    }
    if (header.key().empty() || header.key()[0] == ':') return "a header that cannot be added";
    if (EqualsIgnoreCase(header.key(), "content-length")) return "content-length";
    if (EqualsIgnoreCase(header.key(), "host")) return "host";
    if (header.value() != header.raw_value()) return "two values of " + header.key();
  }
  return "";
}

std::string LookAt(const RateLimitResponse& response) {
  if (response.overall_code() != RateLimitResponse::OK &&
      response.overall_code() != RateLimitResponse::OVER_LIMIT) {
    return "the code";
  }
  for (const auto& status : response.statuses()) {
    if (status.code() == RateLimitResponse::OVER_LIMIT &&
        response.overall_code() == RateLimitResponse::OK) {
      return "a status is over its limit, and the request passes";
    }
    for (const char c : status.current_limit().name()) {
      if (static_cast<unsigned char>(c) < 0x20 || c == '"') return "the name of a limit";
    }
  }
  std::string found = LookAtHeaders(response.response_headers_to_add());
  return found.empty() ? LookAtHeaders(response.request_headers_to_add()) : found;
}

}  // namespace

std::string RunRateLimit(std::string_view request, std::string_view said) {
  StreamLimits limits;
  limits.message_fields_max = 100;
  RateLimitService service(&limits);
  const bool is_request = service.Begin(request).ok();
  if (is_request) (void)service.Facts();  // what `match` of an instance compares with
  // Twice, as two instances that say the same.
  bool refused = !is_request;
  for (int i = 0; i < 2 && !refused; ++i) {
    CallState state;
    if (!SplitRateLimitResponse(said, &state.response, &state.annotations)) return "";
    const bool refuses = IsRefusal(CALLOUT_RATE_LIMIT, state.response, state.annotations);
    const Finding found = service.Take(state, CALLOUT_RATE_LIMIT);
    if (found.ok() && refuses != service.decided()) return "a refusal became a pass";
    refused = !found.ok() || service.decided();
    if (!found.ok()) service.Refuse(0, found.what);
  }
  if (refused) service.Refuse(0, "");
  const std::string out = service.Write();
  RateLimitResponse told;
  if (!told.ParseFromString(out)) return "what goes out is no RateLimitResponse";
  if (refused != (told.overall_code() == RateLimitResponse::OVER_LIMIT)) return "the code";
  return LookAt(told);
}

}  // namespace callout::host
