// SPDX-License-Identifier: Apache-2.0

// One plugin of this repository in a host of its own, asked over gRPC.
//
//   SampleHost host("redirect");
//   EXPECT_THAT(host.Ask({RequestHeaders({{":path", "/"}})}), ElementsAre("immediate 301", …));
//
// The host has to end well with the object. For one thread.
#ifndef CALLOUT_TESTS_PLUGINS_SAMPLE_HOST_H_
#define CALLOUT_TESTS_PLUGINS_SAMPLE_HOST_H_

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "../integration/ext_proc_client.h"
#include "../integration/test_host.h"
#include "described_answer.h"

namespace callout::tests {

// A message on a stream of its own, and its answer in words.
struct SampleRow {
  std::string what;
  ext_proc::ProcessingRequest request;
  Lines answer;
};

class SampleHost {
 public:
  // `config` is the plugin's configuration text.
  explicit SampleHost(const std::string& plugin, const std::string& config = "",
                      std::vector<std::string> options = {});
  ~SampleHost();
  SampleHost(const SampleHost&) = delete;
  SampleHost& operator=(const SampleHost&) = delete;

  // Sends `messages` one after another on one stream, waiting for each answer: the last
  // one in words, or {"PERMISSION_DENIED: Callout DENIED."} if the RPC ended instead of it.
  Lines Ask(const std::vector<ext_proc::ProcessingRequest>& messages);
  void Expect(const std::vector<SampleRow>& rows);

  TestHost& host() { return host_; }

 private:
  TestHost host_;
  ChannelPtr channel_;
};

// What the host counts, as at /metrics.
std::string MetricsOf(TestHost& host);

// The one line, without its time and level, with which a host refuses to start with this
// configuration of the plugin.
std::string RefusalOf(const std::string& plugin, const std::string& config);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_PLUGINS_SAMPLE_HOST_H_
