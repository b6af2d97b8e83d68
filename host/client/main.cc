// SPDX-License-Identifier: Apache-2.0

// callout-client: sends messages to an ext_proc, ext_authz or rate limit server and prints its
// responses to standard output, everything else to standard error.
//
// Tested by tests/client/client_test.cc.
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/client/client_options.h"
#include "host/client/messages.h"
#include "host/client/process_call.h"
#include "host/client/unary_call.h"

namespace callout::host {
namespace {

enum ExitCode { kAnswered = 0, kRpcFailed = 1, kBadUsage = 2, kNoConnection = 3, kUnanswered = 4 };

void Say(const std::string& text) {
  fprintf(stderr, "callout-client: %s\n", EscapeControls(text).c_str());
}

// All of --data, or `otherwise`, read by `parse`.
template <class Request>
absl::StatusOr<std::vector<Request>> ReadAll(
    const ClientConfig& config, const char* otherwise,
    absl::StatusOr<std::vector<Request>> (*parse)(const std::string&)) {
  if (config.data.empty()) {
    Say(std::string("no --data, sending ") + otherwise);
    return parse(otherwise);
  }
  std::vector<Request> all;
  for (const ClientConfig::Data& data : config.data) {
    absl::StatusOr<std::vector<Request>> messages = parse(data.text);
    if (!messages.ok()) {
      return absl::InvalidArgumentError(data.source + ": " +
                                        std::string(MessageOf(messages.status())));
    }
    for (Request& message : *messages) all.push_back(std::move(message));
  }
  return all;
}

void PrintLine(const std::string& text) {
  printf("%s\n", text.c_str());
  fflush(stdout);  // for whoever reads along
}

// kAnswered if the RPC ended well.
ExitCode ReportError(const ClientConfig& config, const CallOutcome& outcome) {
  if (!outcome.connected) {
    Say("cannot connect to " + config.address + ": " + outcome.error);
    return kNoConnection;
  }
  if (outcome.error.empty()) return kAnswered;
  Say("the stream ended with " + outcome.error);
  return kRpcFailed;
}

ExitCode Report(const ClientConfig& config, const std::vector<ProcessingRequest>& messages,
                const CallOutcome& outcome) {
  if (const ExitCode code = ReportError(config, outcome); code != kAnswered) return code;
  if (outcome.immediate || outcome.answers >= AnswersDue(messages)) return kAnswered;
  if (outcome.answers > 0) {
    // As a host does that no plugin wants anything more of.
    Say("the host ended the stream early, with OK after " + std::to_string(outcome.answers) +
        " answers to " + std::to_string(messages.size()) +
        " messages: no plugin wanted the rest (--early_end)");
    return kAnswered;
  }
  const auto counted = [](size_t count, const std::string& what) {
    return std::to_string(count) + what + (count == 1 ? "" : "s");
  };
  Say("the stream ended after " + counted(outcome.answers, " response") + " to " +
      counted(messages.size(), " message"));
  return kUnanswered;
}

ExitCode Process(const ClientConfig& config) {
  const auto messages = ReadAll<ProcessingRequest>(config, kDefaultMessage, ParseMessages);
  if (!messages.ok()) {
    Say(std::string(MessageOf(messages.status())));
    return kBadUsage;
  }
  const CallOutcome outcome = CallProcess(
      config, *messages, [](const ProcessingResponse& answer) { PrintLine(PrintAnswer(answer)); });
  return Report(config, *messages, outcome);
}

// A refusal is an answer.
template <class Request, class Call>
ExitCode Ask(const ClientConfig& config, const char* otherwise,
             absl::StatusOr<std::vector<Request>> (*parse)(const std::string&), Call call) {
  const auto requests = ReadAll<Request>(config, otherwise, parse);
  if (!requests.ok()) {
    Say(std::string(MessageOf(requests.status())));
    return kBadUsage;
  }
  return ReportError(config, call(config, *requests, [](const google::protobuf::Message& answer) {
                       PrintLine(PrintAnswer(answer));
                     }));
}

ExitCode Main(int argc, const char* const* argv) {
  absl::StatusOr<ClientConfig> config = ParseClientConfig(argc, argv);
  if (!config.ok()) {
    Say(std::string(MessageOf(config.status())));
    return kBadUsage;
  }
  if (!config->print.empty()) {
    printf("%s", config->print.c_str());
    return kAnswered;
  }
  switch (config->service) {
    case ClientConfig::Service::kProcess:
      return Process(*config);
    case ClientConfig::Service::kCheck:
      return Ask(*config, kDefaultCheck, ParseChecks, CallCheck);
    case ClientConfig::Service::kRateLimit:
      return Ask(*config, kDefaultRateLimit, ParseRateLimits, CallRateLimit);
    case ClientConfig::Service::kNetwork:
      return Ask(*config, kDefaultNetwork, ParseNetworkMessages, CallNetwork);
  }
  return kBadUsage;
}

}  // namespace
}  // namespace callout::host

int main(int argc, char** argv) {
  // gRPC and Abseil would log what callout-client reports itself.
  gpr_set_log_function([](gpr_log_func_args*) {});
  google::protobuf::SetLogHandler(nullptr);
  const int status = callout::host::Main(argc, argv);
  fflush(nullptr);
  // Not by return: a thread of gRPC's may be in a TLS handshake, of a connection that was
  // given up, and would crash when OpenSSL takes itself down.
  _exit(status);
}
