// SPDX-License-Identifier: Apache-2.0

// Runs cases through a real Envoy: callout-host with the chain of plugins, Envoy in front of it, a
// client and a backend, all over Unix sockets in a directory of their own.
//
//   auto runner = EnvoyRunner::Start(file, {.namespaces = {"my.plugin"}});
//   absl::StatusOr<Outcome> outcome = (*runner)->Run(file.cases[0]);
//
// A case that says how it is only_in_process cannot be run. For one thread.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_ENVOY_RUNNER_H_
#define CALLOUT_HOST_TESTER_ENVOY_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/tester/backend.h"
#include "host/tester/case_file.h"
#include "host/tester/child.h"
#include "host/tester/outcome.h"

namespace callout::host {

class EnvoyRunner {
 public:
  struct Options {
    std::string envoy = "envoy";  // a path, or a name to be found in PATH
    std::string host;             // callout-host
    uint64_t hook_deadline_ms = 2000;
    std::string upstreams = {};  // the text of a file for --upstreams; empty: none
    // Of dynamic metadata: Envoy takes none of others, and shows these.
    std::set<std::string> namespaces;
  };

  // Errors are one line, with the end of what the program has written that does not start.
  static absl::StatusOr<std::unique_ptr<EnvoyRunner>> Start(const CaseFile& file,
                                                            const Options& options);
  ~EnvoyRunner();
  EnvoyRunner(const EnvoyRunner&) = delete;
  EnvoyRunner& operator=(const EnvoyRunner&) = delete;

  // An error if there is no answer at all; what Envoy answers is an outcome.
  absl::StatusOr<Outcome> Run(const Case& tested);

 private:
  using Modes = std::pair<BodyMode, BodyMode>;

  EnvoyRunner(const CaseFile& file, const Options& options);

  absl::Status MakeDirectory();
  absl::Status StartHost(const CaseFile& file);
  absl::Status StartEnvoy();
  absl::Status WriteFile(const std::string& name, const std::string& text) const;
  absl::Status AwaitSocket(Child* child, const std::string& program, const std::string& path) const;
  absl::Status ReadMetadata(nlohmann::json* metadata);
  nlohmann::json Bootstrap() const;
  nlohmann::json Listener(const Modes& modes) const;
  nlohmann::json Filter(const Modes& modes) const;
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  std::string ListenerPath(const Modes& modes) const;

  const Options options_;
  std::set<Modes> modes_;  // a listener for each
  std::string directory_;
  size_t exchanges_ = 0;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Child> host_, envoy_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_ENVOY_RUNNER_H_
