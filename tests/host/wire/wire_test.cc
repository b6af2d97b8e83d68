// SPDX-License-Identifier: Apache-2.0

// The reader and the writers against protobuf's own, on random messages.

#include "host/wire/wire.h"

#include <gmock/gmock.h>
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace callout::host {
namespace {

using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;
using ::testing::ElementsAre;

std::string Bytes(std::initializer_list<int> values) {
  std::string bytes;
  for (const int value : values) bytes += static_cast<char>(value);
  return bytes;
}

struct ReadBack {
  bool ok = false;
  std::vector<std::string> records;
};

ReadBack Read(std::string_view message) {
  ReadBack result;
  WireReader reader(message);
  while (reader.Next()) result.records.emplace_back(reader.record());
  result.ok = reader.ok();
  EXPECT_EQ(CountRecords(message), result.records.size());
  return result;
}

TEST(Wire, CountsRecordsOfAnyLength) {
  std::string message;
  for (size_t size = 0; size < 150; ++size) AppendBytes(1, std::string(size, 'x'), &message);
  EXPECT_EQ(CountRecords(message), 150u);
}

class WireProperty : public ::testing::Test {
 protected:
  WireProperty() : seed_(std::random_device{}()), random_(seed_) {
    RecordProperty("seed", std::to_string(seed_));
  }
  uint64_t Any(uint64_t below) {
    return std::uniform_int_distribution<uint64_t>(0, below - 1)(random_);
  }
  // Short ones as often as long ones.
  uint64_t AnyNumber() { return random_() >> Any(64); }
  std::string AnyBytes(size_t size) {
    std::string bytes;
    while (bytes.size() < size) bytes += static_cast<char>(Any(256));
    return bytes;
  }
  // Fills `fields`.
  void Randomize(UnknownFieldSet* fields) {
    for (uint64_t count = Any(6); count > 0; --count) {
      const int number = static_cast<int>(1 + (AnyNumber() & 0x1fffffff) % 0x1ffffffe);
      switch (Any(4)) {
        case 0:
          fields->AddVarint(number, AnyNumber());
          break;
        case 1:
          fields->AddFixed64(number, AnyNumber());
          break;
        case 2:
          fields->AddLengthDelimited(number, AnyBytes(Any(300)));
          break;
        default:
          fields->AddFixed32(number, static_cast<uint32_t>(AnyNumber()));
      }
    }
  }

  const uint32_t seed_;
  std::mt19937_64 random_;
};

TEST_F(WireProperty, ReadsWhatProtobufWrites) {
  for (int round = 0; round < 5000; ++round) {
    UnknownFieldSet fields;
    Randomize(&fields);
    std::string message;
    ASSERT_TRUE(fields.SerializeToString(&message));
    WireReader reader(message);
    std::string joined;
    for (int i = 0; i < fields.field_count(); ++i) {
      SCOPED_TRACE("seed " + std::to_string(seed_));
      const UnknownField& field = fields.field(i);
      const auto number = static_cast<uint32_t>(field.number());
      ASSERT_TRUE(reader.Next());
      EXPECT_EQ(reader.number(), number);
      switch (field.type()) {
        case UnknownField::TYPE_VARINT:
          ASSERT_TRUE(reader.IsVarint(number));
          EXPECT_EQ(reader.varint(), field.varint());
          break;
        case UnknownField::TYPE_FIXED64:
          ASSERT_TRUE(reader.IsFixed64(number));
          EXPECT_EQ(reader.fixed64(), field.fixed64());
          break;
        case UnknownField::TYPE_LENGTH_DELIMITED:
          ASSERT_TRUE(reader.Is(number));
          EXPECT_EQ(reader.bytes(), field.length_delimited());
          break;
        default:
          EXPECT_FALSE(reader.Is(number) || reader.IsVarint(number) || reader.IsFixed64(number));
      }
      joined += reader.record();
    }
    EXPECT_FALSE(reader.Next());
    EXPECT_TRUE(reader.ok());
    EXPECT_EQ(joined, message) << "every byte belongs to one record";
  }
}

TEST_F(WireProperty, ProtobufReadsWhatTheWritersWrite) {
  for (int round = 0; round < 5000; ++round) {
    const auto number = static_cast<uint32_t>(1 + Any(0x1fffffff));
    const uint64_t value = AnyNumber();
    const std::string payload = AnyBytes(Any(300));
    std::string message;
    AppendVarint(number, value, &message);
    AppendBytes(number, payload, &message);
    UnknownFieldSet fields;
    ASSERT_TRUE(fields.ParseFromString(message)) << "seed " << seed_;
    ASSERT_EQ(fields.field_count(), 2);
    EXPECT_EQ(fields.field(0).number(), static_cast<int>(number));
    EXPECT_EQ(fields.field(0).varint(), value);
    EXPECT_EQ(fields.field(1).length_delimited(), payload);
    EXPECT_EQ(BytesSize(number, payload.size()),
              message.size() - VarintSize(uint64_t{number} << 3) - VarintSize(value));
  }
}

TEST_F(WireProperty, TakesAndRefusesDamagedMessagesAsProtobufDoes) {
  int refused = 0;
  int stricter = 0;
  for (int round = 0; round < 50000; ++round) {
    UnknownFieldSet sent;
    Randomize(&sent);
    std::string message;
    ASSERT_TRUE(sent.SerializeToString(&message));
    for (uint64_t changes = Any(4); changes > 0 && !message.empty(); --changes) {
      message[Any(message.size())] = static_cast<char>(Any(2) == 0 ? Any(256) : 0x80 | Any(128));
    }
    if (Any(3) == 0) message.resize(Any(message.size() + 1));
    const ReadBack read = Read(message);
    UnknownFieldSet fields;
    const bool oracle = fields.ParseFromString(message);
    bool has_group = false;
    for (int i = 0; oracle && i < fields.field_count(); ++i) {
      has_group = has_group || fields.field(i).type() == UnknownField::TYPE_GROUP;
    }
    if (has_group) {
      EXPECT_FALSE(read.ok);
      continue;
    }
    // A tag of more than 32 bits is refused here, where protobuf drops the surplus.
    if (oracle && !read.ok) {
      ++stricter;
      continue;
    }
    ASSERT_EQ(read.ok, oracle) << "seed " << seed_ << " round " << round << " "
                               << ::testing::PrintToString(message);
    if (oracle) {
      EXPECT_EQ(read.records.size(), static_cast<size_t>(fields.field_count()));
    }
    refused += read.ok ? 0 : 1;
  }
  EXPECT_GT(refused, 1000) << "the damage is seen";
  EXPECT_LT(stricter, refused / 10);
}

TEST(Wire, RefusesWhatIsMalformed) {
  EXPECT_TRUE(Read("").ok);
  EXPECT_THAT(Read(Bytes({0x08, 0x01})).records, ElementsAre(Bytes({0x08, 0x01})));
  const struct {
    const char* what;
    std::string bytes;
  } kTable[] = {
      {"a tag without value", Bytes({0x08})},
      {"field number 0", Bytes({0x00, 0x01})},
      {"a varint that does not end", Bytes({0x08, 0x80})},
      {"a varint of eleven bytes",
       Bytes({0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01})},
      {"a length beyond the end", Bytes({0x0a, 0x02, 'a'})},
      {"a length of 2^63", Bytes({0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})},
      {"half of 64 bits", Bytes({0x09, 1, 2, 3, 4})},
      {"half of 32 bits", Bytes({0x0d, 1, 2})},
      {"a group", Bytes({0x0b, 0x0c})},
      {"wire type 6", Bytes({0x0e, 0x00})},
      {"wire type 7", Bytes({0x0f, 0x00})},
      {"a tag of six bytes", Bytes({0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 0x01})},
      {"a tag over 32 bits", Bytes({0xf8, 0xff, 0xff, 0xff, 0x7f, 0x01})},
  };
  for (const auto& row : kTable) {
    EXPECT_FALSE(Read(row.bytes).ok) << row.what;
    EXPECT_FALSE(Read(Bytes({0x10, 0x01}) + row.bytes).ok) << row.what << ", after a good record";
  }
}

TEST(Wire, NothingFollowsAMalformedRecord) {
  const std::string message = Bytes({0x08, 0x01, 0x0a, 0x7f});
  WireReader reader(message);
  EXPECT_TRUE(reader.Next());
  EXPECT_FALSE(reader.Next());
  EXPECT_FALSE(reader.Next());
  EXPECT_FALSE(reader.ok());
}

}  // namespace
}  // namespace callout::host
