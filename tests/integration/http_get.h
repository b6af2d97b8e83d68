// SPDX-License-Identifier: Apache-2.0

// Makes one HTTP/1.1 request on a connection of its own, a form as well, and reads the page
// /metrics.
#ifndef CALLOUT_TESTS_INTEGRATION_HTTP_GET_H_
#define CALLOUT_TESTS_INTEGRATION_HTTP_GET_H_

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/numbers.h"
#include "tests/host/sockets.h"

namespace callout::tests {

// All that comes back.
inline std::string HttpGet(const std::string& address, const std::string& method = "GET",
                           const std::string& path = "/any") {
  const host::Descriptor client = host::Connect(host::ParsedAddress(address));
  host::Write(client.get(),
              method + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
  return host::ReadToEnd(client.get());
}

// The same for a form, with further header lines.
inline std::string HttpPost(const std::string& address, const std::string& path,
                            const std::string& form, const std::string& headers = "") {
  const host::Descriptor client = host::Connect(host::ParsedAddress(address));
  host::Write(client.get(),
              "POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers +
                  "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
                  std::to_string(form.size()) + "\r\nConnection: close\r\n\r\n" + form);
  return host::ReadToEnd(client.get());
}

// The value of this series on the page /metrics; -1 if it is not there.
inline double MetricOf(const std::string& admin_address, const std::string& series) {
  const std::string page = HttpGet(admin_address, "GET", "/metrics");
  const size_t at = page.find("\n" + series + " ");
  double value = -1;
  if (at != std::string::npos) {
    const size_t begin = at + series.size() + 2;
    EXPECT_TRUE(absl::SimpleAtod(page.substr(begin, page.find('\n', begin) - begin), &value));
  }
  return value;
}

// Nobody listens there.
inline bool Refused(const std::string& address_text) {
  const host::Address address = host::ParsedAddress(address_text);
  const host::Descriptor fd = host::MakeSocket(address);
  return connect(fd.get(), address.get(), address.size) != 0;
}

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_INTEGRATION_HTTP_GET_H_
