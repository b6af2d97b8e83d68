// SPDX-License-Identifier: Apache-2.0

// Writes exchanges of a recording as cases of callout-test: one file of cases, and a golden file
// for each with what the recording says the exchange came to.
//
//   CaseWriter writer(directory, plugins, cases_max);
//   while (reader->Next()) writer.Add(number, reader->exchange());
//   absl::Status status = writer.Write();
//
// Exchanges that a case cannot have are left out: those that are incomplete, whose bodies have no
// bytes or are no text, that do not begin with request headers and Envoy's body modes, or that are
// in observability mode.
//
// For one thread.
//
// Tested by tests/replay/replay_test.cc.
#ifndef CALLOUT_HOST_REPLAY_CASE_WRITER_H_
#define CALLOUT_HOST_REPLAY_CASE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "host/record/recording.h"
#include "host/reload/plugin_config.h"
#include "host/tester/outcome.h"

namespace callout::host {

class CaseWriter {
 public:
  CaseWriter(std::string directory, std::vector<PluginConfig> plugins, size_t cases_max);

  void Add(uint64_t number, const RecordedExchange& exchange);
  // Creates the directory if it is not there, and writes recorded.yaml and golden/ in it. Never
  // over a file that is there.
  absl::Status Write() const;

  std::string path() const { return directory_ + "/recorded.yaml"; }
  size_t cases() const { return cases_.size(); }
  size_t left_out() const { return left_out_; }

 private:
  struct Written {
    std::string name;
    std::string yaml;
    Outcome outcome;
  };

  absl::Status AddChain(std::string* yaml) const;

  const std::string directory_;
  const std::vector<PluginConfig> plugins_;
  const size_t cases_max_;
  std::vector<Written> cases_;
  size_t left_out_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_REPLAY_CASE_WRITER_H_
