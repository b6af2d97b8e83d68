// The ordered instances that serve a stream. Immutable: a change of plugins makes
// a new chain, and streams keep the one they began with.
#ifndef CALLOUT_HOST_CHAIN_H_
#define CALLOUT_HOST_CHAIN_H_

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "host/instance.h"

namespace callout::host {

struct Chain {
  Chain() = default;
  explicit Chain(std::vector<std::shared_ptr<Instance>> in_order) : instances(std::move(in_order)) {
    for (const auto& instance : instances) {
      has_match = has_match || !instance->settings().match.empty();
    }
  }

  std::vector<std::shared_ptr<Instance>> instances;  // in request order
  bool has_match = false;                            // some serve some streams only
};

// The chain that new streams get. Any thread.
class ChainSource {
 public:
  explicit ChainSource(std::shared_ptr<const Chain> chain) : chain_(std::move(chain)) {}

  std::shared_ptr<const Chain> current() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return chain_;
  }
  void Switch(std::shared_ptr<const Chain> chain) {
    std::lock_guard<std::mutex> lock(mutex_);
    chain_.swap(chain);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Chain> chain_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_CHAIN_H_
