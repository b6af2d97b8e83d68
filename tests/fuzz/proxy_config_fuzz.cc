// SPDX-License-Identifier: Apache-2.0

// The configuration of a proxy that somebody gives --doctor: YAML or JSON, any text, and what
// --print_config prints with something changed. What is found is told in lines without control
// characters, and there is nothing to find in what was printed.
//
// Readers: host/deploy/config_document.cc host/deploy/envoy_reader.cc
// host/deploy/resource_reader.cc host/deploy/doctor.cc
#include <string>

#include "host/deploy/doctor.h"
#include "host/deploy/print_config.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

constexpr DeployTarget kTargets[] = {DeployTarget::kEnvoy,        DeployTarget::kEnvoyGateway,
                                     DeployTarget::kIstio,        DeployTarget::kKgateway,
                                     DeployTarget::kAgentgateway, DeployTarget::kGke,
                                     DeployTarget::kGcloud};

// The request's headers and the response's body, in chunks.
EnvoyNeeds Needs(DeployTarget target) {
  EnvoyNeeds needs;
  needs.request.headers_for = "guard";
  needs.response.headers_for = "guard";
  needs.response.body_for = "guard";
  needs.plugins = {"guard"};
  needs.denying = "guard";
  needs.answer_ms_max = needs.hook_deadline_ms = 150;
  needs.message_bytes_max = 8 << 20;
  needs.header_bytes_max = 61440;
  needs.header_count_max = 100;
  needs.live_streams_max = 1000;
  needs.early_end = target != DeployTarget::kAgentgateway && target != DeployTarget::kGke &&
                    target != DeployTarget::kGcloud;
  needs.plaintext = CalloutEndpoint{"", "", 8080};
  needs.secure = CalloutEndpoint{"", "", 8443};
  return needs;
}

// A host that wants something else than the proxy was configured for.
EnvoyNeeds OtherNeeds(EnvoyNeeds needs, Choices& choices) {
  DirectionNeeds& way = choices.Next(2) == 0 ? needs.request : needs.response;
  switch (choices.Next(3)) {
    case 0:
      way = {};
      break;
    case 1:
      way.whole_body_for = "whole";
      needs.whole_body_bytes_max = 1 << choices.Next(25);
      break;
    default:
      way.trailers_for = "trailers";
  }
  needs.mode_override = static_cast<EnvoyModeOverride>(choices.Next(3));
  if (choices.OneIn(4)) needs.attributes = {"request.id"};
  if (choices.OneIn(4)) needs.extra_ms = 500;
  if (choices.OneIn(4)) needs.early_end = !needs.early_end;
  if (choices.OneIn(4)) needs.header_bytes_max = needs.header_count_max = 7;
  if (choices.OneIn(4)) needs.message_bytes_max = 1024;
  if (choices.OneIn(4)) needs.drain_delay_ms = 1;
  if (choices.OneIn(4)) needs.answer_ms_max = 60'000;
  if (choices.OneIn(8)) needs.plugins = {};
  return needs;
}

// A line's value in the place of another's, and bytes anywhere.
std::string Changed(std::string text, Choices& choices) {
  for (unsigned changes = 1 + choices.Next(4); changes > 0 && !text.empty(); --changes) {
    const size_t at = (choices.Next(256) * 256 + choices.Next(256)) % text.size();
    const char* const values[] = {"NONE", "SEND", "0s", "true", "[]", "{}", "-1", "1e99", "&a *a"};
    switch (choices.Next(5)) {
      case 0:
        text[at] = static_cast<char>(choices.Next(256));
        break;
      case 1:
        text.erase(at, 1 + choices.Next(60));
        break;
      case 2:
        text.insert(at, choices.Bytes(8));
        break;
      case 3: {  // a line twice
        const size_t end = text.find('\n', at);
        const size_t begin = text.rfind('\n', at);
        if (end != text.npos && begin != text.npos)
          text.insert(end, text.substr(begin, end - begin));
        break;
      }
      default: {
        const size_t colon = text.find(": ", at);
        const size_t end = text.find('\n', colon);
        if (end != text.npos) text.replace(colon + 2, end - colon - 2, values[choices.Next(9)]);
      }
    }
  }
  return text;
}

std::string LookAt(const absl::StatusOr<Diagnosis>& diagnosis) {
  if (!diagnosis.ok()) {
    const std::string why(diagnosis.status().message());
    return !why.empty() && why.find('\n') == why.npos ? "" : "an error is not one line: " + why;
  }
  for (const char c : diagnosis->Text("f.yaml")) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return "a control character is printed";
  }
  return "";
}

FUZZ_TARGET(proxy_config, .rounds = 500, .bytes = 24) {
  const DeployTarget target = kTargets[choices.Next(7)];
  const EnvoyNeeds needs = Needs(target);
  const unsigned kind = choices.Next(8);
  const std::string printed = PrintConfig(target, needs);
  if (kind > 4) {
    const EnvoyNeeds others = OtherNeeds(needs, choices);
    const std::string text = kind == 5   ? printed
                             : kind == 6 ? PrintConfig(target, others)
                                         : choices.Rest();
    return LookAt(Examine("f.yaml", text, others));
  }
  std::string text = printed;
  if (kind == 0) text = choices.Rest();
  if (kind > 1) text = Changed(printed, choices);
  const absl::StatusOr<Diagnosis> diagnosis = Examine("f.yaml", text, needs);
  if (!diagnosis.ok() && text == printed) return "what was printed cannot be read";
  if (!diagnosis.ok()) return LookAt(diagnosis);
  if (text == printed && !diagnosis->findings.empty()) {
    return "something is found in what was printed: " + diagnosis->findings.front().why;
  }
  return LookAt(diagnosis);
}

}  // namespace
}  // namespace callout::host
