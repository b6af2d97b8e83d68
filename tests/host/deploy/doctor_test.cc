// SPDX-License-Identifier: Apache-2.0

// Each finding by the smallest change that brings it: what --print_config prints has none.
#include "host/deploy/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "host/deploy/print_config.h"
#include "tests/host/deploy/made_instance.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr DeployTarget kTargets[] = {DeployTarget::kEnvoy,        DeployTarget::kEnvoyGateway,
                                     DeployTarget::kIstio,        DeployTarget::kKgateway,
                                     DeployTarget::kAgentgateway, DeployTarget::kGke,
                                     DeployTarget::kGcloud};

Config Listening() {
  Config config;
  config.plaintext_address = *ParseAddress("0.0.0.0:8080");
  config.secure_address = *ParseAddress("0.0.0.0:8443");
  config.stream_limits.early_end = true;
  return config;
}

// Wants every phase both ways, and the request's body whole.
EnvoyNeeds Needs(const Config& config = Listening()) {
  return NeedsOf(config,
                 MadeChain({MadeInstance("guard",
                                         {CALLOUT_REQUEST_HEADERS, CALLOUT_REQUEST_BODY,
                                          CALLOUT_REQUEST_TRAILERS},
                                         R"({"max_whole_body_bytes": 2000000,
                                  "match": {"attributes": {"source.address": "10.0.0.1"}}})"),
                            MadeInstance("count", {CALLOUT_RESPONSE_HEADERS, CALLOUT_RESPONSE_BODY,
                                                   CALLOUT_RESPONSE_TRAILERS})}));
}

EnvoyNeeds NeedsFor(DeployTarget target, Config config = Listening()) {
  config.stream_limits.early_end =
      target == DeployTarget::kEnvoy || target == DeployTarget::kEnvoyGateway ||
      target == DeployTarget::kIstio || target == DeployTarget::kKgateway;
  return Needs(config);
}

std::vector<ConfigFinding> Found(const std::string& text, const EnvoyNeeds& needs) {
  absl::StatusOr<Diagnosis> diagnosis = Examine("f.yaml", text, needs);
  EXPECT_TRUE(diagnosis.ok()) << diagnosis.status();
  return diagnosis.ok() ? diagnosis->findings : std::vector<ConfigFinding>();
}

// The one finding in what is printed for `target` with one text in place of another.
ConfigFinding Only(DeployTarget target, const std::string& from, const std::string& to,
                   const EnvoyNeeds& needs) {
  const std::string printed = PrintConfig(target, needs);
  const std::string changed = absl::StrReplaceAll(printed, {{from, to}});
  EXPECT_TRUE(printed != changed) << from;
  std::vector<ConfigFinding> findings = Found(changed, needs);
  EXPECT_EQ(findings.size(), 1u) << from << '\n' << changed;
  return findings.empty() ? ConfigFinding() : findings.front();
}
ConfigFinding Only(DeployTarget target, const std::string& from, const std::string& to) {
  return Only(target, from, to, NeedsFor(target));
}

TEST(Doctor, FindsNothingInWhatIsPrinted) {
  for (const DeployTarget target : kTargets) {
    const EnvoyNeeds needs = NeedsFor(target);
    for (const ConfigFinding& finding : Found(PrintConfig(target, needs), needs)) {
      ADD_FAILURE() << static_cast<int>(target) << ' ' << finding.path << ": " << finding.why;
    }
  }
}

struct Phase {
  std::string line;     // as printed
  std::string changed;  // not sent
  std::string path;
  std::string write;
};

TEST(Doctor, APhaseThatAPluginWantsAndEnvoyDoesNotSend) {
  const std::vector<Phase> kPhases = {
      {"request_header_mode: SEND", "request_header_mode: SKIP", "request_header_mode",
       "request_header_mode: SEND"},
      {"request_body_mode: BUFFERED", "x: 0", "request_body_mode", "request_body_mode: BUFFERED"},
      {"request_trailer_mode: SEND", "x: 0", "request_trailer_mode", "request_trailer_mode: SEND"},
      {"response_header_mode: SEND", "responseHeaderMode: 2", "responseHeaderMode",
       "response_header_mode: SEND"},
      {"response_body_mode: STREAMED", "response_body_mode: NONE", "response_body_mode",
       "response_body_mode: STREAMED"},
      {"response_trailer_mode: SEND", "response_trailer_mode: DEFAULT", "response_trailer_mode",
       "response_trailer_mode: SEND"}};
  for (const DeployTarget target : {DeployTarget::kEnvoy, DeployTarget::kIstio}) {
    for (const Phase& phase : kPhases) {
      const ConfigFinding finding = Only(target, phase.line, phase.changed);
      EXPECT_THAT(finding.path, EndsWith("typed_config.processing_mode." + phase.path));
      EXPECT_EQ(finding.write, phase.write);
    }
  }
}

