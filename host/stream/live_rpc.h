// SPDX-License-Identifier: Apache-2.0

// What can be said of an RPC that is not over: for the admin page.
//
// Plain values.
//
// Tested by tests/host/transport/live_rpcs_test.cc.
#ifndef CALLOUT_HOST_STREAM_LIVE_RPC_H_
#define CALLOUT_HOST_STREAM_LIVE_RPC_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace callout::host {

struct LiveRpc {
  std::string kind;  // "ext_proc", "network_ext_proc", …; "health or reflection"
  std::string peer;  // as RpcContext::peer
  uint64_t stream_id = 0;
  uint64_t begin_ns = 0;  // CLOCK_MONOTONIC
  std::string phase;      // of the message that is under way, or that came last; "": none yet
  std::string plugin;     // that the message waits for; "": the next message is waited for
  std::string state;      // "waits for Envoy", "called", "its turn", "holds headers", …
};

struct LiveRpcs {
  std::vector<LiveRpc> rpcs;  // oldest first
  size_t left_out = 0;        // further ones
  // Threads that did not tell in time: a hook runs there.
  size_t silent_threads = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_LIVE_RPC_H_
