// SPDX-License-Identifier: Apache-2.0

#include "host/transport/h2/grpc_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/host/transport/h2_client.h"

namespace callout::host {
namespace {

using Result = MessageReader::Result;

// Feeds `bytes` in pieces of the given sizes (the last one repeats).
std::vector<std::string> ReadAll(std::string_view bytes, const std::vector<size_t>& pieces,
                                 MessageReader* reader) {
  std::vector<std::string> messages;
  for (size_t i = 0; !bytes.empty(); ++i) {
    const size_t size = std::min(bytes.size(), pieces[std::min(i, pieces.size() - 1)]);
    std::string_view piece = bytes.substr(0, size);
    bytes.remove_prefix(size);
    for (bool more = true; more;) {
      switch (reader->Read(&piece)) {
        case Result::kNeedsBytes:
          EXPECT_TRUE(piece.empty());
          more = false;
          break;
        case Result::kHead:
          break;
        case Result::kMessage:
          EXPECT_EQ(reader->message().size(), reader->size());
          messages.emplace_back(reader->message());
          break;
        default:
          ADD_FAILURE() << "refused";
          return messages;
      }
    }
  }
  return messages;
}

TEST(MessageReader, FindsMessagesHoweverTheyAreSplitAndJoined) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> sent;
    std::string bytes;
    for (uint32_t i = random() % 6; i > 0; --i) {
      const size_t size = random() % 3 == 0 ? random() % 20000 : random() % 12;
      sent.emplace_back(size, static_cast<char>(random()));
      bytes += Framed(sent.back());
    }
    std::vector<size_t> pieces;
    pieces.reserve(40);
    for (int i = 0; i < 40; ++i) pieces.push_back(1 + random() % (round % 2 == 0 ? 7 : 9000));
    MessageReader reader(1 << 20);
    ASSERT_EQ(ReadAll(bytes, pieces, &reader), sent);
    EXPECT_FALSE(reader.in_message());
  }
}

TEST(MessageReader, RefusesALongMessageBeforeItTakesAByteOfIt) {
  MessageReader reader(1000);
  const std::string fits = Framed(std::string(1000, 'a'));
  EXPECT_EQ(ReadAll(fits, {fits.size()}, &reader).size(), 1u);
  const std::string too_long = Framed(std::string(1001, 'a'));
  std::string_view data = too_long;
  EXPECT_EQ(reader.Read(&data), Result::kTooLarge);
  EXPECT_EQ(reader.size(), 1001u);
  EXPECT_EQ(data.size(), 1001u);
}

TEST(MessageReader, RefusesCompressedMessagesAndUnknownFlags) {
  MessageReader compressed(1000);
  std::string_view data("\1\0\0\0\1x", 6);
  EXPECT_EQ(compressed.Read(&data), Result::kCompressed);
  MessageReader malformed(1000);
  data = std::string_view("\2\0\0\0\1x", 6);
  EXPECT_EQ(malformed.Read(&data), Result::kMalformed);
}

TEST(MessageReader, KnowsWhetherAMessageIsUnderWay) {
  MessageReader reader(1000);
  const std::string bytes = Framed("abc");
  EXPECT_FALSE(reader.in_message());
  for (size_t end = 1; end < bytes.size(); ++end) {
    ReadAll(std::string_view(bytes).substr(end - 1, 1), {1}, &reader);
    EXPECT_TRUE(reader.in_message()) << end;
  }
  ReadAll(std::string_view(bytes).substr(bytes.size() - 1), {1}, &reader);
  EXPECT_FALSE(reader.in_message());
}

TEST(MessageReader, GivesAMessageAwayWithoutMovingItsBytes) {
  MessageReader reader(1000);
  const std::string bytes = Framed("short");
  std::string_view data = bytes;
  EXPECT_EQ(reader.Read(&data), Result::kHead);
  EXPECT_EQ(reader.Read(&data), Result::kMessage);
  const std::string_view message = reader.message();
  const std::vector<char> kept = reader.TakeMessage();
  EXPECT_EQ(message.data(), kept.data());
  EXPECT_EQ(ReadAll(Framed("next"), {3}, &reader), std::vector<std::string>{"next"});
  EXPECT_EQ(message, "short");
}