TEST(Doctor, ThePhasesOfOtherKindsOfProxies) {
  const std::vector<std::pair<DeployTarget, Phase>> kPhases = {
      {DeployTarget::kEnvoyGateway,
       {"body: Buffered", "x: y", "processingMode.request.body", "body: FullDuplexStreamed"}},
      {DeployTarget::kKgateway,
       {"requestBodyMode: BUFFERED", "requestBodyMode: NONE", "requestBodyMode",
        "requestBodyMode: BUFFERED"}},
      {DeployTarget::kAgentgateway,
       {"responseTrailerMode: Send", "responseTrailerMode: Skip", "responseTrailerMode",
        "responseTrailerMode: Send"}},
      {DeployTarget::kGke,
       {"ResponseTrailers]", "]", "supportedEvents", "supportedEvents: [ResponseTrailers, …]"}},
      {DeployTarget::kGcloud,
       {"RESPONSE_BODY, ", "", "supportedEvents", "supportedEvents: [RESPONSE_BODY, …]"}}};
  for (const auto& [target, phase] : kPhases) {
    if (target == DeployTarget::kEnvoyGateway) continue;  // below: trailers come with the body
    const ConfigFinding finding = Only(target, phase.line, phase.changed);
    EXPECT_THAT(finding.path, EndsWith(phase.path));
    EXPECT_EQ(finding.write, phase.write);
  }
  const EnvoyNeeds needs = NeedsFor(DeployTarget::kEnvoyGateway);
  const auto findings =
      Found(absl::StrReplaceAll(PrintConfig(DeployTarget::kEnvoyGateway, needs),
                                {{"request: {body: FullDuplexStreamed, attributes: "
                                  "[source.address]}",
                                  "x: 1"}}),
            needs);
  std::vector<std::string> writes;
  for (const ConfigFinding& finding : findings) writes.push_back(finding.write);
  EXPECT_THAT(writes, ElementsAre("request: {}", "body: FullDuplexStreamed",
                                  "body: FullDuplexStreamed", "attributes: [source.address]"));
}

TEST(Doctor, TrailersThatAreNotSentWithAWholeBody) {
  const EnvoyNeeds needs =
      NeedsOf(Listening(), MadeChain({MadeInstance("guard", {CALLOUT_REQUEST_BODY},
                                                   R"({"max_whole_body_bytes": 1000})")}));
  ConfigFinding finding = Only(DeployTarget::kEnvoy, "request_body_mode: BUFFERED",
                               "request_body_mode: STREAMED", needs);
  EXPECT_THAT(finding.path, EndsWith("request_trailer_mode"));
  EXPECT_EQ(finding.write, "request_trailer_mode: SEND, or request_body_mode: BUFFERED");
  finding = Only(DeployTarget::kEnvoy, "request_body_mode: BUFFERED",
                 "request_body_mode: BUFFERED_PARTIAL", needs);
  EXPECT_THAT(finding.path, EndsWith("request_body_mode"));
  // The host asks for them itself where it is told that Envoy obeys.
  EnvoyNeeds allowed = needs;
  allowed.mode_override = EnvoyModeOverride::kAllowed;
  EXPECT_THAT(Found(absl::StrReplaceAll(PrintConfig(DeployTarget::kEnvoy, needs),
                                        {{"mode: BUFFERED", "mode: STREAMED"}}),
                    allowed),
              IsEmpty());
}

TEST(Doctor, OverridesThatAreNotAllowed) {
  EXPECT_EQ(Only(DeployTarget::kEnvoy, "allow_mode_override: true", "x: 0").write,
            "allow_mode_override: true");
  EXPECT_EQ(Only(DeployTarget::kEnvoyGateway, "allowModeOverride: true", "x: 0").write,
            "allowModeOverride: true");
  EXPECT_EQ(Only(DeployTarget::kKgateway, "allowProcessingModeOverride: true", "x: 0").write,
            "allowProcessingModeOverride: true");
  EnvoyNeeds needs = Needs();
  needs.mode_override = EnvoyModeOverride::kIgnored;
  EXPECT_THAT(Found(PrintConfig(DeployTarget::kEnvoy, needs), needs), IsEmpty());
}

