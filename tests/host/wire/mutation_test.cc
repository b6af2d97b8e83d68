#include "host/wire/mutation.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "tests/host/header_model.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

uint64_t Seed() {
  const char* given = getenv("CALLOUT_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  printf("CALLOUT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

HeaderMutationView ViewOf(const ModelMutation& mutation) {
  HeaderMutationView view;
  view.present = true;
  for (const std::string& name : mutation.remove) view.remove.push_back(name);
  for (const ModelSet& set : mutation.set) view.set.push_back({set.name, set.value, set.append});
  return view;
}

// What a merged HeaderMutation payload says. `append` is deprecated, and the one
// that Envoy reads.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
ModelMutation Parse(const std::string& payload) {
  ext_proc::HeaderMutation message;
  EXPECT_TRUE(message.ParseFromString(payload));
  ModelMutation mutation;
  for (const std::string& name : message.remove_headers()) mutation.remove.push_back(name);
  for (const auto& option : message.set_headers()) {
    mutation.set.push_back(
        {option.header().key(), option.header().raw_value(), option.append().value()});
  }
  return mutation;
}
#pragma GCC diagnostic pop

std::string HeadersMessage(const std::vector<std::pair<std::string, std::string>>& headers) {
  ext_proc::HttpHeaders message;
  for (const auto& [name, value] : headers) {
    auto* header = message.mutable_headers()->add_headers();
    header->set_key(name);
    header->set_raw_value(value);
  }
  return message.SerializeAsString();
}

ModelHeaders ModelOf(const std::string& message) {
  ext_proc::HttpHeaders parsed;
  EXPECT_TRUE(parsed.ParseFromString(message));
  ModelHeaders headers;
  for (const auto& header : parsed.headers().headers()) {
    headers[header.key()].push_back(header.raw_value());
  }
  return headers;
}

TEST(Mutation, MergingEqualsApplyingEachInTurn) {
  const uint64_t seed = Seed();
  MutationMaker make(seed);
  for (int round = 0; round < 20000; ++round) {
    const std::string before = HeadersMessage(make.Headers());
    ModelHeaders expected = ModelOf(before);
    MergedHeaders merged;
    for (size_t plugins = 1 + make.Pick(4); plugins > 0; --plugins) {
      const ModelMutation mutation = make.Mutation();
      ApplyModel(mutation, &expected);
      merged.Add(ViewOf(mutation));
    }
    ModelHeaders actual = ModelOf(before);
    ApplyModel(Parse(merged.Write()), &actual);
    ASSERT_EQ(actual, expected) << "round " << round << " of seed " << seed;
  }
}

TEST(Mutation, LaterInstancesSeeWhatEnvoyWouldMakeOfIt) {
  const uint64_t seed = Seed();
  MutationMaker make(seed);
  for (int round = 0; round < 20000; ++round) {
    std::string message = HeadersMessage(make.Headers());
    ModelHeaders expected = ModelOf(message);
    for (size_t plugins = 1 + make.Pick(4); plugins > 0; --plugins) {
      const ModelMutation mutation = make.Mutation();
      ApplyModel(mutation, &expected);
      message = ApplyHeaderMutation(message, ViewOf(mutation));
    }
    ASSERT_EQ(ModelOf(message), expected) << "round " << round << " of seed " << seed;
  }
}

// In BUFFERED modes filters run headers and body one filter after the other; in a
// chain all headers come first. Appends of two instances to one name keep the
// order in which they were said, so the model's instances here do not append.
TEST(Mutation, AMutationUnderALaterOneGivesWhatFiltersInARowWould) {
  const uint64_t seed = Seed();
  MutationMaker make(seed);
  for (int round = 0; round < 20000; ++round) {
    const std::string before = HeadersMessage(make.Headers());
    ModelMutation first = make.Mutation(), later = make.Mutation(), body = make.Mutation();
    for (ModelSet& set : body.set) set.append = false;
    ModelHeaders expected = ModelOf(before);
    for (const ModelMutation* mutation : {&first, &body, &later}) ApplyModel(*mutation, &expected);

    MergedHeaders of_later;
    of_later.Add(ViewOf(later));
    MergedHeaders merged;
    merged.Add(ViewOf(body));
    merged.AddUnder(ViewOf(body), of_later);
    ModelHeaders actual = ModelOf(before);
    for (const ModelMutation* mutation : {&first, &later}) ApplyModel(*mutation, &actual);
    ApplyModel(Parse(merged.Write()), &actual);
    ASSERT_EQ(actual, expected) << "round " << round << " of seed " << seed;
  }
}

TEST(Mutation, HostOfARequestIsItsAuthority) {
  const std::string before = HeadersMessage({{":authority", "old"}, {"x", "1"}});
  ModelMutation set;
  set.set.push_back({"Host", "new", false});
  EXPECT_EQ(ModelOf(ApplyHeaderMutation(before, ViewOf(set)))[":authority"],
            std::vector<std::string>{"new"});
  ModelMutation over;
  over.set.push_back({":authority", "newer", false});
  MergedHeaders merged;
  merged.Add(ViewOf(set));
  merged.Add(ViewOf(over));
  EXPECT_EQ(merged.entries(), 1u);
  EXPECT_EQ(Parse(merged.Write()).set.front().value, "newer");
}

TEST(Mutation, CountsTheLongerOfTheTwoLists) {
  ModelMutation mutation;
  for (int i = 0; i < 3; ++i) mutation.remove.push_back("r" + std::to_string(i));
  for (int i = 0; i < 5; ++i) mutation.set.push_back({"s", std::to_string(i), true});
  MergedHeaders merged;
  merged.Add(ViewOf(mutation));
  EXPECT_EQ(merged.entries(), 5u);
  for (const char* name : {"r1", "R1", "s", "S"}) EXPECT_TRUE(merged.Mentions(name)) << name;
  for (const char* name : {"r9", "r", ""}) EXPECT_FALSE(merged.Mentions(name)) << name;
}

struct LimitCase {
  size_t headers_before;
  size_t sets;
  bool replacing;  // names that are there already
  bool fits;
};

TEST(Mutation, HeaderCountsAreHeldToTheLimitExactly) {
  constexpr size_t kCountMax = 100;
  for (const LimitCase& c : {LimitCase{95, 5, false, true}, LimitCase{95, 6, false, false},
                             LimitCase{100, 10, true, true}, LimitCase{100, 1, false, false},
                             LimitCase{101, 0, false, true}}) {
    std::vector<std::pair<std::string, std::string>> headers;
    for (size_t i = 0; i < c.headers_before; ++i)
      headers.emplace_back("h" + std::to_string(i), "v");
    ModelMutation mutation;
    for (size_t i = 0; i < c.sets; ++i) {
      mutation.set.push_back({(c.replacing ? "h" : "n") + std::to_string(i), "v", false});
    }
    EXPECT_EQ(FitsHeaderLimits(HeadersMessage(headers), ViewOf(mutation), kCountMax, 61440), c.fits)
        << c.headers_before << " and " << c.sets;
  }
}

TEST(Mutation, HeaderBytesAreHeldToTheLimitExactly) {
  const std::string message = HeadersMessage({{"ab", "cd"}});  // 4 bytes as Envoy counts
  for (const auto& [bytes, fits] : {std::pair(994, true), std::pair(995, true),
                                    std::pair(996, false), std::pair(2000, false)}) {
    ModelMutation mutation;
    mutation.set.push_back({"x", std::string(static_cast<size_t>(bytes), 'v'), false});
    EXPECT_EQ(FitsHeaderLimits(message, ViewOf(mutation), 100, 1000), fits) << bytes;
  }
}

TEST(Mutation, ABodyMessageKeepsItsOtherFields) {
  ext_proc::HttpBody body;
  body.set_body("old");
  body.set_end_of_stream(true);
  body.set_grpc_message_compressed(true);
  ext_proc::HttpBody rewritten;
  ASSERT_TRUE(rewritten.ParseFromString(WriteBodyMessage(body.SerializeAsString(), "new", false)));
  EXPECT_EQ(rewritten.body(), "new");
  EXPECT_FALSE(rewritten.end_of_stream());
  EXPECT_TRUE(rewritten.grpc_message_compressed());
}

TEST(Mutation, ARequestIsRebuiltAroundItsMessageAndNothingElseOfTheOneof) {
  ext_proc::ProcessingRequest request;
  request.mutable_request_trailers();
  request.mutable_protocol_config();
  request.set_observability_mode(true);
  ext_proc::HttpBody body;
  body.set_body("b");
  ext_proc::ProcessingRequest rebuilt;
  ASSERT_TRUE(rebuilt.ParseFromString(
      ReplaceMessage(request.SerializeAsString(), CALLOUT_REQUEST_BODY, body.SerializeAsString())));
  EXPECT_EQ(rebuilt.request_body().body(), "b");
  EXPECT_TRUE(rebuilt.has_protocol_config());
  EXPECT_TRUE(rebuilt.observability_mode());
}

}  // namespace
}  // namespace callout::host
