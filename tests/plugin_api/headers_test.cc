// SPDX-License-Identifier: Apache-2.0

#include <callout/headers.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <callout/view.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/plugin_api/random_messages.h"

namespace callout {
namespace {

using envoy::service::ext_proc::v3::HttpBody;
using envoy::service::ext_proc::v3::HttpHeaders;
using envoy::service::ext_proc::v3::HttpTrailers;
using Pairs = std::vector<std::pair<std::string, std::string>>;

// What the generated classes say: raw_value, or value where that is empty.
Pairs OracleHeaders(const envoy::config::core::v3::HeaderMap& map) {
  Pairs pairs;
  for (const auto& header : map.headers()) {
    pairs.emplace_back(header.key(),
                       header.raw_value().empty() ? header.value() : header.raw_value());
  }
  return pairs;
}

// What the reader says; nothing if it calls the message malformed.
std::optional<Pairs> ReadHeaders(const std::string& message) {
  callout_headers_t headers = callout_read_headers(to_bytes(message));
  callout_header_t header;
  Pairs pairs;
  while (callout_headers_next(&headers, &header)) {
    pairs.emplace_back(to_view(header.key), to_view(header.value));
  }
  if (headers.malformed) return std::nullopt;
  return pairs;
}

bool SameName(std::string a, std::string b) {
  const auto lower = [](std::string& text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  lower(a);
  lower(b);
  return a == b;
}

TEST(Headers, AgreeWithProtobufOnRandomMessages) {
  Random random;
  for (int i = 0; i < 2000; ++i) {
    HttpHeaders headers;
    FillHeaderMap(&random, headers.mutable_headers());
    headers.set_end_of_stream(random.Chance(50));
    const std::string message = headers.SerializeAsString();
    const Pairs expected = OracleHeaders(headers.headers());
    ASSERT_EQ(ReadHeaders(message), expected);

    HttpTrailers trailers;
    *trailers.mutable_trailers() = headers.headers();
    ASSERT_EQ(ReadHeaders(trailers.SerializeAsString()), expected);

    const std::string key = random.Name();
    std::vector<std::string> values;
    for (const auto& [name, value] : expected) {
      if (SameName(name, key)) values.push_back(value);
    }
    const Headers view(message);
    std::vector<std::string> found;
    for (std::string_view value : view.all(key)) found.emplace_back(value);
    ASSERT_EQ(found, values);
    ASSERT_EQ(view.contains(key), !values.empty());
    ASSERT_EQ(view.get(key, "none"), values.empty() ? "none" : values.front());
    callout_bytes_t all[3];
    ASSERT_EQ(callout_headers_all(to_bytes(message), to_bytes(key), all, 3), values.size());
    for (size_t v = 0; v < std::min<size_t>(3, values.size()); ++v) {
      ASSERT_EQ(to_view(all[v]), values[v]);
    }
    if (!values.empty()) {
      ASSERT_TRUE(view.contains(key, values.back()));
    }
    ASSERT_FALSE(view.contains(key, "no header has this value"));
  }
}

TEST(Headers, AreWholeInEveryTruncationThatProtobufAccepts) {
  Random random;
  for (int i = 0; i < 100; ++i) {
    HttpHeaders headers;
    FillHeaderMap(&random, headers.mutable_headers());
    const std::string whole = headers.SerializeAsString();
    for (size_t size = 0; size<whole.size(); size += whole.size()> 500 ? 37 : 1) {
      const std::string cut = whole.substr(0, size);
      HttpHeaders oracle;
      const bool accepted = oracle.ParseFromString(cut);
      const auto read = ReadHeaders(cut);
      ASSERT_EQ(read.has_value(), accepted) << size << " of " << whole.size() << " bytes";
      if (accepted) {
        ASSERT_EQ(*read, OracleHeaders(oracle.headers()));
      }
    }
  }
}

TEST(Headers, NeverDisagreeWithProtobufOnDamagedMessages) {
  Random random;
  int agreed = 0;
  for (int i = 0; i < 20000; ++i) {
    HttpHeaders headers;
    FillHeaderMap(&random, headers.mutable_headers());
    std::string message = headers.SerializeAsString();
    if (message.empty()) continue;
    for (size_t n = 1 + random.Below(3); n > 0; --n) {
      message[random.Below(message.size())] = static_cast<char>(random.Below(256));
    }
    HttpHeaders oracle;
    const bool accepted = oracle.ParseFromString(message);
    const auto read = ReadHeaders(message);
    // Protobuf also checks strings for UTF-8, so the reader may accept more; what both
    // accept is the same.
    if (!accepted || !read.has_value()) continue;
    ASSERT_EQ(*read, OracleHeaders(oracle.headers()));
    ++agreed;
  }
  EXPECT_GT(agreed, 1000);
}

TEST(Headers, OfSeveralMapsFollowEachOther) {
  HttpHeaders one;
  one.mutable_headers()->add_headers()->set_key("a");
  HttpHeaders two;
  two.mutable_headers()->add_headers()->set_key("b");
  const std::string merged = one.SerializeAsString() + two.SerializeAsString();
  EXPECT_EQ(ReadHeaders(merged), (Pairs{{"a", ""}, {"b", ""}}));
}

TEST(Headers, OfABareMapAreReadToo) {
  envoy::config::core::v3::HeaderMap map;
  map.add_headers()->set_key("a");
  const std::string bytes = map.SerializeAsString();
  callout_headers_t headers = callout_read_header_map(to_bytes(bytes));
  callout_header_t header;
  ASSERT_TRUE(callout_headers_next(&headers, &header));
  EXPECT_EQ(to_view(header.key), "a");
  EXPECT_FALSE(callout_headers_next(&headers, &header));
}

TEST(Body, AgreesWithProtobufOnRandomMessages) {
  Random random;
  for (int i = 0; i < 2000; ++i) {
    HttpBody oracle;
    oracle.set_body(random.Bytes());
    oracle.set_end_of_stream(random.Chance(50));
    const std::string message = oracle.SerializeAsString();
    callout_body_t body;
    ASSERT_TRUE(callout_read_body(to_bytes(message), &body));
    ASSERT_EQ(to_view(body.bytes), oracle.body());
    ASSERT_EQ(body.end_of_stream != 0, oracle.end_of_stream());
  }
}

TEST(Body, IsSearchedByteForByte) {
  HttpBody body;
  body.set_body(std::string("a\0\xff\xfe needle", 11));
  const std::string message = body.SerializeAsString();
  const auto contains = [&](std::string_view needle) {
    return callout_body_contains(to_bytes(message), to_bytes(needle)) != 0;
  };
  EXPECT_TRUE(contains("needle"));
  EXPECT_TRUE(contains({"\0\xff", 2}));
  EXPECT_FALSE(contains("Needle"));
  EXPECT_FALSE(contains("needles"));
}

}  // namespace
}  // namespace callout
