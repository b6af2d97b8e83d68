// SPDX-License-Identifier: Apache-2.0

#include "host/unary/check_service.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

#include "host/plugin/quarantine_plugin.h"
#include "tests/host/unary/check_fixture.h"

namespace callout::host {
namespace {

using google::protobuf::util::MessageDifferencer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// --- Native hooks ---------------------------------------------------------------

TEST_F(CheckTest, AnOkAllowsWithCodeZero) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  const CheckReply response = Check(Request());
  EXPECT_TRUE(response.has_ok_response());
  EXPECT_TRUE(response.has_status());
  EXPECT_EQ(response.status().code(), 0);
  EXPECT_TRUE(rpc_call_->closed());
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_rpcs_ended_total{outcome=\"allowed\","
                                         "service=\"ext_authz\"} 1"));
}

TEST_F(CheckTest, NothingSetIsADenial) {
  AddPlugin()->phases[CALLOUT_CHECK] = Returns(CALLOUT_OK);
  const CheckReply response = Check(Request());
  EXPECT_EQ(response.denied_response().status().code(), 403);
  EXPECT_EQ(response.status().code(), 7);
}

TEST_F(CheckTest, AnEmptyWholeResponseIsADenialToo) {
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    CheckReply whole;
    whole.mutable_status()->set_code(0);
    return RespondWith(call, CALLOUT_WHOLE_RESPONSE, whole.SerializeAsString());
  };
  EXPECT_EQ(StatusTold(Request()), 403);
}

TEST_F(CheckTest, TheCodeFollowsTheOneof) {
  struct Case {
    CheckReply whole;
    int code;
    int http_status;
  };
  std::vector<Case> cases(3);
  cases[0].whole.mutable_denied_response();  // the samples leave the code at 0
  cases[0].code = 7;
  cases[0].http_status = 403;
  cases[1].whole.mutable_denied_response()->mutable_status()->set_code(
      envoy::type::v3::Unauthorized);
  cases[1].code = 16;
  cases[1].http_status = 401;
  cases[2].whole.mutable_denied_response()->mutable_status()->set_code(
      envoy::type::v3::TooManyRequests);
  cases[2].whole.mutable_status()->set_code(5);
  cases[2].code = 5;
  cases[2].http_status = 429;
  for (const Case& c : cases) {
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
      return RespondWith(call, CALLOUT_WHOLE_RESPONSE, c.whole.SerializeAsString());
    };
    const CheckReply response = Check(Request());
    EXPECT_EQ(response.status().code(), c.code);
    EXPECT_EQ(response.denied_response().status().code(), c.http_status);
    Finish();
  }
}

TEST_F(CheckTest, AnOkThatSaysItIsNoneIsAFaultAndDoesNotPass) {
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    Reset();
    AddPlugin(action)->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
      CheckReply whole;
      whole.mutable_ok_response();
      whole.mutable_status()->set_code(7);
      return RespondWith(call, CALLOUT_WHOLE_RESPONSE, whole.SerializeAsString());
    };
    EXPECT_THAT(FaultTold(Request()), HasSubstr("wrong_type"));
    Finish();
  }
}

TEST_F(CheckTest, AnErrorIsSaidAsOne) {
  AddPlugin()->phases[CALLOUT_CHECK] = Denies(
      [](DeniedHttpResponse* error) {
        error->mutable_status()->set_code(envoy::type::v3::ServiceUnavailable);
      },
      CALLOUT_CHECK_ERROR);
  const CheckReply response = Check(Request());
  EXPECT_EQ(response.error_response().status().code(), 503);
  EXPECT_EQ(response.status().code(), 13);
}

FakePlugin::Hook Errs(envoy::type::v3::StatusCode status) {
  return Denies([status](DeniedHttpResponse* error) { error->mutable_status()->set_code(status); },
                CALLOUT_CHECK_ERROR);
}

// Envoy, told to fail open, lets an error pass.
TEST_F(CheckTest, AfterAnErrorTheOthersAreAskedAndMayDeny) {
  AddPlugin()->phases[CALLOUT_CHECK] = Errs(envoy::type::v3::ServiceUnavailable);
  AddPlugin()->phases[CALLOUT_CHECK] = Denies();
  EXPECT_EQ(StatusTold(Request()), 403);
  Reset();
  AddPlugin()->phases[CALLOUT_CHECK] = Errs(envoy::type::v3::ServiceUnavailable);
  AddPlugin(ErrorPolicy::Action::kFail)->phases[CALLOUT_CHECK] = Returns(CALLOUT_INTERNAL);
  EXPECT_EQ(StatusTold(Request()), 500);
  Reset();
  AddPlugin()->phases[CALLOUT_CHECK] = Errs(envoy::type::v3::ServiceUnavailable);
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  AddPlugin()->phases[CALLOUT_CHECK] = Errs(envoy::type::v3::BadGateway);
  EXPECT_EQ(Check(Request()).error_response().status().code(), 503) << "of several the first";
}

// It would pass without the changes.
TEST_F(CheckTest, AnErrorBesideChangesOfTheRequestIsADenial) {
  const auto removes = Allows([](OkHttpResponse* ok) { ok->add_headers_to_remove("x-user"); });
  const auto errs = Errs(envoy::type::v3::ServiceUnavailable);
  for (const auto& hooks : {std::pair(removes, errs), std::pair(errs, removes)}) {
    AddPlugin()->phases[CALLOUT_CHECK] = hooks.first;
    AddPlugin()->phases[CALLOUT_CHECK] = hooks.second;
    EXPECT_EQ(StatusTold(Request({{"x-user", "root"}})), 503);
    Reset();
  }
}

TEST_F(CheckTest, ADecisionByStatusIsADenialAndNoError) {
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    call->host->set_error(call, ToBytes("who are you"));
    return CALLOUT_UNAUTHENTICATED;
  };
  const CheckReply response = Check(Request());
  EXPECT_EQ(response.denied_response().status().code(), 401);
  EXPECT_EQ(response.status().code(), 16);
  EXPECT_EQ(response.status().message(), "who are you");
}

TEST_F(CheckTest, NobodyToAskIsADenial) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  EXPECT_EQ(StatusTold(Request()), 403) << "no hook, and no bridge";
  Reset();
  EXPECT_EQ(StatusTold(Request()), 403) << "no plugin";
  Reset();
  InstanceSettings settings;
  settings.match.path_prefixes = {"/other"};
  AddPlugin(settings)->phases[CALLOUT_CHECK] = Allows();
  EXPECT_EQ(StatusTold(Request()), 403) << "no match";
}

// As if the plugin were there.
TEST_F(CheckTest, AStandInForAPluginWithoutAHookIsNobody) {
  using Action = ErrorPolicy::Action;
  constexpr uint64_t kStreams =
      CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS) | CALLOUT_PHASE_BIT(CALLOUT_REQUEST_BODY);
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(kStreams);
  InstanceSettings settings;
  settings.match.path_prefixes = {"/admin"};
  AddPlugin(settings)->phases[CALLOUT_CHECK] = Allows();
  EXPECT_EQ(StatusTold(Request()), 403);
  EXPECT_TRUE(Check(Request({}, "/admin")).has_ok_response());
  Reset();
  AddPlugin(Action::kFail)->stand_in = QuarantinePlugin(kStreams);
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  EXPECT_TRUE(Check(Request()).has_ok_response());
}

