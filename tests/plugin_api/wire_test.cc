// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <string>

namespace {

// The allocator of this file's writers: fails once `allocations_left` is used up.
int allocations_left = 1 << 30;
void* LimitedRealloc(void* memory, size_t size) {
  if (allocations_left == 0) return nullptr;
  --allocations_left;
  return std::realloc(memory, size);
}

}  // namespace

#define CALLOUT_REALLOC LimitedRealloc
#define CALLOUT_FREE std::free
#include <callout/wire.h>

#include <callout/view.hpp>

// The other files of this program have the plain allocator, so these tests keep to
// functions that are `static inline` here: the writer's.
namespace callout {
namespace {

class WireWriter : public testing::Test {
 protected:
  WireWriter() { callout_writer_init(&writer_, nullptr, 0); }
  ~WireWriter() override {
    allocations_left = 1 << 30;
    callout_writer_free(&writer_);
  }
  std::string Bytes() const { return std::string(to_view(callout_writer_bytes(&writer_))); }

  callout_writer_t writer_;
};

TEST_F(WireWriter, WritesRecordsAsProtobufDoes) {
  callout_write_number(&writer_, 1, 150);
  callout_write_bytes(&writer_, 2, callout_text("testing"));
  callout_write_double(&writer_, 3, 1.5);
  EXPECT_EQ(Bytes(), std::string("\x08\x96\x01\x12\x07testing\x19\0\0\0\0\0\0\xf8\x3f", 21));
}

TEST_F(WireWriter, PutsLengthsOfAnySizeBeforeNestedMessages) {
  for (size_t size : {0u, 127u, 128u, 16383u, 16384u, 3000000u}) {
    callout_writer_clear(&writer_);
    callout_write_open(&writer_, 1);
    callout_write_open(&writer_, 2);
    callout_write_bytes(&writer_, 3, to_bytes(std::string(size, 'x')));
    callout_write_close(&writer_);
    callout_write_number(&writer_, 4, 7);
    callout_write_close(&writer_);
    ASSERT_EQ(callout_writer_status(&writer_), CALLOUT_OK);

    callout_reader_t outer = callout_read(callout_writer_bytes(&writer_));
    ASSERT_TRUE(callout_reader_next(&outer) && callout_reader_is(&outer, 1, CALLOUT_WIRE_BYTES));
    callout_reader_t middle = callout_read(outer.bytes);
    ASSERT_TRUE(callout_reader_next(&middle) && callout_reader_is(&middle, 2, CALLOUT_WIRE_BYTES));
    callout_reader_t inner = callout_read(middle.bytes);
    ASSERT_TRUE(callout_reader_next(&inner) && callout_reader_is(&inner, 3, CALLOUT_WIRE_BYTES));
    EXPECT_EQ(to_view(inner.bytes), std::string(size, 'x'));
    EXPECT_FALSE(callout_reader_next(&inner) || inner.malformed);
    ASSERT_TRUE(callout_reader_next(&middle) && callout_reader_is(&middle, 4, CALLOUT_WIRE_VARINT));
    EXPECT_EQ(middle.number, 7u);
    EXPECT_FALSE(callout_reader_next(&outer) || outer.malformed);
  }
}

TEST_F(WireWriter, StaysInTheCallersBufferWhileItSuffices) {
  char buffer[64];
  callout_writer_init(&writer_, buffer, sizeof(buffer));
  allocations_left = 0;
  callout_write_bytes(&writer_, 1, callout_text("0123456789"));
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_OK);
  EXPECT_EQ(callout_writer_bytes(&writer_).data, buffer);
}

TEST_F(WireWriter, KeepsWhatItHasWhenItMovesToTheHeap) {
  char buffer[32];
  callout_writer_init(&writer_, buffer, sizeof(buffer));
  callout_write_bytes(&writer_, 1, callout_text("first"));
  callout_write_bytes(&writer_, 1, to_bytes(std::string(500, 'x')));
  EXPECT_EQ(Bytes(),
            "\x0a\x05"
            "first\x0a\xf4\x03" +
                std::string(500, 'x'));
}

TEST_F(WireWriter, SaysSoWhenThereIsNoMemoryAndWritesNoMore) {
  // Whichever allocation it is that fails.
  for (int allowed = 0; allowed < 8; ++allowed) {
    callout_writer_free(&writer_);
    allocations_left = allowed;
    for (int i = 0; i < 1000; ++i) {
      callout_write_open(&writer_, 1);
      callout_write_bytes(&writer_, 2, to_bytes(std::string(100, 'x')));
      callout_write_close(&writer_);
    }
    ASSERT_EQ(callout_writer_status(&writer_), CALLOUT_RESOURCE_EXHAUSTED) << allowed;
    EXPECT_EQ(callout_writer_bytes(&writer_).size, 0u);
  }
  // The same writer works again once it is cleared.
  allocations_left = 1 << 30;
  callout_writer_clear(&writer_);
  callout_write_number(&writer_, 1, 1);
  EXPECT_EQ(Bytes(), "\x08\x01");
}

TEST_F(WireWriter, RefusesSizesThatNoMessageHas) {
  callout_write_bytes(&writer_, 1, callout_make_bytes("x", size_t{1} << 31));
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_RESOURCE_EXHAUSTED);
  callout_writer_clear(&writer_);
  callout_write_bytes(&writer_, 1, callout_make_bytes("x", SIZE_MAX));
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_RESOURCE_EXHAUSTED);
}

