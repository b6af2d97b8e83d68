// One request of HTTP/1.1 on a connection of its own.
#ifndef CALLOUT_TESTS_INTEGRATION_HTTP_GET_H_
#define CALLOUT_TESTS_INTEGRATION_HTTP_GET_H_

#include <string>

#include "tests/host/sockets.h"

namespace callout::tests {

// All that comes back.
inline std::string HttpGet(const std::string& address, const std::string& method = "GET",
                           const std::string& path = "/any") {
  const host::Descriptor client = host::Connect(host::ParsedAddress(address));
  host::Write(client.get(),
              method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  return host::ReadToEnd(client.get());
}

// Nobody listens there.
inline bool Refused(const std::string& address_text) {
  const host::Address address = host::ParsedAddress(address_text);
  const host::Descriptor fd = host::MakeSocket(address);
  return connect(fd.get(), address.get(), address.size) != 0;
}

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_INTEGRATION_HTTP_GET_H_
