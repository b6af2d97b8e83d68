// SPDX-License-Identifier: Apache-2.0

#include "backend.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace callout::tests {
namespace {

constexpr int kBacklog = 128;

}  // namespace

Backend::Backend() {
  host::Address address = host::ParsedAddress("127.0.0.1:0");
  listener_ = host::MakeSocket(address);
  EXPECT_EQ(bind(listener_.get(), address.get(), address.size), 0) << strerror(errno);
  EXPECT_EQ(listen(listener_.get(), kBacklog), 0) << strerror(errno);
  getsockname(listener_.get(), address.get(), &address.size);
  port_ = address.port();
  Answer({});
  acceptor_ = std::thread([this] { Accept(); });
}

Backend::~Backend() {
  shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  {
    std::lock_guard lock(mutex_);
    for (const host::Descriptor& connection : connections_) shutdown(connection.get(), SHUT_RDWR);
  }
  for (std::thread& server : servers_) server.join();
}

void Backend::Answer(BackendAnswer answer) {
  AnswerBy([answer = std::move(answer)](const HttpMessage&) { return answer; });
}

void Backend::AnswerBy(Script script) {
  std::lock_guard lock(mutex_);
  script_ = std::move(script);
}

std::optional<HttpMessage> Backend::TakeRequest(const std::string& id) {
  std::optional<HttpMessage> request;
  requests_.Update([&](auto& requests) {
    const auto found = requests.find(id);
    if (found == requests.end()) return;
    request = std::move(found->second);
    requests.erase(found);
  });
  return request;
}

std::optional<HttpMessage> Backend::AwaitRequest(const std::string& id) {
  if (!requests_.Await([&](const auto& requests) { return requests.contains(id); })) {
    ADD_FAILURE() << "the backend got no request " << id;
  }
  return TakeRequest(id);
}

void Backend::Accept() {
  for (;;) {
    host::Descriptor connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection.get() < 0) return;
    const int fd = connection.get();
    std::lock_guard lock(mutex_);
    connections_.push_back(std::move(connection));
    servers_.emplace_back([this, fd] { Serve(fd); });
  }
}

void Backend::Serve(int fd) {
  HttpReader<true> reader(fd, /*patience_ms=*/-1);
  const auto send = [fd](const BackendAnswer& answer) {
    SendMessage(fd, absl::StrCat("HTTP/1.1 ", answer.status, " Told"), answer.headers, answer.body,
                /*omit_empty=*/false);
  };
  for (;;) {
    bool answered = false;
    HttpMessage request = reader.Read([&](const HttpMessage& so_far) {
      const BackendAnswer answer = AnswerTo(so_far);
      answered = answer.at_headers;
      if (answered) send(answer);
    });
    if (request.method.empty()) break;
    const bool complete = request.complete;
    const BackendAnswer answer = AnswerTo(request);
    requests_.Update([&](auto& requests) {
      requests[request.Header(kTestIdHeader).value_or("")] = std::move(request);
    });
    if (!complete) break;
    if (!answered) send(answer);
  }
  // The descriptor is the destructor's to close; Envoy has to know now.
  shutdown(fd, SHUT_RDWR);
}

BackendAnswer Backend::AnswerTo(const HttpMessage& request) {
  Script script;
  {
    std::lock_guard lock(mutex_);
    script = script_;
  }
  return script(request);
}

}  // namespace callout::tests