TEST(Doctor, MutationRulesThatAreMissing) {
  const std::string rules = "mutation_rules: {allow_all_routing: true}";
  EXPECT_THAT(Only(DeployTarget::kEnvoy, rules, "x: 0").path, EndsWith("mutation_rules"));
  // Written down, they are meant.
  const EnvoyNeeds needs = Needs();
  EXPECT_THAT(Found(absl::StrReplaceAll(PrintConfig(DeployTarget::kEnvoy, needs),
                                        {{rules, "mutation_rules: {}"}}),
                    needs),
              IsEmpty());
}

TEST(Doctor, TimeoutsThatAreShorterThanThePlugins) {
  const ConfigFinding finding =
      Only(DeployTarget::kEnvoy, "message_timeout: 0.3s  # the", "x: 0  # the", [] {
        Config config = Listening();
        config.stream_limits.hook_deadline_ms = 200;
        return Needs(config);
      }());
  EXPECT_EQ(finding.write, "message_timeout: 0.300s");
  EXPECT_EQ(finding.found, "not set");
}

TEST(Doctor, MoreTimeThatIsIgnored) {
  Config config = Listening();
  config.stream_limits.defer_budget_ms = 2000;
  EXPECT_EQ(Only(DeployTarget::kEnvoy, "max_message_timeout: 10s", "x: 0", Needs(config)).write,
            "max_message_timeout: 10s");
  EXPECT_EQ(Only(DeployTarget::kKgateway, "maxMessageTimeout: 10s", "maxMessageTimeout: 1s",
                 Needs(config))
                .found,
            "1s");
}

TEST(Doctor, FailOpenWhereAPluginDenies) {
  EXPECT_EQ(Only(DeployTarget::kEnvoy, "failure_mode_allow: false", "failureModeAllow: true").write,
            "failure_mode_allow: false");
  EXPECT_EQ(Only(DeployTarget::kGke, "failOpen: false", "failOpen: true").write, "failOpen: false");
  EXPECT_EQ(Only(DeployTarget::kAgentgateway, "FailClosed", "FailOpen").write,
            "failureMode: FailClosed");
  // kgateway's own default.
  EXPECT_EQ(Only(DeployTarget::kKgateway, "failOpen: false", "x: 0").found, "not set");
}

TEST(Doctor, ResponsesThatAreIgnored) {
  EXPECT_THAT(
      Only(DeployTarget::kEnvoy, "failure_mode_allow: false", "observability_mode: true").path,
      EndsWith("observability_mode"));
}

TEST(Doctor, AnAttributeThatIsNotSent) {
  EXPECT_EQ(Only(DeployTarget::kEnvoy, "request_attributes: [source.address]", "x: 0").write,
            "request_attributes: [source.address]");
  EXPECT_EQ(Only(DeployTarget::kGcloud, "forwardAttributes: [source.address]", "x: 0").write,
            "forwardAttributes: [source.address]");
  EXPECT_EQ(Only(DeployTarget::kAgentgateway, "{source.address: source.address}", "{a: b}").write,
            "requestAttributes: {source.address: source.address}");
}

TEST(Doctor, HeaderLimitsThatDiffer) {
  const EnvoyNeeds needs = Needs();
  const std::string printed = PrintConfig(DeployTarget::kEnvoy, needs);
  const std::string prefix = "stat_prefix: callout";
  EXPECT_EQ(
      Only(DeployTarget::kEnvoy, prefix, prefix + "\n          max_request_headers_kb: 96").write,
      "max_request_headers_kb: 60");
  EXPECT_EQ(Only(DeployTarget::kEnvoy, prefix,
                 prefix + "\n          common_http_protocol_options: {max_headers_count: 200}")
                .write,
            "max_headers_count: 100");
}

TEST(Doctor, BodyLimitsThatDiffer) {
  const std::string limit = "per_connection_buffer_limit_bytes: 2000000";
  EXPECT_EQ(Only(DeployTarget::kEnvoy, limit, "x: 0").write, limit);
  EXPECT_THAT(Only(DeployTarget::kEnvoy, limit, "per_connection_buffer_limit_bytes: 99999999").why,
              HasSubstr("--max_message_bytes=16777216"));
  EnvoyNeeds needs =
      NeedsOf(Listening(), MadeChain({MadeInstance("guard", {CALLOUT_REQUEST_BODY},
                                                   R"({"max_whole_body_bytes": 2000000})")}));
  EXPECT_EQ(Only(DeployTarget::kEnvoyGateway, "bufferLimit: \"2000000\"", "bufferLimit: 1Mi", needs)
                .write,
            "bufferLimit: 2000000");
}