TEST_F(CheckTest, AStandInForAPluginWithAHookAnswersByThePolicy) {
  using Action = ErrorPolicy::Action;
  constexpr uint64_t kCheck = CALLOUT_PHASE_BIT(CALLOUT_CHECK);
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(kCheck);
  EXPECT_TRUE(Check(Request()).has_ok_response());
  Reset();
  AddPlugin(Action::kFail)->stand_in = QuarantinePlugin(kCheck);
  EXPECT_EQ(StatusTold(Request()), 503);
}

TEST_F(CheckTest, AStandInForAPluginThatNobodyKnowsLetsNothingPassByItself) {
  using Action = ErrorPolicy::Action;
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(std::nullopt);
  EXPECT_EQ(StatusTold(Request()), 403);
  Reset();
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(std::nullopt);
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  EXPECT_TRUE(Check(Request()).has_ok_response());
  Reset();
  AddPlugin(Action::kFail)->stand_in = QuarantinePlugin(std::nullopt);
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  EXPECT_EQ(StatusTold(Request()), 503);
}

TEST_F(CheckTest, InstancesAreMatchedByTheRequestAndItsContextExtensions) {
  InstanceSettings by_path;
  by_path.match.path_prefixes = {"/a"};
  by_path.match.methods = {"GET"};
  by_path.match.hosts = {"example.com"};
  AddPlugin(by_path)->phases[CALLOUT_CHECK] = Allows();
  InstanceSettings by_route;
  by_route.match.attributes = {{"route", "private"}};
  AddPlugin(by_route)->phases[CALLOUT_CHECK] = Denies();
  EXPECT_TRUE(Check(Request({}, "/a/b")).has_ok_response());
  CheckRequest request = Request({}, "/a/b");
  (*request.mutable_attributes()->mutable_context_extensions())["route"] = "private";
  EXPECT_EQ(StatusTold(request), 403);
}

TEST_F(CheckTest, AnInstanceIsAskedForItsShareOfTheUsers) {
  InstanceSettings half;
  half.percent = 50;
  half.by_header = "x-user";
  AddPlugin(half)->phases[CALLOUT_CHECK] = Denies();
  AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  const StreamShare share(50, "x-user", "fake0");
  int denied = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string user = std::to_string(i);
    const bool allowed = Check(Request({{"x-user", user}})).has_ok_response();
    EXPECT_NE(allowed, share.Takes(user, 1)) << user;
    denied += allowed ? 0 : 1;
  }
  EXPECT_GT(denied, 0);
  EXPECT_LT(denied, 20);
}

TEST_F(CheckTest, AHookIsShownTheRequestAsItCame) {
  CheckRequest request = Request({{"x-a", "1"}});
  (*request.mutable_attributes()->mutable_metadata_context()->mutable_filter_metadata())["ns"];
  const std::string bytes = request.SerializeAsString();
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    EXPECT_EQ(call->phase, static_cast<callout_phase_t>(CALLOUT_CHECK));
    EXPECT_EQ(ToView(call->request), bytes);
    envoy::service::auth::v3::AttributeContext context;
    EXPECT_TRUE(context.ParseFromString(std::string(ToView(call->message))));
    EXPECT_TRUE(MessageDifferencer::Equals(context, request.attributes())) << context.DebugString();
    EXPECT_EQ(ToView(call->metadata_context),
              request.attributes().metadata_context().SerializeAsString());
    EXPECT_EQ(call->flags, static_cast<uint32_t>(CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST));
    callout_bytes_t tenant;
    EXPECT_EQ(call->host->get_metadata(call, ToBytes("x-tenant"), 0, &tenant), CALLOUT_OK);
    EXPECT_NE(call->deadline_ns, 0u);
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  Begin();
  AskBytes(bytes);
  EXPECT_TRUE(Told().has_ok_response());
}

TEST_F(CheckTest, AFieldOfAnotherServiceIsNoAnswer) {
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    EXPECT_EQ(RespondWith(call, CALLOUT_IMMEDIATE_RESPONSE, ""), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(RespondWith(call, CALLOUT_REQUEST_HEADERS_RESPONSE, ""), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(call->host->annotate(call, CALLOUT_MODE_OVERRIDE, {}), CALLOUT_INVALID_ARGUMENT);
    EXPECT_EQ(call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, {}), CALLOUT_OK);
    return CALLOUT_OK;
  };
  EXPECT_EQ(StatusTold(Request()), 403);
}

TEST_F(CheckTest, OnProcessSeesTheChecksOfAPluginThatHasItsHook) {
  AddPlugin()->process = Returns(CALLOUT_INTERNAL);
  FakePlugin* plugin = AddPlugin();
  int seen = 0;
  plugin->process = [&](callout_call_t* call) {
    seen += call->phase == CALLOUT_CHECK ? 1 : 0;
    return CALLOUT_NEXT;
  };
  plugin->phases[CALLOUT_CHECK] = Allows();
  EXPECT_TRUE(Check(Request()).has_ok_response());
  EXPECT_EQ(seen, 1);
}

// --- What Envoy would pass on unchecked -------------------------------------------

// A fault that a client can cause is refused by a response: an error would let the request
// pass where Envoy fails open.
TEST_F(CheckTest, WhatWouldBreakAMessageIsRefused) {
  using Fill = std::function<void(OkHttpResponse*)>;
  const auto header = [](const std::string& name, const std::string& value,
                         int action = CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD) -> Fill {
    return [=](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), name, value, action); };
  };
  const auto response_header = [](const std::string& name, const std::string& value) -> Fill {
    return
        [=](OkHttpResponse* ok) { AddOption(ok->mutable_response_headers_to_add(), name, value); };
  };
  const std::vector<std::pair<std::string, Fill>> cases = {
      {"CR LF", header("x-a", "a\r\nset-cookie: evil=1")},
      {"LF", header("x-a", "a\nb")},
      {"NUL", header("x-a", std::string("a\0b", 3))},
      {"CR LF to the client", response_header("x-a", "a\r\nset-cookie: evil=1")},
      {"NUL to the client", response_header("x-a", std::string("\0", 1))},
      {"a name with CR LF", header("x-a\r\nx-b", "1")},
      {"no name", header("", "1")},
      {"not UTF-8", header("x-a", "\xe9")},
      {"not UTF-8 to the client", response_header("x-a", "\xe9")},
      {"a host to the client that is not UTF-8", response_header("Host", "\xe9")},
      {"content-length", header("Content-Length", "5")},
      {"appended content-length", header("content-length", "5", CALLOUT_APPEND_IF_EXISTS_OR_ADD)},
      {"content-length of the response", response_header("content-length", "5")},
      {"transfer-encoding", header("transfer-encoding", "chunked")},
      {"status of a request", header(":status", "200")},
      {"status of a response", response_header(":status", "100")},
      {"a path that ends the request line", header(":path", "/ HTTP/1.1")},
      {"an empty path", header(":path", "")},
      {"two paths", header(":path", "/b", CALLOUT_APPEND_IF_EXISTS_OR_ADD)},
      {"two hosts", header("host", "b", CALLOUT_APPEND_IF_EXISTS_OR_ADD)},
      {"a method whose response has no body", header(":method", "HEAD")},
      {"a method whose response has no end", header(":method", "CONNECT")},
      {"another protocol", header("Upgrade", "websocket")},
      {"removing a name with LF", [](OkHttpResponse* ok) { ok->add_headers_to_remove("x\n"); }},
      {"a parameter without a name",
       [](OkHttpResponse* ok) { ok->add_query_parameters_to_set()->set_value("1"); }},
      {"101 headers",
       [](OkHttpResponse* ok) {
         for (int i = 0; i < 101; ++i) AddOption(ok->mutable_response_headers_to_add(), "x", "1");
       }},
  };
  for (const auto& [name, fill] : cases) {
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = Allows(fill);
    EXPECT_EQ(StatusTold(Request()), 500) << name;
    Finish();
  }
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_faults_total{kind=\"illegal_header\","
                                         "plugin=\"fake0\"} 26"));
}

