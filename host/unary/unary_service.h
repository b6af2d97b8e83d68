// SPDX-License-Identifier: Apache-2.0

// What is special to one unary service: how its request is shown to an instance, and what
// the instances' responses come to. UnaryRpc does the rest: calls, deadlines, policies.
//
// An object serves one RPC and belongs to its thread. What FillCall shows lives as long as
// the object.
//
// Tested by tests/host/unary/check_service_test.cc.
#ifndef CALLOUT_HOST_UNARY_UNARY_SERVICE_H_
#define CALLOUT_HOST_UNARY_UNARY_SERVICE_H_

#include <callout/plugin.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "host/plugin/call.h"
#include "host/plugin/instance.h"
#include "host/plugin/match.h"
#include "host/plugin/violation.h"
#include "host/stream/stream_environment.h"
#include "host/wire/rpc_service.h"

namespace callout::host {

class UnaryService {
 public:
  // What an instance has to do with a request.
  enum class Role : uint8_t {
    kNone,    // nothing: it has no hook for the service
    kCalled,  // it is asked
    kCannot,  // it has hooks that would have to run, and cannot here
  };

  virtual ~UnaryService() = default;

  virtual RpcService service() const = 0;
  // Of its message, for the metrics.
  virtual callout_phase_t phase() const = 0;

  // Once, before all else. `bytes` outlive the object. RESOURCE_EXHAUSTED: the request is
  // over a limit that its sender's client can reach; others: it is no such request.
  virtual absl::Status Begin(std::string_view bytes) = 0;

  // What the request can be matched by.
  virtual const StreamFacts& Facts() = 0;
  virtual Role RoleOf(const Instance& instance) const = 0;
  // Why an instance of the role kCannot cannot be asked.
  virtual std::string WhyNot(const Instance& instance) const = 0;
  // The phase of a call of the instance.
  virtual callout_phase_t PhaseOf(const Instance& instance) const = 0;
  // Views and flags of the call.
  virtual void FillCall(const Instance& instance, callout_call_t* call) = 0;
  // HttpHeaders that may have x-request-id, for the log; empty: there are none.
  virtual std::string_view headers_for_log() = 0;

  // What a call of `phase` has come to that returned CALLOUT_OK. A fault if not ok(), of which
  // nothing is taken.
  virtual Finding Take(const CallState& state, callout_phase_t phase) = 0;
  // The plugin has refused by a status: CALLOUT_PERMISSION_DENIED or _UNAUTHENTICATED.
  virtual void TakeDenial(callout_status_t status, std::string_view why) = 0;
  // By the policy: the instance has no say, or refuses the request.
  virtual void Pass() = 0;
  virtual void Refuse(int http_status, std::string_view why) = 0;

  // What the last Take, TakeDenial or Refuse did to the request.
  struct Effect {
    bool changes = false;      // the request that passes, or what goes with it
    uint16_t http_status = 0;  // with which the client is refused; 0: it is not
    uint64_t set_bytes = 0;    // of names and values of headers, and of the body
  };
  virtual Effect last_effect() const = 0;

  // What it takes in memory, beside the request's bytes. Asked for after each step.
  virtual size_t kept_bytes() const = 0;

  // Nobody else is asked.
  virtual bool decided() const = 0;
  // The response, once it is decided or all have been asked.
  virtual std::string Write() = 0;
  // Of the response: it lets the request pass. For the metrics.
  virtual bool allowed() const = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_UNARY_SERVICE_H_
