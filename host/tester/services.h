// SPDX-License-Identifier: Apache-2.0

// The services that a case file has for its plugins' calls (`upstreams:`): small HTTP/1.1 servers
// in this process, on Unix sockets in a directory of their own, which give the responses that the
// file says.
//
//   absl::StatusOr<std::unique_ptr<Services>> services = Services::Start(file, text_of_upstreams);
//   ChainRunner::Create(file, {.upstreams = (*services)->upstreams()});
//   … or callout-host with --upstreams, and (*services)->text() in the file …
//
// One thread; the servers have their own. It outlives what calls them.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_SERVICES_H_
#define CALLOUT_HOST_TESTER_SERVICES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/tester/backend.h"
#include "host/tester/case_file.h"
#include "host/upstream/upstream_config.h"

namespace callout::host {

class Services {
 public:
  // `given` is the valid text of a file of --upstreams, or empty: the upstreams of the case file
  // come in addition, or in the place of those of the same name.
  static absl::StatusOr<std::unique_ptr<Services>> Start(const CaseFile& file,
                                                         const std::string& given);
  ~Services();
  Services(const Services&) = delete;
  Services& operator=(const Services&) = delete;

  const std::vector<UpstreamConfig>& upstreams() const { return upstreams_; }
  // The same as JSON, for a file of --upstreams.
  const std::string& text() const { return text_; }

 private:
  Services() = default;

  absl::Status MakeDirectory();

  std::string directory_;  // of the sockets; empty: none yet
  std::vector<std::unique_ptr<Backend>> servers_;
  std::vector<UpstreamConfig> upstreams_;
  std::string text_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_SERVICES_H_
