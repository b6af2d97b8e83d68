// SPDX-License-Identifier: Apache-2.0

#include "host/wire/rate_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "host/plugin/quarantine_plugin.h"
#include "host/unary/rate_limit_service.h"
#include "tests/fuzz/rate_limit_driver.h"
#include "tests/host/unary/unary_fixture.h"

namespace callout::host {
namespace {

using envoy::service::ratelimit::v3::RateLimitRequest;
using envoy::service::ratelimit::v3::RateLimitResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kOk = RateLimitResponse::OK;
constexpr auto kOverLimit = RateLimitResponse::OVER_LIMIT;

using Fill = std::function<void(RateLimitResponse*)>;

FakePlugin::Hook Says(Fill fill) {
  return [fill = std::move(fill)](callout_call_t* call) {
    RateLimitResponse response;
    fill(&response);
    return RespondWith(call, CALLOUT_WHOLE_RESPONSE, response.SerializeAsString());
  };
}

FakePlugin::Hook SaysCode(RateLimitResponse::Code code) {
  return Says([code](RateLimitResponse* response) { response->set_overall_code(code); });
}

template <class Headers>
void AddTo(Headers* headers, const std::string& name, const std::string& value) {
  auto* header = headers->Add();
  header->set_key(name);
  header->set_value(value);
}

// "name=value", having checked that both forms of the value say the same.
template <class Headers>
std::vector<std::string> HeadersTold(const Headers& headers) {
  std::vector<std::string> told;
  for (const auto& header : headers) {
    EXPECT_EQ(header.value(), header.raw_value());
    told.push_back(header.key() + "=" + header.value());
  }
  return told;
}

// One descriptor for each text.
RateLimitRequest LimitRequest(const std::vector<std::string>& users = {"ada"}) {
  RateLimitRequest request;
  request.set_domain("edge");
  for (const std::string& user : users) {
    auto* entry = request.add_descriptors()->add_entries();
    entry->set_key("user");
    entry->set_value(user);
  }
  return request;
}

class RateLimitTest : public UnaryTest {
 protected:
  std::unique_ptr<UnaryService> MakeService() override {
    return std::make_unique<RateLimitService>(&environment_->limits());
  }
  void Ask(const RateLimitRequest& request) { AskBytes(request.SerializeAsString()); }
  RateLimitResponse Told() {
    const auto response = ToldAs<RateLimitResponse>();
    EXPECT_NE(response.overall_code(), RateLimitResponse::UNKNOWN);
    return response;
  }
  RateLimitResponse Limit(const RateLimitRequest& request = LimitRequest()) {
    Ask(request);
    return Told();
  }
};

TEST_F(RateLimitTest, AnInstanceIsAskedAndSeesTheRequest) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_RATE_LIMIT] = [&](callout_call_t* call) {
    EXPECT_EQ(plugin->opened, 1);
    EXPECT_EQ(call->flags, uint32_t{CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST});
    RateLimitRequest message;
    EXPECT_TRUE(message.ParseFromString(std::string(ToView(call->message))));
    EXPECT_EQ(message.domain(), "edge");
    EXPECT_EQ(ToView(call->request), ToView(call->message));
    return CALLOUT_OK;
  };
  EXPECT_EQ(Limit().overall_code(), kOk) << "nothing set is within the limits";
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(RateLimitTest, ViewsOfSmallDescriptorsAreCounted) {
  constexpr size_t kDescriptors = 1000;
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Ask(LimitRequest(std::vector<std::string>(kDescriptors)));
  ASSERT_NE(held, nullptr);
  EXPECT_GE(rpc_call_->kept_bytes(), kDescriptors * sizeof(std::string_view));
  held->host->finish(held, CALLOUT_OK);
  rpc_.Deliver(rpc_call_.get());
}

TEST_F(RateLimitTest, NobodyAskedIsOverTheLimit) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  EXPECT_EQ(Limit().overall_code(), kOverLimit);
}

TEST_F(RateLimitTest, AStandInForAPluginWithoutAHookIsNobody) {
  using Action = ErrorPolicy::Action;
  constexpr uint64_t kStreams = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_BODY);
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(kStreams);
  EXPECT_EQ(Limit().overall_code(), kOverLimit);
  Reset();
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(std::nullopt);
  EXPECT_EQ(Limit().overall_code(), kOverLimit) << "nobody knows";
  Reset();
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(CALLOUT_PHASE_BIT(CALLOUT_RATE_LIMIT));
  EXPECT_EQ(Limit().overall_code(), kOk) << "it has one";
  Reset();
  AddPlugin(Action::kFail)->stand_in = QuarantinePlugin(kStreams);
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = SaysCode(kOk);
  EXPECT_EQ(Limit().overall_code(), kOk);
}

