// SPDX-License-Identifier: Apache-2.0

// An HTTP request or response, as a case has it and as backend and client get it.
//
// Values without behaviour.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_HTTP_MESSAGE_H_
#define CALLOUT_HOST_TESTER_HTTP_MESSAGE_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::host {

// Names in lower case, as in HTTP/2: ":path", ":status".
using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct HttpMessage {
  HeaderList headers;
  std::optional<std::string> body;  // nothing: the message ends with its headers
  HeaderList trailers;
};

inline std::vector<std::string> ValuesOf(const HeaderList& headers, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& [key, value] : headers) {
    if (key == name) values.push_back(value);
  }
  return values;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_HTTP_MESSAGE_H_
