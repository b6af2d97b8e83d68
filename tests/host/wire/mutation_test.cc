// SPDX-License-Identifier: Apache-2.0

#include "host/wire/mutation.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
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

// A request of these headers, with more around them and beside them.
ext_proc::ProcessingRequest RequestOf(const std::string& headers) {
  ext_proc::ProcessingRequest request;
  EXPECT_TRUE(request.mutable_request_headers()->ParseFromString(headers));
  request.mutable_request_headers()->set_end_of_stream(true);
  (*request.mutable_attributes())["a"];
  request.set_observability_mode(true);
  return request;
}

ChangedHeaders Changed(const ext_proc::ProcessingRequest& request, const ModelMutation& mutation) {
  return ChangedHeaders(request.SerializeAsString(), CALLOUT_REQUEST_HEADERS,
                        request.request_headers().SerializeAsString(), ViewOf(mutation));
}

// That only the headers of `request` were changed, to `expected`, in both views of them.
void ExpectChanged(const ChangedHeaders& changed, ext_proc::ProcessingRequest request,
                   const ModelHeaders& expected, const std::string& trace) {
  const std::string message(changed.message());
  ASSERT_EQ(ModelOf(message), expected) << trace;
  ext_proc::ProcessingRequest actual;
  ASSERT_TRUE(actual.ParseFromString(std::string(changed.request()))) << trace;
  ext_proc::HttpHeaders headers;
  ASSERT_TRUE(headers.ParseFromString(message)) << trace;
  ASSERT_EQ(actual.request_headers().SerializeAsString(), headers.SerializeAsString()) << trace;
  request.mutable_request_headers()->mutable_headers()->clear_headers();
  actual.mutable_request_headers()->mutable_headers()->clear_headers();
  ASSERT_EQ(actual.SerializeAsString(), request.SerializeAsString()) << trace;
}

TEST(Mutation, LaterInstancesSeeWhatEnvoyWouldMakeOfIt) {
  const uint64_t seed = Seed();
  MutationMaker make(seed);
  for (int round = 0; round < 20000; ++round) {
    std::string message = HeadersMessage(make.Headers());
    const ext_proc::ProcessingRequest request = RequestOf(message);
    ModelHeaders expected = ModelOf(message);
    std::optional<ChangedHeaders> changed;
    const std::string trace = fmt::format("round {} of seed {}", round, seed);
    for (size_t plugins = 1 + make.Pick(4); plugins > 0; --plugins) {
      const ModelMutation mutation = make.Mutation();
      ApplyModel(mutation, &expected);
      message = ApplyHeaderMutation(message, ViewOf(mutation));
      changed.has_value() ? changed->Apply(ViewOf(mutation))
                          : void(changed.emplace(Changed(request, mutation)));
      ExpectChanged(*changed, request, expected, trace);
    }
    ASSERT_EQ(ModelOf(message), expected) << trace;
  }
}

// A length takes one byte more from 128 on, and from 16,384 on.
TEST(Mutation, HeadersGrowAndShrinkInPlaceOverEverySizeOfALength) {
  const ext_proc::ProcessingRequest request = RequestOf(HeadersMessage({{"x-a", "1"}, {"x", ""}}));
  ModelHeaders expected = {{"x-a", {"1"}}, {"x", {""}}};
  ChangedHeaders changed = Changed(request, {});
  const auto change_to = [&](size_t size) {
    ModelMutation mutation;
    mutation.set.push_back({"x-a", std::string(size, 'v'), false});
    ApplyModel(mutation, &expected);
    changed.Apply(ViewOf(mutation));
    ExpectChanged(changed, request, expected, fmt::format("{} bytes", size));
  };
  for (size_t size = 0; size < 300; ++size) change_to(size);
  for (size_t size = 16000; size < 16500; ++size) change_to(size);
  for (size_t size : {2100000, 16384, 0, 2100000, 1}) change_to(size);
}

TEST(Mutation, HeadersMayAllBeRemovedInPlace) {
  const ext_proc::ProcessingRequest request = RequestOf(HeadersMessage({{"x-a", "1"}, {"x", ""}}));
  ChangedHeaders changed = Changed(request, {});
  ModelMutation mutation;
  mutation.remove = {"X-A", "x"};
  changed.Apply(ViewOf(mutation));
  ExpectChanged(changed, request, {}, "");
  mutation = {};
  mutation.set.push_back({"X-B", "2", true});
  changed.Apply(ViewOf(mutation));
  ExpectChanged(changed, request, {{"x-b", {"2"}}}, "");
}