TEST_F(CheckTest, TheMethodMayBeAnotherOneWithABody) {
  const auto set_method = [](const std::string& method) {
    return Allows([=](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), ":method", method); });
  };
  AddPlugin()->phases[CALLOUT_CHECK] = set_method("POST");
  EXPECT_TRUE(Check(Request()).has_ok_response());
  Finish();
  Reset();
  AddPlugin()->phases[CALLOUT_CHECK] = set_method("GET");
  AddPlugin()->phases[CALLOUT_CHECK] = set_method("HEAD");
  EXPECT_TRUE(Check(Request({{":method", "HEAD"}})).has_ok_response()) << "the client's own";
}

// Envoy formats metadata into headers as it is (%DYNAMIC_METADATA%), also into those of a denial.
TEST_F(CheckTest, MetadataThatWouldBreakAHeaderIsRefused) {
  const auto metadata = [](const std::string& text) {
    google::protobuf::Struct outer;
    auto* list = (*outer.mutable_fields())["a"].mutable_list_value();
    (*list->add_values()->mutable_struct_value()->mutable_fields())["b"].set_string_value(text);
    return outer;
  };
  const auto beside = [&](const std::string& text, callout_field_t field) -> FakePlugin::Hook {
    return [bytes = metadata(text).SerializeAsString(), field](callout_call_t* call) {
      call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes(bytes));
      return field == 0 ? callout_status_t{CALLOUT_OK} : RespondWith(call, field, "");
    };
  };
  for (const std::string& text :
       {std::string("a\r\nset-cookie: evil=1"), std::string("a\nb"), std::string("a\0b", 3)}) {
    const std::vector<FakePlugin::Hook> hooks = {
        Allows([&](OkHttpResponse* ok) { *ok->mutable_dynamic_metadata() = metadata(text); }),
        beside(text, CALLOUT_CHECK_OK), beside(text, CALLOUT_CHECK_DENIED), beside(text, 0)};
    for (const FakePlugin::Hook& hook : hooks) {
      Reset();
      AddPlugin()->phases[CALLOUT_CHECK] = hook;
      EXPECT_THAT(FaultTold(Request()), HasSubstr("illegal_header"));
      Finish();
    }
    Reset();
    AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_CHECK] =
        beside(text, CALLOUT_CHECK_DENIED);
    EXPECT_EQ(StatusTold(Request()), 500) << "a refusal passes under no policy";
    Finish();
  }
  Reset();
  limits_.metadata_controls = true;
  AddPlugin()->phases[CALLOUT_CHECK] = beside("a\nb", CALLOUT_CHECK_OK);
  EXPECT_EQ(Check(Request()).dynamic_metadata().SerializeAsString(),
            metadata("a\nb").SerializeAsString());
}

TEST_F(CheckTest, WhatWouldBreakADenialIsRefused) {
  using Fill = std::function<void(DeniedHttpResponse*)>;
  const auto status = [](int code) -> Fill {
    return [=](DeniedHttpResponse* denied) {
      denied->mutable_status()->set_code(static_cast<envoy::type::v3::StatusCode>(code));
    };
  };
  const auto header = [](const std::string& name, const std::string& value) -> Fill {
    return [=](DeniedHttpResponse* denied) { AddOption(denied->mutable_headers(), name, value); };
  };
  const std::vector<std::pair<std::string, Fill>> cases = {
      {"99", status(99)},
      {"100, which hangs the client", status(100)},
      {"600", status(600)},
      {"999", status(999)},
      {"negative", status(-1)},
      {"CR LF", header("x-bad", "a\r\nset-cookie: evil=1")},
      {"content-length", header("content-length", "1")},
      {"status as a header", header(":status", "200")},
      {"a host that is not UTF-8", header("host", "\xe9")},
  };
  for (const auto& [name, fill] : cases) {
    for (const callout_field_t field : {CALLOUT_CHECK_DENIED, CALLOUT_CHECK_ERROR}) {
      Reset();
      AddPlugin()->phases[CALLOUT_CHECK] = Denies(fill, field);
      EXPECT_EQ(StatusTold(Request()), 500) << name;
      Finish();
    }
  }
  for (const int allowed : {200, 204, 302, 429, 599}) {
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = Denies(status(allowed));
    EXPECT_EQ(StatusTold(Request()), allowed);
    Finish();
  }
}

TEST_F(CheckTest, ABodyThatTheMessageCannotCarryIsRefused) {
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    return RespondWith(call, CALLOUT_CHECK_DENIED, "\x1a\x01\xff");
  };
  EXPECT_THAT(FaultTold(Request()), HasSubstr("malformed: a body that is not UTF-8"));
}

