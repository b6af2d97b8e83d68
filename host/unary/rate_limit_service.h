// SPDX-License-Identifier: Apache-2.0

// Rate limits: one ShouldRateLimit, as the instances of a chain answer it.
//
// An instance with callout_on_rate_limit is asked by it. With nothing set the request is within its
// limits. The first that says otherwise ends it. Nobody was asked: the request is over the limit.
//
// What goes out has the effect of as many rate limit filters in a row: headers of all that had let
// the request pass, metadata of all. There is one list of statuses: of each descriptor that of the
// instance which leaves least.
//
// Envoy answers what is over the limit with the status of its configuration, 429 by default. So a
// status that the host or an operator's policy would give has no place here.
//
// Tested by tests/host/unary/rate_limit_test.cc.
#ifndef CALLOUT_HOST_UNARY_RATE_LIMIT_SERVICE_H_
#define CALLOUT_HOST_UNARY_RATE_LIMIT_SERVICE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/match.h"
#include "host/unary/unary_service.h"
#include "host/wire/rate_limit.h"

namespace callout::host {

class RateLimitService final : public UnaryService {
 public:
  // `limits` outlives it.
  explicit RateLimitService(const StreamLimits* limits) : limits_(limits) {}

  RpcService service() const override { return RpcService::kRateLimit; }
  callout_phase_t phase() const override { return CALLOUT_RATE_LIMIT; }
  absl::Status Begin(std::string_view bytes) override;
  const StreamFacts& Facts() override;
  Role RoleOf(const Instance& instance) const override {
    return instance.Wants(CALLOUT_RATE_LIMIT) ? Role::kCalled : Role::kNone;
  }
  std::string WhyNot(const Instance&) const override { return ""; }
  callout_phase_t PhaseOf(const Instance&) const override { return CALLOUT_RATE_LIMIT; }
  void FillCall(const Instance& instance, callout_call_t* call) override;
  std::string_view headers_for_log() override { return {}; }
  Finding Take(const CallState& state, callout_phase_t phase) override;
  void TakeDenial(callout_status_t status, std::string_view why) override;
  void Pass() override { has_say_ = true; }
  void Refuse(int http_status, std::string_view why) override;
  Effect last_effect() const override { return last_effect_; }
  size_t kept_bytes() const override;
  bool decided() const override { return over_limit_; }
  std::string Write() override;
  bool allowed() const override { return !over_limit_ && has_say_; }

 private:
  struct Status {
    std::string bytes;  // a DescriptorStatus
    uint64_t code = 0;
    bool has_limit = false;
    uint64_t remaining = 0;
  };

  void BeOverLimit();
  void TakeStatuses(const std::vector<RateLimitStatusView>& statuses);
  void TakeMetadata(std::string_view records);

  const StreamLimits* const limits_;
  RateLimitRequestView request_;
  std::optional<StreamFacts> facts_;
  size_t facts_bytes_ = 0;
  Effect last_effect_;
  bool has_say_ = false;     // somebody was asked
  bool over_limit_ = false;  // and said so
  std::vector<Status> statuses_;
  std::vector<std::string> response_headers_;  // records, of each instance in the order asked
  std::string request_headers_;                // records
  std::string body_;
  std::string quota_record_;
  std::string metadata_;  // a Struct
  bool has_metadata_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_RATE_LIMIT_SERVICE_H_
