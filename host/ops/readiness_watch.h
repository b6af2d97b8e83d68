// SPDX-License-Identifier: Apache-2.0

// Reports changes of readiness to modules that answer health checks themselves, such as gRPC
// health.
//
//   auto watch = ReadinessWatch::Start([&] { return health.ready(); },
//                                      [&](bool ready) { traffic->SetServing(ready); });
//   …  watch->reset();   // no further report
//
// Readiness depends on workers and plugins, whose threads know nothing of health. So one thread
// asks ten times a second.
//
// Start and the destructor belong to one thread.
#ifndef CALLOUT_HOST_OPS_READINESS_WATCH_H_
#define CALLOUT_HOST_OPS_READINESS_WATCH_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/statusor.h"

namespace callout::host {

class ReadinessWatch {
 public:
  // Calls `tell` before it returns, and then on the watch's thread after each change.
  // UNAVAILABLE if the thread cannot be started.
  static absl::StatusOr<std::unique_ptr<ReadinessWatch>> Start(std::function<bool()> ready,
                                                               std::function<void(bool)> tell);
  // Waits for a `tell` under way.
  ~ReadinessWatch();
  ReadinessWatch(const ReadinessWatch&) = delete;
  ReadinessWatch& operator=(const ReadinessWatch&) = delete;

 private:
  ReadinessWatch(std::function<bool()> ready, std::function<void(bool)> tell);
  void Run(bool told);

  const std::function<bool()> ready_;
  const std::function<void(bool)> tell_;
  std::mutex mutex_;  // guards the following
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_OPS_READINESS_WATCH_H_