TEST(MessageReader, BeginsAnewAfterReset) {
  MessageReader reader(1000);
  ReadAll(std::string_view("\0\0\0\0\7abc", 8), {8}, &reader);
  reader.Reset();
  EXPECT_FALSE(reader.in_message());
  EXPECT_EQ(ReadAll(Framed("new"), {100}, &reader), std::vector<std::string>{"new"});
}

TEST(MessageReader, GrowsAsTheBytesCome) {
  MessageReader reader(1 << 30);
  std::string_view head("\0\1\0\0\0", 5);  // 16 MiB
  ASSERT_EQ(reader.Read(&head), Result::kHead);
  EXPECT_EQ(reader.capacity(), 0U);
  const std::string piece(10000, 'x');
  size_t come = 0;
  while (come + piece.size() < 16777216) {
    const size_t growth = reader.GrowthFor(piece.size());
    std::string_view data = piece;
    const size_t before = reader.capacity();
    ASSERT_EQ(reader.Read(&data), Result::kNeedsBytes);
    come += piece.size();
    ASSERT_LE(reader.capacity(), 2 * come);
    ASSERT_EQ(growth, reader.capacity() > before ? reader.capacity() : 0) << "it says so before";
  }
}

// Where the system gives no more it says so, and the process goes on.
#ifndef __SANITIZE_ADDRESS__
TEST(MessageReaderDeathTest, TellsThatThereIsNoMemory) {
  const auto read_until_none = [] {
    const rlimit little = {512 << 20, 512 << 20};
    setrlimit(RLIMIT_AS, &little);
    MessageReader reader(UINT32_MAX);
    std::string_view head("\0\xff\xff\xff\xff", 5);
    reader.Read(&head);
    const std::string piece(1 << 20, 'x');
    for (int i = 0; i < 4096; ++i) {
      std::string_view data = piece;
      if (reader.Read(&data) == Result::kNoMemory) _exit(7);
    }
    _exit(0);
  };
  EXPECT_EXIT(read_until_none(), ::testing::ExitedWithCode(7), "");
}
#endif

TEST(GrpcMessage, IsPercentEncodedAsGrpcCppDoes) {
  EXPECT_EQ(EncodeGrpcMessage(" plain ~ text "), " plain ~ text ");
  EXPECT_EQ(EncodeGrpcMessage(std::string_view("bad \n% \xc3\xa9\0\x7f", 11)),
            "bad %0A%25 %C3%A9%00%7F");
}

