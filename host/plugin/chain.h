// SPDX-License-Identifier: Apache-2.0

// The ordered instances that serve a stream. A chain never changes: a change of plugins makes a new
// one, and a stream keeps the chain that it began with.
#ifndef CALLOUT_HOST_PLUGIN_CHAIN_H_
#define CALLOUT_HOST_PLUGIN_CHAIN_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "host/metrics/metric_shards.h"
#include "host/plugin/instance.h"
#include "host/plugin/stream_share.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

// One instance's place in a chain.
struct ChainPlace {
  std::shared_ptr<Instance> instance;
  // Beside the share of its settings: two versions of one plugin divide the streams between them.
  StreamShare split = {};
};

// An instance that watches copies of what comes to its place.
struct Chain;
struct ShadowPlace {
  std::shared_ptr<Instance> instance;
  size_t position = 0;  // how many instances of the chain are before it, in request order
  // How many instances from there on it stands in the place of, by its setting `instead_of`: two
  // while one of them is a canary; 0: it comes in addition.
  size_t replaces = 0;
  std::shared_ptr<const Chain> alone = nullptr;  // of nothing but the shadow
};

struct Chain {
  Chain() : Chain(std::vector<ChainPlace>()) {}
  explicit Chain(const std::vector<std::shared_ptr<Instance>>& in_order)
      : Chain(PlacesOf(in_order)) {}
  explicit Chain(std::vector<ChainPlace> places, std::vector<ShadowPlace> in_shadow = {})
      : shadows(std::move(in_shadow)) {
    for (ChainPlace& place : places) {
      const InstanceSettings& settings = place.instance->settings();
      const StreamShare own(settings.percent, settings.by_header, place.instance->name());
      has_share = has_share || !own.all() || !place.split.all();
      shares.push_back({own, place.split});
      instances.push_back(std::move(place.instance));
    }
    if (!has_share) shares.clear();
    has_match = has_share;
    for (const ShadowPlace& shadow : shadows) shadow_phases |= shadow.instance->phases();
    for (const auto& instance : instances) {
      has_match = has_match || !instance->settings().match.empty();
      has_whole_body = has_whole_body || instance->whole_body_bytes_max() > 0;
      has_close = has_close || instance->has_stream_close();
      wants_request_headers =
          wants_request_headers || instance->wants(CALLOUT_WANT_REQUEST_HEADERS);
      services.Add(instance->plugin().hooks().services());
      constexpr uint64_t kFirst = CALLOUT_PHASE_BIT(0) | CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
      wants_later_phases = wants_later_phases || (instance->phases() & ~kFirst) != 0;
      phases |= instance->phases();
    }
    if (instances.empty()) services.Add(RpcService::kExtProc);
  }

  // Whether the instance at `index` serves the stream, by its share. `header` gives the value of a
  // request header, by its name in lower case.
  template <class Header>
  bool Shares(size_t index, uint64_t stream_id, Header header) const {
    if (!has_share) return true;
    for (const StreamShare& share : shares[index]) {
      const std::string_view value =
          share.by_header().empty() ? std::string_view() : header(share.by_header());
      if (!share.Takes(value, stream_id)) return false;
    }
    return true;
  }

  std::vector<std::shared_ptr<Instance>> instances;  // in request order
  std::vector<std::array<StreamShare, 2>> shares;    // of each; empty without has_share
  std::vector<ShadowPlace> shadows;                  // by position
  uint64_t phases = 0;                               // CALLOUT_PHASE_BITs that some instance wants
  uint64_t shadow_phases = 0;                        // the same of shadows
  bool has_share = false;                            // some instances have a share of the streams
  bool has_match = false;                            // some instances serve only some streams
  bool has_whole_body = false;                       // some instances take whole bodies
  bool has_close = false;                            // some instances are told of a stream's end
  bool wants_request_headers = false;                // some instances, in response phases
  bool wants_later_phases = false;                   // than request headers
  RpcServices services;  // that some plugin has hooks for; of an empty chain ext_proc

 private:
  static std::vector<ChainPlace> PlacesOf(const std::vector<std::shared_ptr<Instance>>& in_order) {
    std::vector<ChainPlace> places;
    for (const auto& instance : in_order) places.push_back({instance});
    return places;
  }
};

// The chain of `in_order`, with shadows among them beside it, each at its place. A stand-in for a
// shadow is left out: it has nothing that could be compared.
std::shared_ptr<const Chain> ArrangeChain(std::vector<ChainPlace> in_order);

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
  // `told` is called with the current chain, and then with each new one, before streams get it.
  // Null: nobody is told any more. Not called at the same time as itself or after it was replaced.
  void OnSwitch(std::function<void(const Chain&)> told);

 private:
  struct alignas(kNoSharingBytes) Shard {
    mutable std::mutex mutex;
    std::shared_ptr<const Chain> chain;  // counted on its own
  };

  std::array<Shard, kShards> shards_;
  std::atomic<uint32_t> services_{0};
  std::mutex told_mutex_;  // guards the following
  std::function<void(const Chain&)> told_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CHAIN_H_