// Whatever else a hook does: what it has refused, or may have refused, passes under no policy.
TEST_F(CheckTest, ARefusalThatIsSpoiltDoesNotPass) {
  message_bytes_max_ = 1000;
  const std::string long_text(2000, 'x');
  const auto denies = [](callout_call_t* call) {
    EXPECT_EQ(RespondWith(call, CALLOUT_CHECK_DENIED, ""), CALLOUT_OK);
  };
  const std::vector<std::pair<std::string, FakePlugin::Hook>> hooks = {
      {"an error after it",
       [&](callout_call_t* call) {
         denies(call);
         return CALLOUT_INTERNAL;
       }},
      {"a status that no hook has",
       [&](callout_call_t* call) {
         denies(call);
         return callout_status_t{17};
       }},
      {"a permission sent before it",
       [&](callout_call_t* call) {
         EXPECT_EQ(call->host->send(call, CALLOUT_CHECK_OK, nullptr, 0), CALLOUT_OK);
         denies(call);
         return CALLOUT_OK;
       }},
      {"metadata that is none beside it",
       [&](callout_call_t* call) {
         denies(call);
         return call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes("\x0a\x05x"));
       }},
      {"metadata over the limit beside it",
       [&](callout_call_t* call) {
         denies(call);
         call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes(long_text));
         return CALLOUT_OK;
       }},
      {"a body over the limit",
       [&](callout_call_t* call) {
         DeniedHttpResponse denied;
         denied.set_body(long_text);
         RespondWith(call, CALLOUT_CHECK_DENIED, denied.SerializeAsString());
         return CALLOUT_OK;
       }},
      {"a body over the limit, and its status",
       Denies([&](DeniedHttpResponse* denied) { denied->set_body(long_text); })},
      {"bytes that are no CheckResponse",
       [](callout_call_t* call) {
         RespondWith(call, CALLOUT_WHOLE_RESPONSE, std::string("\x12\x7f", 2));
         return CALLOUT_OK;
       }},
      {"a denial that is sent",
       [](callout_call_t* call) {
         call->host->send(call, CALLOUT_CHECK_DENIED, nullptr, 0);
         return CALLOUT_OK;
       }},
      {"a denial that is sent, and then an allowance",
       [](callout_call_t* call) {
         call->host->send(call, CALLOUT_CHECK_DENIED, nullptr, 0);
         RespondWith(call, CALLOUT_CHECK_OK, "");
         return CALLOUT_OK;
       }},
      {"a denial that is sent and over the limit, and then an allowance",
       [&](callout_call_t* call) {
         const callout_bytes_t part = ToBytes(long_text);
         EXPECT_EQ(call->host->send(call, CALLOUT_CHECK_DENIED, &part, 1),
                   CALLOUT_RESOURCE_EXHAUSTED);
         RespondWith(call, CALLOUT_CHECK_OK, "");
         return CALLOUT_OK;
       }},
      {"a status that is cut off beside an allowance",
       [](callout_call_t* call) {
         RespondWith(call, CALLOUT_CHECK_OK, "");
         call->host->annotate(call, CALLOUT_WHOLE_RESPONSE, ToBytes("\x0a\x01\x08"));
         return CALLOUT_OK;
       }},
      {"a status that refuses beside an allowance",
       [](callout_call_t* call) {
         RespondWith(call, CALLOUT_CHECK_OK, "");
         call->host->annotate(call, CALLOUT_WHOLE_RESPONSE, ToBytes("\x0a\x02\x08\x07"));
         return CALLOUT_OK;
       }},
      {"a status that refuses beside an allowance, and one that does not",
       [](callout_call_t* call) {
         RespondWith(call, CALLOUT_CHECK_OK, "");
         call->host->annotate(call, CALLOUT_WHOLE_RESPONSE, ToBytes("\x0a\x02\x08\x07"));
         EXPECT_EQ(call->host->annotate(call, CALLOUT_WHOLE_RESPONSE,
                                        callout_make_bytes("\x0a\x02\x08\x00", 4)),
                   CALLOUT_FAILED_PRECONDITION);
         return CALLOUT_OK;
       }},
  };
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    for (const auto& [name, hook] : hooks) {
      Reset();
      AddPlugin(action)->phases[CALLOUT_CHECK] = hook;
      EXPECT_EQ(StatusTold(Request()), 500) << name;
      Finish();
    }
  }
}

// A missing `return`: the first refusal is the one that goes out, and an allowance is none yet.
TEST_F(CheckTest, ARefusalStands) {
  const auto denies = [](callout_call_t* call) {
    EXPECT_EQ(callout_deny_request(call, 401, callout_text("who are you?")), CALLOUT_OK);
  };
  const std::vector<std::pair<std::string, FakePlugin::Hook>> hooks = {
      {"an allowance after it",
       [&](callout_call_t* call) {
         denies(call);
         EXPECT_EQ(callout_allow_request(call, nullptr, 0), CALLOUT_FAILED_PRECONDITION);
         return CALLOUT_OK;
       }},
      {"a permission sent after it",
       [&](callout_call_t* call) {
         denies(call);
         EXPECT_EQ(call->host->send(call, CALLOUT_CHECK_OK, nullptr, 0),
                   CALLOUT_FAILED_PRECONDITION);
         return CALLOUT_OK;
       }},
      {"another denial after it",
       [&](callout_call_t* call) {
         denies(call);
         EXPECT_EQ(callout_deny_request(call, 200, callout_text("welcome")),
                   CALLOUT_FAILED_PRECONDITION);
         return CALLOUT_OK;
       }},
      {"a decision by status after it",
       [&](callout_call_t* call) {
         denies(call);
         return CALLOUT_PERMISSION_DENIED;
       }},
      {"an allowance before it",
       [&](callout_call_t* call) {
         EXPECT_EQ(callout_allow_request(call, nullptr, 0), CALLOUT_OK);
         denies(call);
         return CALLOUT_OK;
       }},
  };
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    for (const auto& [name, hook] : hooks) {
      Reset();
      AddPlugin(action)->phases[CALLOUT_CHECK] = hook;
      EXPECT_EQ(StatusTold(Request()), 401) << name;
      Finish();
    }
    // What the C layer cannot make is a fault, and no pass.
    Reset();
    AddPlugin(action)->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
      return callout_deny_request(call, 99, callout_text("no"));
    };
    EXPECT_EQ(StatusTold(Request()), 500);
    Finish();
    Reset();
    AddPlugin(action)->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
      callout_deny_request(call, 99, callout_text("no"));
      return callout_allow_request(call, nullptr, 0);
    };
    EXPECT_EQ(StatusTold(Request()), 500);
    Finish();
  }
}

TEST_F(CheckTest, ARefusalStandsWhereItComesTooEarly) {
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->open = [](callout_call_t* call) {
    EXPECT_EQ(RespondWith(call, CALLOUT_CHECK_DENIED, ""), CALLOUT_FAILED_PRECONDITION);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_CHECK] = Allows();
  EXPECT_EQ(StatusTold(Request()), 500);
}

TEST_F(CheckTest, ARefusalStandsWhereTheCallIsNotFinished) {
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    for (const size_t deferred_max : {size_t{0}, size_t{10}}) {
      Reset();
      limits_.deferred_max = deferred_max;
      callout_call_t* forgotten = nullptr;
      AddPlugin(action)->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
        forgotten = call;
        EXPECT_EQ(callout_deny_request(call, 401, callout_text("who are you?")), CALLOUT_OK);
        return CALLOUT_DEFERRED;
      };
      Ask(Request());
      if (deferred_max != 0) rpc_call_->OnDeadline(rpc_call_->deadline_ns());
      EXPECT_EQ(Told().denied_response().status().code(), deferred_max == 0 ? 503 : 500);
      forgotten->host->finish(forgotten, CALLOUT_OK);
      rpc_.Deliver(rpc_call_.get());
      Finish();
    }
  }
}

// Two answers in one message: as protobuf has it, the last one counts, for Envoy, too.
TEST_F(CheckTest, OfTwoAnswersInOneMessageTheLastCounts) {
  const std::string allowed = std::string("\x1a\x00", 2);
  const std::string denied = std::string("\x12\x00", 2);
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    return RespondWith(call, CALLOUT_WHOLE_RESPONSE, allowed + denied);
  };
  EXPECT_EQ(StatusTold(Request()), 403);
  Finish();
  Reset();
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    CheckReply reply;
    reply.mutable_status()->set_code(7);
    return RespondWith(call, CALLOUT_WHOLE_RESPONSE, denied + allowed + reply.SerializeAsString());
  };
  EXPECT_THAT(FaultTold(Request()), HasSubstr("wrong_type")) << "it says both";
}

