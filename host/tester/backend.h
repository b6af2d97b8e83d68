// SPDX-License-Identifier: Apache-2.0

// An HTTP/1.1 server on a Unix socket: behind Envoy for --envoy, where it keeps the request that it
// gets and responds as the case says, and for the services that plugins call.
//
//   absl::StatusOr<std::unique_ptr<Backend>> backend = Backend::Start(path);
//   (*backend)->SetResponse(response);
//   …  std::optional<HttpMessage> request = (*backend)->TakeRequest();
//
// Any thread; SetResponse and TakeRequest are for one exchange at a time.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_BACKEND_H_
#define CALLOUT_HOST_TESTER_BACKEND_H_

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/owned_fd.h"
#include "host/tester/http_message.h"

namespace callout::host {

class Backend {
 public:
  // Called on the connection's thread.
  using Respond = std::function<HttpMessage(const HttpMessage& request)>;

  // With `respond` its responses are sent, and not that of SetResponse.
  static absl::StatusOr<std::unique_ptr<Backend>> Start(const std::string& path,
                                                        Respond respond = nullptr);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  void SetResponse(HttpMessage response);
  // The last request since SetResponse; nothing if there was none.
  std::optional<HttpMessage> TakeRequest();

 private:
  Backend(OwnedFd listener, Respond respond)
      : listener_(std::move(listener)), respond_(std::move(respond)) {}

  void Accept();
  void Serve(int fd);

  const OwnedFd listener_;
  const Respond respond_;
  std::mutex mutex_;  // guards the following
  HttpMessage response_;
  std::optional<HttpMessage> request_;
  std::vector<int> open_;  // connections
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // the first accepts
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_BACKEND_H_
