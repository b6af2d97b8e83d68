// SPDX-License-Identifier: Apache-2.0

// A file with cases for callout-test: a chain of plugins, and for each case the messages of one
// HTTP exchange and what is expected of them. docs/testing.md describes the format.
//
//   absl::StatusOr<CaseFile> file = ReadCaseFile("cases/headers.yaml");
//
// Values without behaviour.
//
// Tested by tests/tester/tester_test.cc.
#ifndef CALLOUT_HOST_TESTER_CASE_FILE_H_
#define CALLOUT_HOST_TESTER_CASE_FILE_H_

#include <cstdint>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/tester/http_message.h"

namespace callout::host {

using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;

// What a value is expected to be.
struct Matcher {
  enum class Kind : uint8_t { kValues, kRegex, kAbsent };
  Kind kind = Kind::kValues;
  std::vector<std::string> values;  // kValues: all of a header, in their order
  std::string pattern;              // kRegex: of the whole value
  std::regex regex;
  int line = 0;
};
using NamedMatchers = std::vector<std::pair<std::string, Matcher>>;

// Of the request that the backend gets, or of the response that the client gets.
struct ExpectedMessage {
  NamedMatchers headers, trailers;
  std::optional<Matcher> status, body;
};

struct Expectation {
  ExpectedMessage request, response;
  NamedMatchers metadata;         // dynamic metadata: "namespace/key"
  std::optional<Matcher> error;   // "PERMISSION_DENIED: text", with which the RPC ends
  std::optional<bool> forwarded;  // whether the backend gets the request
  int line = 0;
};

using BodyMode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode::BodySendMode;

// An exchange as HTTP: what the client sends, and what the backend answers.
struct HttpExchange {
  HttpMessage request, response;
};

struct Case {
  std::string name;
  std::vector<std::string> tags;
  std::optional<HttpExchange> http;         // nothing: the case has phases
  std::vector<ProcessingRequest> messages;  // in the order in which Envoy sends them
  BodyMode request_body_mode = BodyMode::ProcessingMode_BodySendMode_BUFFERED;
  BodyMode response_body_mode = BodyMode::ProcessingMode_BodySendMode_BUFFERED;
  // What no client can bring a real Envoy to: "phases", "attributes" or "metadata"; empty: nothing.
  std::string only_in_process;
  Expectation expected;
  bool golden = false;  // the whole outcome is compared with a file
  int line = 0;
};

struct ChainPlugin {
  std::string path;  // as Envoy's host finds it: absolute, or relative to the working directory
  std::string name;
  std::string config;
  std::string settings;  // JSON; empty: none
  int line = 0;
};

// A service that the plugins may call.
struct CaseUpstream {
  std::string name;
  bool is_down = false;                                        // nobody listens
  std::vector<std::pair<std::string, HttpMessage>> responses;  // by path, with the query
};

struct CaseFile {
  std::string path;
  std::vector<ChainPlugin> chain;
  std::vector<CaseUpstream> upstreams;
  std::vector<Case> cases;
};

// INVALID_ARGUMENT: "FILE:LINE: what is wrong; what to do". `plugins_dir` is where plugins are
// whose name has no slash; empty: beside the file.
absl::StatusOr<CaseFile> ReadCaseFile(const std::string& path, const std::string& plugins_dir);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TESTER_CASE_FILE_H_
