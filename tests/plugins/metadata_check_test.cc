// SPDX-License-Identifier: Apache-2.0

// plugins/metadata_check.
#include <callout/plugin.h>
#include <google/protobuf/util/json_util.h>

#include "sample_envoy.h"
#include "sample_host.h"

namespace callout::tests {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// `metadata` is the JSON of the namespaces.
ext_proc::ProcessingRequest With(const std::string& metadata, ext_proc::ProcessingRequest request) {
  const auto status = google::protobuf::util::JsonStringToMessage(
      R"({"filter_metadata": )" + metadata + "}", request.mutable_metadata_context());
  EXPECT_TRUE(status.ok()) << status;
  return request;
}

Lines Intercepted(const std::string& phase) {
  return {phase, "set service-callout-response-intercept: intercepted",
          "set x-used-deltas-gfe3: ", "set x-used-staging-gfe3: ", "set x-ext-proc: "};
}
Lines Found(const std::string& phase) {
  Lines lines = Intercepted(phase);
  lines.insert(lines.begin() + 1, "set metadata: found");
  return lines;
}

TEST(MetadataCheckTest, AnswersEachMessageInItsOwnPhase) {
  SampleHost host("metadata_check");
  host.Expect({
      {"a request", RequestHeaders({{":path", "/"}}), Intercepted("request_headers")},
      {"its body", WithBodyMode(RequestBody("text"), CALLOUT_BODY_BUFFERED),
       Intercepted("request_body")},
      {"its trailers", RequestTrailers({{"t", "r"}}), Intercepted("request_trailers")},
      {"a response", ResponseHeaders({{":status", "200"}}), Intercepted("response_headers")},
      {"its body", ResponseBody("text"), {"response_body", "body \"e2e-test\""}},
      {"its trailers", ResponseTrailers({{"t", "r"}}), Intercepted("response_trailers")},
  });
  const auto first = ResponseBody("one", false);
  EXPECT_EQ(host.Ask({first, ResponseBody("two")}), (Lines{"response_body", "clear body"}));
}

TEST(MetadataCheckTest, FindsATextFrInAnyNamespace) {
  SampleHost host("metadata_check");
  const auto request = RequestHeaders({{":path", "/"}});
  const Lines found = Found("request_headers");
  const Lines none = Intercepted("request_headers");
  host.Expect({
      {"in the only one", With(R"({"a": {"fr": "x"}})", request), found},
      {"in the first", With(R"({"a": {"fr": "x"}, "b": {"k": "v"}})", request), found},
      {"in the last", With(R"({"a": {"fr": ""}, "b": {"fr": "x"}})", request), found},
      {"beside others", With(R"({"a": {"k": 1, "fr": "x", "z": true}})", request), found},
      {"an empty text", With(R"({"a": {"fr": ""}})", request), none},
      {"a number", With(R"({"a": {"fr": 1}})", request), none},
      {"deeper down", With(R"({"a": {"b": {"fr": "x"}}})", request), none},
      {"another key", With(R"({"fr": {"key": "x"}})", request), none},
      {"nothing", With("{}", request), none},
      {"with a response", With(R"({"a": {"fr": "x"}})", ResponseHeaders({{":status", "200"}})),
       Found("response_headers")},
      {"with its body",
       With(R"({"a": {"fr": "x"}})", ResponseBody("text")),
       {"response_body", "body \"e2e-test\""}},
  });
  EXPECT_EQ(host.Ask({With(R"({"a": {"fr": "x"}})", request), ResponseHeaders({{"a", "b"}})}),
            Found("response_headers"));
}

TEST(MetadataCheckTest, AsTheSampleServerItIsHeldToThePhases) {
  SampleHost host("metadata_check", R"({"always_response_headers": true})",
                  {"--on_plugin_error=metadata_check=continue"});
  host.Expect({
      {"a response", ResponseHeaders({{":status", "200"}}), Intercepted("response_headers")},
      {"a response's body", ResponseBody("text"), {"response_body", "body \"e2e-test\""}},
      {"a request", RequestHeaders({{":path", "/"}}), {"request_headers"}},
      {"its body", RequestBody("text"), {"request_body"}},
      {"its trailers", RequestTrailers({{"t", "r"}}), {"request_trailers"}},
  });
  EXPECT_THAT(
      MetricsOf(host.host()),
      HasSubstr("callout_plugin_faults_total{kind=\"wrong_type\",plugin=\"metadata_check\"} 3\n"));
}

TEST(MetadataCheckTest, AsTheSampleServerItFallsUnderTheOperatorsPolicy) {
  SampleHost host("metadata_check", R"({"always_response_headers": true})",
                  {"--on_plugin_error=metadata_check=deny:503"});
  EXPECT_EQ(host.Ask({RequestHeaders({{":path", "/"}})}),
            (Lines{"immediate 503", "details callout_wrong_type"}));
}

TEST(MetadataCheckTest, RefusesAConfigurationThatCannotWork) {
  EXPECT_THAT(RefusalOf("metadata_check", R"({"always": true})"),
              HasSubstr(R"("always" is not known; there is: always_response_headers)"));
  EXPECT_THAT(RefusalOf("metadata_check", R"({"always_response_headers": 1})"),
              HasSubstr(R"("always_response_headers" must be true or false, not a number)"));
}

class MetadataCheckEnvoyTest : public SampleEnvoy {};

TEST_F(MetadataCheckEnvoyTest, ReachesBackendAndClient) {
  Start("metadata_check", BufferedBodies());
  backend().Answer({.body = {.pieces = {"original"}}});
  const HttpMessage response = Send({.method = "POST", .body = {.pieces = {"text"}}});
  const HttpMessage request = Received();
  for (const HttpMessage& message : {request, response}) {
    EXPECT_EQ(message.Header("service-callout-response-intercept"), "intercepted");
    EXPECT_EQ(message.Header("x-ext-proc"), "");
    EXPECT_EQ(message.Header("metadata"), std::nullopt);
  }
  EXPECT_EQ(request.body, "text");
  EXPECT_EQ(response.body, "e2e-test");
}

TEST_F(MetadataCheckEnvoyTest, FindsWhatAnotherFilterHasLeft) {
  const json from_header = {
      {"name", "envoy.filters.http.header_to_metadata"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"},
        {"request_rules",
         json::array(
             {{{"header", "x-fr"},
               {"on_header_present", {{"metadata_namespace", "any.name"}, {"key", "fr"}}}}})}}}};
  const json forwarded = {
      {"metadata_options", {{"forwarding_namespaces", {{"untyped", json::array({"any.name"})}}}}}};
  Start("metadata_check", forwarded, "", json::array(), {from_header});
  EXPECT_EQ(Send({.headers = {{"x-fr", "yes"}}}).Header("metadata"), "found");
  EXPECT_EQ(Received().Header("metadata"), "found");
  EXPECT_EQ(Send({}).Header("metadata"), std::nullopt);
  EXPECT_EQ(Received().Header("metadata"), std::nullopt);
}

TEST_F(MetadataCheckEnvoyTest, AsTheSampleServerItIsA500AsFromEnvoy) {
  Start("metadata_check", BufferedBodies(), R"({"always_response_headers": true})");
  EXPECT_EQ(Send({.method = "POST", .body = {.pieces = {"text"}}}).status, 500);
}

}  // namespace
}  // namespace callout::tests
