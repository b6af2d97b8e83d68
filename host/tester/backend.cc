// SPDX-License-Identifier: Apache-2.0

#include "host/tester/backend.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "host/base/thread.h"
#include "host/tester/http1.h"

namespace callout::host {

absl::StatusOr<std::unique_ptr<Backend>> Backend::Start(const std::string& path, Respond respond) {
  absl::StatusOr<OwnedFd> listener = ListenUnix(path);
  if (!listener.ok()) return listener.status();
  std::unique_ptr<Backend> backend(new Backend(*std::move(listener), std::move(respond)));
  absl::StatusOr<std::thread> thread =
      StartThread("the backend", [backend = backend.get()] { backend->Accept(); });
  if (!thread.ok()) return thread.status();
  backend->threads_.push_back(*std::move(thread));
  return backend;
}

Backend::~Backend() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

void Backend::SetResponse(HttpMessage response) {
  const std::lock_guard lock(mutex_);
  response_ = std::move(response);
  request_.reset();
}

std::optional<HttpMessage> Backend::TakeRequest() {
  const std::lock_guard lock(mutex_);
  return std::exchange(request_, std::nullopt);
}

void Backend::Accept() {
  for (;;) {
    const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    OwnedFd connection(fd);
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    absl::StatusOr<std::thread> thread =
        StartThread("a connection of the backend", [this, fd] { Serve(fd); });
    if (!thread.ok()) continue;  // Envoy finds the connection closed
    connection.Release();
    open_.push_back(fd);
    threads_.push_back(*std::move(thread));
  }
}

void Backend::Serve(int fd) {
  Http1Connection connection{OwnedFd(fd)};
  for (;;) {
    absl::StatusOr<HttpMessage> request = connection.ReadRequest();
    HttpMessage response;
    if (respond_ != nullptr && request.ok()) response = respond_(*request);
    {
      const std::lock_guard lock(mutex_);
      if (!request.ok() || stopping_) break;
      request_ = *std::move(request);
      if (respond_ == nullptr) response = response_;
    }
    if (!connection.Write(response).ok()) break;
  }
  const std::lock_guard lock(mutex_);
  std::erase(open_, fd);  // before it is closed, and may be another's
}

}  // namespace callout::host
