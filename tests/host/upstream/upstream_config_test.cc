// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/upstream_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace callout::host {
namespace {

using ::testing::HasSubstr;

UpstreamConfig Parsed(const std::string& keys) {
  const auto parsed = ParseUpstreams(R"({"a": {)" + keys + "}}");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? parsed->front() : UpstreamConfig();
}

std::string ErrorOf(const std::string& text) {
  const auto parsed = ParseUpstreams(text);
  EXPECT_FALSE(parsed.ok()) << text;
  return std::string(parsed.status().message());
}

TEST(UpstreamConfig, ReadsEveryFormOfAUrl) {
  struct Case {
    std::string url, host, authority;
    uint16_t port;
    bool tls;
  };
  const Case cases[] = {
      {"http://a.example", "a.example", "a.example", 80, false},
      {"https://a.example/", "a.example", "a.example", 443, true},
      {"https://a.example:8443", "a.example", "a.example:8443", 8443, true},
      {"http://10.0.0.7:8080", "10.0.0.7", "10.0.0.7:8080", 8080, false},
      {"http://[::1]:8080", "::1", "[::1]:8080", 8080, false},
      {"http://[::1]", "::1", "[::1]", 80, false},
  };
  for (const Case& one : cases) {
    const UpstreamConfig config = Parsed("\"url\": \"" + one.url + "\"");
    EXPECT_EQ(config.host, one.host) << one.url;
    EXPECT_EQ(config.authority, one.authority) << one.url;
    EXPECT_EQ(config.port, one.port) << one.url;
    EXPECT_EQ(config.tls, one.tls) << one.url;
  }
  const UpstreamConfig config = Parsed(R"("url": "unix:/run/a.sock", "authority": "a.example")");
  EXPECT_EQ(config.unix_path, "/run/a.sock");
  EXPECT_EQ(config.authority, "a.example");
}

TEST(UpstreamConfig, ReadsEveryKey) {
  const UpstreamConfig config = Parsed(R"(
      "url": "https://a.example", "authority": "b.example", "protocol": "http2",
      "allow_host_header": true, "timeout_ms": 1, "connect_timeout_ms": 2, "idle_timeout_ms": 3,
      "max_connection_age_ms": 4, "max_connections": 5, "max_streams": 6, "max_pending": 7,
      "max_request_bytes": 8, "max_response_bytes": 9, "max_response_header_bytes": 2000,
      "max_retries": 10, "retry_wait_ms": 11, "circuit_failures": 12, "circuit_open_ms": 13,
      "tls": {"ca": "ca", "certificate": "c", "key": "k", "server_name": "s"})");
  EXPECT_EQ(config.authority, "b.example");
  EXPECT_EQ(config.protocol, UpstreamProtocol::kHttp2);
  EXPECT_TRUE(config.allow_host_header);
  EXPECT_EQ(config.timeout_ms, 1u);
  EXPECT_EQ(config.connect_timeout_ms, 2u);
  EXPECT_EQ(config.idle_timeout_ms, 3u);
  EXPECT_EQ(config.max_connection_age_ms, 4u);
  EXPECT_EQ(config.max_connections, 5u);
  EXPECT_EQ(config.max_streams, 6u);
  EXPECT_EQ(config.max_pending, 7u);
  EXPECT_EQ(config.max_request_bytes, 8u);
  EXPECT_EQ(config.max_response_bytes, 9u);
  EXPECT_EQ(config.max_response_header_bytes, 2000u);
  EXPECT_EQ(config.max_retries, 10u);
  EXPECT_EQ(config.retry_wait_ms, 11u);
  EXPECT_EQ(config.circuit_failures, 12u);
  EXPECT_EQ(config.circuit_open_ms, 13u);
  EXPECT_EQ(config.tls_files.ca_path, "ca");
  EXPECT_EQ(config.tls_files.certificate_path, "c");
  EXPECT_EQ(config.tls_files.key_path, "k");
  EXPECT_EQ(config.tls_files.server_name, "s");
  EXPECT_TRUE(config.tls_files.verify);
}

TEST(UpstreamConfig, AnErrorNamesUpstreamAndKey) {
  const auto error = [](const std::string& keys) {
    return ErrorOf(R"({"a": {"url": "http://a.example")" + keys + "}}");
  };
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(ErrorOf("{"), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf(R"({"a b": {}})"), HasSubstr("upstream a b: expected a name"));
  EXPECT_EQ(ErrorOf(R"({"a": {}})"), "upstream a: \"url\": it is missing");
  EXPECT_THAT(ErrorOf(R"({"a\nb": {}})"), HasSubstr("upstream a\\x0ab: "));
  EXPECT_THAT(error(R"(, "time_out_ms": 1)"),
              HasSubstr("upstream a: \"time_out_ms\": unknown key; did you mean \"timeout_ms\"?"));
  EXPECT_THAT(error(R"(, "timeout_ms": 0)"),
              HasSubstr("\"timeout_ms\": expected a whole number from 1 to 86400000"));
  EXPECT_THAT(error(R"(, "timeout_ms": "5")"), HasSubstr("\"timeout_ms\": expected"));
  EXPECT_THAT(error(R"(, "max_pending": 0)"), HasSubstr("\"max_pending\": expected"));
  EXPECT_THAT(error(R"(, "timeout_ms": -5)"), HasSubstr("\"timeout_ms\": expected"));
  EXPECT_THAT(error(R"(, "protocol": "http3")"), HasSubstr("\"protocol\": expected \"auto\""));
  EXPECT_THAT(error(R"(, "tls": {})"), HasSubstr("\"tls\": the url is not https"));
  EXPECT_THAT(error(R"(, "authority": "a\r\nb")"), HasSubstr("\"authority\": expected"));
}

TEST(UpstreamConfig, AnErrorOfTlsNamesItsKey) {
  const auto error = [](const std::string& keys) {
    return ErrorOf(R"({"a": {"url": "https://a.example", "tls": {)" + keys + "}}}");
  };
  EXPECT_THAT(error(R"("keys": "x")"),
              HasSubstr("\"tls.keys\": unknown key; did you mean \"key\"?"));
  EXPECT_THAT(error(R"("key": "x")"), HasSubstr("\"tls.key\": \"tls.certificate\" is missing"));
  EXPECT_THAT(error(R"("verify": false, "ca": "x")"), HasSubstr("\"tls.verify\": false"));
}

TEST(UpstreamConfig, RefusesAUrlThatLeavesSomethingOpen) {
  for (const char* url : {"a.example", "ftp://a.example", "http://", "http://a.example:0",
                          "http://a.example:99999", "http://a.example:x", "http://a.example:80 ",
                          "http://a.example/path", "http://user@a.example", "http://a b",
                          "http://[::1", "unix:", "http://a.example?x", "http://[::1]x"}) {
    EXPECT_THAT(ErrorOf(std::string(R"({"a": {"url": ")") + url + "\"}}"), HasSubstr("expected"))
        << url;
  }
}

TEST(UpstreamConfig, SaysWhyAFileCannotBeRead) {
  EXPECT_EQ(ReadUpstreams("/nowhere/upstreams.json").status().message(),
            "No such file or directory");
  EXPECT_EQ(ReadUpstreams("@/nowhere/upstreams.json").status().message(),
            "No such file or directory; give the path of the file, without @");
}

}  // namespace
}  // namespace callout::host
