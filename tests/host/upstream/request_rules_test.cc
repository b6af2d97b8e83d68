// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/request_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "host/upstream/grpc_message.h"
#include "tests/host/plugin_bytes.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

struct Outgoing {
  explicit Outgoing(std::string_view path) {
    raw.struct_size = sizeof(raw);
    raw.path = Bytes(path);
  }
  Outgoing& Header(std::string_view name, std::string_view value) {
    headers.push_back({Bytes(name), Bytes(value)});
    raw.headers = headers.data();
    raw.header_count = headers.size();
    return *this;
  }
  callout_outgoing_t raw = {};
  std::vector<callout_header_field_t> headers;
};

std::string ErrorOf(const callout_outgoing_t& outgoing, const RequestRules& rules = {}) {
  const auto taken = TakeRequest(outgoing, rules);
  return taken.ok() ? "" : std::string(taken.status().message());
}

TEST(RequestRules, TakeARequestWithNamesInLowerCase) {
  Outgoing outgoing("/a?b=c");
  outgoing.Header("X-Token", "s3cret").Header("accept", "");
  const auto taken = TakeRequest(outgoing.raw, {});
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->method, "GET");
  EXPECT_TRUE(taken->idempotent);
  EXPECT_THAT(taken->headers, ElementsAre(Pair("x-token", "s3cret"), Pair("accept", "")));
  outgoing.raw.body = Bytes("x=1");
  EXPECT_EQ(TakeRequest(outgoing.raw, {})->method, "POST");
  EXPECT_FALSE(TakeRequest(outgoing.raw, {})->idempotent);
  outgoing.raw.flags = CALLOUT_OUTGOING_IDEMPOTENT;
  EXPECT_TRUE(TakeRequest(outgoing.raw, {})->idempotent);
}

TEST(RequestRules, RefuseHeadersThatTakeTheRequestElsewhereOrSplitIt) {
  const std::pair<std::string, std::string> refused[] = {
      {"host", "evil.example"},
      {":authority", "evil.example"},
      {"Connection", "close"},
      {"content-length", "5"},
      {"transfer-encoding", "chunked"},
      {"te", "trailers"},
      {"upgrade", "h2c"},
      {"expect", "100-continue"},
      {"", "x"},
      {"x y", "z"},
      {"x:y", "z"},
      {"x\r\ny", "z"},
      {"x", "a\r\nhost: b"},
      {"x", "a\nb"},
      {"x", std::string("a\0b", 3)},
      {"x", "a\x7f"},
      {"x", " a"},
      {"x", "a\t"},
  };
  for (const auto& [name, value] : refused) {
    EXPECT_THAT(ErrorOf(Outgoing("/").Header(name, value).raw), HasSubstr("header 1"))
        << name << ": " << value;
  }
  EXPECT_EQ(ErrorOf(Outgoing("/").Header("host", "b").raw, {.allow_host = true}), "");
  EXPECT_THAT(ErrorOf(Outgoing("/").Header("x-key", "top\nsecret").raw),
              ::testing::Not(HasSubstr("secret")));
}

TEST(RequestRules, RefusePathsAndMethodsThatAreNoneOfHttp) {
  for (const char* path : {"", "users", "/a b", "/a\r\nb", "/a#b", "/\xc3\xa4", "http://b/"}) {
    EXPECT_THAT(ErrorOf(Outgoing(path).raw), HasSubstr("path")) << path;
  }
  EXPECT_EQ(ErrorOf(Outgoing(std::string(CALLOUT_OUTGOING_PATH_BYTES_MAX, '/')).raw), "");
  EXPECT_NE(ErrorOf(Outgoing(std::string(CALLOUT_OUTGOING_PATH_BYTES_MAX + 1, '/')).raw), "");
  for (const char* method : {"get", "CONNECT", "GET /", "A\r\nB"}) {
    Outgoing outgoing("/");
    outgoing.raw.method = Bytes(method);
    EXPECT_THAT(ErrorOf(outgoing.raw), HasSubstr("method")) << method;
  }
}

TEST(RequestRules, RefuseWhatIsOverItsLimit) {
  const std::string body(11, 'x');
  Outgoing outgoing("/");
  outgoing.raw.body = Bytes(body);
  EXPECT_EQ(ErrorOf(outgoing.raw, {.body_bytes_max = 11}), "");
  EXPECT_THAT(ErrorOf(outgoing.raw, {.body_bytes_max = 10}),
              HasSubstr("a body of 11 bytes is over \"max_request_bytes\": 10"));
  Outgoing many("/");
  for (int i = 0; i < CALLOUT_OUTGOING_HEADERS_MAX; ++i) many.Header("x", "y");
  EXPECT_EQ(ErrorOf(many.raw), "");
  EXPECT_THAT(ErrorOf(many.Header("x", "y").raw), HasSubstr("129 headers"));
  const std::string large(CALLOUT_OUTGOING_HEADER_BYTES_MAX, 'x');
  EXPECT_THAT(ErrorOf(Outgoing("/").Header("x", large).raw), HasSubstr("the limit is 65536"));
}

TEST(RequestRules, TakeAGrpcCallWithItsFrame) {
  Outgoing outgoing("/a.B/C");
  outgoing.raw.flags = CALLOUT_OUTGOING_GRPC;
  outgoing.raw.body = Bytes("message");
  outgoing.Header("x-user", "ada");
  const auto taken = TakeRequest(outgoing.raw, {});
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->method, "POST");
  EXPECT_EQ(taken->body, std::string("\0\0\0\0\7message", 12));
  EXPECT_FALSE(taken->idempotent);
  EXPECT_THAT(ErrorOf(outgoing.Header("grpc-timeout", "1S").raw), HasSubstr("header 2"));
  for (const char* path : {"/a.B", "/a.B/", "//C", "/a.B/C/D", "/a.B/C?d"}) {
    Outgoing other(path);
    other.raw.flags = CALLOUT_OUTGOING_GRPC;
    EXPECT_THAT(ErrorOf(other.raw), HasSubstr("gRPC")) << path;
  }
  outgoing.raw.method = Bytes("GET");
  EXPECT_THAT(ErrorOf(outgoing.raw), HasSubstr("method"));
}

}  // namespace
}  // namespace callout::host
