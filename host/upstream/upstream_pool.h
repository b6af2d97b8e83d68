// SPDX-License-Identifier: Apache-2.0

// The upstreams of a process, and the thread on which their calls are made.
//
//   UpstreamPool pool({.upstreams = configs}, &metrics);
//   const UpstreamConfig* tokens = pool.Find("tokens");
//   absl::StatusOr<uint64_t> id = pool.Start(*tokens, "10-auth", request, done);
//   pool.Cancel(*tokens, *id);
//
// The thread is started with the first call. `done` is called on it, and holds up all upstreams as
// long as it runs.
//
// Any thread. Every owner of a `done` must be gone, or take it no longer, before the destructor.
//
// Tested by tests/host/upstream/upstream_test.cc.
#ifndef CALLOUT_HOST_UPSTREAM_UPSTREAM_POOL_H_
#define CALLOUT_HOST_UPSTREAM_UPSTREAM_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "host/metrics/metrics.h"
#include "host/upstream/upstream_config.h"
#include "host/upstream/upstream_message.h"

namespace callout::host {

class UpstreamPool {
 public:
  using Done = std::function<void(UpstreamResult result)>;

  struct Options {
    std::vector<UpstreamConfig> upstreams;
    // False where plugins are only checked: no call can be started.
    bool runs = true;
  };

  // `metrics` outlives it.
  UpstreamPool(const Options& options, Metrics* metrics);
  ~UpstreamPool();
  UpstreamPool(const UpstreamPool&) = delete;
  UpstreamPool& operator=(const UpstreamPool&) = delete;

  // Null if there is none. Valid as long as the pool.
  const UpstreamConfig* Find(std::string_view name) const;
  std::vector<std::string_view> names() const;

  // The next id of a call; from 1.
  uint64_t NextId() { return last_id_.fetch_add(1) + 1; }
  // Starts the call `id`. UNAVAILABLE if there is no thread: `done` is not called.
  absl::Status Start(const UpstreamConfig& upstream, uint64_t id, std::string owner,
                     UpstreamRequest request, Done done);
  // Soon; `done` may be called meanwhile.
  void Cancel(const UpstreamConfig& upstream, uint64_t id);

  // For the end of the process: drops all calls. False if a `done` has not returned within
  // `timeout_ms`: then nothing that it may touch can be destroyed.
  bool Stop(uint64_t timeout_ms);

 private:
  struct Core;
  absl::Status EnsureThread();

  const bool runs_;
  std::unique_ptr<Core> core_;
  std::atomic<uint64_t> last_id_{0};
  std::atomic<bool> has_thread_{false};
  std::mutex mutex_;  // guards the following
  std::thread thread_;
  uint64_t try_thread_at_ns_ = 0;  // after a failure
  bool stopping_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UPSTREAM_UPSTREAM_POOL_H_
