// SPDX-License-Identifier: Apache-2.0

// The server behind Envoy for --envoy: it keeps the request that it gets, and answers as the case
// says.
//
//   absl::StatusOr<std::unique_ptr<Backend>> backend = Backend::Start(path);
//   (*backend)->SetResponse(response);
//   …  std::optional<HttpMessage> request = (*backend)->TakeRequest();
//
// Any thread; one exchange at a time.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_BACKEND_H_
#define CALLOUT_HOST_TESTER_BACKEND_H_

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
  static absl::StatusOr<std::unique_ptr<Backend>> Start(const std::string& path);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  void SetResponse(HttpMessage response);
  // The last request since SetResponse; nothing if there was none.
  std::optional<HttpMessage> TakeRequest();

 private:
  explicit Backend(OwnedFd listener) : listener_(std::move(listener)) {}

  void Accept();
  void Serve(int fd);

  const OwnedFd listener_;
  std::mutex mutex_;  // guards the following
  HttpMessage response_;
  std::optional<HttpMessage> request_;
  std::vector<int> open_;  // connections
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // the first accepts
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_BACKEND_H_
