// SPDX-License-Identifier: Apache-2.0

// What the microbenchmarks drive streams with: a chain of plugins, without any
// transport.
#ifndef CALLOUT_TESTS_BENCH_MICRO_RIG_H_
#define CALLOUT_TESTS_BENCH_MICRO_RIG_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/metrics/metrics.h"
#include "host/plugin/rpc_context.h"
#include "host/stream/stream.h"
#include "tests/bench/messages.h"

namespace callout::bench {

// A plugin of this process with one hook, for request headers.
std::shared_ptr<const host::Plugin> MakePlugin(host::Hooks::CallHook on_request_headers);
// Exits with a message if it cannot be loaded.
std::shared_ptr<const host::Plugin> LoadBuiltPlugin(const std::string& path);

class Rig final : public host::RpcContext {
 public:
  // A chain of `count` instances of `plugin`, which may be null if there are none.
  Rig(const std::shared_ptr<const host::Plugin>& plugin, size_t count);

  // Runs a whole stream. A call that its hook has put into `deferred` is finished
  // before the next message.
  void RunStream(const Scenario& scenario);
  static inline callout_call_t* deferred = nullptr;

  host::Metrics& metrics() { return metrics_; }

  // RpcContext
  void Post(host::CallState* call, Event event) override { posted_.emplace_back(call, event); }
  std::shared_ptr<const void> KeepMessage() override { return nullptr; }
  std::string_view peer() const override { return "ipv4:192.0.2.1:4711"; }
  std::string_view listener() const override { return "plaintext"; }
  std::string_view peer_identity() const override { return ""; }
  bool GetMetadata(std::string_view, uint32_t, std::string_view*) const override { return false; }

 private:
  host::Metrics metrics_;
  std::unique_ptr<host::ChainSource> chains_;
  std::unique_ptr<host::StreamEnvironment> environment_;
  std::vector<std::pair<host::CallState*, Event>> posted_;
};

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_MICRO_RIG_H_