TEST_F(WireWriter, CountsOpensAgainstCloses) {
  callout_write_open(&writer_, 1);
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_FAILED_PRECONDITION);
  callout_write_close(&writer_);
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_OK);
  callout_write_close(&writer_);
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_FAILED_PRECONDITION);
  callout_writer_clear(&writer_);
  for (int i = 0; i <= CALLOUT_WRITER_DEPTH_MAX; ++i) callout_write_open(&writer_, 1);
  EXPECT_EQ(callout_writer_status(&writer_), CALLOUT_RESOURCE_EXHAUSTED);
}

// Reads to the end; -1 if malformed, else the number of records.
int CountRecords(std::string_view bytes) {
  // On the heap and exactly as long, so that a sanitizer sees a read outside.
  const std::string copy(bytes);
  callout_reader_t reader = callout_read(to_bytes(copy));
  int count = 0;
  while (callout_reader_next(&reader)) ++count;
  EXPECT_FALSE(callout_reader_next(&reader)) << "it goes on after its end";
  return reader.malformed ? -1 : count;
}

TEST(WireReader, ReadsEachType) {
  EXPECT_EQ(CountRecords(""), 0);
  EXPECT_EQ(CountRecords({"\x08\x00", 2}), 1);
  EXPECT_EQ(CountRecords("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 1);
  EXPECT_EQ(CountRecords("\x0a\x03xyz\x0d"
                         "1234\x09"
                         "12345678"),
            3);
  EXPECT_EQ(CountRecords({"\x0a\x00", 2}), 1);
}

TEST(WireReader, ReportsMalformedBytes) {
  EXPECT_EQ(CountRecords("\x08"), -1) << "no value";
  EXPECT_EQ(CountRecords("\x08\x80"), -1) << "a varint without an end";
  EXPECT_EQ(CountRecords("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -1) << "11 bytes";
  EXPECT_EQ(CountRecords("\x0a\x04xyz"), -1) << "longer than the message";
  EXPECT_EQ(CountRecords("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -1) << "a huge length";
  EXPECT_EQ(CountRecords("\x09"
                         "1234567"),
            -1)
      << "seven of eight bytes";
  EXPECT_EQ(CountRecords("\x0d"
                         "123"),
            -1)
      << "three of four bytes";
  EXPECT_EQ(CountRecords("\x02x"), -1) << "field 0";
  EXPECT_EQ(CountRecords("\x0b\x0c"), -1) << "a group";
  EXPECT_EQ(CountRecords("\x0e"), -1) << "type 6";
  EXPECT_EQ(CountRecords("\xff\xff\xff\xff\xff\x01\x01"), -1) << "a field number over 29 bits";
}

TEST(WireReader, FindsBytesInBytes) {
  const auto contain = [](std::string_view bytes, std::string_view needle) {
    return callout_bytes_contain(to_bytes(bytes), to_bytes(needle)) != 0;
  };
  EXPECT_TRUE(contain("", ""));
  EXPECT_TRUE(contain("aab", "ab"));
  EXPECT_TRUE(contain({"a\0b\xff", 4}, {"\0b\xff", 3}));
  EXPECT_TRUE(contain("ab", "ab"));
  EXPECT_FALSE(contain("ab", "abc"));
  EXPECT_FALSE(contain("", "a"));
  EXPECT_FALSE(contain("aaaa", "ab"));
}

TEST(WireReader, ComparesNamesWithoutCaseInAsciiOnly) {
  const auto equal = [](std::string_view a, std::string_view b) {
    return callout_names_equal(to_bytes(a), to_bytes(b)) != 0;
  };
  EXPECT_TRUE(equal("X-Foo", "x-fOO"));
  EXPECT_FALSE(equal("@", "`")) << "differ by the same bit as letters, but are none";
  EXPECT_FALSE(equal("[", "{"));
  EXPECT_FALSE(equal("\xc4", "\xe4")) << "Latin-1 letters are not ASCII";
  EXPECT_FALSE(equal("a", "ab"));
}

}  // namespace
}  // namespace callout