// Metadata that Envoy's protobuf refuses would make the refusal an error, which passes where
// Envoy fails open.
TEST_F(CheckTest, HoweverDeepMetadataIsTheRefusalArrives) {
  for (int depth = 1; depth < 120; ++depth) {
    google::protobuf::Value value;
    value.set_bool_value(true);
    for (int i = 0; i < depth; ++i) {
      google::protobuf::Value list;
      *list.mutable_list_value()->add_values() = std::move(value);
      value = std::move(list);
    }
    google::protobuf::Struct metadata;
    (*metadata.mutable_fields())["deep"] = std::move(value);
    const std::string bytes = metadata.SerializeAsString();
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
      EXPECT_EQ(call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes(bytes)),
                CALLOUT_OK);
      return RespondWith(call, CALLOUT_CHECK_DENIED, "");
    };
    const CheckReply told = Check(Request());
    EXPECT_TRUE(told.has_denied_response()) << depth;
    Finish();
    if (HasFailure()) return;
  }
}

TEST_F(CheckTest, AStatusWithoutABodyHasNone) {
  for (const int status : {204, 304}) {
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = Denies([&](DeniedHttpResponse* denied) {
      denied->mutable_status()->set_code(static_cast<envoy::type::v3::StatusCode>(status));
      denied->set_body("x");
    });
    EXPECT_EQ(Check(Request()).denied_response().body(), "");
    Finish();
  }
}

TEST_F(CheckTest, MoreHeadersThanEnvoyTakesAreRefusedAsTheClientsDoing) {
  limits_.header_count_max = 6;
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    Reset();
    AddPlugin(action)->phases[CALLOUT_CHECK] =
        Allows([](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), "x-a", "1"); });
    EXPECT_TRUE(Check(Request({{"x-b", "1"}})).has_ok_response());
    EXPECT_EQ(StatusTold(Request({{"x-b", "1"}, {"x-c", "1"}})), 431);
    Finish();
  }
}

// A client that is over the limit itself proves that Envoy's is higher. So only the limits between
// its request and the one that comes of it refuse: as many as bytes are added.
TEST_F(CheckTest, EachByteOverTheLimitIsRefused) {
  int refused = 0;
  for (size_t limit = 1; limit < 300; ++limit) {
    Reset();
    limits_.header_bytes_max = limit;
    AddPlugin()->phases[CALLOUT_CHECK] =
        Allows([](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), "x-a", "1"); });
    refused += Check(Request({{"x-b", "1"}})).denied_response().status().code() == 431 ? 1 : 0;
    Finish();
  }
  EXPECT_EQ(refused, 4);
}

TEST_F(CheckTest, WhatIsKeptBesideTheRequestIsCounted) {
  constexpr size_t kLarge = 100000;
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), "x-a", "1"); });
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Ask(Request({{"x-b", std::string(kLarge, 'b')}}));
  EXPECT_GE(rpc_call_->kept_bytes(), kLarge) << "the request as the first has left it";
  EXPECT_LE(rpc_call_->kept_bytes(), 2 * kLarge);
  held->host->finish(held, CALLOUT_OK);
  rpc_.Deliver(rpc_call_.get());
}

TEST_F(CheckTest, ViewsOfSmallHeadersAreCountedToo) {
  constexpr size_t kHeaders = 3000;
  std::vector<std::pair<std::string, std::string>> headers;
  for (size_t i = 0; i < kHeaders; ++i) headers.emplace_back(fmt::format("{:x}", i), "");
  for (const bool matches : {false, true}) {
    Reset();
    callout_call_t* held = nullptr;
    InstanceSettings settings;
    if (matches) settings.match.path_prefixes = {"/"};
    AddPlugin(settings)->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
      held = call;
      return CALLOUT_DEFERRED;
    };
    Ask(Request(headers));
    ASSERT_NE(held, nullptr);
    size_t bytes = 2 * kHeaders * sizeof(CheckHeader);  // as they came, and as they are now
    if (matches) bytes += kHeaders * sizeof(std::pair<std::string, std::string>);
    EXPECT_GE(rpc_call_->kept_bytes(), bytes);
    held->host->finish(held, CALLOUT_OK);
    rpc_.Deliver(rpc_call_.get());
    Finish();
  }
}

TEST_F(CheckTest, AChainIsCountedWithItsParts) {
  for (int i = 0; i < 10; ++i) AddPlugin()->phases[CALLOUT_CHECK] = Allows();
  Check(Request());
  EXPECT_GE(rpc_call_->kept_bytes(), sizeof(UnaryRpc) + 10 * sizeof(CallState));
}

TEST_F(CheckTest, TheQueryOfAPathOverTheLimitIsNotChanged) {
  constexpr size_t kLimit = 1000;
  for (const bool sets : {true, false}) {
    Reset();
    limits_.header_bytes_max = kLimit;
    AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_CHECK] =
        Allows([sets](OkHttpResponse* ok) {
          if (sets) ok->add_query_parameters_to_set()->set_key("k");
          if (!sets) ok->add_query_parameters_to_remove("k");
        });
    std::string path = "/?k=1";
    while (path.size() < kLimit) path += "&a";
    path.resize(kLimit);
    EXPECT_TRUE(Check(Request({}, path)).has_ok_response()) << "at the limit";
    EXPECT_EQ(StatusTold(Request({}, path + "a")), 431);
    Finish();
  }
}

// --- The form that Envoy reads ------------------------------------------------------

TEST_F(CheckTest, HeadersAreSettledAgainstTheRequests) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
    auto* headers = ok->mutable_headers();
    for (const char* name : {"here", "gone"}) {
      const std::string suffix = std::string("-") + name;
      AddOption(headers, "append" + suffix, "n", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
      AddOption(headers, "absent" + suffix, "n", CALLOUT_ADD_IF_ABSENT);
      AddOption(headers, "set" + suffix, "n");
      AddOption(headers, "exists" + suffix, "n", CALLOUT_OVERWRITE_IF_EXISTS);
    }
    ok->add_headers_to_remove("remove-here");
    ok->add_headers_to_remove("remove-gone");
    ok->add_headers_to_remove(":path");
    ok->add_headers_to_remove("host");
  });
  const CheckReply response = Check(Request({{"append-here", "o"},
                                             {"absent-here", "o"},
                                             {"set-here", "o"},
                                             {"exists-here", "o"},
                                             {"remove-here", "o"}}));
  EXPECT_THAT(OptionsTold(response.ok_response().headers()),
              UnorderedElementsAre("append append-here=n", "set append-gone=n", "set absent-gone=n",
                                   "set set-here=n", "set set-gone=n", "set exists-here=n"));
  EXPECT_THAT(response.ok_response().headers_to_remove(),
              ElementsAre("remove-here", "remove-gone"));
}

TEST_F(CheckTest, AHeaderThatSaysNothingIsSetInARequestAndAddedInAResponse) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
    for (auto* list : {ok->mutable_headers(), ok->mutable_response_headers_to_add()}) {
      auto* header = list->Add()->mutable_header();
      header->set_key("X-Plain");
      header->set_value("v");
    }
  });
  const CheckReply response = Check(Request({{"x-plain", "old"}}));
  EXPECT_THAT(OptionsTold(response.ok_response().headers()), ElementsAre("set x-plain=v"));
  EXPECT_THAT(OptionsTold(response.ok_response().response_headers_to_add()),
              ElementsAre("append x-plain=v"));
}

