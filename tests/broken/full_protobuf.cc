// SPDX-License-Identifier: Apache-2.0

// Uses a class of protobuf's full runtime.
#include <callout/plugin.h>

#include "envoy/type/v3/http_status.pb.h"

CALLOUT_PLUGIN();

callout_status_t callout_on_request_headers(callout_call_t* call) {
  envoy::type::v3::HttpStatus status;
  return status.ParseFromArray(call->message.data, static_cast<int>(call->message.size))
             ? CALLOUT_OK
             : CALLOUT_INTERNAL;
}
