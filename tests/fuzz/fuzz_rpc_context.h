// SPDX-License-Identifier: Apache-2.0

// A transport without bytes, for targets that drive an RPC: it keeps what plugins post until the
// target delivers it.
//
// One thread at a time.
#ifndef CALLOUT_TESTS_FUZZ_FUZZ_RPC_CONTEXT_H_
#define CALLOUT_TESTS_FUZZ_FUZZ_RPC_CONTEXT_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "host/plugin/rpc_context.h"

namespace callout::host {

class FuzzRpcContext final : public RpcContext {
 public:
  void Post(CallState* call, Event event) override { posted_.emplace_back(call, event); }
  std::shared_ptr<const void> KeepMessage() override { return std::move(message); }
  std::string_view peer() const override { return "ipv4:192.0.2.1:1"; }
  std::string_view listener() const override { return "plaintext"; }
  std::string_view peer_identity() const override { return ""; }
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override {
    const auto found = metadata.find(key);
    if (found == metadata.end() || index != 0) return false;
    *value = found->second;
    return true;
  }

  // Gives the RPC what is posted, and calls `seen` after each. False: there was nothing.
  template <class Rpc, class Seen>
  bool Deliver(Rpc* rpc, Seen seen) {
    const bool delivers = !posted_.empty();
    while (!posted_.empty()) {
      const auto [call, event] = posted_.front();
      posted_.pop_front();
      rpc->OnPosted(call, event);
      seen();
    }
    return delivers;
  }

  std::shared_ptr<std::string> message;                      // that the RPC was given
  std::map<std::string, std::string, std::less<>> metadata;  // of the request

 private:
  std::deque<std::pair<CallState*, Event>> posted_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_FUZZ_RPC_CONTEXT_H_