TEST_F(CheckTest, ADenialsHeadersAreKeptBesideEachOther) {
  AddPlugin()->phases[CALLOUT_CHECK] = Denies([](DeniedHttpResponse* denied) {
    auto* headers = denied->mutable_headers();
    AddOption(headers, "set-cookie", "a=1", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
    AddOption(headers, "Set-Cookie", "b=2", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
    AddOption(headers, "x-a", "1");
    AddOption(headers, "x-a", "2");
    AddOption(headers, "x-empty", "");
    denied->set_body("no");
  });
  const CheckReply response = Check(Request());
  EXPECT_THAT(OptionsTold(response.denied_response().headers()),
              ElementsAre("set set-cookie=a=1", "set set-cookie=b=2", "set x-a=2", "set x-empty="));
  EXPECT_EQ(response.denied_response().body(), "no");
}

TEST_F(CheckTest, QueryParametersAreEncoded) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
    auto* parameter = ok->add_query_parameters_to_set();
    parameter->set_key("a b");
    parameter->set_value("x y&c=\r\n\xc3\xa9~");
    ok->add_query_parameters_to_remove("q?");
  });
  const CheckReply response = Check(Request());
  ASSERT_EQ(response.ok_response().query_parameters_to_set_size(), 1);
  EXPECT_EQ(response.ok_response().query_parameters_to_set(0).key(), "a%20b");
  EXPECT_EQ(response.ok_response().query_parameters_to_set(0).value(), "x%20y%26c%3D%0D%0A%C3%A9~");
  EXPECT_THAT(response.ok_response().query_parameters_to_remove(), ElementsAre("q%3F"));
}

// Envoy compares keys byte by byte, and the backend decodes them.
TEST_F(CheckTest, AClientKeepsNoParameterByWritingItsKeyInAnotherWay) {
  for (const bool sends_path_header : {true, false}) {
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
      auto* parameter = ok->add_query_parameters_to_set();
      parameter->set_key("user[id]");
      parameter->set_value("guest");
      ok->add_query_parameters_to_remove("role");
      ok->add_query_parameters_to_remove("a b");
    });
    CheckRequest request =
        Request({},
                "/?user[id]=1&user%5bid%5D=2&user%5Bid%5D=3&rol%65=4&r%6Fle&role=5&a+b=6&a%20b=7"
                "&roles=8&x=role&%2572ole=9&rol%65=10&role%=11");
    auto* http = request.mutable_attributes()->mutable_request()->mutable_http();
    if (!sends_path_header) http->mutable_headers()->erase(":path");
    const CheckReply response = Check(request);
    ASSERT_EQ(response.ok_response().query_parameters_to_set_size(), 1);
    EXPECT_EQ(response.ok_response().query_parameters_to_set(0).key(), "user%5Bid%5D");
    EXPECT_THAT(response.ok_response().query_parameters_to_remove(),
                UnorderedElementsAre("role", "a%20b", "user[id]", "user%5bid%5D", "rol%65",
                                     "r%6Fle", "a+b"));
    Finish();
  }
}

TEST_F(CheckTest, ALaterInstanceSeesNoOtherSpellingEither) {
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { ok->add_query_parameters_to_remove("role"); });
  std::string path;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    CheckRequest request;
    EXPECT_TRUE(request.ParseFromString(std::string(ToView(call->request))));
    path = request.attributes().request().http().path();
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  EXPECT_TRUE(Check(Request({}, "/?rol%65=1&b=2&%72ole=3&role=4")).has_ok_response());
  EXPECT_EQ(path, "/?b=2");
}

TEST_F(CheckTest, AnotherPathForgetsOtherSpellingsToo) {
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { ok->add_query_parameters_to_remove("a"); });
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), ":path", "/n?%61=1"); });
  const CheckReply response = Check(Request({}, "/o?%61=1"));
  EXPECT_EQ(response.ok_response().query_parameters_to_remove_size(), 0);
}

TEST_F(CheckTest, MetadataOfAllGoesOutInOnePlace) {
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    google::protobuf::Struct beside;
    (*beside.mutable_fields())["beside"].set_bool_value(true);
    const std::string bytes = beside.SerializeAsString();
    call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes(bytes));
    OkHttpResponse ok;
    (*ok.mutable_dynamic_metadata()->mutable_fields())["inside"].set_bool_value(true);
    return RespondWith(call, CALLOUT_CHECK_OK, ok.SerializeAsString());
  };
  AddPlugin()->phases[CALLOUT_CHECK] = [](callout_call_t* call) {
    google::protobuf::Struct beside;
    (*beside.mutable_fields())["denied"].set_bool_value(true);
    const std::string bytes = beside.SerializeAsString();
    call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes(bytes));
    return CALLOUT_OK;
  };
  const CheckReply response = Check(Request());
  EXPECT_TRUE(response.has_denied_response());
  EXPECT_EQ(response.dynamic_metadata().fields_size(), 3) << response.DebugString();
}

// --- Chains -------------------------------------------------------------------------

TEST_F(CheckTest, AnInstanceSeesTheRequestAsThoseBeforeLeftIt) {
  for (const bool raw : {false, true}) {
    Reset();
    AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
      AddOption(ok->mutable_headers(), ":path", "/new?b=2&a=1");
      AddOption(ok->mutable_headers(), "x-list", "b", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
      AddOption(ok->mutable_headers(), "cookie", "b=2", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
      ok->add_headers_to_remove("x-secret");
      auto* parameter = ok->add_query_parameters_to_set();
      parameter->set_key("a");
      parameter->set_value("x y");
    });
    std::map<std::string, std::string> seen;
    std::string path;
    AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
      CheckRequest request;
      EXPECT_TRUE(request.ParseFromString(std::string(ToView(call->request))));
      EXPECT_EQ(request.attributes().SerializeAsString().size(), call->message.size);
      const auto& http = request.attributes().request().http();
      EXPECT_EQ(http.id(), "7") << "the rest is as it was";
      path = http.path();
      for (const auto& [name, value] : http.headers()) seen[name] = value;
      for (const auto& header : http.header_map().headers()) {
        seen[header.key()] = header.raw_value();
      }
      return RespondWith(call, CALLOUT_CHECK_OK, "");
    };
    CheckRequest request = Request({{"x-list", "a"}, {"cookie", "a=1"}, {"x-secret", "s"}}, "/old");
    auto* http = request.mutable_attributes()->mutable_request()->mutable_http();
    if (raw) {
      for (const auto& [name, value] : http->headers()) {
        auto* header = http->mutable_header_map()->add_headers();
        header->set_key(name);
        header->set_raw_value(value);
      }
      http->clear_headers();
    }
    EXPECT_TRUE(Check(request).has_ok_response());
    EXPECT_EQ(path, "/new?a=x%20y&b=2") << "Envoy sorts the query";
    EXPECT_EQ(seen[":path"], path);
    EXPECT_EQ(seen["x-list"], "a,b");
    EXPECT_EQ(seen["cookie"], "a=1; b=2");
    EXPECT_EQ(seen.count("x-secret"), 0u);
    EXPECT_EQ(seen[":method"], "GET");
    Finish();
  }
}

TEST_F(CheckTest, TheFirstThatDoesNotAllowIsTheLastAsked) {
  AddPlugin()->phases[CALLOUT_CHECK] = Denies();
  int asked = 0;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    ++asked;
    return RespondWith(call, CALLOUT_CHECK_OK, "");
  };
  EXPECT_EQ(StatusTold(Request()), 403);
  EXPECT_EQ(asked, 0);
}

