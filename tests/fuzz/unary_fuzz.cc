// SPDX-License-Identifier: Apache-2.0

// Drives one Check or ShouldRateLimit by the decisions that the input stands for: a chain of
// plugins with policies and behaviours, for the service or for ext_proc, some of which block; any
// request, calls finished late or never, a client that leaves, a drain, somebody who watches. A
// request that some plugin has refused never passes, and neither does one that no plugin was asked
// about. Hooks that block run on a thread while this one waits, so that an input always does the
// same.
//
// Readers: host/unary/unary_rpc.cc host/unary/check_service.cc host/unary/rate_limit_service.cc
// host/stream/chain_rpc.cc
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "host/plugin/services.h"
#include "host/unary/check_service.h"
#include "host/unary/rate_limit_service.h"
#include "host/unary/unary_rpc.h"
#include "tests/fuzz/fuzz_environment.h"
#include "tests/fuzz/fuzz_instance.h"
#include "tests/fuzz/fuzz_rpc_context.h"
#include "tests/fuzz/target.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::host {
namespace {

using envoy::service::auth::v3::CheckRequest;
using envoy::service::auth::v3::CheckResponse;
using envoy::service::auth::v3::DeniedHttpResponse;
using envoy::service::auth::v3::OkHttpResponse;
using envoy::service::ext_proc::v3::CommonResponse;
using envoy::service::ext_proc::v3::HeadersResponse;
using envoy::service::ext_proc::v3::ImmediateResponse;
using envoy::service::ratelimit::v3::RateLimitRequest;
using envoy::service::ratelimit::v3::RateLimitResponse;

// What a call has said so far, where it is sure what that comes to.
struct Said {
  bool sure = true;
  bool answered = false;
  bool annotated = false;  // which may be a fault, that the policy lets pass
  bool refuses = false;
};

struct Pending {
  callout_call_t* call;
  Said said;
};

// What all hooks of the run share: one run at a time.
struct Run {
  Choices choices;
  std::vector<Pending> deferred = {};
  bool asked = false;
  bool refused = false;  // for sure
};
Run* g_run = nullptr;

void Respond(callout_call_t* call, callout_field_t field, const std::string& bytes) {
  const callout_bytes_t part = ToBytes(bytes);
  (void)call->host->respond(call, field, &part, 1);
}

// What no plugin of the service may say, in the place of what it may.
bool SayTooMuch(callout_call_t* call, Choices* choices, Said* said) {
  if (!choices->OneIn(16)) return false;
  const std::string large(choices->Next(2) * 5000, 'l');
  const callout_bytes_t part = ToBytes(large);
  if (choices->Next(2) == 0) {
    (void)call->host->send(call, CALLOUT_WHOLE_RESPONSE, &part, 1);
  } else {
    Respond(call, CALLOUT_WHOLE_RESPONSE, large);
    said->answered = true;
  }
  said->sure = false;
  return true;
}

std::string AnyText(Choices* choices) {
  static const char* const kTexts[] = {"x-a",  "v",   "x-envoy-auth", ":path",
                                       "host", "a b", "a\r\nb",       ""};
  return kTexts[choices->Next(8)];
}

template <class Options>
void AddHeader(Choices* choices, Options* options) {
  auto* option = options->Add();
  option->mutable_header()->set_key(AnyText(choices));
  option->mutable_header()->set_raw_value(AnyText(choices));
  if (choices->Next(2) == 0) option->mutable_append()->set_value(choices->Next(2) == 0);
}

// --- ext_authz ---

void Allow(callout_call_t* call, Choices* choices) {
  OkHttpResponse ok;
  for (unsigned i = choices->Next(3); i > 0; --i) AddHeader(choices, ok.mutable_headers());
  if (choices->OneIn(3)) ok.add_headers_to_remove(AnyText(choices));
  if (choices->OneIn(3)) AddHeader(choices, ok.mutable_response_headers_to_add());
  Respond(call, CALLOUT_CHECK_OK, ok.SerializeAsString());
}

void Deny(callout_call_t* call, Choices* choices, callout_field_t field) {
  DeniedHttpResponse denied;
  denied.mutable_status()->set_code(
      static_cast<envoy::type::v3::StatusCode>(100 + 50 * choices->Next(12)));
  denied.set_body(AnyText(choices));
  for (unsigned i = choices->Next(3); i > 0; --i) AddHeader(choices, denied.mutable_headers());
  Respond(call, field, denied.SerializeAsString());
}

void SayToCheck(callout_call_t* call, Choices* choices, Said* said) {
  const unsigned what = choices->Next(7);
  switch (what) {
    case 0:
    case 1:
      Allow(call, choices);
      said->refuses = false;
      break;
    case 2:
    case 3:
      Deny(call, choices, what == 2 ? CALLOUT_CHECK_DENIED : CALLOUT_CHECK_ERROR);
      said->refuses = true;
      break;
    case 4:
      Respond(call, choices->Next(7), choices->Bytes(12));
      said->sure = false;
      break;
    default:
      (void)call->host->annotate(call, CALLOUT_CHECK_DYNAMIC_METADATA, ToBytes(choices->Bytes(8)));
      said->annotated = true;
      return;
  }
  said->answered = true;
}

// --- ext_authz, by a plugin for ext_proc ---

void SayToHeaders(callout_call_t* call, Choices* choices, Said* said) {
  HeadersResponse headers;
  CommonResponse* const common = headers.mutable_response();
  switch (choices->Next(6)) {
    case 0: {
      ImmediateResponse denial;
      denial.mutable_status()->set_code(
          static_cast<envoy::type::v3::StatusCode>(50 * choices->Next(12)));
      denial.set_body(AnyText(choices));
      if (choices->Next(2) == 0)
        AddHeader(choices, denial.mutable_headers()->mutable_set_headers());
      Respond(call, CALLOUT_IMMEDIATE_RESPONSE, denial.SerializeAsString());
      said->refuses = true;
      break;
    }
    case 1:
      Respond(call, choices->Next(12), choices->Bytes(12));
      said->sure = false;
      break;
    case 2: {
      const callout_field_t field =
          CALLOUT_DYNAMIC_METADATA + static_cast<callout_field_t>(choices->Next(5));
      (void)call->host->annotate(call, field, ToBytes(choices->Bytes(8)));
      said->annotated = true;
      return;
    }
    default:
      for (unsigned i = choices->Next(3); i > 0; --i) {
        AddHeader(choices, common->mutable_header_mutation()->mutable_set_headers());
      }
      for (unsigned i = choices->Next(3); i > 0; --i) {
        common->mutable_header_mutation()->add_remove_headers(AnyText(choices));
      }
      if (choices->OneIn(4)) common->mutable_body_mutation()->set_body("new");
      if (choices->OneIn(4)) common->set_clear_route_cache(true);
      if (choices->OneIn(8)) common->set_status(CommonResponse::CONTINUE_AND_REPLACE);
      Respond(call, CALLOUT_REQUEST_HEADERS_RESPONSE, headers.SerializeAsString());
      said->refuses = false;
  }
  said->answered = true;
}

// --- Rate limits ---

void SayToRateLimit(callout_call_t* call, Choices* choices, Said* said) {
  said->answered = true;
  if (choices->OneIn(5)) {
    said->sure = false;
    return Respond(call, choices->Next(7), choices->Bytes(12));
  }
  RateLimitResponse response;
  response.set_overall_code(static_cast<RateLimitResponse::Code>(choices->Next(4)));
  for (unsigned i = choices->Next(3); i > 0; --i) {
    auto* status = response.add_statuses();
    status->set_code(static_cast<RateLimitResponse::Code>(choices->Next(4)));
    status->mutable_current_limit()->set_name(AnyText(choices));
    status->set_limit_remaining(choices->Next(3));
  }
  if (choices->OneIn(3)) {
    auto* header = choices->Next(2) == 0 ? response.add_response_headers_to_add()
                                         : response.add_request_headers_to_add();
    header->set_key(AnyText(choices));
    header->set_value(AnyText(choices));
  }
  if (choices->OneIn(3)) {
    (*response.mutable_dynamic_metadata()->mutable_fields())["k"].set_string_value(
        AnyText(choices));
  }
  Respond(call, CALLOUT_WHOLE_RESPONSE, response.SerializeAsString());
  said->refuses = response.overall_code() == RateLimitResponse::OVER_LIMIT;
}

// --- Hooks ---

void Say(callout_call_t* call, Choices* choices, Said* said) {
  for (unsigned i = choices->Next(3); i > 0; --i) {
    if (SayTooMuch(call, choices, said)) continue;
    switch (call->phase) {
      case CALLOUT_CHECK:
        SayToCheck(call, choices, said);
        break;
      case CALLOUT_RATE_LIMIT:
        SayToRateLimit(call, choices, said);
        break;
      default:
        SayToHeaders(call, choices, said);
    }
  }
}

// The status that settles the call, and whether the request is refused by all of it.
callout_status_t Settle(const callout_call_t* call, Choices* choices, const Said& said) {
  constexpr callout_status_t kStatuses[] = {
      CALLOUT_OK,       CALLOUT_OK,          CALLOUT_OK, CALLOUT_PERMISSION_DENIED,
      CALLOUT_INTERNAL, CALLOUT_NO_RESPONSE, 17,         CALLOUT_DEFERRED};
  const callout_status_t status = kStatuses[choices->Next(8)];
  const bool says_nothing = call->phase == CALLOUT_CHECK && status == CALLOUT_OK && said.sure &&
                            !said.answered && !said.annotated;
  if (says_nothing || status == CALLOUT_PERMISSION_DENIED || (said.sure && said.refuses)) {
    g_run->refused = true;
  }
  return status;
}

callout_status_t Hook(callout_call_t* call) {
  Choices* const choices = &g_run->choices;
  g_run->asked = true;
  Said said;
  Say(call, choices, &said);
  if (choices->OneIn(4)) {
    // Whether it is finished in time or not.
    if (said.sure && said.refuses) g_run->refused = true;
    if (choices->OneIn(4)) {
      // Before it returns.
      const callout_status_t status = Settle(call, choices, said);
      (void)call->host->finish(call, status == CALLOUT_DEFERRED ? CALLOUT_INTERNAL : status);
    } else {
      g_run->deferred.push_back({call, said});
    }
    return CALLOUT_DEFERRED;
  }
  callout_status_t status = Settle(call, choices, said);
  return status == CALLOUT_DEFERRED ? CALLOUT_INTERNAL : status;
}

callout_status_t OnOpen(callout_call_t*) {
  g_run->asked = true;
  constexpr callout_status_t kStatuses[] = {CALLOUT_OK, CALLOUT_OK, CALLOUT_OK,
                                            CALLOUT_PERMISSION_DENIED, CALLOUT_INTERNAL};
  const callout_status_t status = kStatuses[g_run->choices.Next(5)];
  if (status == CALLOUT_PERMISSION_DENIED) g_run->refused = true;
  return status;
}

// --- The RPC ---

class Driver {
 public:
  Driver(Run* run, bool is_check) : run_(run), choices_(&run->choices), is_check_(is_check) {
    std::vector<std::shared_ptr<Instance>> instances;
    for (unsigned i = choices_->Next(4); i > 0; --i) instances.push_back(MakeInstance(i));
    chains_ = std::make_unique<ChainSource>(std::make_shared<Chain>(std::move(instances)));
    limits_.message_fields_max = 20;
    LimitForFuzzing(&limits_);
    if (is_check_ && choices_->Next(2) == 0) limits_.services.Add(RpcService::kExtAuthz);
    if (choices_->OneIn(8)) limits_.deferred_max = choices_->Next(2);
    if (choices_->OneIn(4)) limits_.header_count_max = 1 + choices_->Next(6);
    if (choices_->OneIn(4)) limits_.header_bytes_max = 1 + choices_->Next(40);
    limits_.metadata_controls = choices_->OneIn(4);
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &FuzzMetrics());
    if (choices_->OneIn(4)) watcher_.WatchIn(environment_.get());
    std::unique_ptr<UnaryService> service;
    if (is_check_) {
      service = std::make_unique<CheckService>(&environment_->limits());
    } else {
      service = std::make_unique<RateLimitService>(&environment_->limits());
    }
    rpc_.emplace(environment_.get(), &context_, std::move(service));
  }

