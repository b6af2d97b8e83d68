// SPDX-License-Identifier: Apache-2.0

// The HTTP/1.1 client in front of Envoy.
//
//   HttpMessage response = Exchange(port, {.method = "POST", .body = {.pieces = {"hello"}}});
//
// Each exchange has its own connection. A separate thread sends the request, so that a response
// before its end is read, too. Any thread.
#ifndef CALLOUT_TESTS_ENVOY_CLIENT_H_
#define CALLOUT_TESTS_ENVOY_CLIENT_H_

#include <cstdint>
#include <string>

#include "http_message.h"

namespace callout::tests {

struct ClientRequest {
  std::string method = "GET";
  std::string target = "/";
  HttpFields headers = {};  // besides host, unless it is among them, and the body's length
  HttpBody body = {};
};

HttpMessage Exchange(uint16_t port, const ClientRequest& request);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_CLIENT_H_