TEST_F(RateLimitTest, WhatAnInstanceSaysGoesOut) {
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = Says([](RateLimitResponse* response) {
    response->set_overall_code(kOverLimit);
    auto* status = response->add_statuses();
    status->set_code(kOverLimit);
    status->mutable_current_limit()->set_name("per user");
    status->mutable_current_limit()->set_requests_per_unit(10);
    status->mutable_duration_until_reset()->set_seconds(7);
    AddTo(response->mutable_response_headers_to_add(), "retry-after", "7");
    response->set_raw_body("slow\xff");
    (*response->mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value("ada");
    response->mutable_quota()->set_requests(3);
  });
  const RateLimitResponse told = Limit();
  EXPECT_EQ(told.overall_code(), kOverLimit);
  ASSERT_EQ(told.statuses_size(), 1);
  EXPECT_EQ(told.statuses(0).current_limit().name(), "per user");
  EXPECT_EQ(told.statuses(0).duration_until_reset().seconds(), 7);
  EXPECT_THAT(HeadersTold(told.response_headers_to_add()), ElementsAre("retry-after=7"));
  EXPECT_EQ(told.raw_body(), "slow\xff") << "a body is bytes";
  EXPECT_EQ(told.dynamic_metadata().fields().at("user").string_value(), "ada");
  EXPECT_EQ(told.quota().requests(), 3u);
}

TEST_F(RateLimitTest, AChainIsAsFiltersInARow) {
  int asked = 0;
  const auto part = [&asked](RateLimitResponse::Code code, const std::string& name) {
    return [&asked, code, name](callout_call_t* call) {
      ++asked;
      return Says([&](RateLimitResponse* response) {
        response->set_overall_code(code);
        AddTo(response->mutable_response_headers_to_add(), "r", name);
        AddTo(response->mutable_request_headers_to_add(), "q", name);
        response->set_raw_body(name);
        (*response->mutable_dynamic_metadata()->mutable_fields())[name].set_bool_value(true);
      })(call);
    };
  };
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = part(kOk, "a");
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = part(kOverLimit, "b");
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = part(kOk, "c");
  const RateLimitResponse told = Limit();
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(told.overall_code(), kOverLimit);
  EXPECT_THAT(HeadersTold(told.response_headers_to_add()), ElementsAre("r=b", "r=a"))
      << "Envoy's filters see a response in reverse";
  EXPECT_EQ(told.raw_body(), "b") << "a body belongs to a refusal";
  EXPECT_EQ(told.dynamic_metadata().fields_size(), 2);
}

TEST_F(RateLimitTest, OfEachDescriptorTheStricterStatusStays) {
  const auto says = [](std::vector<std::pair<int, int>> code_and_remaining) {
    return Says([=](RateLimitResponse* response) {
      response->set_overall_code(kOk);
      for (const auto& [code, remaining] : code_and_remaining) {
        auto* status = response->add_statuses();
        status->set_code(static_cast<RateLimitResponse::Code>(code));
        if (remaining < 0) continue;
        status->mutable_current_limit()->set_requests_per_unit(10);
        status->set_limit_remaining(static_cast<uint32_t>(remaining));
        if (code == kOverLimit) response->set_overall_code(kOverLimit);
      }
    });
  };
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = says({{1, 5}, {1, -1}, {1, 2}, {1, 0}});
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = says({{1, 3}, {1, 9}, {1, -1}, {2, 4}});
  const RateLimitResponse told = Limit(LimitRequest({"a", "b", "c", "d"}));
  std::vector<std::pair<int, int>> kept;
  for (const auto& status : told.statuses()) {
    kept.emplace_back(status.code(), static_cast<int>(status.limit_remaining()));
  }
  const std::vector<std::pair<int, int>> expected = {{1, 3}, {1, 9}, {1, 2}, {2, 4}};
  EXPECT_EQ(kept, expected);
}

TEST_F(RateLimitTest, MatchFindsDomainAndDescriptors) {
  for (const bool fits : {true, false}) {
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_RATE_LIMIT] = SaysCode(kOverLimit);
    AddPlugin()->phases[CALLOUT_RATE_LIMIT] = SaysCode(kOk);
    settings_[0].match.attributes = {{"domain", "edge"}, {"user", fits ? "ada" : "bob"}};
    // Of a key that stands there twice the first counts.
    EXPECT_EQ(Limit(LimitRequest({"ada", "bob"})).overall_code(), fits ? kOverLimit : kOk);
    Reset();
  }
}

