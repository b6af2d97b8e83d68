// SPDX-License-Identifier: Apache-2.0

#include "host/wire/refusal.h"

#include "host/wire/check_response.h"
#include "host/wire/field_numbers.h"
#include "host/wire/network_message.h"
#include "host/wire/phase.h"
#include "host/wire/rate_limit.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// `annotations` are well-formed records.
bool RefusesByStatus(std::string_view annotations) {
  WireReader reader(annotations);
  while (reader.Next()) {
    if (reader.Is(field::CheckResponse::kStatus) && !IsWellFormed(reader.bytes())) return true;
  }
  return ReadCheckStatus(annotations) != 0;
}

bool RefusesRateLimit(const Response& response) {
  if (response.field == 0) return false;
  RateLimitResponseView view;
  return !ReadRateLimitResponse(response.payload(), &view) || RefusesRequest(view);
}

bool EndsConnection(const Response& response) {
  NetworkResponseView view;
  return !ReadNetworkResponse(response, &view) || view.connection_status != 0;
}

}  // namespace

bool IsRefusalField(callout_phase_t phase, callout_field_t field) {
  if (phase == CALLOUT_CHECK) return field == CALLOUT_CHECK_DENIED || field == CALLOUT_CHECK_ERROR;
  return !IsOtherService(phase) &&
         (field == CALLOUT_IMMEDIATE_RESPONSE || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE);
}

bool IsRefusal(callout_phase_t phase, const Response& response, std::string_view annotations) {
  switch (phase) {
    case CALLOUT_CHECK:
      return IsRefusalField(phase, response.field) || RefusesByStatus(annotations);
    case CALLOUT_RATE_LIMIT:
      return RefusesRateLimit(response);
    case CALLOUT_READ_DATA:
    case CALLOUT_WRITE_DATA:
    case CALLOUT_CONNECTION:
      return EndsConnection(response);
    default:
      return IsRefusalField(phase, response.field);
  }
}

}  // namespace callout::host