TEST(Doctor, AClusterWithoutHttp2) {
  EXPECT_THAT(
      Only(DeployTarget::kEnvoy, "http2_protocol_options: {connection", "x: {connection").path,
      EndsWith("typed_extension_protocol_options"));
}

TEST(Doctor, HealthChecksThatDoNotSeeADrain) {
  EXPECT_THAT(Only(DeployTarget::kEnvoy, "no_traffic_interval: 1s", "x: 0").why,
              HasSubstr("once a minute"));
  Config config = Listening();
  EXPECT_EQ(
      Only(DeployTarget::kEnvoy, "unhealthy_threshold: 2", "unhealthy_threshold: 10", Needs(config))
          .write,
      "interval: 1000ms, or start the host with --drain_delay_ms=12000");
}

TEST(Doctor, RetriesThatShowAMessageTwice) {
  EXPECT_THAT(Only(DeployTarget::kEnvoy, "refused-stream", "refused-stream,reset").why,
              HasSubstr("'reset'"));
}

TEST(Doctor, AnEarlyEndWhereItsEffectIsNotKnown) {
  for (const DeployTarget target :
       {DeployTarget::kGke, DeployTarget::kGcloud, DeployTarget::kAgentgateway}) {
    EnvoyNeeds needs = NeedsFor(target);
    needs.early_end = true;
    const auto findings = Found(PrintConfig(target, needs), needs);
    ASSERT_THAT(findings, SizeIs(1));
    EXPECT_EQ(findings[0].write, "start the host with --early_end=off");
  }
}

TEST(Doctor, ARoutesOwnModes) {
  const EnvoyNeeds needs = Needs();
  const std::string text = absl::StrReplaceAll(
      PrintConfig(DeployTarget::kEnvoy, needs),
      {{"route: {cluster: backend}",
        "route: {cluster: backend}\n                typed_per_filter_config:\n"
        "                  envoy.filters.http.ext_proc:\n"
        "                    \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_proc."
        "v3.ExtProcPerRoute\n"
        "                    overrides: {processing_mode: {request_body_mode: BUFFERED, "
        "request_trailer_mode: SEND, response_body_mode: STREAMED}}"}});
  const auto findings = Found(text, needs);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].path, EndsWith("overrides.processing_mode.response_trailer_mode"));
}

// Each stands for what the finding would be if it counted as the default.
TEST(Doctor, EveryWayToWriteABooleanCounts) {
  for (const char* value : {"true", "True", "yes", "On", "ON"}) {
    const ConfigFinding finding = Only(DeployTarget::kEnvoy, "failure_mode_allow: false",
                                       std::string("failure_mode_allow: ") + value);
    EXPECT_EQ(finding.found, value);
    EXPECT_EQ(finding.write, "failure_mode_allow: false");
  }
  for (const char* value : {"False", "no", "OFF"}) {
    EXPECT_EQ(Only(DeployTarget::kEnvoy, "allow_mode_override: true",
                   std::string("allow_mode_override: ") + value)
                  .found,
              value);
  }
}

struct Unread {
  DeployTarget target;
  std::string line;     // as printed
  std::string changed;  // what nobody can read
  std::string path;
};

TEST(Doctor, AValueThatCannotBeReadIsAFinding) {
  const std::vector<Unread> kUnread = {
      {DeployTarget::kEnvoy, "failure_mode_allow: false", "failure_mode_allow: maybe",
       "failure_mode_allow"},
      {DeployTarget::kEnvoy, "request_header_mode: SEND", "request_header_mode: SENT",
       "request_header_mode"},
      {DeployTarget::kEnvoy, "request_body_mode: BUFFERED", "request_body_mode: Buffered",
       "request_body_mode"},
      {DeployTarget::kEnvoyGateway, "failOpen: false", "failOpen: 0", "failOpen"},
      {DeployTarget::kKgateway, "requestBodyMode: BUFFERED", "requestBodyMode: WHOLE",
       "requestBodyMode"}};
  for (const Unread& unread : kUnread) {
    const ConfigFinding finding = Only(unread.target, unread.line, unread.changed);
    EXPECT_THAT(finding.path, EndsWith(unread.path));
    EXPECT_EQ(finding.found, unread.changed.substr(unread.changed.find(": ") + 2));
    EXPECT_THAT(finding.why, HasSubstr("cannot be read"));
  }
}