// The header that was added last is written over where it can be: the next value of the same
// length.
TEST(Mutation, AHeaderThatWasAddedIsSetAgain) {
  struct Step {
    const char* name;
    const char* value;
    bool append = false;
  };
  const std::vector<std::vector<Step>> kCases = {
      {{"x-a", "1"}, {"x-a", "2"}, {"X-A", "3"}, {"x-a", "44"}},
      {{"x-a", "1"}, {"x-b", "1"}, {"x-a", "2"}, {"x-b", "2"}},
      {{"x-b", "1"}, {"x-a", "1"}, {"x-a", "2", true}, {"x-a", "3"}, {"x-a", "4"}},
      {{"x-a", "1"}, {"x-a", "2"}, {"x-a", "3", true}, {"x-a", "4", true}, {"x-a", "5"}},
      {{"x-a", "1"}, {"x-b", "1"}, {"x-there", "2"}, {"x-b", "3"}, {"x-b", "4"}},
      {{"host", "a"}, {"host", "b"}, {"Host", "c"}, {"x-c", "d"}, {"x-c", "e"}},
      {{"x-a", ""}, {"x-a", ""}, {"x-a", "1"}, {"x-a", ""}}};
  for (const std::vector<Step>& steps : kCases) {
    std::string message = HeadersMessage({{"x-there", "1"}, {"x", ""}});
    const ext_proc::ProcessingRequest request = RequestOf(message);
    std::optional<ChangedHeaders> changed;
    std::string trace;
    for (const Step& step : steps) {
      ModelMutation mutation;
      mutation.set.push_back({step.name, step.value, step.append});
      trace += fmt::format("{}={}{} ", step.name, step.value, step.append ? "+" : "");
      message = ApplyHeaderMutation(message, ViewOf(mutation));
      changed.has_value() ? changed->Apply(ViewOf(mutation))
                          : void(changed.emplace(Changed(request, mutation)));
      ExpectChanged(*changed, request, ModelOf(message), trace);
    }
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
  EXPECT_EQ(merged.entries().longer(), 1u);
  EXPECT_EQ(Parse(merged.Write()).set.front().value, "newer");
}

TEST(Mutation, CountsTheLongerOfTheTwoLists) {
  ModelMutation mutation;
  for (int i = 0; i < 3; ++i) mutation.remove.push_back("r" + std::to_string(i));
  for (int i = 0; i < 5; ++i) mutation.set.push_back({"s", std::to_string(i), true});
  MergedHeaders merged;
  merged.Add(ViewOf(mutation));
  EXPECT_EQ(merged.entries().longer(), 5u);
  for (const char* name : {"r1", "R1", "s", "S"}) EXPECT_TRUE(merged.Mentions(name)) << name;
  for (const char* name : {"r9", "r", ""}) EXPECT_FALSE(merged.Mentions(name)) << name;
}

TEST(Mutation, HeadersAreMeasuredAsEnvoyCountsThem) {
  const std::string message = HeadersMessage({{"ab", "cd"}, {"x", ""}});
  EXPECT_EQ(MeasureHeaders(message).count, 2u);
  EXPECT_EQ(MeasureHeaders(message).bytes, 5u);
  ModelMutation mutation;
  mutation.set.push_back({"ab", "efg", false});
  EXPECT_EQ(CountHeaders(message), 2u);
  EXPECT_EQ(LargestHeaderSize(message, 2, ViewOf(mutation)).count, 3u);
  EXPECT_GE(LargestHeaderSize(message, 2, ViewOf(mutation)).bytes, 10u);
  EXPECT_EQ(MeasureHeaders("\x0a\x7f").count, 0u);
}

// "host" becomes ":authority", which is longer.
TEST(Mutation, ALimitOnHeadersIsNotPassedByTheNameOfTheHost) {
  const std::string message = HeadersMessage({{":authority", "a"}});
  ModelMutation mutation;
  for (int i = 0; i < 3; ++i) mutation.set.push_back({"host", "b", true});
  const HeaderMutationView view = ViewOf(mutation);
  EXPECT_GE(LargestHeaderSize(message, 1, view).bytes,
            MeasureHeaders(ApplyHeaderMutation(message, view)).bytes);
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
