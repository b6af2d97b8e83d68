// SPDX-License-Identifier: Apache-2.0

// ext_authz: one Check, as the instances of a chain answer it.
//
// An instance with callout_on_check is asked by it. With nothing set it refuses the request.
//
// The bridge, which the operator switches on by naming ext_authz in --services: an instance
// whose one hook is callout_on_request_headers is given the request's headers as ext_proc would
// give them. Its immediate response is a denial, its header mutation and its metadata go with
// the permission, and with nothing set it allows. What a Check has no place for is a fault. It is
// told end_of_stream only where it is certain that no body follows: a content-length of 0, or a GET
// or HEAD of HTTP/1 whose headers, of which none seems to be left out, announce none. (A Check does
// not say whether a request of HTTP/2 has a body.)
//
// An error, with which Envoy may let the request pass, ends nothing: those after it may deny. It
// takes no changes of the request along. Where there are some it goes out as a denial.
//
// Nobody has decided: the request is refused.
#ifndef CALLOUT_HOST_UNARY_CHECK_SERVICE_H_
#define CALLOUT_HOST_UNARY_CHECK_SERVICE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/plugin/match.h"
#include "host/unary/unary_service.h"
#include "host/wire/check_effect.h"
#include "host/wire/check_request.h"

namespace callout::host {

class CheckService final : public UnaryService {
 public:
  // `limits` outlives it.
  explicit CheckService(const StreamLimits* limits)
      : limits_(limits), bridge_(limits->services.Has(RpcService::kExtAuthz)) {}

  RpcService service() const override { return RpcService::kExtAuthz; }
  callout_phase_t phase() const override { return CALLOUT_CHECK; }
  absl::Status Begin(std::string_view bytes) override;
  const StreamFacts& Facts() override;
  Role RoleOf(const Instance& instance) const override;
  std::string WhyNot(const Instance& instance) const override;
  callout_phase_t PhaseOf(const Instance& instance) const override {
    return IsBridged(instance) ? CALLOUT_REQUEST_HEADERS : CALLOUT_CHECK;
  }
  void FillCall(const Instance& instance, callout_call_t* call) override;
  std::string_view headers_for_log() override;
  Finding Take(const CallState& state, callout_phase_t phase) override;
  void TakeDenial(callout_status_t status, std::string_view why) override;
  void Pass() override { has_say_ = true; }
  void Refuse(int http_status, std::string_view why) override;
  Effect last_effect() const override { return last_effect_; }
  size_t kept_bytes() const override;
  bool decided() const override { return refusal_.has_value() && !is_error_; }
  std::string Write() override;
  bool allowed() const override { return !refusal_.has_value(); }

 private:
  bool IsBridged(const Instance& instance) const;
  std::string_view Keep(std::string text);
  void Show();
  void ShowHttpHeaders();
  Finding TakeCheck(const CallState& state);
  Finding TakeHeaders(const CallState& state);
  Finding TakeImmediate(const CallState& state);
  Finding Allow(const CheckResponseView& ok, std::string_view metadata_records);
  Finding Deny(callout_field_t field, const CheckResponseView& denied, int32_t code,
               std::string_view metadata_records, std::string_view why);

  const StreamLimits* const limits_;
  const bool bridge_;
  CheckRequestView request_;
  std::optional<CheckEffect> effect_;
  std::optional<StreamFacts> facts_;
  size_t facts_bytes_ = 0;
  bool has_say_ = false;  // somebody has let the request pass
  Effect last_effect_;
  std::optional<std::string> refusal_;  // the CheckResponse that refuses it
  bool is_error_ = false;               // it is an error, which a denial takes the place of
  std::string error_as_denial_;

  // The request as the instances before have changed it. What was shown stays: a late call may
  // still read it.
  bool is_shown_ = false;
  std::string_view shown_;             // CheckRequest
  std::string_view shown_attributes_;  // AttributeContext
  std::string_view shown_headers_;     // HttpHeaders; empty: not made yet
  std::string_view shown_processing_request_;
  std::string_view attribute_record_;
  std::vector<std::unique_ptr<std::string>> kept_;
  size_t text_bytes_ = 0;  // of `kept_`
};

// Whether the bridge answers a Check by a plugin of these phases (bits) without callout_on_check.
bool IsBridgeable(uint64_t phases);
// Why a plugin of these phases (bits) without callout_on_check cannot answer a Check; "" if
// it can, or has nothing to do with one.
std::string WhyNoBridge(uint64_t phases);

}  // namespace callout::host

#endif  // CALLOUT_HOST_UNARY_CHECK_SERVICE_H_
