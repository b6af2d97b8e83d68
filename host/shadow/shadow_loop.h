// SPDX-License-Identifier: Apache-2.0

// One thread that runs exchanges of shadows, many at a time where their calls are deferred. A part
// of ShadowRunner.
//
// Tested by tests/host/shadow/shadow_runner_test.cc.
#ifndef CALLOUT_HOST_SHADOW_SHADOW_LOOP_H_
#define CALLOUT_HOST_SHADOW_SHADOW_LOOP_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/rpc_context.h"
#include "host/shadow/shadow_exchange.h"

namespace callout::host {

class ShadowRun;
class ShadowRunner;
class StreamEnvironment;

class ShadowLoop {
 public:
  // Both outlive it.
  ShadowLoop(ShadowRunner* runner, StreamEnvironment* environment);
  ~ShadowLoop();

  absl::Status Start();
  void BeginStop();
  // False if it has not ended by then, for a plugin still has a call. Then it must not be
  // destroyed.
  bool AwaitStop(uint64_t deadline_ns);

  // Any thread.
  void Add(std::unique_ptr<ShadowExchange> exchange);
  void Post(ShadowRun* run, CallState* call, RpcContext::Event event);

 private:
  struct Posted {
    ShadowRun* run;
    CallState* call;
    RpcContext::Event event;
  };

  void Run();
  uint64_t NextDeadline() const;
  void Advance(ShadowRun* run);
  void DropFinished();
  void GiveUpRuns();

  ShadowRunner* const runner_;
  StreamEnvironment* const environment_;
  std::vector<std::unique_ptr<ShadowRun>> runs_;  // of the thread
  std::thread thread_;

  std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::deque<std::unique_ptr<ShadowExchange>> added_;
  std::vector<Posted> posted_;
  bool stop_ = false;
  bool ended_ = true;
};

// Tells each ShadowRun of the faults and times of its calls. For the watchers of the environment.
std::unique_ptr<RpcWatcher> MakeShadowRunWatcher();

}  // namespace callout::host

#endif  // CALLOUT_HOST_SHADOW_SHADOW_LOOP_H_
