// SPDX-License-Identifier: Apache-2.0

// A transport without bytes, for targets that drive an RPC: it keeps what plugins post until the
// target delivers it.
//
// One thread.
#ifndef CALLOUT_TESTS_FUZZ_FUZZ_RPC_CONTEXT_H_
#define CALLOUT_TESTS_FUZZ_FUZZ_RPC_CONTEXT_H_

#include <deque>
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
  bool GetMetadata(std::string_view, uint32_t, std::string_view*) const override { return false; }

  // Gives the RPC what is posted, and calls `seen` after each.
  template <class Rpc, class Seen>
  void Deliver(Rpc* rpc, Seen seen) {
    while (!posted_.empty()) {
      const auto [call, event] = posted_.front();
      posted_.pop_front();
      rpc->OnPosted(call, event);
      seen();
    }
  }

  std::shared_ptr<std::string> message;  // that the RPC was given

 private:
  std::deque<std::pair<CallState*, Event>> posted_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_FUZZ_RPC_CONTEXT_H_
