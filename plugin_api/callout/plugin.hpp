// SPDX-License-Identifier: Apache-2.0

// callout/plugin.hpp - all a C++ plugin (C++17 or later) needs. Header only: nothing to
// link.
//
//     #include <callout/plugin.hpp>
//     CALLOUT_PLUGIN();
//     CALLOUT_ON_REQUEST_HEADERS(call) {
//       if (call.headers().contains("x-secret")) return call.deny(403, "no secrets");
//       call.set_header("x-seen-by", "callout");
//       call.clear_route_cache();
//     }
//
//     c++ -shared -fPIC -fvisibility=hidden -fno-gnu-unique -I plugin_api x.cc -o x.so
//
// Two ways to write a plugin:
//
// 1. Functions. CALLOUT_ON_REQUEST_HEADERS(call) { ... } and its like below define a hook;
//    `call` is the name of its parameter, one of the types in callout/call.hpp.
// 2. A class, for configuration, metrics and state of each stream:
//
//     class Limiter {
//      public:
//       explicit Limiter(callout::Setup& setup)
//           : limit_(parse(setup.config())),
//             refused_(setup.counter("refused_total", "Requests refused")) {}
//       struct Stream { uint64_t bytes = 0; };  // optional; made anew for each stream
//       void on_request_body(callout::BodyCall& call, Stream& stream) {
//         stream.bytes += call.body().size();
//         if (stream.bytes <= limit_) return;
//         refused_.add();
//         call.deny(413);
//       }
//       ...
//     };
//     CALLOUT_PLUGIN_CLASS(Limiter, ("limiter", "1.0", "Limits bodies"), request_body);
//
// Whatever is thrown stops here: the call ends with CALLOUT_INTERNAL and what() as its
// text, and the operator's policy decides. On a thread of the plugin's own nobody catches;
// see Deferred::finish_with. -fno-exceptions works too.
//
// No inline variables and no static locals in this layer: they would be GNU_UNIQUE symbols,
// one for the whole process, shared by all versions of a plugin.
#ifndef CALLOUT_PLUGIN_HPP_
#define CALLOUT_PLUGIN_HPP_

#include <callout/message.h>
#include <callout/answer.hpp>
#include <callout/call.hpp>
#include <callout/check.hpp>
#include <callout/data.hpp>
#include <callout/host.hpp>
#include <callout/plugin_class.hpp>
#include <callout/rate_limit.hpp>
#include <callout/tools.hpp>
#include <callout/view.hpp>

// --- Hooks as functions ---

#define CALLOUT_ON_REQUEST_HEADERS(call) \
  CALLOUT_DEFINE_HOOK(callout_on_request_headers, HeadersCall, call)
#define CALLOUT_ON_RESPONSE_HEADERS(call) \
  CALLOUT_DEFINE_HOOK(callout_on_response_headers, HeadersCall, call)
#define CALLOUT_ON_REQUEST_BODY(call) CALLOUT_DEFINE_HOOK(callout_on_request_body, BodyCall, call)
#define CALLOUT_ON_RESPONSE_BODY(call) CALLOUT_DEFINE_HOOK(callout_on_response_body, BodyCall, call)
#define CALLOUT_ON_REQUEST_TRAILERS(call) \
  CALLOUT_DEFINE_HOOK(callout_on_request_trailers, TrailersCall, call)
#define CALLOUT_ON_RESPONSE_TRAILERS(call) \
  CALLOUT_DEFINE_HOOK(callout_on_response_trailers, TrailersCall, call)
// ext_authz: see callout/check.hpp.
#define CALLOUT_ON_CHECK(call) CALLOUT_DEFINE_HOOK(callout_on_check, CheckCall, call)
// Network ext_proc: see callout/data.hpp.
#define CALLOUT_ON_CONNECTION(call) CALLOUT_DEFINE_HOOK(callout_on_connection, ConnectionCall, call)
#define CALLOUT_ON_READ_DATA(call) CALLOUT_DEFINE_HOOK(callout_on_read_data, DataCall, call)
#define CALLOUT_ON_WRITE_DATA(call) CALLOUT_DEFINE_HOOK(callout_on_write_data, DataCall, call)
// Rate limits: see callout/rate_limit.hpp.
#define CALLOUT_ON_RATE_LIMIT(call) CALLOUT_DEFINE_HOOK(callout_on_rate_limit, RateLimitCall, call)
// Gets every message first; call.next() passes it on.
#define CALLOUT_ON_PROCESS(call) CALLOUT_DEFINE_HOOK(callout_on_process, ProcessCall, call)

#define CALLOUT_DEFINE_HOOK(hook, Type, call)                                     \
  static void hook##_body(::callout::Type& call);                                 \
  extern "C" CALLOUT_EXPORT callout_status_t hook(callout_call_t* raw_call) {     \
    return ::callout::internal::run_hook<::callout::Type>(raw_call, hook##_body); \
  }                                                                               \
  static void hook##_body([[maybe_unused]] ::callout::Type& call)

// Optional: what --check and /plugins show.
//     CALLOUT_PLUGIN_INFO("header-stamp", "1.2.0", "Stamps every request");
#define CALLOUT_PLUGIN_INFO(name, version, description)                         \
  extern "C" CALLOUT_EXPORT const callout_plugin_info_t callout_plugin_info = { \
      sizeof(callout_plugin_info_t), name, version, description};               \
  typedef int callout_plugin_info_needs_a_semicolon

// Optional: the JSON Schema of the configuration, a string literal, for --check and /plugins.
//     CALLOUT_CONFIG_SCHEMA(R"({"type": "object", "properties": {"limit": {"type": "integer"}}})");
#define CALLOUT_CONFIG_SCHEMA(json)                                           \
  extern "C" CALLOUT_EXPORT const char callout_plugin_config_schema[] = json; \
  typedef int callout_config_schema_needs_a_semicolon

#endif  // CALLOUT_PLUGIN_HPP_