  std::string Go() {
    if (choices_->OneIn(64)) {
      rpc_->OnHalfClose();
      if (!rpc_->end().has_value()) Complain("without a request it does not end");
      return error_;
    }
    const std::string request = choices_->OneIn(4) ? choices_->Bytes(60) : AnyRequest();
    rpc_->OnMessage(request);
    rpc_->OnHalfClose();
    Deliver();
    while (!rpc_->end().has_value() && !run_->deferred.empty()) Step();
    if (!rpc_->end().has_value()) Complain("all calls are finished, and it does not end");
    FinishAll();
    if (!rpc_->closed()) Complain("it never closes");
    // A request that is refused unread is not shown.
    if (watcher_.ends != watcher_.rpcs || watcher_.rpcs > 1) Complain("its end is not told once");
    return error_;
  }

 private:
  std::shared_ptr<Instance> MakeInstance(unsigned number) {
    Hooks hooks;
    InstanceSettings settings;
    const unsigned kind = is_check_ ? choices_->Next(8) : 0;
    if (kind < 5) hooks.phases[PhaseSlot(is_check_ ? CALLOUT_CHECK : CALLOUT_RATE_LIMIT)] = Hook;
    if (kind > 3) hooks.phases[PhaseSlot(CALLOUT_REQUEST_HEADERS)] = Hook;
    // What a Check has no place for.
    if (kind == 7) hooks.phases[PhaseSlot(CALLOUT_RESPONSE_BODY)] = Hook;
    if (choices_->OneIn(4)) {
      hooks.stream_open = OnOpen;
      hooks.stream_close = hooks.stream_cancel = [](callout_call_t*) {};
    }
    if (choices_->OneIn(8)) settings.blocking = ~uint64_t{0};
    blocks_ = blocks_ || settings.blocking.has_value();
    if (choices_->OneIn(8)) {
      settings.match.attributes = {{is_check_ ? "request.protocol" : "domain", "d"}};
    }
    auto instance = MakeFuzzInstance(hooks, number, choices_, settings);
    const std::optional<ErrorPolicy> policy = instance->settings().policy;
    may_pass_unasked_ = may_pass_unasked_ ||
                        (policy.has_value() && policy->action == ErrorPolicy::Action::kContinue);
    return instance;
  }

