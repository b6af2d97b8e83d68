// SPDX-License-Identifier: Apache-2.0

// What tests of ext_authz share: hooks that answer a Check, and CheckRequests as Envoy sends
// them.
#ifndef CALLOUT_TESTS_HOST_UNARY_CHECK_FIXTURE_H_
#define CALLOUT_TESTS_HOST_UNARY_CHECK_FIXTURE_H_

#include <callout/answer.h>
#include <callout/check.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "host/unary/check_service.h"
#include "tests/host/unary/unary_fixture.h"

namespace callout::host {

using envoy::service::auth::v3::CheckRequest;
using CheckReply = envoy::service::auth::v3::CheckResponse;  // not the function of the guard
using envoy::service::auth::v3::DeniedHttpResponse;
using envoy::service::auth::v3::OkHttpResponse;

inline FakePlugin::Hook Allows(std::function<void(OkHttpResponse*)> fill = nullptr) {
  return [fill = std::move(fill)](callout_call_t* call) {
    OkHttpResponse ok;
    if (fill) fill(&ok);
    return RespondWith(call, CALLOUT_CHECK_OK, ok.SerializeAsString());
  };
}

inline FakePlugin::Hook Denies(std::function<void(DeniedHttpResponse*)> fill = nullptr,
                               callout_field_t field = CALLOUT_CHECK_DENIED) {
  return [fill = std::move(fill), field](callout_call_t* call) {
    DeniedHttpResponse denied;
    if (fill) fill(&denied);
    return RespondWith(call, field, denied.SerializeAsString());
  };
}

// `action` as one of callout_append_action_t, as the C layer writes it.
template <class Message>
void AddOption(Message* options, const std::string& name, const std::string& value,
               int action = CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD) {
  auto* option = options->Add();
  option->mutable_header()->set_key(name);
  option->mutable_header()->set_raw_value(value);
  if (action == CALLOUT_APPEND_IF_EXISTS_OR_ADD) {
    option->mutable_append()->set_value(true);
  } else {
    option->set_append_action(
        static_cast<envoy::config::core::v3::HeaderValueOption::HeaderAppendAction>(action));
  }
}

// "set a=b", "append a=b", "add_if_absent a=b", "set_if_exists a=b": what Envoy 1.40 is told,
// having checked that it is told in every form.
template <class Options>
std::vector<std::string> OptionsTold(const Options& options) {
  static constexpr const char* kActions[] = {"append", "add_if_absent", "set", "set_if_exists"};
  std::vector<std::string> told;
  for (const auto& option : options) {
    EXPECT_EQ(option.header().value(), option.header().raw_value());
    EXPECT_EQ(option.keep_empty_value(), option.header().value().empty());
    const int action = option.append_action();
    const bool has_flag = action == 0 || action == 2;
    EXPECT_EQ(option.has_append(), has_flag);
    if (has_flag) {
      EXPECT_EQ(option.append().value(), action == 0);
    }
    told.push_back(std::string(kActions[action]) + " " + option.header().key() + "=" +
                   option.header().value());
  }
  return told;
}

inline CheckRequest Request(const Pairs& headers = {}, const std::string& path = "/") {
  CheckRequest request;
  auto* http = request.mutable_attributes()->mutable_request()->mutable_http();
  http->set_id("7");
  http->set_method("GET");
  http->set_path(path);
  http->set_host("example.com");
  http->set_scheme("http");
  http->set_protocol("HTTP/1.1");
  auto& map = *http->mutable_headers();
  map[":method"] = "GET";
  map[":path"] = path;
  map[":authority"] = "example.com";
  map[":scheme"] = "http";
  for (const auto& [name, value] : headers) map[name] = value;
  return request;
}

class CheckTest : public UnaryTest {
 protected:
  std::unique_ptr<UnaryService> MakeService() override {
    return std::make_unique<CheckService>(&environment_->limits());
  }

  // One Check by the chain of today, from its request to its end or to where it waits.
  void Ask(const CheckRequest& request) { AskBytes(request.SerializeAsString()); }

  // The response of an RPC that ended with OK.
  CheckReply Told() {
    const auto response = ToldAs<CheckReply>();
    // To Envoy the code alone decides.
    EXPECT_EQ(response.status().code() == 0, response.has_ok_response());
    EXPECT_NE(response.http_response_case(), CheckReply::HTTP_RESPONSE_NOT_SET);
    return response;
  }
  CheckReply Check(const CheckRequest& request) {
    Ask(request);
    return Told();
  }
  // Of a denial.
  int StatusTold(const CheckRequest& request) {
    const CheckReply response = Check(request);
    EXPECT_TRUE(response.has_denied_response()) << response.DebugString();
    return response.denied_response().status().code();
  }

  // Of a denial with the status 500, by which the policy `fail` answers a fault: its reason.
  std::string FaultTold(const CheckRequest& request) {
    const CheckReply response = Check(request);
    EXPECT_EQ(response.denied_response().status().code(), 500) << response.DebugString();
    EXPECT_EQ(response.denied_response().body(), "") << "the client is told nothing";
    return response.status().message();
  }
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_UNARY_CHECK_FIXTURE_H_
