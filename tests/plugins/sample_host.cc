// SPDX-License-Identifier: Apache-2.0

#include "sample_host.h"

#include <utility>

#include "../integration/http_get.h"

namespace callout::tests {
namespace {

std::vector<std::string> Options(const std::string& plugin, const std::string& config,
                                 std::vector<std::string> options) {
  options.push_back("--plugin=" + BuiltPlugin(plugin));
  if (!config.empty()) options.push_back("--plugin_config=" + plugin + "=" + config);
  return options;
}

// As gRPC writes them; those that end a stream here.
std::string StatusName(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return "OK";
    case grpc::StatusCode::PERMISSION_DENIED:
      return "PERMISSION_DENIED";
    case grpc::StatusCode::UNAUTHENTICATED:
      return "UNAUTHENTICATED";
    default:
      return "status " + std::to_string(code);
  }
}

}  // namespace

SampleHost::SampleHost(const std::string& plugin, const std::string& config,
                       std::vector<std::string> options)
    : host_(Options(plugin, config, std::move(options))),
      channel_(PlaintextChannel(host_.address("plaintext"))) {}

SampleHost::~SampleHost() {
  channel_.reset();  // An idle client does not answer, and the drain would wait for it.
  EXPECT_EQ(host_.Terminate(), 0) << host_.Log();
}

Lines SampleHost::Ask(const std::vector<ext_proc::ProcessingRequest>& messages) {
  LiveStream stream(channel_);
  std::optional<ext_proc::ProcessingResponse> answer;
  for (const ext_proc::ProcessingRequest& message : messages) {
    answer = stream.Exchange(message);
    if (!answer.has_value()) break;
  }
  const grpc::Status status = stream.Finish();
  if (answer.has_value() && status.ok()) return DescribeAnswer(*answer);
  return {StatusName(status.error_code()) + ": " + status.error_message()};
}

void SampleHost::Expect(const std::vector<SampleRow>& rows) {
  for (const SampleRow& row : rows) EXPECT_EQ(Ask({row.request}), row.answer) << row.what;
}

std::string MetricsOf(TestHost& host) { return HttpGet(host.address("admin"), "GET", "/metrics"); }

std::string RefusalOf(const std::string& plugin, const std::string& config) {
  std::vector<std::string> options = Options(plugin, config, {"--check"});
  const Finished finished = RunHost(options);
  EXPECT_EQ(finished.exit_status, 2) << finished.output;
  return finished.output;
}

}  // namespace callout::tests