// --- What does not go out -----------------------------------------------------

TEST_F(RateLimitTest, WhatEnvoyWouldPassOnUncheckedIsAFault) {
  const std::string evil = "a\r\nset-cookie: evil=1";
  const std::map<std::string, Fill> cases = {
      {"response header",
       [&](RateLimitResponse* r) { AddTo(r->mutable_response_headers_to_add(), "x", evil); }},
      {"request header",
       [&](RateLimitResponse* r) { AddTo(r->mutable_request_headers_to_add(), "x", evil); }},
      {"content-length",
       [&](RateLimitResponse* r) {
         AddTo(r->mutable_request_headers_to_add(), "content-length", "5");
       }},
      {"path",
       [&](RateLimitResponse* r) { AddTo(r->mutable_request_headers_to_add(), ":path", "/x"); }},
      {"host",
       [&](RateLimitResponse* r) { AddTo(r->mutable_request_headers_to_add(), "Host", "x"); }},
      {"another protocol",
       [&](RateLimitResponse* r) {
         AddTo(r->mutable_request_headers_to_add(), "Upgrade", "websocket");
       }},
      {"a line's end in metadata",
       [&](RateLimitResponse* r) {
         (*r->mutable_dynamic_metadata()->mutable_fields())["user"].set_string_value(evil);
       }},
      {"no name",
       [&](RateLimitResponse* r) { AddTo(r->mutable_request_headers_to_add(), "", "x"); }},
      {"a line's end in the name of a limit",
       [&](RateLimitResponse* r) { r->add_statuses()->mutable_current_limit()->set_name("a\nb"); }},
      {"a quote in the name of a limit",
       [&](RateLimitResponse* r) {
         r->add_statuses()->mutable_current_limit()->set_name("a\";w=1");
       }},
      {"statuses for some descriptors",
       [&](RateLimitResponse* r) {
         r->add_statuses();
         r->add_statuses();
       }},
      {"an unknown code",
       [&](RateLimitResponse* r) { r->set_overall_code(static_cast<RateLimitResponse::Code>(3)); }},
      {"a status that is over the limit, alone",
       [&](RateLimitResponse* r) { r->add_statuses()->set_code(kOverLimit); }},
  };
  for (const auto& [name, fill] : cases) {
    for (const bool passes : {false, true}) {
      AddPlugin(passes ? ErrorPolicy::Action::kContinue : ErrorPolicy::Action::kFail)
          ->phases[CALLOUT_RATE_LIMIT] = Says([fill = fill](RateLimitResponse* response) {
        response->set_overall_code(kOk);
        fill(response);
      });
      const RateLimitResponse told = Limit();
      const bool refuses = name == "a status that is over the limit, alone";
      EXPECT_EQ(told.overall_code(), passes && !refuses ? kOk : kOverLimit) << name;
      EXPECT_THAT(HeadersTold(told.response_headers_to_add()), IsEmpty()) << name;
      EXPECT_THAT(HeadersTold(told.request_headers_to_add()), IsEmpty()) << name;
      EXPECT_EQ(told.statuses_size(), 0) << name;
      EXPECT_FALSE(told.has_dynamic_metadata()) << name;
      Reset();
    }
  }
}

TEST_F(RateLimitTest, TextThatIsNotUtf8IsAFault) {
  // A HeaderValue, and the name of a RateLimit, with the byte 0xff.
  for (const std::string& bytes : {std::string("\x08\x01\x1a\x06\x0a\x01x\x12\x01\xff"),
                                   std::string("\x08\x01\x12\x05\x12\x03\x1a\x01\xff")}) {
    AddPlugin()->phases[CALLOUT_RATE_LIMIT] = [&](callout_call_t* call) {
      return RespondWith(call, CALLOUT_WHOLE_RESPONSE, bytes);
    };
    RateLimitResponse refused;
    EXPECT_FALSE(refused.ParseFromString(bytes)) << "as Envoy would";
    EXPECT_EQ(Limit().overall_code(), kOverLimit);
    Reset();
  }
}

TEST_F(RateLimitTest, ThePolicyDecidesAboutAFault) {
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kDeny, ErrorPolicy::Action::kContinue}) {
    AddPlugin(action, 503)->phases[CALLOUT_RATE_LIMIT] = Returns(CALLOUT_INTERNAL);
    EXPECT_EQ(Limit().overall_code(), action == ErrorPolicy::Action::kContinue ? kOk : kOverLimit);
    Reset();
  }
}