TEST_F(CheckTest, ALaterDenialDropsChangesOfTheRequestAndKeepsThoseOfTheResponse) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
    AddOption(ok->mutable_headers(), "x-request", "1");
    AddOption(ok->mutable_response_headers_to_add(), "x-first", "1");
    AddOption(ok->mutable_response_headers_to_add(), "x-both", "first");
  });
  AddPlugin()->phases[CALLOUT_CHECK] = Denies(
      [](DeniedHttpResponse* denied) { AddOption(denied->mutable_headers(), "x-both", "second"); });
  const CheckReply response = Check(Request());
  EXPECT_THAT(OptionsTold(response.denied_response().headers()),
              UnorderedElementsAre("set x-both=first", "set x-first=1"));
}

TEST_F(CheckTest, AnotherPathForgetsWhatWasDoneToTheQueryOfTheOne) {
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { ok->add_query_parameters_to_remove("a"); });
  AddPlugin()->phases[CALLOUT_CHECK] =
      Allows([](OkHttpResponse* ok) { AddOption(ok->mutable_headers(), ":path", "/n?a=1"); });
  const CheckReply response = Check(Request({}, "/o?a=1"));
  EXPECT_EQ(response.ok_response().query_parameters_to_remove_size(), 0);
}

TEST_F(CheckTest, ResponseHeadersThatOneResponseCannotSayAreAFault) {
  AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
    AddOption(ok->mutable_response_headers_to_add(), "x", "absent", CALLOUT_ADD_IF_ABSENT);
  });
  AddPlugin()->phases[CALLOUT_CHECK] = Allows([](OkHttpResponse* ok) {
    AddOption(ok->mutable_response_headers_to_add(), "x", "exists", CALLOUT_OVERWRITE_IF_EXISTS);
  });
  EXPECT_THAT(FaultTold(Request()), HasSubstr("not_carried"));
}

// --- The bridge ---------------------------------------------------------------------

class BridgeTest : public CheckTest {
 protected:
  BridgeTest() { limits_.services.Add(RpcService::kExtAuthz); }
};

TEST_F(BridgeTest, NothingSetAllows) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  EXPECT_TRUE(Check(Request()).has_ok_response());
}

TEST_F(BridgeTest, AHeadersHookSeesWhatExtProcWouldShow) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_THAT(HeadersShown(call),
                ::testing::IsSupersetOf(Pairs{{":path", "/"}, {":method", "GET"}, {"x-a", "1"}}));
    ProcessingRequest request;
    EXPECT_TRUE(request.ParseFromString(std::string(ToView(call->request))));
    EXPECT_TRUE(request.request_headers().end_of_stream());
    EXPECT_NE(call->flags & CALLOUT_CALL_LAST, 0u);
    const auto& attributes = request.attributes().at("envoy.filters.http.ext_authz").fields();
    EXPECT_EQ(attributes.at("source.address").string_value(), "10.0.0.7:41312");
    EXPECT_EQ(attributes.at("source.principal").string_value(), "spiffe://a");
    EXPECT_EQ(attributes.at("destination.address").string_value(), "[::1]:80");
    EXPECT_EQ(attributes.at("connection.requested_server_name").string_value(), "sni");
    EXPECT_EQ(attributes.at("route").string_value(), "private");
    EXPECT_EQ(attributes.at("request.id").string_value(), "7");
    EXPECT_NE(call->attributes.size, 0u);
    return CALLOUT_OK;
  };
  CheckRequest request = Request({{"x-a", "1"}});
  auto* context = request.mutable_attributes();
  auto* source = context->mutable_source();
  source->set_principal("spiffe://a");
  source->mutable_address()->mutable_socket_address()->set_address("10.0.0.7");
  source->mutable_address()->mutable_socket_address()->set_port_value(41312);
  auto* destination = context->mutable_destination()->mutable_address()->mutable_socket_address();
  destination->set_address("::1");
  destination->set_port_value(80);
  context->mutable_tls_session()->set_sni("sni");
  (*context->mutable_context_extensions())["route"] = "private";
  EXPECT_TRUE(Check(request).has_ok_response());
}

// A Check does not say whether a body follows, and no client is to be believed that it has none.
TEST_F(BridgeTest, AStandInForABridgedPluginAnswersByThePolicy) {
  using Action = ErrorPolicy::Action;
  constexpr uint64_t kHeaders = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);
  AddPlugin(Action::kContinue)->stand_in = QuarantinePlugin(kHeaders);
  EXPECT_TRUE(Check(Request()).has_ok_response());
  Reset();
  AddPlugin(Action::kFail)->stand_in = QuarantinePlugin(kHeaders);
  Ask(Request());
  const CheckReply response = Told();
  EXPECT_EQ(response.denied_response().status().code(), 503);
  EXPECT_THAT(response.status().message(), HasSubstr("UNAVAILABLE from request_headers"));
}

TEST_F(BridgeTest, TheEndIsToldOnlyWhereNoBodyCanFollow) {
  struct Case {
    std::string protocol;
    Pairs headers;
    bool ends;
    int64_t size = 0;
    std::string body = "";
    std::vector<std::string> left_out = {};  // by allowed_headers or disallowed_headers
  };
  const std::vector<std::string> kPseudo = {":method", ":path", ":authority", ":scheme"};
  const std::vector<Case> cases = {
      {"HTTP/1.1", {}, true},
      {"HTTP/1.0", {}, true},
      {"HTTP/1.1", {{"content-length", "0"}}, true},
      {"HTTP/1.1", {{"content-length", "3"}}, false},
      {"HTTP/1.1", {{"transfer-encoding", "chunked"}}, false},
      {"HTTP/1.1", {{"upgrade", "websocket"}}, false},
      {"HTTP/1.1", {{":method", "CONNECT"}}, false},
      {"HTTP/1.1", {}, false, 3},
      {"HTTP/1.1", {{":method", "HEAD"}}, true},
      {"HTTP/1.1", {{":method", "POST"}}, false},
      {"HTTP/1.1", {{":method", "POST"}, {"content-length", "0"}}, true},
      {.protocol = "HTTP/1.1",
       .headers = {{":method", "POST"}},
       .ends = false,
       .left_out = {":authority", ":scheme"}},
      {.protocol = "HTTP/1.1", .headers = {}, .ends = false, .left_out = {":authority", ":scheme"}},
      {.protocol = "HTTP/1.1", .headers = {{"x-a", "1"}}, .ends = false, .left_out = kPseudo},
      {.protocol = "HTTP/1.1",
       .headers = {{"content-length", "0"}},
       .ends = true,
       .left_out = kPseudo},
      {"HTTP/1.1", {}, false, 0, "abc"},
      {"HTTP/2", {}, false},
      {"HTTP/2", {{":method", "POST"}}, false},
      {"HTTP/2", {{"content-length", "0"}}, true},
      {"HTTP/2", {{":method", "POST"}, {"content-length", "0"}}, true},
      {"HTTP/2", {{"content-length", "3"}}, false},
      {"HTTP/2", {{"content-length", "0"}}, false, 3},
      {"HTTP/3", {{":method", "POST"}}, false},
      {"", {}, false},
  };
  bool ends = false;
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [&ends](callout_call_t* call) {
    ProcessingRequest request;
    EXPECT_TRUE(request.ParseFromString(std::string(ToView(call->request))));
    ends = request.request_headers().end_of_stream();
    EXPECT_EQ((call->flags & CALLOUT_CALL_LAST) != 0, ends);
    EXPECT_NE(call->flags & CALLOUT_CALL_FIRST, 0u);
    return CALLOUT_OK;
  };
  for (const Case& c : cases) {
    CheckRequest request = Request(c.headers);
    auto* http = request.mutable_attributes()->mutable_request()->mutable_http();
    http->set_protocol(c.protocol);
    http->set_size(c.size);
    http->set_body(c.body);
    for (const std::string& name : c.left_out) http->mutable_headers()->erase(name);
    EXPECT_TRUE(Check(request).has_ok_response());
    EXPECT_EQ(ends, c.ends) << c.protocol << " " << testing::PrintToString(c.headers) << " "
                            << c.size << c.body;
  }
}

