// SPDX-License-Identifier: Apache-2.0

// Runs cases through a chain of plugins in this process, without sockets: the host's own stream,
// with what Envoy would send and a model of what it does with the responses (envoy_model.h).
//
//   absl::StatusOr<std::unique_ptr<ChainRunner>> runner = ChainRunner::Create(file, {});
//   Outcome outcome = (*runner)->Run(file.cases[0]);
//
// One instance of each plugin serves all cases of a runner. Run: any thread, several at once.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_CHAIN_RUNNER_H_
#define CALLOUT_HOST_TESTER_CHAIN_RUNNER_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "host/tester/case_file.h"
#include "host/tester/in_process.h"
#include "host/tester/outcome.h"

namespace callout::host {

class ChainRunner {
 public:
  struct Options {
    uint64_t hook_deadline_ms = 2000;
    std::vector<UpstreamConfig> upstreams = {};  // that plugins may call
  };

  // Loads the plugins and creates their instances. Errors begin with "FILE:LINE: ".
  static absl::StatusOr<std::unique_ptr<ChainRunner>> Create(const CaseFile& file,
                                                             const Options& options);
  ChainRunner(const ChainRunner&) = delete;
  ChainRunner& operator=(const ChainRunner&) = delete;

  // About plugins that do not run, one line each.
  const std::vector<std::string>& warnings() const { return chain_.warnings(); }

  // Any thread.
  Outcome Run(const Case& tested);
  // A plugin still has a call of a case that is over, and may use it: so nothing may be destroyed.
  bool has_unfinished_calls() const { return has_unfinished_calls_; }

 private:
  explicit ChainRunner(std::vector<UpstreamConfig> upstreams) : chain_(std::move(upstreams)) {}

  InProcessChain chain_;
  uint64_t unfinished_ms_ = 0;  // time for what a plugin has at work when its case is over
  std::atomic<bool> has_unfinished_calls_{false};
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_CHAIN_RUNNER_H_
