// SPDX-License-Identifier: Apache-2.0

// The ordered instances that serve a stream. A chain never changes: a change of plugins makes a new
// one, and a stream keeps the chain that it began with.
#ifndef CALLOUT_HOST_PLUGIN_CHAIN_H_
#define CALLOUT_HOST_PLUGIN_CHAIN_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host/metrics/metric_shards.h"
#include "host/plugin/instance.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

struct Chain {
  Chain() : Chain(std::vector<std::shared_ptr<Instance>>()) {}
  explicit Chain(std::vector<std::shared_ptr<Instance>> in_order) : instances(std::move(in_order)) {
    for (const auto& instance : instances) {
      has_match = has_match || !instance->settings().match.empty();
      has_whole_body = has_whole_body || instance->whole_body_bytes_max() > 0;
      has_close = has_close || instance->has_stream_close();
      wants_request_headers =
          wants_request_headers || instance->wants(CALLOUT_WANT_REQUEST_HEADERS);
      services.Add(instance->plugin().hooks().services());
      constexpr uint64_t kFirst = CALLOUT_PHASE_BIT(0) | CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
      wants_later_phases = wants_later_phases || (instance->phases() & ~kFirst) != 0;
    }
    if (instances.empty()) services.Add(RpcService::kExtProc);
  }

  std::vector<std::shared_ptr<Instance>> instances;  // in request order
  bool has_match = false;                            // some instances serve only some streams
  bool has_whole_body = false;                       // some instances take whole bodies
  bool has_close = false;                            // some instances are told of a stream's end
  bool wants_request_headers = false;                // some instances, in response phases
  bool wants_later_phases = false;                   // than request headers
  RpcServices services;  // that some plugin has hooks for; of an empty chain ext_proc
};

// The chain that new streams get. Any thread.
//
// Threads take it from shards, each with its own lock and reference count, so that serving threads
// do not contend.
class ChainSource {
 public:
  static constexpr size_t kShards = 16;

  // The number of holders of a chain.
  class Holders {
   public:
    // The source holds its current chain kShards times.
    size_t Count() const;

   private:
    friend class ChainSource;
    std::array<std::weak_ptr<const Chain>, kShards> by_shard_;
  };

  explicit ChainSource(const std::shared_ptr<const Chain>& chain) { Switch(chain); }

  std::shared_ptr<const Chain> current() const;
  // Of the current chain, without taking hold of it.
  RpcServices services() const {
    return RpcServices::FromBits(services_.load(std::memory_order_relaxed));
  }
  Holders Switch(const std::shared_ptr<const Chain>& chain);

 private:
  struct alignas(kNoSharingBytes) Shard {
    mutable std::mutex mutex;
    std::shared_ptr<const Chain> chain;  // counted on its own
  };

  std::array<Shard, kShards> shards_;
  std::atomic<uint32_t> services_{0};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CHAIN_H_
