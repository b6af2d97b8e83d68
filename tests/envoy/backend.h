// SPDX-License-Identifier: Apache-2.0

// The HTTP/1.1 server behind Envoy: records what it gets and answers as told.
//
//   Backend backend;                                   // on a free port
//   backend.Answer({.status = 201, .body = {.pieces = {"made"}}});
//   … a request with the header x-test-id: 7 …
//   std::optional<HttpMessage> request = backend.TakeRequest("7");
//
// A connection has a thread of its own. All functions may be called from any
// thread; requests on their way while the answer is changed get either.
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

// By which a request is found again; plugins leave it alone.
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

  // The request with this id as far as it came, which is forgotten with it. It
  // is there before its answer goes out, unless that is at_headers. nullopt:
  // there is none.
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
