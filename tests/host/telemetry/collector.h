// SPDX-License-Identifier: Apache-2.0

// A collector of traces on a free port, which answers as the test says.
//
//   Collector collector([](int request) { return HttpResponse{.status = request == 0 ? 503u :
//   200u}; }); … collector.url() … collector.Await(2);
//
// For one thread; replies are made on the server's.
#ifndef CALLOUT_TESTS_HOST_TELEMETRY_COLLECTOR_H_
#define CALLOUT_TESTS_HOST_TELEMETRY_COLLECTOR_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/net/accept_loop.h"
#include "host/net/listener.h"
#include "host/ops/http_server.h"
#include "tests/host/sockets.h"

namespace callout::host {

class Collector {
 public:
  struct Request {
    std::string target, content_type, body;
  };
  // What it replies to its request of this number, from 0.
  using Reply = std::function<HttpResponse(int number)>;

  explicit Collector(Reply reply, std::function<TlsContext()> tls = nullptr)
      : is_tls_(tls != nullptr) {
    HttpLimits limits;
    limits.body_bytes_max = 1 << 24;
    auto server = HttpServer::Create(&metrics_, limits);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto serve = server_->AddListener(
        "collector",
        [this, reply = std::move(reply)](const HttpRequestView& request) {
          int number = 0;
          requests_.Update([&](std::vector<Request>& requests) {
            number = static_cast<int>(requests.size());
            requests.push_back({std::string(request.target), std::string(request.content_type),
                                std::string(request.body)});
          });
          return reply(number);
        },
        std::move(tls));
    EXPECT_TRUE(serve.ok()) << serve.status();
    auto socket = ListenSocket::Open(ParsedAddress("127.0.0.1:0"));
    EXPECT_TRUE(socket.ok()) << socket.status();
    socket_.emplace(*std::move(socket));
    const absl::Status started = accept_loop_.Start({{.name = "collector",
                                                      .fd = socket_->fd(),
                                                      .on_connection = *serve,
                                                      .may_accept = nullptr}});
    EXPECT_TRUE(started.ok()) << started;
  }
  ~Collector() {
    accept_loop_.Stop();
    server_->Stop();
  }

  std::string url() const {
    return (is_tls_ ? "https://localhost:" : "http://127.0.0.1:") +
           std::to_string(socket_->bound().port()) + "/v1/traces";
  }
  // Fails the test if there are not so many requests before long.
  void Await(size_t count) {
    EXPECT_TRUE(requests_.Await([count](const auto& requests) { return requests.size() >= count; }))
        << requests_.Get().size() << " requests instead of " << count;
  }
  std::vector<Request> requests() { return requests_.Get(); }

 private:
  const bool is_tls_;
  Metrics metrics_;
  Watched<std::vector<Request>> requests_;
  std::unique_ptr<HttpServer> server_;
  std::optional<ListenSocket> socket_;
  AcceptLoop accept_loop_{&metrics_, [](const absl::Status& status) { ADD_FAILURE() << status; }};
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TELEMETRY_COLLECTOR_H_
