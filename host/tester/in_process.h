// SPDX-License-Identifier: Apache-2.0

// A chain of plugins in this process, and streams that run through it without sockets.
//
//   InProcessChain chain;
//   absl::Status status = chain.Add({.path = "auth.so", .name = "auth"});   // in request order
//   if (status.ok()) status = chain.Begin(limits);
//
//   InProcessRpc rpc;
//   Stream stream(chain.environment(), &rpc);
//   stream.OnMessage(bytes);                    // the bytes stay where they are
//   … rpc.Deliver(&stream, stream.deadline_ns()) …
//
// Add and Begin: one thread, first. Then any number of threads may have streams; a stream and its
// RPC belong to one thread. The chain outlives all streams.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_IN_PROCESS_H_
#define CALLOUT_HOST_TESTER_IN_PROCESS_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/extensions/extensions.h"
#include "host/metrics/metrics.h"
#include "host/plugin/chain.h"
#include "host/plugin/rpc_context.h"
#include "host/plugin/settings.h"
#include "host/stream/stream.h"
#include "host/stream/stream_environment.h"
#include "host/upstream/upstream_config.h"

namespace callout::host {

// The thread of the stream waits for what other threads post.
class InProcessRpc final : public RpcContext {
 public:
  void Post(CallState* call, Event event) override;
  // The messages stay where they are.
  std::shared_ptr<const void> KeepMessage() override { return nullptr; }
  std::string_view peer() const override { return "ipv4:127.0.0.1:1"; }
  std::string_view listener() const override { return "plaintext"; }
  std::string_view peer_identity() const override { return ""; }
  bool GetMetadata(std::string_view, uint32_t, std::string_view*) const override { return false; }

  // Hands what was posted to the stream. Waits for it until `deadline_ns` (MonotonicNs; 0: without
  // limit); false if nothing came.
  bool Deliver(Stream* stream, uint64_t deadline_ns);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<CallState*, Event>> posted_;
};

class InProcessChain {
 public:
  struct Plugin {
    std::string path;
    std::string name;
    std::string config = {};
    InstanceSettings settings = {};
  };

  // `upstreams` are the services that its plugins may call.
  explicit InProcessChain(std::vector<UpstreamConfig> upstreams = {})
      : extensions_(OptionsWith(std::move(upstreams)), &metrics_) {}
  InProcessChain(const InProcessChain&) = delete;
  InProcessChain& operator=(const InProcessChain&) = delete;

  // Loads the plugin and creates its instance, but for one that its settings disable. A shadow is
  // created, so that its errors show, and then left out of the chain: it must not decide, and no
  // exchanges are copied here.
  absl::Status Add(const Plugin& plugin);
  // Of Add: plugins that do not run, one line each.
  const std::vector<std::string>& warnings() const { return warnings_; }
  absl::Status Begin(const StreamLimits& limits);

  StreamEnvironment* environment() { return environment_.get(); }
  const Metrics& metrics() const { return metrics_; }

 private:
  static ExtensionOptions OptionsWith(std::vector<UpstreamConfig> upstreams) {
    ExtensionOptions options;
    options.upstreams = std::move(upstreams);
    return options;
  }

  Metrics metrics_;
  Extensions extensions_;
  std::vector<ChainPlace> places_;  // until Begin
  std::vector<std::string> warnings_;
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
};

// Keeps what a plugin with an unfinished call may still touch until the process ends, where a leak
// checker finds it. Any thread.
template <class Kept>
void KeepForEver(std::unique_ptr<Kept> one) {
  static std::mutex mutex;
  static auto* const all = new std::vector<std::unique_ptr<Kept>>;  // guarded by mutex
  const std::lock_guard lock(mutex);
  all->push_back(std::move(one));
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_IN_PROCESS_H_
