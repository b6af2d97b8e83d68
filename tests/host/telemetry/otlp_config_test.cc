// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/otlp_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace callout::host {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

OtlpConfig Read(const std::vector<std::string>& variables) {
  std::vector<const char*> environment;
  for (const std::string& variable : variables) environment.push_back(variable.c_str());
  environment.push_back(nullptr);
  return ReadOtlpConfig(environment.data());
}

TEST(OtlpConfig, IsOffWithoutAWordOfIt) {
  EXPECT_FALSE(Read({}).enabled);
  EXPECT_FALSE(Read({"OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_on"}).enabled);
  EXPECT_FALSE(Read({"OTEL_EXPORTER_OTLP_ENDPOINT="}).enabled);
}

TEST(OtlpConfig, IsOnByTheExporterOrAnEndpoint) {
  const OtlpConfig config = Read({"OTEL_TRACES_EXPORTER=otlp"});
  EXPECT_TRUE(config.enabled);
  EXPECT_EQ(config.endpoint.host, "localhost");
  EXPECT_EQ(config.endpoint.port, 4318);
  EXPECT_EQ(config.endpoint.target, "/v1/traces");
  EXPECT_FALSE(config.endpoint.tls);
  EXPECT_TRUE(Read({"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1"}).enabled);
  EXPECT_TRUE(Read({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:1"}).enabled);
  EXPECT_THAT(config.warnings, IsEmpty());
}

TEST(OtlpConfig, NoneAndDisabledTurnItOff) {
  EXPECT_FALSE(
      Read({"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1"}).enabled);
  EXPECT_FALSE(Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_SDK_DISABLED=true"}).enabled);
  EXPECT_TRUE(Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_SDK_DISABLED=false"}).enabled);
}

TEST(OtlpConfig, TheEndpointOfTracesIsTakenAsItIs) {
  const OtlpConfig config = Read({"OTEL_EXPORTER_OTLP_ENDPOINT=http://general:1",
                                  "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c.example/in?a=b"});
  EXPECT_TRUE(config.endpoint.tls);
  EXPECT_EQ(config.endpoint.host, "c.example");
  EXPECT_EQ(config.endpoint.port, 443);
  EXPECT_EQ(config.endpoint.target, "/in?a=b");
}

TEST(OtlpConfig, TheGeneralEndpointGetsThePath) {
  EXPECT_EQ(Read({"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1/x/"}).endpoint.target, "/x/v1/traces");
  EXPECT_EQ(Read({"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1/x"}).endpoint.target, "/x/v1/traces");
}

TEST(OtlpConfig, ReadsIpv6Addresses) {
  const absl::StatusOr<OtlpEndpoint> endpoint = ParseOtlpEndpoint("http://[::1]:4318/v1/traces");
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(endpoint->host, "::1");
  EXPECT_EQ(endpoint->port, 4318);
}

TEST(OtlpConfig, RefusesWhatIsNoUrl) {
  for (const char* url :
       {"", "c:4318", "ftp://c/", "http://", "http://:80/", "http://c:0/", "http://c:65536/",
        "http://c:x/", "http://[::1/", "http://c/a b", "http://c/\r\nHost: x", "http://user:pw@c/",
        "http://c:1:2/", "https:///x"}) {
    EXPECT_FALSE(ParseOtlpEndpoint(url).ok()) << url;
  }
}

// Such variables are often injected for a whole cluster.
TEST(OtlpConfig, WhatItCannotObeyIsAWarning) {
  const OtlpConfig bad_url = Read({"OTEL_EXPORTER_OTLP_ENDPOINT=nonsense"});
  EXPECT_FALSE(bad_url.enabled);
  EXPECT_THAT(bad_url.warnings, ElementsAre(HasSubstr("OTEL_EXPORTER_OTLP_ENDPOINT")));
  const OtlpConfig grpc = Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"});
  EXPECT_FALSE(grpc.enabled);
  EXPECT_THAT(grpc.warnings, ElementsAre(HasSubstr("http/protobuf")));
  const OtlpConfig others =
      Read({"OTEL_TRACES_EXPORTER=otlp,zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
            "OTEL_EXPORTER_OTLP_COMPRESSION=zstd", "OTEL_TRACES_SAMPLER=jaeger_remote",
            "OTEL_BSP_SCHEDULE_DELAY=-1"});
  EXPECT_TRUE(others.enabled);
  EXPECT_EQ(others.warnings.size(), 5u);
  EXPECT_EQ(others.schedule_delay_ms, 5000u);
}

TEST(OtlpConfig, AWarningIsOneLineWhateverTheVariableHas) {
  const OtlpConfig config =
      Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http\nERROR forged"});
  EXPECT_THAT(config.warnings, ElementsAre(HasSubstr("=http\\x0aERROR forged: ")));
}

TEST(OtlpConfig, CompressesByGzipOrNotAtAll) {
  EXPECT_FALSE(Read({"OTEL_TRACES_EXPORTER=otlp"}).gzip);
  EXPECT_FALSE(Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_COMPRESSION=none"}).gzip);
  const OtlpConfig gzip =
      Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip"});
  EXPECT_TRUE(gzip.gzip);
  EXPECT_TRUE(gzip.warnings.empty());
  EXPECT_FALSE(Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
                     "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION=none"})
                   .gzip);
}

TEST(OtlpConfig, ReadsTheLimitsOfWhatPluginsAdd) {
  const OtlpConfig general = Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_ATTRIBUTE_COUNT_LIMIT=7",
                                   "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=8"});
  EXPECT_EQ(general.span_limits.attributes_max, 7u);
  EXPECT_EQ(general.span_limits.event_attributes_max, 7u);
  EXPECT_EQ(general.span_limits.events_max, 128u);
  EXPECT_EQ(general.span_limits.text_bytes_max, 8u);
  const OtlpConfig exact =
      Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_ATTRIBUTE_COUNT_LIMIT=7",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=1", "OTEL_SPAN_EVENT_COUNT_LIMIT=2",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT=3", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT=4",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=x"});
  EXPECT_EQ(exact.span_limits.attributes_max, 1u);
  EXPECT_EQ(exact.span_limits.events_max, 2u);
  EXPECT_EQ(exact.span_limits.event_attributes_max, 3u);
  EXPECT_EQ(exact.span_limits.text_bytes_max, 4u);
  EXPECT_EQ(exact.warnings.size(), 1u);
}

TEST(OtlpConfig, ReadsTheLimits) {
  const OtlpConfig config =
      Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TIMEOUT=1000",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=77", "OTEL_BSP_SCHEDULE_DELAY=10",
            "OTEL_BSP_EXPORT_TIMEOUT=20", "OTEL_BSP_MAX_QUEUE_SIZE=30",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=40"});
  EXPECT_EQ(config.request_timeout_ms, 77u);
  EXPECT_EQ(config.schedule_delay_ms, 10u);
  EXPECT_EQ(config.export_timeout_ms, 20u);
  EXPECT_EQ(config.queue_spans_max, 30u);
  EXPECT_EQ(config.batch_spans_max, 30u);  // not more than can wait
}

TEST(OtlpConfig, HeadersAreDecodedAndCannotEndEarly) {
  const OtlpConfig config =
      Read({"OTEL_TRACES_EXPORTER=otlp",
            "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b, x = y ,bad,b%ad=1,c=%0d%0aEvil: 1,d=%zz"});
  EXPECT_THAT(config.headers,
              ElementsAre(Pair("api-key", "a b"), Pair("x", "y"), Pair("b%ad", "1")));
  ASSERT_EQ(config.warnings.size(), 1u);
  EXPECT_THAT(config.warnings[0], HasSubstr("3 entries"));
  EXPECT_THAT(config.warnings[0], Not(HasSubstr("Evil")));
}

TEST(OtlpConfig, TheServiceNameIsThatOfTheVariableFirst) {
  EXPECT_THAT(Read({"OTEL_TRACES_EXPORTER=otlp"}).resource,
              ElementsAre(Pair("service.name", "callout-host")));
  EXPECT_THAT(Read({"OTEL_TRACES_EXPORTER=otlp",
                    "OTEL_RESOURCE_ATTRIBUTES=service.name=a,deployment.environment.name=x%2Cy"})
                  .resource,
              ElementsAre(Pair("service.name", "a"), Pair("deployment.environment.name", "x,y")));
  EXPECT_THAT(Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_SERVICE_NAME=b",
                    "OTEL_RESOURCE_ATTRIBUTES=service.name=a"})
                  .resource,
              ElementsAre(Pair("service.name", "b")));
}

TEST(OtlpConfig, AnAttributeThatIsNotUtf8IsLeftOut) {
  const OtlpConfig config =
      Read({"OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=a=%ff,b=1"});
  EXPECT_THAT(config.resource, Contains(Pair("b", "1")));
  EXPECT_EQ(config.warnings.size(), 1u);
}

}  // namespace
}  // namespace callout::host