TEST_F(RateLimitTest, ARefusalIsOneWhateverComesAfterIt) {
  const std::map<std::string, FakePlugin::Hook> cases = {
      {"denied", Returns(CALLOUT_PERMISSION_DENIED)},
      {"unauthenticated", Returns(CALLOUT_UNAUTHENTICATED)},
      {"refused, and then an error",
       [](callout_call_t* call) {
         SaysCode(kOverLimit)(call);
         return callout_status_t{CALLOUT_INTERNAL};
       }},
      {"refused, and then let pass",
       [](callout_call_t* call) {
         EXPECT_EQ(SaysCode(kOverLimit)(call), CALLOUT_OK);
         EXPECT_EQ(SaysCode(kOk)(call), CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       }},
      {"refused, and let pass by the status of that",
       [](callout_call_t* call) {
         SaysCode(kOverLimit)(call);
         return SaysCode(kOk)(call);
       }},
      {"let pass, and then refused",
       [](callout_call_t* call) {
         EXPECT_EQ(SaysCode(kOk)(call), CALLOUT_OK);
         return SaysCode(kOverLimit)(call);
       }},
      {"refused, with a header that is none", Says([](RateLimitResponse* response) {
         response->set_overall_code(kOverLimit);
         AddTo(response->mutable_response_headers_to_add(), "x", "a\nb");
       })},
      {"malformed",
       [](callout_call_t* call) {
         RespondWith(call, CALLOUT_WHOLE_RESPONSE, "\x08\x02\xff");
         return callout_status_t{CALLOUT_OK};
       }},
      {"sent, where one response is all",
       [](callout_call_t* call) {
         const callout_bytes_t part = ToBytes("\x08\x02");
         call->host->send(call, CALLOUT_WHOLE_RESPONSE, &part, 1);
         return callout_status_t{CALLOUT_OK};
       }},
      {"sent, and then let pass",
       [](callout_call_t* call) {
         const callout_bytes_t part = ToBytes("\x08\x02");
         call->host->send(call, CALLOUT_WHOLE_RESPONSE, &part, 1);
         SaysCode(kOk)(call);
         return callout_status_t{CALLOUT_OK};
       }},
  };
  for (const auto& [name, hook] : cases) {
    AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_RATE_LIMIT] = hook;
    EXPECT_EQ(Limit().overall_code(), kOverLimit) << name;
    Reset();
  }
}

TEST_F(RateLimitTest, OnlyAWholeResponseIsAnAnswer) {
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = [](callout_call_t* call) {
    for (callout_field_t field = 1; field < 20; ++field) {
      EXPECT_EQ(RespondWith(call, field, ""), CALLOUT_INVALID_ARGUMENT) << field;
      const bool is_metadata = field == CALLOUT_RATE_LIMIT_DYNAMIC_METADATA;
      EXPECT_EQ(call->host->annotate(call, field, {}),
                is_metadata ? CALLOUT_OK : CALLOUT_INVALID_ARGUMENT)
          << field;
    }
    return CALLOUT_OK;
  };
  EXPECT_EQ(Limit().overall_code(), kOk);
}

TEST_F(RateLimitTest, TooManyDescriptorsAreOverTheLimit) {
  limits_.message_fields_max = 3;
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = SaysCode(kOk);
  EXPECT_EQ(Limit(LimitRequest({"a", "b", "c"})).overall_code(), kOk);
  EXPECT_EQ(Limit(LimitRequest({"a", "b", "c", "d"})).overall_code(), kOverLimit);
}

