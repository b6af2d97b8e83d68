// SPDX-License-Identifier: Apache-2.0

#include "host/record/recording.h"

#include <gtest/gtest.h>

#include "callout/recording/v1/recording.pb.h"

namespace callout::host {
namespace {

RecordedExchange Sample() {
  RecordedExchange exchange;
  exchange.stream_id = 17;
  exchange.service = "ext_proc";
  exchange.began_unix_ns = 1'800'000'000'000'000'000;
  exchange.duration_ns = 42;
  exchange.messages.push_back({.kind = MessageKind::kRequest,
                               .bytes = "request",
                               .at_ns = 1,
                               .size = 9,
                               .body_bytes = 2,
                               .body_left_out = true});
  exchange.messages.push_back({.kind = MessageKind::kResponse, .bytes = "", .at_ns = 3});
  exchange.messages_left_out = 5;
  exchange.end_code = 13;
  exchange.end_message = "why";
  exchange.outcome = CALLOUT_END_ERROR;
  return exchange;
}

TEST(Recording, IsReadByProtobufsOwnClasses) {
  callout::recording::v1::RecordingRecord record;
  ASSERT_TRUE(record.ParseFromString(WriteExchange(Sample())));
  const auto& exchange = record.exchange();
  EXPECT_EQ(exchange.stream_id(), 17u);
  EXPECT_EQ(exchange.service(), "ext_proc");
  EXPECT_EQ(exchange.began_unix_ns(), 1'800'000'000'000'000'000u);
  EXPECT_EQ(exchange.duration_ns(), 42u);
  ASSERT_EQ(exchange.messages_size(), 2);
  EXPECT_EQ(exchange.messages(0).request(), "request");
  EXPECT_EQ(exchange.messages(0).at_ns(), 1u);
  EXPECT_EQ(exchange.messages(0).size(), 9u);
  EXPECT_EQ(exchange.messages(0).body_bytes(), 2u);
  EXPECT_TRUE(exchange.messages(0).body_left_out());
  EXPECT_TRUE(exchange.messages(1).has_response());
  EXPECT_EQ(exchange.messages_left_out(), 5u);
  EXPECT_EQ(exchange.end().code(), 13u);
  EXPECT_EQ(exchange.end().message(), "why");
  EXPECT_EQ(exchange.end().outcome(), CALLOUT_END_ERROR);
  ASSERT_TRUE(record.ParseFromString(WriteHeader({.host_version = "1",
                                                  .began_unix_ns = 2,
                                                  .bodies = true,
                                                  .redacted = {"a", "b"},
                                                  .rule = "percent=5"})));
  EXPECT_EQ(record.header().host_version(), "1");
  EXPECT_EQ(record.header().redacted_size(), 2);
  EXPECT_TRUE(record.header().bodies());
  EXPECT_EQ(record.header().rule(), "percent=5");
}

TEST(Recording, ReadsWhatItWrites) {
  const std::string record = WriteExchange(Sample());
  RecordedExchange read;
  ASSERT_TRUE(ReadExchange(record, &read));
  EXPECT_EQ(WriteExchange(read), record);
  RecordingHeader header;
  EXPECT_FALSE(ReadHeader(record, &header));
  const std::string first = WriteHeader({.host_version = "1", .redacted = {"a"}, .rule = "r"});
  ASSERT_TRUE(ReadHeader(first, &header));
  EXPECT_EQ(WriteHeader(header), first);
}

TEST(Recording, SaysOfAFrameWhetherItIsWhole) {
  std::string frame;
  AppendFrame(std::string(300, 'x'), &frame);
  const std::string more = frame + "more";
  FrameView view = ReadFrame(more);
  EXPECT_EQ(view.state, FrameView::State::kWhole);
  EXPECT_EQ(view.size, frame.size());
  EXPECT_EQ(view.record, std::string(300, 'x'));
  for (size_t size = 0; size < frame.size(); ++size) {
    view = ReadFrame(std::string_view(frame).substr(0, size));
    EXPECT_EQ(view.state, FrameView::State::kCut) << size;
    EXPECT_EQ(view.size, size < 2 ? 0 : frame.size()) << size;
  }
  // Any changed bit of the record or the checksum.
  for (size_t at = 2; at < frame.size(); ++at) {
    std::string damaged = frame;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_EQ(ReadFrame(damaged).state, FrameView::State::kBadChecksum) << at;
  }
}

TEST(Recording, TakesNoLengthOutsideOfTheLimit) {
  EXPECT_EQ(ReadFrame(std::string(8, '\0')).state, FrameView::State::kTooLong);
  EXPECT_EQ(ReadFrame(std::string(8, '\xff')).state, FrameView::State::kTooLong);
  std::string length;
  for (const size_t size : {kRecordBytesMax, kRecordBytesMax + 1}) {
    length.clear();
    for (size_t left = size; left > 0; left >>= 7) {
      length.push_back(static_cast<char>((left & 0x7f) | (left >= 0x80 ? 0x80 : 0)));
    }
    EXPECT_EQ(ReadFrame(length).state,
              size == kRecordBytesMax ? FrameView::State::kCut : FrameView::State::kTooLong);
  }
}

}  // namespace
}  // namespace callout::host
