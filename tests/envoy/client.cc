// SPDX-License-Identifier: Apache-2.0

#include "client.h"

#include <sys/socket.h>

#include <thread>

#include "../host/sockets.h"
#include "absl/strings/str_cat.h"

namespace callout::tests {

HttpMessage Exchange(uint16_t port, const ClientRequest& request) {
  const host::Descriptor connection =
      host::Connect(host::ParsedAddress(absl::StrCat("127.0.0.1:", port)));
  HttpFields headers = request.headers;
  if (ValuesOf(headers, "host").empty()) {
    headers.insert(headers.begin(), {"host", "client.example"});
  }
  std::thread sender([&] {
    SendMessage(connection.get(), absl::StrCat(request.method, " ", request.target, " HTTP/1.1"),
                headers, request.body, /*omit_empty=*/true);
  });
  HttpMessage response = HttpReader<false>(connection.get(), host::kGiveUpMs).Read();
  // Whoever has answered may not read on.
  shutdown(connection.get(), SHUT_RDWR);
  sender.join();
  return response;
}

}  // namespace callout::tests
