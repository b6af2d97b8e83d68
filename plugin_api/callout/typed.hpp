// SPDX-License-Identifier: Apache-2.0

// callout/typed.hpp - hooks that read and fill the generated classes of Envoy's messages, for
// those who like them better than callout/call.hpp. Include it beside <callout/plugin.hpp>.
//
//     #include <callout/plugin.hpp>
//     #include <callout/typed.hpp>
//     using namespace envoy::service::ext_proc::v3;
//     CALLOUT_PLUGIN();
//     CALLOUT_TYPED_ON_REQUEST_HEADERS(const HttpHeaders& request, HeadersResponse* response) {
//       if (request.end_of_stream()) response->mutable_response()->set_clear_route_cache(true);
//     }
//
// A hook takes, in this order, as many of these as it wants:
//     const HttpHeaders& request       the message, parsed (HttpBody, HttpTrailers)
//     HeadersResponse* response        the answer (BodyResponse, TrailersResponse)
//     ImmediateResponse* immediate     filled, it goes out instead of `response`
//     const callout::HeadersCall& call for the rest: attributes, metadata, the log, fail;
//                                      what is answered through it counts before both
// An answer left empty lets the message pass unchanged. One that cannot be parsed, or an
// answer too large to be written, ends the call as an error. In callout::typed, parse() and
// answer() do the same for the members of a plugin's class, and for deferred calls.
//
// Beware: this is Envoy's protocol as it is, without the help of the other layer. Envoy reads
// `raw_value`, not `value`; of append actions only the older `append`, and overwrites without
// it; and bodies in FULL_DUPLEX_STREAMED want `streamed_response`.
//
// What it costs: the message is copied into classes, some microseconds for usual headers,
// where callout/call.hpp looks at it in place.
//
// The classes have to be those of the lite runtime (protoc --cpp_out=lite:DIR), generated from
// the .proto files by upstream's paths, google/protobuf/{any,duration,struct,wrappers} among
// them, and linked with libprotobuf-lite of the host's version. Compile them and the plugin
// with -fvisibility=hidden -fvisibility-inlines-hidden -fno-gnu-unique, and link with
// callout.map: each plugin has its own copies then. The host refuses a plugin that exports
// them, or that brings classes of the full runtime, which abort a process that has them twice.
// In this repository all that is the dependency ext_proc_proto_lite_dep.
#ifndef CALLOUT_TYPED_HPP_
#define CALLOUT_TYPED_HPP_