  // Until nothing is on its way any more, neither on the other thread nor to this one.
  void Deliver() {
    do {
      Look();
    } while (context_.Deliver(&*rpc_, [this] { Look(); }));
  }

  std::string AnyRequest() {
    if (!is_check_) {
      RateLimitRequest request;
      request.set_domain("d");
      for (unsigned i = choices_->Next(3); i > 0; --i) {
        auto* entry = request.add_descriptors()->add_entries();
        entry->set_key(AnyText(choices_));
        entry->set_value(AnyText(choices_));
      }
      return request.SerializeAsString();
    }
    CheckRequest request;
    auto* const attributes = request.mutable_attributes();
    if (choices_->OneIn(8)) {
      attributes->mutable_source()->set_principal("spiffe://a/b");
      return request.SerializeAsString();  // a connection
    }
    auto* http = attributes->mutable_request()->mutable_http();
    http->set_path("/a?b=c");
    const char* const protocols[] = {"", "d", "HTTP/1.1", "HTTP/2"};
    http->set_protocol(protocols[choices_->Next(4)]);
    if (choices_->OneIn(4)) (*http->mutable_headers())["content-length"] = "0";
    if (choices_->OneIn(8)) (*http->mutable_headers())[":method"] = "CONNECT";
    for (unsigned i = choices_->Next(24); i > 0; --i) {
      (*http->mutable_headers())["x-" + std::to_string(i)] = AnyText(choices_);
    }
    return request.SerializeAsString();
  }

