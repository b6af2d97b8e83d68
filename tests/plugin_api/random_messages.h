// SPDX-License-Identifier: Apache-2.0

// Random messages of the generated classes, for tests that take protobuf as the oracle.
//
// Every test prints its seed; CALLOUT_TEST_SEED=N repeats a run.
#ifndef CALLOUT_TESTS_PLUGIN_API_RANDOM_MESSAGES_H_
#define CALLOUT_TESTS_PLUGIN_API_RANDOM_MESSAGES_H_

#include <google/protobuf/struct.pb.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

#include "envoy/config/core/v3/base.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout {

class Random {
 public:
  Random() {
    const char* fixed = std::getenv("CALLOUT_TEST_SEED");
    seed_ = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device{}();
    engine_.seed(seed_);
    testing::Test::RecordProperty("seed", std::to_string(seed_));
    std::printf("CALLOUT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed_));
  }

  uint64_t seed() const { return seed_; }
  // 0 to `below` - 1.
  size_t Below(size_t below) {
    return std::uniform_int_distribution<size_t>(0, below - 1)(engine_);
  }
  bool Chance(int percent) { return Below(100) < static_cast<size_t>(percent); }

  // Any bytes; mostly short, sometimes beyond one and two bytes of length.
  std::string Bytes() {
    std::string bytes(Size(), '\0');
    for (char& c : bytes) c = static_cast<char>(Below(256));
    return bytes;
  }
  // Characters that a protobuf string may hold.
  std::string Text() {
    std::string text(Size(), '\0');
    for (char& c : text) c = static_cast<char>('!' + Below(94));
    return text;
  }
  // One of a few names in random case, so that look-ups meet repeated names.
  std::string Name() {
    static const char* const kNames[] = {":path", "foo", "x-a", "x-b", "cookie", "@", "`"};
    std::string name = kNames[Below(7)];
    for (char& c : name) {
      if (c >= 'a' && c <= 'z' && Chance(30)) c = static_cast<char>(c - 32);
    }
    return name;
  }

 private:
  size_t Size() {
    const size_t kind = Below(20);
    return kind == 0 ? Below(20000) : kind < 3 ? Below(300) : Below(12);
  }

  uint64_t seed_;
  std::mt19937_64 engine_;
};

inline void FillHeaderMap(Random* random, envoy::config::core::v3::HeaderMap* map) {
  for (size_t i = random->Below(12); i > 0; --i) {
    auto* header = map->add_headers();
    header->set_key(random->Chance(80) ? random->Name() : random->Text());
    if (random->Chance(80)) header->set_raw_value(random->Bytes());
    if (random->Chance(30)) header->set_value(random->Text());
  }
}

inline void FillStruct(Random* random, int depth, google::protobuf::Struct* fields);

inline void FillValue(Random* random, int depth, google::protobuf::Value* value) {
  switch (random->Below(depth > 0 ? 7 : 5)) {
    case 0:
      break;  // nothing set
    case 1:
      value->set_null_value(google::protobuf::NULL_VALUE);
      break;
    case 2:
      value->set_number_value(static_cast<double>(random->Below(1000)) / 8 - 30);
      break;
    case 3:
      value->set_string_value(random->Text());
      break;
    case 4:
      value->set_bool_value(random->Chance(50));
      break;
    case 5:
      FillStruct(random, depth - 1, value->mutable_struct_value());
      break;
    case 6:
      value->mutable_list_value();
      for (size_t i = random->Below(5); i > 0; --i) {
        FillValue(random, depth - 1, value->mutable_list_value()->add_values());
      }
      break;
  }
}

inline void FillStruct(Random* random, int depth, google::protobuf::Struct* fields) {
  for (size_t i = random->Below(6); i > 0; --i) {
    FillValue(random, depth, &(*fields->mutable_fields())[random->Text()]);
  }
}

}  // namespace callout

#endif  // CALLOUT_TESTS_PLUGIN_API_RANDOM_MESSAGES_H_
