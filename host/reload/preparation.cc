// SPDX-License-Identifier: Apache-2.0

#include "host/reload/preparation.h"

#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/status/status.h"

namespace callout::host {
namespace {

std::atomic<size_t> g_running{0};

struct Order {
  std::function<void()> run;
};

// Not std::thread, whose constructor throws if no thread can be started.
void* RunOrder(void* argument) {
  const std::unique_ptr<Order> order(static_cast<Order*>(argument));
  order->run();
  return nullptr;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Preparation>> Preparation::Start(GenerationTarget* target,
                                                                GenerationSource source) {
  auto preparation = std::make_shared<Preparation>();
  auto order = std::make_unique<Order>();
  order->run = [preparation, target, source = std::move(source)] {
    preparation->Finish(target->Prepare(source));
  };
  pthread_t thread;
  g_running.fetch_add(1);
  const int error = pthread_create(&thread, nullptr, RunOrder, order.get());
  if (error != 0) {
    g_running.fetch_sub(1);
    return absl::UnavailableError(
        fmt::format("no thread to create it on: {}; raise the limit on tasks", strerror(error)));
  }
  static_cast<void>(order.release());  // the thread's now
  pthread_detach(thread);
  return preparation;
}

void Preparation::Finish(Result result) {
  const std::lock_guard<std::mutex> lock(mutex_);
  result_ = std::move(result);
  g_running.fetch_sub(1);
  done_.notify_all();
}

bool Preparation::WaitFor(uint64_t ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  return done_.wait_for(lock, std::chrono::nanoseconds(ns), [this] { return result_.has_value(); });
}

size_t Preparation::running() { return g_running.load(); }

}  // namespace callout::host
