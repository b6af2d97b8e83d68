// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/request_ids.h"

#include <gtest/gtest.h>

#include "host/wire/header_facts.h"
#include "host/wire/response.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";

std::string HeadersOf(const Pairs& pairs) {
  envoy::service::ext_proc::v3::HttpHeaders headers;
  for (const auto& [key, value] : pairs) {
    auto* header = headers.mutable_headers()->add_headers();
    header->set_key(key);
    header->set_raw_value(value);
  }
  return headers.SerializeAsString();
}

TEST(RequestIds, KeepsTheBeginningOfALongId) {
  RequestId id;
  EXPECT_EQ(id.view(), "");
  id.Keep("4711");
  EXPECT_EQ(id.view(), "4711");
  id.Keep(std::string(200, 'x'));
  EXPECT_EQ(id.view(), std::string(RequestId::kBytesMax, 'x'));
  id.Keep("");
  EXPECT_EQ(id.view(), "");
}

TEST(RequestIds, ReadsATraceparentByTheSpecification) {
  const std::string trace = kTrace;
  const std::string valid = "00-" + trace + "-00f067aa0ba902b7-0";
  EXPECT_EQ(ReadTraceparent(valid + "1").id, trace);
  EXPECT_TRUE(ReadTraceparent(valid + "1").sampled);
  EXPECT_TRUE(ReadTraceparent(valid + "f").sampled);
  EXPECT_FALSE(ReadTraceparent(valid + "0").sampled);
  EXPECT_FALSE(ReadTraceparent(valid + "e").sampled);
  EXPECT_EQ(ReadTraceparent("01-" + trace + "-00f067aa0ba902b7-01-more").id, trace);
  for (const std::string& invalid : std::vector<std::string>{
           "", valid, valid + "g", valid + "1-more", valid + "11",
           "ff-" + trace + "-00f067aa0ba902b7-01", "01-" + trace + "-00f067aa0ba902b7-01more",
           "00-" + std::string(32, '0') + "-00f067aa0ba902b7-01",
           "00-" + trace + "-0000000000000000-01", "00-" + trace + "_00f067aa0ba902b7-01",
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"}) {
    EXPECT_EQ(ReadTraceparent(invalid).id, "") << invalid;
  }
}

TEST(RequestIds, FindsTheTraceInTheHeadersIfTheRpcHasNone) {
  const FakeRpcContext rpc;
  const std::string headers = HeadersOf(
      {{":path", "/"}, {"traceparent", std::string("00-") + kTrace + "-00f067aa0ba902b7-01"}});
  EXPECT_EQ(FindTrace(&rpc, headers).id, kTrace);
  EXPECT_EQ(FindTrace(nullptr, headers).id, kTrace);
  EXPECT_EQ(FindTrace(&rpc, "").id, "");
  EXPECT_EQ(FindTrace(&rpc, "\xff\xff").id, "");
}

TEST(RequestIds, FindsTheFirstHeaderThatIsNotEmpty) {
  const std::string headers =
      HeadersOf({{"x-request-id", ""}, {"x-other", "1"}, {"X-Request-Id", "2"}, {"x-other", "3"}});
  EXPECT_EQ(FindHeader(headers, "x-request-id"), "2");
  EXPECT_EQ(FindHeader(headers, "x-other"), "1");
  EXPECT_EQ(FindHeader(headers, "x-none"), "");
  EXPECT_EQ(SearchHeader(headers, "x-request-id"), "2");
  EXPECT_EQ(SearchHeader(headers, "x-other"), "1");
  EXPECT_EQ(SearchHeader(headers, "x-none"), "");
  EXPECT_EQ(SearchHeader("", "x-none"), "");
}

TEST(RequestIds, ASearchFindsWhatReadingFinds) {
  const std::string long_value(300, 'v');
  for (const Pairs& pairs : std::vector<Pairs>{
           {{"x-request-id", "1"}},
           {{"x-request-id", long_value}, {":path", "/"}},
           {{":path", "/x-request-id"}, {"x-request-id", "1"}},
           {{":path", "\fx-request-id"}, {"x-request-id", "1"}},
           {{"my-x-request-id", "2"}, {"x-request-id-2", "3"}, {"x-request-id", "1"}},
           {{"x-request-id", ""}},
           {{"x-request-i", "1"}}}) {
    const std::string headers = HeadersOf(pairs);
    EXPECT_EQ(SearchHeader(headers, "x-request-id"), FindHeader(headers, "x-request-id"));
  }
  // Cut anywhere: nothing beyond the end is read.
  const std::string headers = HeadersOf({{"x-request-id", long_value}});
  for (size_t size = 0; size < headers.size(); ++size) {
    const std::string cut = headers.substr(0, size);  // of its own, so that sanitizers see its end
    EXPECT_EQ(SearchHeader(cut, "x-request-id"), "") << size;
  }
}

}  // namespace
}  // namespace callout::host