#include <callout/call.hpp>
#include <callout/plugin_class.hpp>
#include <climits>
#include <string>
#include <type_traits>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout {
namespace typed {

namespace ext_proc = ::envoy::service::ext_proc::v3;

namespace internal {

template <class Message>
bool parse_message(const Call& call, Message* message) {
  const callout_bytes_t bytes = call.raw()->message;
  if (bytes.size <= INT_MAX && message->ParseFromArray(bytes.data, static_cast<int>(bytes.size))) {
    return true;
  }
  call.fail("the message of this call cannot be parsed", CALLOUT_INVALID_ARGUMENT);
  return false;
}

template <class Message>
void answer_message(const Call& call, callout_field_t field, const Message& message) {
  std::string text;
  if (message.ByteSizeLong() == 0 || !call.state()->may_go_on("answer")) return;
  if (!message.SerializeToString(&text)) {
    return call.fail("the answer cannot be written", CALLOUT_RESOURCE_EXHAUSTED);
  }
  const callout_bytes_t part = to_bytes(text);
  const callout_status_t status = call.raw()->host->respond(call.raw(), field, &part, 1);
  if (status < 0) call.fail("the host refused the answer", status);
  if (field == CALLOUT_IMMEDIATE_RESPONSE) call.state()->has_replied = true;
}

}  // namespace internal

// The call's message. False if it cannot be parsed: the call has failed then.
inline bool parse(const HeadersCall& call, ext_proc::HttpHeaders* message) {
  return internal::parse_message(call, message);
}
inline bool parse(const BodyCall& call, ext_proc::HttpBody* message) {
  return internal::parse_message(call, message);
}
inline bool parse(const TrailersCall& call, ext_proc::HttpTrailers* message) {
  return internal::parse_message(call, message);
}

// Answers the call; an empty message answers nothing. The last answer counts, but an immediate
// response stands, be it one of these or of the call itself (deny, reply).
inline void answer(const HeadersCall& call, const ext_proc::HeadersResponse& response) {
  internal::answer_message(call, call.phase() - 1, response);
}
inline void answer(const BodyCall& call, const ext_proc::BodyResponse& response) {
  internal::answer_message(call, call.phase() - 1, response);
}
inline void answer(const TrailersCall& call, const ext_proc::TrailersResponse& response) {
  internal::answer_message(call, call.phase() - 1, response);
}
inline void answer(const Call& call, const ext_proc::ImmediateResponse& response) {
  internal::answer_message(call, CALLOUT_IMMEDIATE_RESPONSE, response);
}

namespace internal {

// Calls `hook` with as much as it takes.
template <class Request, class Response, class PhaseCall, class Hook>
void run(const PhaseCall& call, Hook hook) {
  using Immediate = ext_proc::ImmediateResponse;
  Request request;
  Response response;
  Immediate immediate;
  if (!parse(call, &request)) return;
  if constexpr (std::is_invocable_v<Hook, const Request&, Response*>) {
    hook(request, &response);
  } else if constexpr (std::is_invocable_v<Hook, const Request&, Response*, Immediate*>) {
    hook(request, &response, &immediate);
  } else {
    static_assert(
        std::is_invocable_v<Hook, const Request&, Response*, Immediate*, const PhaseCall&>,
        "a typed hook takes the phase's const request&, response*, ImmediateResponse*, const "
        "call&");
    hook(request, &response, &immediate, call);
  }
  answer(call, response);
  answer(call, immediate);
}

}  // namespace internal
}  // namespace typed
}  // namespace callout

#define CALLOUT_TYPED_ON_REQUEST_HEADERS(...)                                                      \
  CALLOUT_DEFINE_TYPED_HOOK(callout_on_request_headers, HeadersCall, HttpHeaders, HeadersResponse, \
                            __VA_ARGS__)
#define CALLOUT_TYPED_ON_RESPONSE_HEADERS(...)                                     \
  CALLOUT_DEFINE_TYPED_HOOK(callout_on_response_headers, HeadersCall, HttpHeaders, \
                            HeadersResponse, __VA_ARGS__)
#define CALLOUT_TYPED_ON_REQUEST_BODY(...) \
  CALLOUT_DEFINE_TYPED_HOOK(callout_on_request_body, BodyCall, HttpBody, BodyResponse, __VA_ARGS__)
#define CALLOUT_TYPED_ON_RESPONSE_BODY(...) \
  CALLOUT_DEFINE_TYPED_HOOK(callout_on_response_body, BodyCall, HttpBody, BodyResponse, __VA_ARGS__)
#define CALLOUT_TYPED_ON_REQUEST_TRAILERS(...)                                       \
  CALLOUT_DEFINE_TYPED_HOOK(callout_on_request_trailers, TrailersCall, HttpTrailers, \
                            TrailersResponse, __VA_ARGS__)
#define CALLOUT_TYPED_ON_RESPONSE_TRAILERS(...)                                       \
  CALLOUT_DEFINE_TYPED_HOOK(callout_on_response_trailers, TrailersCall, HttpTrailers, \
                            TrailersResponse, __VA_ARGS__)

#define CALLOUT_DEFINE_TYPED_HOOK(hook, PhaseCall, Request, Response, ...)                      \
  static void hook##_typed(__VA_ARGS__);                                                        \
  extern "C" CALLOUT_EXPORT callout_status_t hook(callout_call_t* raw_call) {                   \
    return ::callout::internal::run_hook<::callout::PhaseCall>(                                 \
        raw_call, [](const ::callout::PhaseCall& call) {                                        \
          namespace ext_proc = ::callout::typed::ext_proc;                                      \
          ::callout::typed::internal::run<ext_proc::Request, ext_proc::Response>(call,          \
                                                                                 hook##_typed); \
        });                                                                                     \
  }                                                                                             \
  static void hook##_typed(__VA_ARGS__)

#endif  // CALLOUT_TYPED_HPP_