TEST(Doctor, AConfigDumpIsReadOnce) {
  // As the admin page writes it: the bootstrap, and what became of it.
  const std::string filter =
      R"({"name": "x", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http)"
      R"(.ext_proc.v3.ExternalProcessor", "grpc_service": {"envoy_grpc": {"cluster_name": "c"}},)"
      R"( "failure_mode_allow": true, "allow_mode_override": true, "mutation_rules": {},)"
      R"( "message_timeout": "1s"}})";
  const std::string text =
      R"({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "x": )" +
      filter + R"(}, {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "x": )" +
      filter +
      R"(}, {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
             "dynamic_active_clusters": [{"cluster": {"name": "c", "eds_cluster_config": {}}}]}]})";
  const EnvoyNeeds needs =
      NeedsOf(Listening(), MadeChain({MadeInstance("guard", {CALLOUT_REQUEST_HEADERS})}));
  const auto findings = Found(text, needs);
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_EQ(findings[0].path, "configs[1].x.typed_config.failure_mode_allow");
  EXPECT_EQ(findings[1].path,
            "configs[2].dynamic_active_clusters[0].cluster.typed_extension_protocol_options");
}

TEST(Doctor, AFilterInATypedStruct) {
  const std::string text =
      "filter:\n  \"@type\": type.googleapis.com/xds.type.v3.TypedStruct\n"
      "  type_url: "
      "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor\n"
      "  value: {allow_mode_override: true, mutation_rules: {}, failure_mode_allow: true, "
      "message_timeout: 1s}\n";
  const EnvoyNeeds needs =
      NeedsOf(Listening(), MadeChain({MadeInstance("guard", {CALLOUT_REQUEST_HEADERS})}));
  const auto findings = Found(text, needs);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].path, "filter.value.failure_mode_allow");
}

// As "kubectl get -o yaml" prints several.
TEST(Doctor, TheResourcesOfAListAreJudgedEachByItself) {
  const auto item = [](DeployTarget target) {
    const std::string printed = PrintConfig(target, NeedsFor(target));
    std::string document = printed.substr(0, printed.find("\n---\n"));
    return "- " + absl::StrReplaceAll(document, {{"\n", "\n  "}}) + "\n";
  };
  const std::string good = "apiVersion: v1\nkind: List\nitems:\n" + item(DeployTarget::kIstio) +
                           item(DeployTarget::kKgateway);
  const absl::StatusOr<Diagnosis> nothing = Examine("f.yaml", good, NeedsFor(DeployTarget::kIstio));
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_THAT(nothing->findings, IsEmpty());
  EXPECT_EQ(nothing->filters, 2u);
  const std::string open = absl::StrReplaceAll(good, {{"failOpen: false", "failOpen: true"}});
  const auto findings = Found(open, NeedsFor(DeployTarget::kIstio));
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].path, "items[1].spec.extProc.failOpen");
}

TEST(Doctor, AFileThatItCannotReadIsAnError) {
  const auto refused = [](const std::string& text) {
    return std::string(Examine("f.yaml", text, Needs()).status().message());
  };
  EXPECT_THAT(refused("a: [1\n"), HasSubstr("--doctor=f.yaml: line "));
  EXPECT_THAT(refused("kind: Deployment\n"), HasSubstr("no ext_proc filter was found"));
  EXPECT_THAT(refused(""), HasSubstr("no ext_proc filter was found"));
  EXPECT_THAT(refused("just text"), HasSubstr("no ext_proc filter was found"));
}

TEST(Doctor, AFilesTextCannotSteerATerminal) {
  Diagnosis diagnosis;
  diagnosis.findings = {{"a\n\x1b[2J", "b", "c", "d"}};
  EXPECT_THAT(diagnosis.Text("f"), ::testing::StartsWith("f: a\\x0a\\x1b[2J\n  found  b\n"));
}

TEST(Doctor, CountsWhatItFound) {
  Diagnosis diagnosis;
  diagnosis.filters = 1;
  EXPECT_EQ(diagnosis.Text("f"), "f: nothing would fail in silence (1 ext_proc filter)\n");
  diagnosis.findings = {{"a.b", "not set", "b: 1", "because"}};
  EXPECT_EQ(diagnosis.Text("f"),
            "f: a.b\n  found  not set\n  write  b: 1\n  why    because\n"
            "f: 1 finding (1 ext_proc filter)\n");
}

}  // namespace
}  // namespace callout::host
