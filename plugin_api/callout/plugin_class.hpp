// SPDX-License-Identifier: Apache-2.0

// callout/plugin_class.hpp - a plugin as a class: an object for each instance, and an object
// for each stream. Include <callout/plugin.hpp>, which shows how it is used.
//
//     CALLOUT_PLUGIN_CLASS(Class, ("name", "1.2.0", "What it does"), hook...);
//
// exports all that a plugin needs, and the hooks that are listed (stream_open, stream_end,
// stream_cancel, process, request_headers, response_headers, request_body, response_body,
// request_trailers, response_trailers, check, connection, read_data, write_data,
// rate_limit), each a member function on_<hook>, so
// that the file's symbols say what the plugin does. A member of that name which is not listed is an
// error of compilation. Without the part in parentheses it exports the hooks only;
// CALLOUT_PLUGIN(); and CALLOUT_PLUGIN_INFO(...); are then to be written beside it.
//
//     Class()  or  Class(callout::Setup&)     the instance; thread: [control]
//     struct Stream                           optional; made before the stream's first hook,
//                                             from nothing or from a Class&, and deleted
//                                             after its last; thread: [stream]
//     void on_request_body(BodyCall&)         or (BodyCall&, Stream&); the same for all
//     void on_check(CheckCall&)               or (CheckCall&, Stream&): ext_authz
//     void on_connection(ConnectionCall&)     or (ConnectionCall&, Stream&)
//     void on_read_data(DataCall&)            or (DataCall&, Stream&); the same for write_data
//     void on_rate_limit(RateLimitCall&)      or (RateLimitCall&, Stream&)
//     void on_stream_open(OpenCall&)          or (OpenCall&, Stream&)
//     void on_stream_end(const StreamEnd&)    or (const StreamEnd&, Stream&); how the stream
//                                             ended. The host then ends none early
//     void on_stream_cancel(CancelCall&)      or (CancelCall&, Stream&), (Stream&) or (); it
//                                             runs while a call is being worked on: set a
//                                             flag, no more; thread: [cancel]. A class that
//                                             lists it exports callout_on_stream_open, too
//
// Different streams run at once on different threads: what they share in the Class is for
// the Class to guard.
#ifndef CALLOUT_PLUGIN_CLASS_HPP_
#define CALLOUT_PLUGIN_CLASS_HPP_

#include <callout/call.hpp>
#include <callout/check.hpp>
#include <callout/data.hpp>
#include <callout/host.hpp>
#include <callout/rate_limit.hpp>
#include <exception>
#include <type_traits>