TEST_F(RateLimitTest, WhatIsNoRequestIsRefused) {
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = SaysCode(kOk);
  for (const std::string& bytes : {std::string("\xff"), std::string("\x12\x03\x0a\x05x")}) {
    AskBytes(bytes);
    EXPECT_EQ(rpc_call_->end()->code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(rpc_call_->TakeOutput(), IsEmpty());
  }
}

// --- Against generated protobuf -----------------------------------------------

class Randomly {
 public:
  explicit Randomly(unsigned seed) : random_(seed) {}
  unsigned Below(unsigned end) { return static_cast<unsigned>(random_() % end); }
  std::string Text() { return std::string(Below(4), static_cast<char>('a' + Below(4))); }

  RateLimitRequest MakeRequest() {
    RateLimitRequest request;
    request.set_domain(Text());
    for (unsigned i = Below(4); i > 0; --i) {
      auto* descriptor = request.add_descriptors();
      for (unsigned j = Below(3); j > 0; --j) {
        auto* entry = descriptor->add_entries();
        entry->set_key(Text());
        entry->set_value(Text());
      }
      if (Below(3) == 0) descriptor->mutable_limit()->set_requests_per_unit(Below(9));
      if (Below(3) == 0) descriptor->mutable_hits_addend()->set_value(Below(9));
    }
    return request;
  }

  // One that the guard takes for a request with so many descriptors.
  RateLimitResponse MakeResponse(int descriptors) {
    RateLimitResponse response;
    response.set_overall_code(static_cast<RateLimitResponse::Code>(Below(3)));
    for (int i = Below(2) == 0 ? 0 : descriptors; i > 0; --i) {
      auto* status = response.add_statuses();
      status->set_code(static_cast<RateLimitResponse::Code>(
          Below(response.overall_code() == kOverLimit ? 3 : 2)));
      status->set_limit_remaining(Below(9));
      if (Below(2) == 0) status->mutable_current_limit()->set_name(Text());
      if (Below(2) == 0) status->mutable_duration_until_reset()->set_seconds(Below(9));
      if (Below(2) == 0) status->mutable_quota()->mutable_valid_until()->set_seconds(Below(9));
    }
    for (unsigned i = Below(3); i > 0; --i) {
      AddTo(response.mutable_response_headers_to_add(), "r" + Text(), Text());
    }
    for (unsigned i = Below(3); i > 0; --i) {
      AddTo(response.mutable_request_headers_to_add(), "q" + Text(), Text());
    }
    if (Below(2) == 0) response.set_raw_body(Text());
    if (Below(2) == 0) response.mutable_quota()->set_id(Text());
    if (Below(2) == 0) {
      (*response.mutable_dynamic_metadata()->mutable_fields())[Text()].set_number_value(1);
    }
    return response;
  }

 private:
  std::mt19937 random_;
};

// What is to go out of one instance's response.
RateLimitResponse Expected(RateLimitResponse response) {
  if (response.overall_code() != kOverLimit) {
    response.set_overall_code(kOk);
    response.clear_raw_body();
  }
  for (auto* headers :
       {response.mutable_response_headers_to_add(), response.mutable_request_headers_to_add()}) {
    for (auto& header : *headers) header.set_raw_value(header.value());
  }
  return response;
}

TEST_F(RateLimitTest, GeneratedProtobufAgreesOnRandomMessages) {
  constexpr unsigned kSeed = 20261129;
  constexpr int kRounds = 5000;
  SCOPED_TRACE(kSeed);
  Randomly random(kSeed);
  RateLimitResponse said;
  AddPlugin()->phases[CALLOUT_RATE_LIMIT] = [&](callout_call_t* call) {
    return RespondWith(call, CALLOUT_WHOLE_RESPONSE, said.SerializeAsString());
  };
  for (int i = 0; i < kRounds && !HasFailure(); ++i) {
    const RateLimitRequest request = random.MakeRequest();
    said = random.MakeResponse(request.descriptors_size());
    EXPECT_EQ(Limit(request).DebugString(), Expected(said).DebugString());
  }
}

TEST_F(RateLimitTest, ItsAttributesAreDomainAndEntries) {
  const std::string bytes = LimitRequest({"ada", "bob"}).SerializeAsString();
  const auto view = ParseRateLimitRequest(bytes, 10);
  ASSERT_TRUE(view.ok());
  ProcessingRequest request;
  ASSERT_TRUE(request.ParseFromString(WriteRateLimitAttributes(*view)));
  const auto& fields = request.attributes().at("envoy.filters.http.ratelimit").fields();
  EXPECT_EQ(fields.size(), 2u);
  EXPECT_EQ(fields.at("domain").string_value(), "edge");
  EXPECT_EQ(fields.at("user").string_value(), "ada");
}

// Of damaged bytes nothing goes out but what Envoy may be sent.
TEST_F(RateLimitTest, DamagedMessagesLetNothingThrough) {
  constexpr unsigned kSeed = 7;
  constexpr int kRounds = 20000;
  SCOPED_TRACE(kSeed);
  Randomly random(kSeed);
  const auto damage = [&random](std::string bytes) {
    for (unsigned i = random.Below(3); i > 0 && !bytes.empty(); --i) {
      bytes[random.Below(static_cast<unsigned>(bytes.size()))] =
          static_cast<char>(random.Below(256));
    }
    return bytes;
  };
  for (int i = 0; i < kRounds && !HasFailure(); ++i) {
    const RateLimitRequest request = random.MakeRequest();
    const std::string said =
        damage(random.MakeResponse(request.descriptors_size()).SerializeAsString());
    EXPECT_EQ(RunRateLimit(damage(request.SerializeAsString()), said), "");
  }
}

}  // namespace
}  // namespace callout::host
