// SPDX-License-Identifier: Apache-2.0

// The ordered instances that serve a stream. A chain never changes: a change of plugins makes a new
// one, and a stream keeps the chain that it began with.
#ifndef CALLOUT_HOST_PLUGIN_CHAIN_H_
#define CALLOUT_HOST_PLUGIN_CHAIN_H_

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host/metrics/metric_shards.h"
#include "host/plugin/instance.h"

namespace callout::host {

struct Chain {
  Chain() = default;
  explicit Chain(std::vector<std::shared_ptr<Instance>> in_order) : instances(std::move(in_order)) {
    for (const auto& instance : instances) {
      has_match = has_match || !instance->settings().match.empty();
      has_whole_body = has_whole_body || instance->whole_body_bytes_max() > 0;
      has_close = has_close || instance->has_stream_close();
      wants_request_headers =
          wants_request_headers || instance->wants(CALLOUT_WANT_REQUEST_HEADERS);
    }
  }

  std::vector<std::shared_ptr<Instance>> instances;  // in request order
  bool has_match = false;                            // some instances serve only some streams
  bool has_whole_body = false;                       // some instances take whole bodies
  bool has_close = false;                            // some instances are told of a stream's end
  bool wants_request_headers = false;                // some instances, in response phases
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
  Holders Switch(const std::shared_ptr<const Chain>& chain);

 private:
  struct alignas(kNoSharingBytes) Shard {
    mutable std::mutex mutex;
    std::shared_ptr<const Chain> chain;  // counted on its own
  };

  std::array<Shard, kShards> shards_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CHAIN_H_