  void Step() {
    switch (choices_->Next(8)) {
      case 5:
        // What plugins say from here on may be too late.
        expired_ = true;
        rpc_->OnDeadline(rpc_->deadline_ns());
        break;
      case 6:
        rpc_->OnCancel();
        break;
      case 7:
        rpc_->OnDrainDeadline();
        break;
      default:
        FinishOne();
    }
    Deliver();
  }

  void FinishOne() {
    Pending pending = run_->deferred.back();
    run_->deferred.pop_back();
    const bool refused = run_->refused;
    Say(pending.call, choices_, &pending.said);
    callout_status_t status = Settle(pending.call, choices_, pending.said);
    if (expired_) run_->refused = refused;
    // A finish with CALLOUT_DEFERRED would be none.
    if (status == CALLOUT_DEFERRED) status = CALLOUT_INTERNAL;
    (void)pending.call->host->finish(pending.call, status);
    Deliver();
  }

  void FinishAll() {
    Deliver();
    while (!run_->deferred.empty()) FinishOne();
    Deliver();
  }

  void Look() {
    if (blocks_) AwaitBlockingHooks(environment_.get());
    LiveRpc described;
    rpc_->Describe(&described);
    if (described.state.empty()) Complain("its state has no name");
    for (const std::string& bytes : rpc_->TakeOutput()) {
      if (std::exchange(answered_, true)) Complain("a second response");
      const std::optional<bool> passes = is_check_ ? PassesCheck(bytes) : PassesLimit(bytes);
      if (!passes.has_value()) return Complain("the response cannot be read");
      if (*passes && run_->refused) Complain("a request passes that a plugin has refused");
      if (*passes && !run_->asked && !may_pass_unasked_) {
        Complain("a request passes that nobody was asked about");
      }
    }
    if (rpc_->end().has_value() && rpc_->end()->ok() && !answered_) {
      Complain("it ends with OK and without a response");
    }
  }

