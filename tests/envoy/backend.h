// SPDX-License-Identifier: Apache-2.0

// The HTTP/1.1 server behind Envoy. It records requests and sends a configurable response.
//
//   Backend backend;                                   // on a free port
//   backend.Answer({.status = 201, .body = {.pieces = {"made"}}});
//   … a request with the header x-test-id: 7 …
//   std::optional<HttpMessage> request = backend.TakeRequest("7");
//
// Each connection has a thread of its own. Any thread may call all functions. Requests that arrive
// while the response is changed get either.
#ifndef CALLOUT_TESTS_ENVOY_BACKEND_H_
#define CALLOUT_TESTS_ENVOY_BACKEND_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "../host/sockets.h"
#include "http_message.h"

namespace callout::tests {

// Identifies a request; plugins do not change it.
inline constexpr char kTestIdHeader[] = "x-test-id";

struct BackendAnswer {
  int status = 200;
  HttpFields headers = {};
  HttpBody body = {};
  bool at_headers = false;  // without waiting for the request's body
};

class Backend {
 public:
  using Script = std::function<BackendAnswer(const HttpMessage& request)>;

  Backend();
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  uint16_t port() const { return port_; }

  void Answer(BackendAnswer answer);
  void AnswerBy(Script script);

  // Removes and returns the request with this id, as far as it has arrived. It is recorded before
  // its response goes out, unless that is at_headers. nullopt: there is none.
  std::optional<HttpMessage> TakeRequest(const std::string& id);
  // Waits for it.
  std::optional<HttpMessage> AwaitRequest(const std::string& id);

 private:
  void Accept();
  void Serve(int fd);
  BackendAnswer AnswerTo(const HttpMessage& request);

  host::Descriptor listener_;
  uint16_t port_ = 0;
  host::Watched<std::map<std::string, HttpMessage>> requests_;  // by id

  std::mutex mutex_;
  Script script_;
  std::list<host::Descriptor> connections_;
  std::list<std::thread> servers_;
  std::thread acceptor_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_BACKEND_H_
