// SPDX-License-Identifier: Apache-2.0

// A plugin that does in each phase what the request's own headers say:
//
//   x-do-PHASE: leave | shorter | longer | upper | swap | clear | header | deny | fail
//   x-answer-PHASE: HEX     a serialized ProcessingResponse, answered as it is
//
// PHASE is request-headers, response-headers, request-body, … A body hook does
// its work on each message that it gets: "shorter" puts kShorter in its place,
// "longer" adds kLonger, "upper" makes it upper case, "swap" swaps the cases: the
// latter two come to the same however a body is cut up. "header" sets x-changed: PHASE, "deny"
// answers 403, "fail" returns an error. Unless it is told something it leaves things alone.
//
// Configurations: "headers": no hooks but those of headers; "request": none but those of
// request headers and bodies; "as NAME": the headers are x-NAME-do-PHASE and x-NAME-answer-PHASE,
// so that several instances can be told apart.
#include "scripted.h"

#include <callout/plugin.h>

#include <cctype>
#include <map>
#include <string>
#include <string_view>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

CALLOUT_PLUGIN();

namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
namespace scripted = callout::tests;

constexpr uint64_t kHeaderPhases =
    CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS) | CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_HEADERS);
constexpr uint64_t kRequestPhases =
    CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS) | CALLOUT_PHASE_BIT(CALLOUT_REQUEST_BODY);

// The request's headers that begin with x-, by what follows that.
using Script = std::map<std::string, std::string>;

struct Instance {
  std::string prefix;  // "NAME-"
};

callout_bytes_t Bytes(std::string_view text) { return {text.data(), text.size()}; }

const char* PhaseName(callout_phase_t phase) {
  switch (phase) {
    case CALLOUT_REQUEST_HEADERS:
      return "request-headers";
    case CALLOUT_RESPONSE_HEADERS:
      return "response-headers";
    case CALLOUT_REQUEST_BODY:
      return "request-body";
    case CALLOUT_RESPONSE_BODY:
      return "response-body";
    case CALLOUT_REQUEST_TRAILERS:
      return "request-trailers";
    default:
      return "response-trailers";
  }
}

bool IsBodyPhase(callout_phase_t phase) {
  return phase == CALLOUT_REQUEST_BODY || phase == CALLOUT_RESPONSE_BODY;
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// Reads the script from the first request headers of the stream.
const Script& ScriptOf(callout_call_t* call) {
  if (call->stream == nullptr) {
    auto* script = new Script;
    ext_proc::HttpHeaders message;
    if (call->phase == CALLOUT_REQUEST_HEADERS &&
        message.ParseFromArray(call->message.data, static_cast<int>(call->message.size))) {
      for (const auto& header : message.headers().headers()) {
        if (header.key().rfind("x-", 0) == 0)
          (*script)[header.key().substr(2)] = header.raw_value();
      }
    }
    call->stream = script;
  }
  return *static_cast<const Script*>(call->stream);
}

std::string Instruction(callout_call_t* call, const std::string& kind) {
  const Script& script = ScriptOf(call);
  const auto* instance = static_cast<const Instance*>(call->plugin);
  const auto found = script.find(instance->prefix + kind + PhaseName(call->phase));
  return found == script.end() ? "" : found->second;
}

callout_status_t Respond(callout_call_t* call, callout_field_t field, const std::string& answer) {
  const callout_bytes_t part = Bytes(answer);
  return call->host->respond(call, field, &part, 1);
}

callout_status_t Deny(callout_call_t* call) {
  ext_proc::ImmediateResponse denial;
  denial.mutable_status()->set_code(
      static_cast<envoy::type::v3::StatusCode>(scripted::kDeniedStatus));
  denial.set_body(std::string(scripted::kDenied));
  return Respond(call, CALLOUT_IMMEDIATE_RESPONSE, denial.SerializeAsString());
}

// HeadersResponse and BodyResponse are the same on the wire, and the mutation of
// a TrailersResponse has a place of its own.
callout_status_t ChangeHeader(callout_call_t* call) {
  ext_proc::HeaderMutation mutation;
  auto* header = mutation.add_set_headers()->mutable_header();
  header->set_key(std::string(scripted::kChangedHeader));
  header->set_raw_value(PhaseName(call->phase));
  std::string answer;
  if (call->phase >= CALLOUT_REQUEST_TRAILERS) {
    ext_proc::TrailersResponse trailers;
    *trailers.mutable_header_mutation() = mutation;
    answer = trailers.SerializeAsString();
  } else {
    ext_proc::HeadersResponse headers;
    *headers.mutable_response()->mutable_header_mutation() = mutation;
    answer = headers.SerializeAsString();
  }
  return Respond(call, call->phase - 1, answer);
}

callout_status_t ChangeBody(callout_call_t* call, const std::string& what) {
  ext_proc::HttpBody message;
  if (!message.ParseFromArray(call->message.data, static_cast<int>(call->message.size))) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  ext_proc::BodyResponse answer;
  auto* mutation = answer.mutable_response()->mutable_body_mutation();
  if (what == "clear") {
    mutation->set_clear_body(true);
  } else if (what == "shorter") {
    mutation->set_body(std::string(scripted::kShorter));
  } else if (what == "longer") {
    mutation->set_body(message.body() + std::string(scripted::kLonger));
  } else {
    std::string body = message.body();
    for (char& c : body) {
      const bool lower = std::islower(static_cast<unsigned char>(c)) != 0;
      const bool upper = what == "upper" || lower;
      c = static_cast<char>(upper ? std::toupper(static_cast<unsigned char>(c))
                                  : std::tolower(static_cast<unsigned char>(c)));
    }
    mutation->set_body(body);
  }
  return Respond(call, call->phase - 1, answer.SerializeAsString());
}

callout_status_t Act(callout_call_t* call) {
  const std::string answer = Instruction(call, "answer-");
  if (!answer.empty()) return Respond(call, CALLOUT_WHOLE_RESPONSE, FromHex(answer));
  const std::string what = Instruction(call, "do-");
  if (what == "deny") return Deny(call);
  if (what == "header") return ChangeHeader(call);
  if (what == "fail") return CALLOUT_INTERNAL;
  if (!IsBodyPhase(call->phase) || what.empty() || what == "leave") return CALLOUT_OK;
  return ChangeBody(call, what);
}

}  // namespace

callout_status_t callout_plugin_create(callout_create_args_t* args) {
  const std::string_view config(args->config.data, args->config.size);
  auto* instance = new Instance;
  if (config == "headers") args->phases &= kHeaderPhases;
  if (config == "request") args->phases &= kRequestPhases;
  if (config.rfind("as ", 0) == 0) instance->prefix = std::string(config.substr(3)) + "-";
  args->plugin = instance;
  return CALLOUT_OK;
}

void callout_plugin_destroy(void* plugin) { delete static_cast<Instance*>(plugin); }

void callout_on_stream_close(callout_call_t* call) { delete static_cast<Script*>(call->stream); }

callout_status_t callout_on_request_headers(callout_call_t* call) { return Act(call); }
callout_status_t callout_on_response_headers(callout_call_t* call) { return Act(call); }
callout_status_t callout_on_request_body(callout_call_t* call) { return Act(call); }
callout_status_t callout_on_response_body(callout_call_t* call) { return Act(call); }
callout_status_t callout_on_request_trailers(callout_call_t* call) { return Act(call); }
callout_status_t callout_on_response_trailers(callout_call_t* call) { return Act(call); }