  static std::optional<bool> PassesCheck(const std::string& bytes) {
    CheckResponse response;
    if (!response.ParseFromString(bytes)) return std::nullopt;
    return response.status().code() == 0;
  }
  static std::optional<bool> PassesLimit(const std::string& bytes) {
    RateLimitResponse response;
    if (!response.ParseFromString(bytes)) return std::nullopt;
    return response.overall_code() != RateLimitResponse::OVER_LIMIT;
  }

  void Complain(const char* what) {
    if (error_.empty()) error_ = what;
  }

  Run* const run_;
  Choices* const choices_;
  const bool is_check_;
  StreamLimits limits_;
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  FuzzRpcContext context_;
  FuzzWatcher watcher_;
  std::optional<UnaryRpc> rpc_;
  bool blocks_ = false;
  bool may_pass_unasked_ = false;  // a fault before the hook, such as one of limits, may pass
  bool expired_ = false;
  bool answered_ = false;
  std::string error_;
};

FUZZ_TARGET(unary, .rounds = 10000, .bytes = 40) {
  const bool is_check = choices.Next(2) == 0;
  Run run{choices};
  g_run = &run;
  std::string error = Driver(&run, is_check).Go();
  g_run = nullptr;
  return error;
}

}  // namespace
}  // namespace callout::host
