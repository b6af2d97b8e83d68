// SPDX-License-Identifier: Apache-2.0

#include "host/stream/guard.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::host {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string HeadersMessage(const Pairs& headers) {
  envoy::service::ext_proc::v3::HttpHeaders message;
  for (const auto& [key, value] : headers) {
    auto* header = message.mutable_headers()->add_headers();
    header->set_key(key);
    header->set_raw_value(value);
  }
  return message.SerializeAsString();
}

Pairs Numbered(const std::string& prefix, size_t count) {
  Pairs headers;
  for (size_t i = 0; i < count; ++i) headers.emplace_back(prefix + std::to_string(i), "v");
  return headers;
}

// Sets these headers; the views point into `headers`.
HeaderMutationView Sets(const Pairs& headers) {
  HeaderMutationView mutation;
  mutation.present = true;
  for (const auto& [key, value] : headers) mutation.set.push_back({key, value, false});
  return mutation;
}

struct LimitCase {
  size_t headers_before;
  size_t sets;
  bool replacing;  // names that are there already
  std::string found;
};

TEST(Guard, HoldsTheCountOfHeadersToTheLimitExactly) {
  const std::vector<LimitCase> cases = {
      {95, 5, false, ""},
      {95, 6, false, "101 headers, limit --max_header_count=100"},
      {100, 10, true, ""},
      {100, 1, false, "101 headers, limit --max_header_count=100"},
      {99, 5, false, "104 headers, limit --max_header_count=100"},
      {101, 0, false, ""},
      // It came in over the limit, so Envoy's own is higher.
      {101, 1, false, ""},
      {150, 40, false, ""},
  };
  for (const LimitCase& c : cases) {
    const std::string message = HeadersMessage(Numbered("h", c.headers_before));
    const Pairs sets = Numbered(c.replacing ? "h" : "n", c.sets);
    const Finding found = CheckHeaderLimits(message, Sets(sets), 100, 61440);
    EXPECT_EQ(found.what, c.found) << c.headers_before << " and " << c.sets;
    EXPECT_EQ(found.ok(), c.found.empty());
    if (found.ok()) continue;
    EXPECT_EQ(found.violation, Violation::kIllegalHeader);
    EXPECT_EQ(found.http_status, 431);
    EXPECT_TRUE(found.never_passes);
  }
}

TEST(Guard, HoldsTheBytesOfHeadersToTheLimitExactly) {
  const std::string message = HeadersMessage({{"ab", "cd"}});  // 4 bytes as Envoy counts
  for (const auto& [bytes, fits] : {std::pair(995, true), std::pair(996, false)}) {
    const Pairs sets = {{"x", std::string(static_cast<size_t>(bytes), 'v')}};
    const Finding found = CheckHeaderLimits(message, Sets(sets), 100, 1000);
    EXPECT_EQ(found.ok(), fits) << found.what;
    EXPECT_EQ(found.what, fits ? "" : "1001 bytes of headers, limit --max_header_bytes=1000");
  }
  const std::string large = HeadersMessage({{"ab", std::string(1000, 'v')}});
  EXPECT_TRUE(CheckHeaderLimits(large, Sets({{"x", "y"}}), 100, 1000).ok());
}

TEST(Guard, SaysWhatIsIllegalInAHeader) {
  const std::vector<std::pair<Pairs, std::string>> cases = {
      {{{"", "x"}}, "a header without a name"},
      {{{":", "x"}}, "a header without a name"},
      {{{"a b", "x"}}, "the byte 0x20 in the header name 'a b'"},
      {{{"x-q", "a\nb"}}, "the byte 0x0a in the value of header 'x-q'"},
      {{{"x-q", std::string("nul\0", 4)}}, "the byte 0x00 in the value of header 'x-q'"},
      {{{"x-q", "tab\tis legal"}}, ""},
      {Numbered("x", 100), ""},
      {Numbered("x", 101), "101 entries in set_headers, Envoy's limit is 100"},
  };
  for (const auto& [headers, what] : cases) {
    EXPECT_EQ(CheckMutation(Sets(headers)).what, what);
    EXPECT_EQ(CheckMutation(Sets(headers)).ok(), what.empty());
  }
}

// Values are looked at eight bytes at a time.
TEST(Guard, FindsAnIllegalByteWhereverItStandsInAValue) {
  for (int byte = 0; byte < 256; ++byte) {
    const bool legal = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
    for (size_t size = 1; size <= 17; ++size) {
      for (size_t at = 0; at < size; ++at) {
        std::string value(size, at % 2 == 0 ? '~' : ' ');
        value[at] = static_cast<char>(byte);
        EXPECT_EQ(CheckMutation(Sets({{"x", value}})).ok(), legal)
            << "byte " << byte << " at " << at << " of " << size;
      }
    }
  }
}

}  // namespace
}  // namespace callout::host
