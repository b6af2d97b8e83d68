// SPDX-License-Identifier: Apache-2.0

// Explains one exchange: what each plugin saw, what it said, what became of that and why, as one
// JSON document. docs/operations.md describes it.
//
// Values of headers that carry secrets are left out by the rule of the log
// (--log_redacted_headers), also where a plugin copies them to another header or into an error;
// bodies are told by their size, and metadata by its presence. A document
// has at most kExplanationBytesMax bytes of steps; what comes after that is counted.
//
// One RPC's thread, as observers are.
//
// Tested by tests/host/explain/explainer_test.cc.
#ifndef CALLOUT_HOST_EXPLAIN_EXPLANATION_H_
#define CALLOUT_HOST_EXPLAIN_EXPLANATION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/call_observer.h"
#include "host/wire/message_redaction.h"

namespace callout::host {

inline constexpr size_t kExplanationBytesMax = 65536;

class Explanation final : public RpcObserver {
 public:
  // Called once, with the document without its closing brace, so that the reader can add its age.
  using Done = std::function<void(std::string document, std::string request_id)>;

  // `marked_by`: "key", or the text of a rule.
  Explanation(const RpcStart& start, std::string_view marked_by, Done done);
  // An RPC whose end nobody has told: the document as far as it got.
  ~Explanation() override;

  void OnMessage(const MessageView& message) override;
  void OnSaid(const SaidView& said) override;
  void OnFault(const FaultView& fault) override;
  void OnOverruled(const OverruledView& part) override;
  void OnCall(const CallRecord& call) override;
  void OnResponse(callout_field_t field, std::string_view payload) override;
  void OnEnd(const RpcEnd& end) override;

 private:
  struct Fault {
    const Instance* instance;
    callout_phase_t phase;
    Violation violation;
    std::string what;
  };

  void Learn(const MessageView& message);
  void AddStep(const nlohmann::ordered_json& step);
  uint64_t SinceStartUs(uint64_t at_ns) const;
  void TellFaults();
  void Finish(std::string_view end, std::string_view outcome, uint64_t at_ns);

  const uint64_t began_ns_;
  const bool is_ext_proc_;
  const Done done_;
  MessageRedactor secrets_;
  std::string head_;   // members before the steps, each with a comma behind it
  std::string steps_;  // with commas between them
  size_t left_out_ = 0;
  bool finished_ = false;
  std::string request_id_;
  // Of the call that is being settled.
  std::string saw_, said_;  // JSON; "": not known
  std::vector<Fault> faults_;
  std::vector<Overruled> overruled_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_EXPLAIN_EXPLANATION_H_