namespace callout {
namespace internal {

// The edge of a hook: what is thrown stops here.
template <class PhaseCall, class Function>
callout_status_t run_hook(callout_call_t* raw_call, Function&& function) noexcept {
  typename PhaseCall::State state(raw_call);
  PhaseCall call(&state);
  CALLOUT_TRY { function(call); }
  CALLOUT_CATCH_ALL(state)
  return state.settle();
}

// --- The stream's object ---

struct NoStream {};

template <class Class, class = void>
struct StreamTypeOf {
  using Type = NoStream;
};
template <class Class>
struct StreamTypeOf<Class, std::void_t<typename Class::Stream>> {
  using Type = typename Class::Stream;
};
template <class Class>
using StreamOf = typename StreamTypeOf<Class>::Type;

template <class Class>
StreamOf<Class>& stream_of(callout_call_t* call) {
  using Stream = StreamOf<Class>;
  if (call->stream == nullptr) {
    if constexpr (std::is_constructible_v<Stream, Class&>) {
      call->stream = new Stream(*static_cast<Class*>(call->plugin));
    } else {
      call->stream = new Stream();
    }
  }
  return *static_cast<Stream*>(call->stream);
}

// --- From a hook to a member function ---

// Whether a member function takes its call by value, and whether a Stream& as well.
template <class Method>
struct Parameters;
template <class Class, class Call>
struct Parameters<void (Class::*)(Call)> {
  static constexpr bool kByValue = !std::is_reference_v<Call>;
  static constexpr bool kTakesStream = false;
};
template <class Class, class Call, class Stream>
struct Parameters<void (Class::*)(Call, Stream)> {
  static constexpr bool kByValue = !std::is_reference_v<Call>;
  static constexpr bool kTakesStream = true;
};
template <class Class, class... All>
struct Parameters<void (Class::*)(All...) const> : Parameters<void (Class::*)(All...)> {};
template <class Class, class... All>
struct Parameters<void (Class::*)(All...) noexcept> : Parameters<void (Class::*)(All...)> {};
template <class Class, class... All>
struct Parameters<void (Class::*)(All...) const noexcept> : Parameters<void (Class::*)(All...)> {};

template <class Class, class PhaseCall, class Method>
callout_status_t run_method(callout_call_t* raw_call, Method method) noexcept {
  return run_hook<PhaseCall>(raw_call, [&](PhaseCall& call) {
    Class& instance = *static_cast<Class*>(raw_call->plugin);
    // By the first call of the stream: later ones may run beside each other.
    if constexpr (!std::is_same_v<StreamOf<Class>, NoStream>) stream_of<Class>(raw_call);
    using Takes = Parameters<Method>;
    if constexpr (Takes::kTakesStream && Takes::kByValue) {
      (instance.*method)(PhaseCall(call.state()), stream_of<Class>(raw_call));
    } else if constexpr (Takes::kTakesStream) {
      (instance.*method)(call, stream_of<Class>(raw_call));
    } else if constexpr (Takes::kByValue) {
      (instance.*method)(PhaseCall(call.state()));
    } else {
      (instance.*method)(call);
    }
  });
}

// What `function`, of that name, throws stops here.
template <class Class, class Function>
void at_edge(callout_call_t* raw_call, const char* name, Function&& function) noexcept {
#if defined(__cpp_exceptions)
  try {
    function();
  } catch (const std::exception& error) {
    Host(raw_call->host).error(name, " threw: ", error.what());
  } catch (...) {
    Host(raw_call->host).error(name, " threw");
  }
#else
  static_cast<void>(raw_call);
  static_cast<void>(name);
  function();
#endif
}

template <class Class, class Method>
void call_cancel(callout_call_t* raw_call, Method method) {
  Class& instance = *static_cast<Class*>(raw_call->plugin);
  auto* const stream = static_cast<StreamOf<Class>*>(raw_call->stream);
  [[maybe_unused]] CancelCall call(raw_call);
  if constexpr (std::is_invocable_v<Method, Class&, CancelCall&, StreamOf<Class>&>) {
    if (stream != nullptr) (instance.*method)(call, *stream);
  } else if constexpr (std::is_invocable_v<Method, Class&, CancelCall&>) {
    (instance.*method)(call);
  } else if constexpr (std::is_invocable_v<Method, Class&, StreamOf<Class>&>) {
    if (stream != nullptr) (instance.*method)(*stream);
  } else {
    (instance.*method)();
  }
}
template <class Class, class Method>
void run_cancel(callout_call_t* raw_call, Method method) noexcept {
  at_edge<Class>(raw_call, "on_stream_cancel",
                 [raw_call, method] { call_cancel<Class>(raw_call, method); });
}

template <class Class>
void drop_stream(callout_call_t* raw_call) noexcept {
  delete static_cast<StreamOf<Class>*>(raw_call->stream);
  raw_call->stream = nullptr;
}

// --- The instance ---

template <class Class>
Class* new_instance(Setup& setup) {
  if constexpr (std::is_constructible_v<Class, Setup&>) {
    return new Class(setup);
  } else {
    static_assert(std::is_default_constructible_v<Class>,
                  "a plugin class is made from callout::Setup& or from nothing");
    return new Class();
  }
}

// --- Every hook is listed ---

// Which hooks are listed, as bits; and for each hook whether Class has the member.
enum HookBit : unsigned {
  kBit_stream_open = 1u << 0,
  kBit_stream_cancel = 1u << 1,
  kBit_process = 1u << 2,
  kBit_request_headers = 1u << 3,
  kBit_response_headers = 1u << 4,
  kBit_request_body = 1u << 5,
  kBit_response_body = 1u << 6,
  kBit_request_trailers = 1u << 7,
  kBit_response_trailers = 1u << 8,
  kBit_stream_end = 1u << 9,
  kBit_check = 1u << 10,
  kBit_rate_limit = 1u << 11,
  kBit_connection = 1u << 12,
  kBit_read_data = 1u << 13,
  kBit_write_data = 1u << 14,
};

#define CALLOUT_FIND_MEMBER(hook)         \
  template <class Class, class = void>    \
  struct Has_##hook : std::false_type {}; \
  template <class Class>                  \
  struct Has_##hook<Class, std::void_t<decltype(&Class::on_##hook)>> : std::true_type {};
CALLOUT_FIND_MEMBER(stream_open)
CALLOUT_FIND_MEMBER(stream_end)
CALLOUT_FIND_MEMBER(stream_cancel)
CALLOUT_FIND_MEMBER(process)
CALLOUT_FIND_MEMBER(request_headers)
CALLOUT_FIND_MEMBER(response_headers)
CALLOUT_FIND_MEMBER(request_body)
CALLOUT_FIND_MEMBER(response_body)
CALLOUT_FIND_MEMBER(request_trailers)
CALLOUT_FIND_MEMBER(response_trailers)
CALLOUT_FIND_MEMBER(check)
CALLOUT_FIND_MEMBER(read_data)
CALLOUT_FIND_MEMBER(write_data)
CALLOUT_FIND_MEMBER(connection)
CALLOUT_FIND_MEMBER(rate_limit)
#undef CALLOUT_FIND_MEMBER

// For a cancel to find the stream's object also while the first call runs.
template <class Class>
callout_status_t make_stream(callout_call_t* raw_call) noexcept {
  return run_hook<OpenCall>(raw_call, [raw_call](OpenCall&) { stream_of<Class>(raw_call); });
}

// After an open that is refused the host calls no close.
template <class Class, class Method>
callout_status_t run_open(callout_call_t* raw_call, Method method) noexcept {
  callout_status_t status = run_method<Class, OpenCall>(raw_call, method);
  if constexpr (Has_stream_cancel<Class>::value) {
    if (status == CALLOUT_OK) status = make_stream<Class>(raw_call);
  }
  if (status < 0) drop_stream<Class>(raw_call);
  return status;
}

template <class Class>
void close_stream(callout_call_t* raw_call) noexcept {
  if constexpr (Has_stream_end<Class>::value) {
    at_edge<Class>(raw_call, "on_stream_end", [raw_call] {
      Class& instance = *static_cast<Class*>(raw_call->plugin);
      const StreamEnd end(raw_call);
      if constexpr (std::is_invocable_v<decltype(&Class::on_stream_end), Class&, const StreamEnd&,
                                        StreamOf<Class>&>) {
        instance.on_stream_end(end, stream_of<Class>(raw_call));
      } else {
        instance.on_stream_end(end);
      }
    });
  }
  drop_stream<Class>(raw_call);
}

template <class Class>
callout_status_t create(callout_create_args_t* args) noexcept {
  Setup setup(args);
  Class* instance = nullptr;
#if defined(__cpp_exceptions)
  try {
    instance = new_instance<Class>(setup);
  } catch (const std::exception& error) {
    setup.host().error(error.what());
    return CALLOUT_INVALID_ARGUMENT;
  } catch (...) {
    setup.host().error("the constructor threw");
    return CALLOUT_INTERNAL;
  }
#else
  instance = new_instance<Class>(setup);
#endif
  if (setup.status() != CALLOUT_OK) {
    delete instance;
    return setup.status();
  }
  if constexpr (Has_stream_end<Class>::value) setup.want_real_end();
  args->plugin = instance;
  return CALLOUT_OK;
}

template <class Class, unsigned kListed>
constexpr bool check_listed() {
#define CALLOUT_CHECK_LISTED(hook)                                         \
  static_assert(!Has_##hook<Class>::value || (kListed & kBit_##hook) != 0, \
                "the class has on_" #hook ", but CALLOUT_PLUGIN_CLASS does not list " #hook);
  CALLOUT_CHECK_LISTED(stream_open)
  CALLOUT_CHECK_LISTED(stream_end)
  CALLOUT_CHECK_LISTED(stream_cancel)
  CALLOUT_CHECK_LISTED(process)
  CALLOUT_CHECK_LISTED(request_headers)
  CALLOUT_CHECK_LISTED(response_headers)
  CALLOUT_CHECK_LISTED(request_body)
  CALLOUT_CHECK_LISTED(response_body)
  CALLOUT_CHECK_LISTED(request_trailers)
  CALLOUT_CHECK_LISTED(response_trailers)
  CALLOUT_CHECK_LISTED(check)
  CALLOUT_CHECK_LISTED(read_data)
  CALLOUT_CHECK_LISTED(write_data)
  CALLOUT_CHECK_LISTED(connection)
  CALLOUT_CHECK_LISTED(rate_limit)
#undef CALLOUT_CHECK_LISTED
  // The others' exported functions name their members.
  static_assert((kListed & kBit_stream_end) == 0 || Has_stream_end<Class>::value,
                "CALLOUT_PLUGIN_CLASS lists stream_end, but the class has no public on_stream_end, "
                "or more than one");
  return true;
}

}  // namespace internal
}  // namespace callout

#define CALLOUT_PLUGIN_CLASS(Class, ...) \
  CALLOUT_CLASS_PICK_(CALLOUT_IS_PAREN_(CALLOUT_FIRST_(__VA_ARGS__, )))(Class, __VA_ARGS__)

// With the plugin's info in parentheses, and without.
#define CALLOUT_CLASS_WITH_INFO_(Class, info, ...)                                  \
  extern "C" {                                                                      \
  CALLOUT_PLUGIN();                                                                 \
  const callout_plugin_info_t callout_plugin_info = {sizeof(callout_plugin_info_t), \
                                                     CALLOUT_STRIP_ info};          \
  }                                                                                 \
  CALLOUT_CLASS_HOOKS_(Class, __VA_ARGS__)
#define CALLOUT_CLASS_HOOKS_(Class, ...)                                                          \
  extern "C" CALLOUT_EXPORT callout_status_t callout_plugin_create(callout_create_args_t* args) { \
    static_assert(::callout::internal::check_listed<                                              \
                  Class, (0u CALLOUT_EACH_(CALLOUT_CLASS_BIT_, Class, __VA_ARGS__))>());          \
    return ::callout::internal::create<Class>(args);                                              \
  }                                                                                               \
  extern "C" CALLOUT_EXPORT void callout_plugin_destroy(void* plugin) {                           \
    delete static_cast<Class*>(plugin);                                                           \
  }                                                                                               \
  extern "C" CALLOUT_EXPORT void callout_on_stream_close(callout_call_t* call) {                  \
    ::callout::internal::close_stream<Class>(call);                                               \
  }                                                                                               \
  CALLOUT_EACH_(CALLOUT_CLASS_HOOK_, Class, __VA_ARGS__)                                          \
  CALLOUT_CLASS_OPEN_(CALLOUT_LISTS_(stream_cancel, Class, __VA_ARGS__),                          \
                      CALLOUT_LISTS_(stream_open, Class, __VA_ARGS__))                            \
  (Class) typedef int callout_plugin_class_needs_a_semicolon

// CALLOUT_IS_PAREN_(x) is 1 if x is in parentheses, else 0.
#define CALLOUT_FIRST_(first, ...) first
#define CALLOUT_STRIP_(...) __VA_ARGS__
#define CALLOUT_SECOND_(a, b, ...) b
#define CALLOUT_SECOND_OF_(...) CALLOUT_SECOND_(__VA_ARGS__)
#define CALLOUT_IS_PAREN_(x) CALLOUT_SECOND_OF_(CALLOUT_PAREN_PROBE_ x, 0, )
#define CALLOUT_PAREN_PROBE_(...) unused, 1
#define CALLOUT_CLASS_PICK_(is_paren) CALLOUT_CLASS_PICK__(is_paren)
#define CALLOUT_CLASS_PICK__(is_paren) CALLOUT_CLASS_PICK_##is_paren
#define CALLOUT_CLASS_PICK_0 CALLOUT_CLASS_HOOKS_
#define CALLOUT_CLASS_PICK_1 CALLOUT_CLASS_WITH_INFO_

#define CALLOUT_CLASS_BIT_(Class, hook) | ::callout::internal::kBit_##hook
#define CALLOUT_CLASS_HOOK_(Class, hook) CALLOUT_CLASS_HOOK_##hook(Class)

#define CALLOUT_CLASS_CALL_(Class, hook, PhaseCall)                                               \
  extern "C" CALLOUT_EXPORT callout_status_t callout_on_##hook(callout_call_t* call) {            \
    return ::callout::internal::run_method<Class, ::callout::PhaseCall>(call, &Class::on_##hook); \
  }
#define CALLOUT_CLASS_HOOK_stream_open(Class)                                               \
  extern "C" CALLOUT_EXPORT callout_status_t callout_on_stream_open(callout_call_t* call) { \
    return ::callout::internal::run_open<Class>(call, &Class::on_stream_open);              \
  }
#define CALLOUT_CLASS_HOOK_stream_end(Class)  // in callout_on_stream_close
#define CALLOUT_CLASS_HOOK_process(Class) CALLOUT_CLASS_CALL_(Class, process, ProcessCall)
#define CALLOUT_CLASS_HOOK_request_headers(Class) \
  CALLOUT_CLASS_CALL_(Class, request_headers, HeadersCall)
#define CALLOUT_CLASS_HOOK_response_headers(Class) \
  CALLOUT_CLASS_CALL_(Class, response_headers, HeadersCall)
#define CALLOUT_CLASS_HOOK_request_body(Class) CALLOUT_CLASS_CALL_(Class, request_body, BodyCall)
#define CALLOUT_CLASS_HOOK_response_body(Class) CALLOUT_CLASS_CALL_(Class, response_body, BodyCall)
#define CALLOUT_CLASS_HOOK_request_trailers(Class) \
  CALLOUT_CLASS_CALL_(Class, request_trailers, TrailersCall)
#define CALLOUT_CLASS_HOOK_response_trailers(Class) \
  CALLOUT_CLASS_CALL_(Class, response_trailers, TrailersCall)
#define CALLOUT_CLASS_HOOK_check(Class) CALLOUT_CLASS_CALL_(Class, check, CheckCall)
#define CALLOUT_CLASS_HOOK_connection(Class) CALLOUT_CLASS_CALL_(Class, connection, ConnectionCall)
#define CALLOUT_CLASS_HOOK_read_data(Class) CALLOUT_CLASS_CALL_(Class, read_data, DataCall)
#define CALLOUT_CLASS_HOOK_write_data(Class) CALLOUT_CLASS_CALL_(Class, write_data, DataCall)
#define CALLOUT_CLASS_HOOK_rate_limit(Class) CALLOUT_CLASS_CALL_(Class, rate_limit, RateLimitCall)
#define CALLOUT_CLASS_HOOK_stream_cancel(Class)                                   \
  extern "C" CALLOUT_EXPORT void callout_on_stream_cancel(callout_call_t* call) { \
    ::callout::internal::run_cancel<Class>(call, &Class::on_stream_cancel);       \
  }

// Whoever has stream_cancel, and no stream_open of its own, gets one.
#define CALLOUT_CLASS_OPEN_(cancel, open) CALLOUT_CLASS_OPEN__(cancel, open)
#define CALLOUT_CLASS_OPEN__(cancel, open) CALLOUT_CLASS_OPEN_##cancel##open
#define CALLOUT_CLASS_OPEN_00(Class)
#define CALLOUT_CLASS_OPEN_01(Class)
#define CALLOUT_CLASS_OPEN_11(Class)
#define CALLOUT_CLASS_OPEN_10(Class)                                                        \
  extern "C" CALLOUT_EXPORT callout_status_t callout_on_stream_open(callout_call_t* call) { \
    return ::callout::internal::make_stream<Class>(call);                                   \
  }

// CALLOUT_LISTS_(hook, Class, a, b, ...) is 1 if one of a, b, ... is stream_cancel or
// stream_open, whichever `hook` is; else 0.
#define CALLOUT_LISTS_(hook, Class, ...) \
  CALLOUT_SECOND_OF_(CALLOUT_EACH_(CALLOUT_FINDS_##hook##_, Class, __VA_ARGS__) unused, 0, )
#define CALLOUT_FINDS_stream_cancel_(Class, hook) CALLOUT_FINDS_CANCEL_##hook
#define CALLOUT_FINDS_stream_open_(Class, hook) CALLOUT_FINDS_OPEN_##hook
#define CALLOUT_FINDS_CANCEL_stream_cancel unused, 1,
#define CALLOUT_FINDS_CANCEL_stream_open
#define CALLOUT_FINDS_CANCEL_stream_end
#define CALLOUT_FINDS_CANCEL_process
#define CALLOUT_FINDS_CANCEL_request_headers
#define CALLOUT_FINDS_CANCEL_response_headers
#define CALLOUT_FINDS_CANCEL_request_body
#define CALLOUT_FINDS_CANCEL_response_body
#define CALLOUT_FINDS_CANCEL_request_trailers
#define CALLOUT_FINDS_CANCEL_response_trailers
#define CALLOUT_FINDS_CANCEL_check
#define CALLOUT_FINDS_CANCEL_read_data
#define CALLOUT_FINDS_CANCEL_write_data
#define CALLOUT_FINDS_CANCEL_connection
#define CALLOUT_FINDS_CANCEL_rate_limit
#define CALLOUT_FINDS_OPEN_stream_cancel
#define CALLOUT_FINDS_OPEN_stream_open unused, 1,
#define CALLOUT_FINDS_OPEN_stream_end
#define CALLOUT_FINDS_OPEN_process
#define CALLOUT_FINDS_OPEN_request_headers
#define CALLOUT_FINDS_OPEN_response_headers
#define CALLOUT_FINDS_OPEN_request_body
#define CALLOUT_FINDS_OPEN_response_body
#define CALLOUT_FINDS_OPEN_request_trailers
#define CALLOUT_FINDS_OPEN_response_trailers
#define CALLOUT_FINDS_OPEN_check
#define CALLOUT_FINDS_OPEN_read_data
#define CALLOUT_FINDS_OPEN_write_data
#define CALLOUT_FINDS_OPEN_connection
#define CALLOUT_FINDS_OPEN_rate_limit

// CALLOUT_EACH_(M, Class, a, b, ...) is M(Class, a) M(Class, b) ..., for up to sixteen hooks.
#define CALLOUT_EACH_(M, Class, ...)                                                     \
  CALLOUT_SIXTEENTH_(__VA_ARGS__, CALLOUT_EACH16_, CALLOUT_EACH15_, CALLOUT_EACH14_,     \
                     CALLOUT_EACH13_, CALLOUT_EACH12_, CALLOUT_EACH11_, CALLOUT_EACH10_, \
                     CALLOUT_EACH9_, CALLOUT_EACH8_, CALLOUT_EACH7_, CALLOUT_EACH6_,     \
                     CALLOUT_EACH5_, CALLOUT_EACH4_, CALLOUT_EACH3_, CALLOUT_EACH2_,     \
                     CALLOUT_EACH1_, )                                                   \
  (M, Class, __VA_ARGS__)
#define CALLOUT_SIXTEENTH_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, name, ...) name
#define CALLOUT_EACH1_(M, Class, a) M(Class, a)
#define CALLOUT_EACH2_(M, Class, a, ...) M(Class, a) CALLOUT_EACH1_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH3_(M, Class, a, ...) M(Class, a) CALLOUT_EACH2_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH4_(M, Class, a, ...) M(Class, a) CALLOUT_EACH3_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH5_(M, Class, a, ...) M(Class, a) CALLOUT_EACH4_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH6_(M, Class, a, ...) M(Class, a) CALLOUT_EACH5_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH7_(M, Class, a, ...) M(Class, a) CALLOUT_EACH6_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH8_(M, Class, a, ...) M(Class, a) CALLOUT_EACH7_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH9_(M, Class, a, ...) M(Class, a) CALLOUT_EACH8_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH10_(M, Class, a, ...) M(Class, a) CALLOUT_EACH9_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH11_(M, Class, a, ...) M(Class, a) CALLOUT_EACH10_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH12_(M, Class, a, ...) M(Class, a) CALLOUT_EACH11_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH13_(M, Class, a, ...) M(Class, a) CALLOUT_EACH12_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH14_(M, Class, a, ...) M(Class, a) CALLOUT_EACH13_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH15_(M, Class, a, ...) M(Class, a) CALLOUT_EACH14_(M, Class, __VA_ARGS__)
#define CALLOUT_EACH16_(M, Class, a, ...) M(Class, a) CALLOUT_EACH15_(M, Class, __VA_ARGS__)

#endif  // CALLOUT_PLUGIN_CLASS_HPP_
