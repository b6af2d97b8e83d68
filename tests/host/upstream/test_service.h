// SPDX-License-Identifier: Apache-2.0

// A service on a free port that does what a test says: HTTP/1.1 or HTTP/2, with TLS or without,
// over TCP or a unix socket. A thread for each connection, blocking.
//
//   TestService service({}, [](const TestService::Request& request) {
//     return TestService::Reply{.body = "hello"};
//   });
//   … service.url() …
#ifndef CALLOUT_TESTS_HOST_UPSTREAM_TEST_SERVICE_H_
#define CALLOUT_TESTS_HOST_UPSTREAM_TEST_SERVICE_H_

#include <openssl/ssl.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "host/upstream/upstream_message.h"
#include "tests/host/sockets.h"

namespace callout::host {

class TestService {
 public:
  struct Request {
    std::string method, path, authority, body;
    HeaderFields headers;
    int number = 0;      // of the service's requests, from 1
    int connection = 0;  // of its connections, from 1

    std::string header(std::string_view name) const {
      for (const auto& [key, value] : headers) {
        if (key == name) return value;
      }
      return "";
    }
  };
  enum class Act {
    kRespond,
    kRespondAndClose,  // in order
    kRaw,              // `raw` in the place of a response (HTTP/1.1)
    kRawAndClose,
    kCut,      // all but the end
    kHang,     // no response
    kReset,    // of the connection, of HTTP/2 the stream
    kRefuse,   // REFUSED_STREAM
    kGarbage,  // no HTTP
  };
  struct Reply {
    Act act = Act::kRespond;
    int status = 200;
    HeaderFields headers = {};
    std::string body = "";
    HeaderFields trailers = {};
    std::string raw = "";
  };
  using Handler = std::function<Reply(const Request& request)>;

  struct Options {
    bool http2 = false;
    std::string unix_path = "";
    // PEM; not empty: with TLS.
    std::string certificate = "", key = "";
    std::string client_ca = "";  // PEM; not empty: clients need a certificate of it
    std::string alpn = "";       // "h2", "http/1.1"; "": what `http2` says
    // On a connection's thread, before TLS; false: it is closed. Null: all are served.
    std::function<bool(int connection)> admits = nullptr;
  };

  TestService(const Options& options, Handler handler);
  ~TestService() { Stop(); }
  TestService(const TestService&) = delete;
  TestService& operator=(const TestService&) = delete;

  // As an upstream's "url"; the host is "localhost".
  std::string url() const;
  int requests() { return requests_.Get(); }
  [[nodiscard]] bool AwaitRequests(int count) {
    return requests_.Await([count](int requests) { return requests >= count; });
  }
  int connections() { return connections_.Get(); }
  // Connections that have not ended.
  [[nodiscard]] bool AwaitOpen(int count) {
    return open_.Await([count](int open) { return open == count; });
  }
  // What the last TLS client named by SNI.
  std::string server_name() { return server_name_.Get(); }
  // Closes the connections that are open; new ones are accepted.
  void CloseConnections();
  // Closes all, and frees the port.
  void Stop();

 private:
  class Channel;
  friend class Channel;

  void Accept();
  void Serve(int fd, int number);
  void ServeHttp1(Channel* channel, int number);
  void ServeHttp2(Channel* channel, int number);
  Reply Ask(Request* request);

  const Options options_;
  const Handler handler_;
  std::string url_;
  SSL_CTX* tls_ = nullptr;
  Descriptor listener_;
  std::atomic<bool> stopping_{false};
  Watched<int> requests_, connections_, open_;
  Watched<std::string> server_name_;
  std::mutex mutex_;  // guards the following
  std::vector<int> fds_;
  std::vector<std::thread> threads_;
  std::thread accepting_;
};

// A port of 127.0.0.1 on which nobody listens.
std::string UnusedUrl();

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_UPSTREAM_TEST_SERVICE_H_
