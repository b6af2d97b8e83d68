// SPDX-License-Identifier: Apache-2.0

// What Envoy does with the responses of an exchange, so that a case needs no Envoy.
//
//   EnvoyModel model;
//   if (model.WayOf(request) == EnvoyModel::Way::kSent) { model.Show(request); …
//   model.Take(response); } Outcome outcome = model.TakeOutcome();
//
// Follows Envoy 1.40 with mutation_rules: {allow_all_routing: true}, told to fail closed. It knows
// at most one response for each message, and the streamed responses of FULL_DUPLEX_STREAMED.
// tests/tester runs the same cases through a real Envoy. For one thread.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_ENVOY_MODEL_H_
#define CALLOUT_HOST_TESTER_ENVOY_MODEL_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/status/status.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/tester/case_file.h"
#include "host/tester/outcome.h"

namespace callout::host {

class EnvoyModel {
 public:
  // What Envoy does with a message: it sends it, it lets it pass unseen (a body in the mode NONE),
  // or it drops it (a body that the response to headers has replaced).
  enum class Way : uint8_t { kSent, kPasses, kDropped };
  Way WayOf(const ProcessingRequest& request) const;
  void Show(const ProcessingRequest& request);
  // A message that passes unchanged, since the stream has ended early.
  void Pass(const ProcessingRequest& request);
  void Take(const ProcessingResponse& response);
  // The RPC has ended with an error.
  void Fail(const absl::Status& status);

  // Whether a response to the message shown last is still to come.
  bool owes() const { return owed_ > 0; }
  // Nothing of the exchange is to come: Envoy responds to the client itself.
  bool is_over() const { return is_over_; }

  Outcome TakeOutcome();

 private:
  struct Side {
    HttpMessage message;
    std::deque<std::string> chunks;  // without a response yet
    bool shown = false;
    BodyMode mode = BodyMode::ProcessingMode_BodySendMode_BUFFERED;
    bool body_replaced = false;  // by the response to headers
  };

  Side* SideOf(const ProcessingRequest& request);
  void ApplyCommon(const envoy::service::ext_proc::v3::CommonResponse& common, bool is_body,
                   Side* side);
  void Reply(const envoy::service::ext_proc::v3::ImmediateResponse& reply);
  void End(int http_status);

  Side request_, response_;
  int owed_ = 0;
  bool is_over_ = false;
  bool is_forwarded_ = true;
  nlohmann::json metadata_ = nlohmann::json::object();
  std::string error_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_ENVOY_MODEL_H_
