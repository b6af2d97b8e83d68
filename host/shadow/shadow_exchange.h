// SPDX-License-Identifier: Apache-2.0

// What a shadow needs to see of an exchange, and what the exchange came to without it. Plain
// values; the limits and the ways of its threads are ShadowRunner's.
//
// Tested by tests/host/shadow/shadow_runner_test.cc.
#ifndef CALLOUT_HOST_SHADOW_SHADOW_EXCHANGE_H_
#define CALLOUT_HOST_SHADOW_SHADOW_EXCHANGE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/diff/difference.h"
#include "host/diff/outcome.h"
#include "host/plugin/chain.h"
#include "host/plugin/violation.h"

namespace callout::host {

struct ShadowLimits {
  size_t threads = 1;                     // --shadow_threads
  size_t exchanges_max = 1000;            // --max_shadow_exchanges
  size_t bytes_max = size_t{64} << 20;    // --max_shadow_bytes
  size_t exchange_bytes_max = 1'048'576;  // --max_shadow_exchange_bytes
};

struct ShadowExchange {
  std::shared_ptr<const Chain> chain;  // of the shadow alone
  // As of the RPC.
  std::string peer, listener, peer_identity;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string request_id;
  // ProcessingRequests as they came to the shadow's place, in their order, with their phases.
  struct Message {
    callout_phase_t phase;
    std::string request;
  };
  std::vector<Message> messages;
  ExchangeOutcome before;                 // what left the place without it
  DifferenceSummary::Times before_times;  // of the instance in whose place it stands
  size_t bytes = 0;                       // of `messages` and `metadata`; counted for the limit

  const Instance& instance() const { return *chain->instances.front(); }
};

// What the error of an outcome says of a fault: "deadline in request_headers".
std::string FaultText(Violation violation, callout_phase_t phase);

// What a shadow has done otherwise.
struct ShadowReport {
  std::string plugin;
  uint64_t generation = 0;
  std::string instead_of;  // "": it comes in addition
  DifferenceSummary summary;
};

// {"shadows": [{"plugin": "auth-new", "generation": 1, "instead_of": "auth", …}]}, with the members
// of ReportJson. Reports of several processes about one plugin are added up; of older generations
// they are left out.
std::string ShadowsJson(std::vector<ShadowReport> reports);
// The same, added up.
std::vector<ShadowReport> JoinShadowReports(std::vector<ShadowReport> reports);

}  // namespace callout::host

#endif  // CALLOUT_HOST_SHADOW_SHADOW_EXCHANGE_H_
