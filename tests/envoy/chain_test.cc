// SPDX-License-Identifier: Apache-2.0

// A chain of two instances has the same effect as two ext_proc filters in a row
// with one instance each: the same random traffic, with random answers, comes
// out the same at the backend and at the client.
#include <gmock/gmock.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend.h"
#include "client.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy_config.h"
#include "envoy_fixture.h"
#include "host_process.h"

namespace callout::tests {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using nlohmann::json;

constexpr int kRounds = 150;
constexpr const char* kPhases[] = {"request-headers", "response-headers", "request-body",
                                   "response-body"};
// Few names, so that mutations meet each other and the headers that are there.
constexpr const char* kNames[] = {"one", "two", "Two", "three", "four"};
// Envoy cuts streamed bodies as they come: what is done to them there must not depend on it.
constexpr const char* kBodyDeeds[] = {"leave", "upper", "swap", "clear", "shorter", "longer"};
constexpr size_t kStreamedBodyDeeds = 4;

std::vector<std::string> HostOptions(const std::vector<std::string>& instances) {
  std::vector<std::string> options;
  for (const std::string& name : instances) {
    options.push_back("--plugin=" + name + "=" + BuiltFile("tests/envoy/plugins/scripted.so"));
    options.push_back("--plugin_config=" + name + "=as " + name);
  }
  return options;
}

// Without what differs between any two exchanges, by name: HTTP gives a meaning
// to the order of values of one name only.
HttpFields Comparable(const HttpFields& fields) {
  static constexpr const char* kVarying[] = {kTestIdHeader, "x-request-id", "date",
                                             "x-envoy-upstream-service-time"};
  HttpFields comparable;
  for (const auto& field : fields) {
    const bool varies = std::any_of(std::begin(kVarying), std::end(kVarying),
                                    [&](const char* name) { return field.first == name; });
    if (!varies) comparable.push_back(field);
  }
  std::stable_sort(comparable.begin(), comparable.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return comparable;
}

class ChainTest : public EnvoyFixture {
 protected:
  void SetUp() override {
    EnvoyFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    EnvoyConfig config;
    config.backend_port = backend_.port();
    const auto start = [&](const std::string& name, const std::vector<std::string>& instances) {
      hosts_.push_back(std::make_unique<HostProcess>(HostOptions(instances)));
      config.hosts[name] = {hosts_.back()->port("plaintext")};
    };
    start("both", {"a", "b"});
    start("first", {"a"});
    start("second", {"b"});
    for (const char* mode : {"NONE", "BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"}) {
      json processing = {{"request_body_mode", mode}, {"response_body_mode", mode}};
      if (mode == std::string("FULL_DUPLEX_STREAMED")) {
        processing.update({{"request_trailer_mode", "SEND"}, {"response_trailer_mode", "SEND"}});
      }
      const json settings = {{"processing_mode", processing}};
      config.listeners.push_back(
          {.name = absl::StrCat("chain", mode), .filters = {ExtProc(settings, "both")}});
      config.listeners.push_back(
          {.name = absl::StrCat("filters", mode),
           .filters = {ExtProc(settings, "first"), ExtProc(settings, "second")}});
    }
    envoy_.emplace(MakeBootstrap(config));
    seed_ = std::random_device()();
    random_.seed(seed_);
  }

  size_t Below(size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random_);
  }

  void AddMutation(ext_proc::HeaderMutation* mutation) {
    for (size_t i = Below(3); i > 0; --i) mutation->add_remove_headers(kNames[Below(5)]);
    for (size_t i = Below(4); i > 0; --i) {
      auto* option = mutation->add_set_headers();
      option->mutable_header()->set_key(kNames[Below(5)]);
      option->mutable_header()->set_raw_value(absl::StrCat("v", Below(100)));
      const size_t append = Below(3);
// Deprecated, and all that Envoy 1.40 looks at.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
      if (append < 2) option->mutable_append()->set_value(append == 1);
#pragma GCC diagnostic pop
    }
  }

  // What instance `name` is told to do, by random.
  void AddScript(const std::string& name, bool streamed, HttpFields* headers) {
    for (const std::string phase : kPhases) {
      if (Below(4) == 0) continue;
      if (phase.ends_with("body")) {
        headers->emplace_back(
            "x-" + name + "-do-" + phase,
            kBodyDeeds[Below(streamed ? kStreamedBodyDeeds : std::size(kBodyDeeds))]);
        continue;
      }
      ext_proc::ProcessingResponse answer;
      auto* response = phase[2] == 'q' ? answer.mutable_request_headers()->mutable_response()
                                       : answer.mutable_response_headers()->mutable_response();
      AddMutation(response->mutable_header_mutation());
      headers->emplace_back("x-" + name + "-answer-" + phase,
                            absl::BytesToHexString(answer.SerializeAsString()));
    }
  }

  HttpFields RandomHeaders() {
    HttpFields headers;
    for (size_t i = Below(5); i > 0; --i) {
      headers.emplace_back(kNames[Below(5)], absl::StrCat("h", Below(100)));
    }
    return headers;
  }

  HttpBody RandomBody() {
    if (Below(3) == 0) return {};
    return {.pieces = {absl::StrCat("Body", Below(1000))}, .chunked = Below(2) == 0};
  }

  Backend backend_;
  std::vector<std::unique_ptr<HostProcess>> hosts_;
  std::optional<EnvoyProcess> envoy_;
  uint64_t seed_ = 0;
  std::mt19937_64 random_;
};

TEST_F(ChainTest, TwoInstancesEqualTwoFilters) {
  printf("seed %llu\n", static_cast<unsigned long long>(seed_));
  for (const char* mode : {"NONE", "BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"}) {
    for (int round = 0; round < kRounds; ++round) {
      ClientRequest request = {.method = "POST", .headers = RandomHeaders(), .body = RandomBody()};
      const bool streamed = absl::EndsWith(mode, "STREAMED");
      AddScript("a", streamed, &request.headers);
      AddScript("b", streamed, &request.headers);
      const std::string id = absl::StrCat(mode, round);
      request.headers.emplace_back(kTestIdHeader, id);
      backend_.Answer({.headers = RandomHeaders(), .body = RandomBody()});

      const HttpMessage chained = Exchange(envoy_->port(absl::StrCat("chain", mode)), request);
      const auto by_chain = backend_.TakeRequest(id);
      const HttpMessage filtered = Exchange(envoy_->port(absl::StrCat("filters", mode)), request);
      const auto by_filters = backend_.TakeRequest(id);

      SCOPED_TRACE(absl::StrCat("seed ", seed_, ", ", mode, " round ", round));
      EXPECT_EQ(chained.status, 200);
      EXPECT_EQ(chained.status, filtered.status);
      EXPECT_EQ(Comparable(chained.headers), Comparable(filtered.headers));
      EXPECT_EQ(chained.body, filtered.body);
      ASSERT_TRUE(by_chain.has_value() && by_filters.has_value());
      EXPECT_EQ(Comparable(by_chain->headers), Comparable(by_filters->headers));
      EXPECT_EQ(by_chain->body, by_filters->body);
      if (HasFailure()) {
        FAIL() << ::testing::PrintToString(request.headers);
      }
    }
  }
  for (const auto& [name, value] : envoy_->CountersEndingWith(".spurious_msgs_received")) {
    EXPECT_EQ(value, 0u) << name;
  }
}

}  // namespace
}  // namespace callout::tests