TEST_F(BridgeTest, ItsMutationGoesWithThePermission) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Answers([](CommonResponse* common) {
    AddSet(common, "x-set", "1");
    AddSet(common, "x-append", "n", true);
    AddSet(common, "x-moved", "n", true);
    auto* mutation = common->mutable_header_mutation();
    mutation->add_remove_headers("x-gone");
    mutation->add_remove_headers("x-moved");
    common->set_clear_route_cache(true);
  });
  const CheckReply response =
      Check(Request({{"x-append", "o"}, {"x-gone", "o"}, {"x-moved", "o"}}));
  EXPECT_THAT(OptionsTold(response.ok_response().headers()),
              UnorderedElementsAre("set x-set=1", "append x-append=n", "set x-moved=n"));
  EXPECT_THAT(response.ok_response().headers_to_remove(), ElementsAre("x-gone"));
}

TEST_F(BridgeTest, ItsImmediateResponseIsADenial) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    envoy::service::ext_proc::v3::ImmediateResponse reply;
    reply.mutable_status()->set_code(envoy::type::v3::Unauthorized);
    reply.set_body("no");
    auto* option = reply.mutable_headers()->add_set_headers();
    option->mutable_header()->set_key("www-authenticate");
    option->mutable_header()->set_raw_value("Bearer");
    return RespondWith(call, CALLOUT_IMMEDIATE_RESPONSE, reply.SerializeAsString());
  };
  const CheckReply response = Check(Request());
  EXPECT_EQ(response.denied_response().status().code(), 401);
  EXPECT_EQ(response.status().code(), 16);
  EXPECT_EQ(response.denied_response().body(), "no");
  EXPECT_THAT(OptionsTold(response.denied_response().headers()),
              ElementsAre("set www-authenticate=Bearer"));
}

TEST_F(BridgeTest, ARefusalByStatusIsADenial) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_PERMISSION_DENIED);
  EXPECT_EQ(StatusTold(Request()), 403);
}

TEST_F(BridgeTest, ItsMetadataGoesAlong) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    google::protobuf::Struct metadata;
    (*metadata.mutable_fields())["user"].set_string_value("ada");
    const std::string bytes = metadata.SerializeAsString();
    return call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(bytes));
  };
  EXPECT_EQ(Check(Request()).dynamic_metadata().fields().at("user").string_value(), "ada");
}

TEST_F(BridgeTest, WhatAHookOfExtProcSaysIsGuardedAsANativeAnswerIs) {
  const std::vector<std::pair<std::string, FakePlugin::Hook>> hooks = {
      {"metadata with LF",
       [](callout_call_t* call) {
         google::protobuf::Struct metadata;
         (*metadata.mutable_fields())["user"].set_string_value("a\nb");
         const std::string bytes = metadata.SerializeAsString();
         return call->host->annotate(call, CALLOUT_DYNAMIC_METADATA, ToBytes(bytes));
       }},
      {"a method without a body", SetsHeader(":method", "HEAD")},
      {"another protocol", SetsHeader("upgrade", "websocket")},
      {"content-length", SetsHeader("content-length", "5")},
  };
  for (const auto& [name, hook] : hooks) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = hook;
    EXPECT_THAT(FaultTold(Request()), HasSubstr("illegal_header")) << name;
    Finish();
  }
}

TEST_F(BridgeTest, WhatACheckHasNoPlaceForIsAFault) {
  const std::vector<std::pair<std::string, FakePlugin::Hook>> hooks = {
      {"a body", ReplacesBody("new")},
      {"a mode override",
       [](callout_call_t* call) {
         return call->host->annotate(call, CALLOUT_MODE_OVERRIDE, ToBytes("\x18\x02"));
       }},
      {"typed metadata",
       [](callout_call_t* call) {
         return call->host->annotate(call, CALLOUT_TYPED_DYNAMIC_METADATA, {});
       }},
      {"a streamed reply",
       [](callout_call_t* call) {
         return RespondWith(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, "");
       }},
  };
  for (const auto& [name, hook] : hooks) {
    Reset();
    AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = hook;
    EXPECT_THAT(FaultTold(Request()), HasSubstr("not_carried")) << name;
    Finish();
  }
}

TEST_F(BridgeTest, HooksThatWouldNotRunAreAFault) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_REQUEST_BODY] = Returns(CALLOUT_OK);
  EXPECT_THAT(FaultTold(Request()), HasSubstr("has no place for what it does in request_body"));
  EXPECT_EQ(plugin->opened, 0);
}

TEST_F(BridgeTest, AConnectionHasNoHeadersToShow) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  CheckRequest request;
  request.mutable_attributes()->mutable_source();
  EXPECT_THAT(FaultTold(request), HasSubstr("not_carried"));
}

TEST_F(BridgeTest, ANativeHookGoesBeforeTheBridge) {
  FakePlugin* plugin = AddPlugin();
  plugin->phases[CALLOUT_REQUEST_HEADERS] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_CHECK] = Denies();
  EXPECT_EQ(StatusTold(Request()), 403);
}

TEST_F(BridgeTest, BridgedAndNativeInstancesMakeOneChain) {
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = SetsHeader("x-user", "ada");
  std::string user;
  AddPlugin()->phases[CALLOUT_CHECK] = [&](callout_call_t* call) {
    CheckRequest request;
    EXPECT_TRUE(request.ParseFromString(std::string(ToView(call->request))));
    user = request.attributes().request().http().headers().at("x-user");
    OkHttpResponse ok;
    AddOption(ok.mutable_headers(), "x-user", "grace", CALLOUT_APPEND_IF_EXISTS_OR_ADD);
    return RespondWith(call, CALLOUT_CHECK_OK, ok.SerializeAsString());
  };
  AddPlugin()->phases[CALLOUT_REQUEST_HEADERS] = [](callout_call_t* call) {
    EXPECT_THAT(HeadersShown(call),
                ::testing::Contains(std::pair<std::string, std::string>("x-user", "ada,grace")));
    return CALLOUT_OK;
  };
  const CheckReply response = Check(Request());
  EXPECT_EQ(user, "ada");
  EXPECT_THAT(OptionsTold(response.ok_response().headers()), ElementsAre("set x-user=ada,grace"));
}

}  // namespace
}  // namespace callout::host
