// SPDX-License-Identifier: Apache-2.0

// Shows a client what of its stream has arrived: gRPC metadata in headers, whole bodies back.
#include <callout/plugin.hpp>
#include <string>

CALLOUT_PLUGIN();

namespace {

std::string ToHex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    hex.push_back(kDigits[static_cast<unsigned char>(c) >> 4]);
    hex.push_back(kDigits[c & 15]);
  }
  return hex;
}

void Echo(const callout::BodyCall& call) { call.set_body(std::string(call.body()) + "-seen"); }

}  // namespace

CALLOUT_ON_REQUEST_HEADERS(call) {
  call.set_header("x-text", call.grpc_metadata("x-interop").value_or("none"));
  call.set_header("x-bytes", ToHex(call.grpc_metadata("x-interop-bin").value_or("none")));
}

CALLOUT_ON_RESPONSE_HEADERS(call) { call.set_header("x-answered", "yes"); }

CALLOUT_ON_REQUEST_BODY(call) { Echo(call); }

CALLOUT_ON_RESPONSE_BODY(call) { Echo(call); }