TEST(GrpcTimeout, IsDigitsAndAUnit) {
  uint64_t ns = 0;
  const std::pair<const char*, uint64_t> legal[] = {
      {"1n", 1},
      {"20u", 20'000},
      {"100m", 100'000'000},
      {"3S", 3'000'000'000},
      {"2M", 120'000'000'000},
      {"1H", 3'600'000'000'000},
      {"0m", 0},
      {"99999999n", 99'999'999},
      {"99999999H", UINT64_MAX / 2},
  };
  for (const auto& [text, expected] : legal) {
    EXPECT_TRUE(ParseGrpcTimeout(text, &ns)) << text;
    EXPECT_EQ(ns, expected) << text;
  }
  for (const char* text : {"", "m", "1", "1s", "-1m", "+1m", "1 m", "1.5S", "123456789m", "1mm"}) {
    EXPECT_FALSE(ParseGrpcTimeout(text, &ns)) << text;
  }
}

TEST(Base64, IsTakenWithAndWithoutPadding) {
  std::string bytes;
  EXPECT_TRUE(DecodeBase64("AAEC", &bytes));
  EXPECT_EQ(bytes, std::string("\0\1\2", 3));
  EXPECT_TRUE(DecodeBase64("AAE=", &bytes));
  EXPECT_EQ(bytes, std::string("\0\1", 2));
  EXPECT_TRUE(DecodeBase64("AAE", &bytes));
  EXPECT_EQ(bytes, std::string("\0\1", 2));
  EXPECT_TRUE(DecodeBase64("AA", &bytes));
  EXPECT_EQ(bytes, std::string("\0", 1));
  EXPECT_TRUE(DecodeBase64("", &bytes));
  EXPECT_EQ(bytes, "");
  for (const char* text : {"A", "AAE==", "!!!!", "AA EC", "AA=A", "===", "AAEC="}) {
    EXPECT_FALSE(DecodeBase64(text, &bytes)) << text;
  }
}

using Headers = std::vector<std::pair<std::string, std::string>>;

Headers ProcessHeaders() {
  return {{":method", "POST"},
          {":scheme", "http"},
          {":path", "/a.Service/Method"},
          {":authority", "host"},
          {"content-type", "application/grpc"},
          {"te", "trailers"}};
}

RequestHead HeadOf(const Headers& headers) {
  RequestHead head(8192, "/a.Service/Usual");
  for (const auto& [name, value] : headers) head.Add(name, value);
  return head;
}

RequestHead::Refusal RefusalOf(const Headers& headers) {
  RequestHead::Refusal refusal;
  if (!HeadOf(headers).Refuses(&refusal)) return {};
  return refusal;
}

Headers With(Headers headers, const std::string& name, const std::string& value) {
  for (auto it = headers.begin(); it != headers.end();) {
    it = it->first == name ? headers.erase(it) : it + 1;
  }
  if (!value.empty()) headers.emplace_back(name, value);
  return headers;
}

TEST(RequestHead, TakesTheContentTypesOfGrpcOnly) {
  for (const char* type :
       {"application/grpc", "application/grpc+proto", "application/grpc;x=y", "Application/gRPC"}) {
    EXPECT_EQ(RefusalOf(With(ProcessHeaders(), "content-type", type)).http_status, 0) << type;
  }
  for (const char* type : {"", "text/plain", "application/grpc-web", "application/json"}) {
    EXPECT_EQ(RefusalOf(With(ProcessHeaders(), "content-type", type)).http_status, 415) << type;
  }
}

TEST(RequestHead, WantsPostAndTrailersInTheWordsOfGrpcCpp) {
  EXPECT_STREQ(RefusalOf(With(ProcessHeaders(), ":method", "GET")).message, "Bad method header");
  EXPECT_STREQ(RefusalOf(With(ProcessHeaders(), "te", "")).message, "Missing :te header");
  EXPECT_STREQ(RefusalOf(With(ProcessHeaders(), "te", "gzip")).message, "Bad :te header");
  EXPECT_EQ(RefusalOf(With(ProcessHeaders(), "te", "")).code, absl::StatusCode::kUnknown);
}

TEST(RequestHead, GivesPathTimeoutAndEncoding) {
  RequestHead head = HeadOf(ProcessHeaders());
  EXPECT_EQ(head.path(), "/a.Service/Method");
  EXPECT_EQ(HeadOf(With(ProcessHeaders(), ":path", "/a.Service/Usual")).path(), "/a.Service/Usual");
  EXPECT_EQ(head.encoding(), "");
  EXPECT_FALSE(head.has_timeout());
  head.Add("grpc-encoding", "gzip");
  head.Add("grpc-timeout", "5S");
  EXPECT_EQ(head.encoding(), "gzip");
  EXPECT_TRUE(head.has_timeout());
  EXPECT_EQ(head.timeout_ns(), 5'000'000'000u);
  EXPECT_FALSE(HeadOf(With(ProcessHeaders(), "grpc-timeout", "zz")).has_timeout());
}

TEST(RequestHead, ShowsMetadataButNotWhatBelongsToHttpAndGrpc) {
  Headers headers = ProcessHeaders();
  headers.insert(headers.end(), {{"x-tenant", "blue"},
                                 {"x-tenant", "green"},
                                 {"user-agent", "envoy"},
                                 {"grpc-accept-encoding", "gzip"},
                                 {"grpc-trace-bin", "AAEC"},
                                 {"x-data-bin", "AAEC,AAE="}});
  const RequestHead head = HeadOf(headers);
  std::string_view value;
  EXPECT_TRUE(head.GetMetadata("x-tenant", 0, &value));
  EXPECT_EQ(value, "blue");
  EXPECT_TRUE(head.GetMetadata("x-tenant", 1, &value));
  EXPECT_EQ(value, "green");
  EXPECT_FALSE(head.GetMetadata("x-tenant", 2, &value));
  EXPECT_TRUE(head.GetMetadata("user-agent", 0, &value));
  EXPECT_TRUE(head.GetMetadata("x-data-bin", 0, &value));
  EXPECT_EQ(value, std::string("\0\1\2", 3));
  EXPECT_TRUE(head.GetMetadata("x-data-bin", 1, &value));
  EXPECT_EQ(value, std::string("\0\1", 2));
  for (const char* key :
       {":path", "te", "content-type", "grpc-accept-encoding", "grpc-trace-bin"}) {
    EXPECT_FALSE(head.GetMetadata(key, 0, &value)) << key;
  }
}

TEST(RequestHead, ListsItsMetadata) {
  Headers headers = ProcessHeaders();
  headers.insert(headers.end(), {{"x-tenant", "blue"},
                                 {"te", "trailers"},
                                 {"x-data-bin", "AAEC"},
                                 {"grpc-accept-encoding", "gzip"},
                                 {"x-tenant", "green"}});
  const RequestHead head = HeadOf(headers);
  std::vector<std::pair<std::string, std::string>> listed;
  std::string_view key, value;
  for (uint32_t i = 0; head.GetMetadataAt(i, &key, &value); ++i) listed.emplace_back(key, value);
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"x-tenant", "blue"}, {"x-data-bin", std::string("\0\1\2", 3)}, {"x-tenant", "green"}};
  EXPECT_EQ(listed, expected);
  EXPECT_FALSE(head.GetMetadataAt(UINT32_MAX, &key, &value));
}

TEST(RequestHead, RefusesBinaryMetadataThatIsNotBase64) {
  EXPECT_EQ(RefusalOf(With(ProcessHeaders(), "x-bin", "!!!")).code, absl::StatusCode::kInternal);
}

TEST(RequestHead, JoinedValuesCountAsHeadersOfTheirOwn) {
  const auto refused = [](size_t commas) {
    return RefusalOf(With(ProcessHeaders(), "a-bin", std::string(commas, ','))).code ==
           absl::StatusCode::kResourceExhausted;
  };
  EXPECT_FALSE(refused(100));
  EXPECT_TRUE(refused(300)) << "300 values of 37 bytes are over 8192";
  const RequestHead head = HeadOf(With(ProcessHeaders(), "a-bin", std::string(7000, ',')));
  EXPECT_LT(head.capacity(), 30000U);
}

TEST(RequestHead, DecodesBinaryMetadataWhereItLies) {
  const RequestHead head = HeadOf(With(ProcessHeaders(), "x-bin", "AAEC,,AAE="));
  std::string_view first, again, empty, last;
  EXPECT_TRUE(head.GetMetadata("x-bin", 0, &first));
  EXPECT_TRUE(head.GetMetadata("x-bin", 2, &last));
  EXPECT_TRUE(head.GetMetadata("x-bin", 1, &empty));
  EXPECT_TRUE(head.GetMetadata("x-bin", 0, &again));
  EXPECT_EQ(first, std::string("\0\1\2", 3));
  EXPECT_EQ(first.data(), again.data()) << "it is decoded once";
  EXPECT_EQ(empty, "");
  EXPECT_EQ(last, std::string("\0\1", 2));
}

TEST(RequestHead, GivesLargeMemoryBack) {
  RequestHead head = HeadOf(With(ProcessHeaders(), "x-large", std::string(7000, 'x')));
  EXPECT_GT(head.capacity(), 7000U);
  head.Reset();
  EXPECT_LE(head.capacity(), 2048U);
}

TEST(RequestHead, KeepsNoMoreThanItsLimit) {
  RequestHead head = HeadOf(ProcessHeaders());
  for (int i = 0; i < 1000; ++i) head.Add("x-long", std::string(1000, 'a'));
  RequestHead::Refusal refusal;
  ASSERT_TRUE(head.Refuses(&refusal));
  EXPECT_EQ(refusal.code, absl::StatusCode::kResourceExhausted);
  std::string_view value;
  EXPECT_TRUE(head.GetMetadata("x-long", 6, &value));
  EXPECT_FALSE(head.GetMetadata("x-long", 7, &value));
}

TEST(RequestHead, ForgetsEverythingOnReset) {
  RequestHead head = HeadOf(With(ProcessHeaders(), ":path", "/a.Service/Usual"));
  head.Add("x-tenant", "blue");
  head.Add("grpc-timeout", "5S");
  head.Reset();
  std::string_view value;
  EXPECT_FALSE(head.GetMetadata("x-tenant", 0, &value));
  EXPECT_FALSE(head.has_timeout());
  EXPECT_EQ(head.path(), "");
  RequestHead::Refusal refusal;
  ASSERT_TRUE(head.Refuses(&refusal));
  EXPECT_EQ(std::string(refusal.message), "Bad method header");
}

}  // namespace
}  // namespace callout::host
