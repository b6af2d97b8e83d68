// callout/testing.hpp - a host for the unit tests of a plugin: feed a message, read the
// answer. No process, no socket, no Envoy, and no library but libc's dlopen; any test
// framework will do. C++17.
//
//     callout::testing::Plugin plugin("build/plugins/basic.so");
//     callout::testing::Stream stream(plugin);
//     callout::testing::Answer answer = stream.request_headers({{":path", "/"}, {"foo", "1"}});
//     assert(answer.header("header-request") == "request");
//     assert(answer.removed("foo"));
//
// A plugin is a file, or what is linked into the test program itself:
//     #include "my_plugin.cc"
//     callout::testing::Plugin plugin(callout::testing::kLinked, R"({"limit": 3})");
//
// A deferred call is waited for, up to Stream::wait_max. The fake host is stricter than
// the real one in one thing: it does not mend an illegal answer but says so in
// Answer::problem. It knows no chain, no policy and no body buffering.
//
// Thread: a Stream belongs to one thread at a time; different streams of one Plugin may
// run at once. A Plugin outlives its streams.
#ifndef CALLOUT_TESTING_HPP_
#define CALLOUT_TESTING_HPP_

#include <callout/message.h>
#include <dlfcn.h>

#include <atomic>
#include <callout/testing_answer.hpp>
#include <callout/view.hpp>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Hooks of a plugin that is linked in are found if they are there.
#pragma weak callout_plugin_create
#pragma weak callout_plugin_destroy
#pragma weak callout_on_stream_open
#pragma weak callout_on_stream_close
#pragma weak callout_on_stream_cancel
#pragma weak callout_on_process
#pragma weak callout_on_request_headers
#pragma weak callout_on_response_headers
#pragma weak callout_on_request_body
#pragma weak callout_on_response_body
#pragma weak callout_on_request_trailers
#pragma weak callout_on_response_trailers

namespace callout::testing {

enum Linked { kLinked };

namespace internal {

using CallHook = callout_status_t (*)(callout_call_t*);
using StreamHook = void (*)(callout_call_t*);

struct Hooks {
  callout_status_t (*create)(callout_create_args_t*) = nullptr;
  void (*destroy)(void*) = nullptr;
  CallHook open = nullptr;
  StreamHook close = nullptr;
  StreamHook cancel = nullptr;
  CallHook phases[8] = {};  // by phase; 0: on_process
};

inline Hooks linked_hooks() {
  Hooks hooks;
  hooks.create = &callout_plugin_create;
  hooks.destroy = &callout_plugin_destroy;
  hooks.open = &callout_on_stream_open;
  hooks.close = &callout_on_stream_close;
  hooks.cancel = &callout_on_stream_cancel;
  hooks.phases[0] = &callout_on_process;
  hooks.phases[CALLOUT_REQUEST_HEADERS] = &callout_on_request_headers;
  hooks.phases[CALLOUT_RESPONSE_HEADERS] = &callout_on_response_headers;
  hooks.phases[CALLOUT_REQUEST_BODY] = &callout_on_request_body;
  hooks.phases[CALLOUT_RESPONSE_BODY] = &callout_on_response_body;
  hooks.phases[CALLOUT_REQUEST_TRAILERS] = &callout_on_request_trailers;
  hooks.phases[CALLOUT_RESPONSE_TRAILERS] = &callout_on_response_trailers;
  return hooks;
}

template <class Function>
void find(void* file, const char* name, Function* hook) {
  *hook = reinterpret_cast<Function>(dlsym(file, name));
}

// Throws std::runtime_error if the file is no plugin. It stays loaded, as in the host.
inline Hooks loaded_hooks(const std::string& path) {
  void* file = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (file == nullptr) throw std::runtime_error(dlerror());
  const auto* version = static_cast<const uint32_t*>(dlsym(file, "callout_abi_version"));
  if (version == nullptr || *version != CALLOUT_ABI_VERSION) {
    throw std::runtime_error(path + " is no plugin of this ABI version");
  }
  Hooks hooks;
  find(file, "callout_plugin_create", &hooks.create);
  find(file, "callout_plugin_destroy", &hooks.destroy);
  find(file, "callout_on_stream_open", &hooks.open);
  find(file, "callout_on_stream_close", &hooks.close);
  find(file, "callout_on_stream_cancel", &hooks.cancel);
  find(file, "callout_on_process", &hooks.phases[0]);
  find(file, "callout_on_request_headers", &hooks.phases[CALLOUT_REQUEST_HEADERS]);
  find(file, "callout_on_response_headers", &hooks.phases[CALLOUT_RESPONSE_HEADERS]);
  find(file, "callout_on_request_body", &hooks.phases[CALLOUT_REQUEST_BODY]);
  find(file, "callout_on_response_body", &hooks.phases[CALLOUT_RESPONSE_BODY]);
  find(file, "callout_on_request_trailers", &hooks.phases[CALLOUT_REQUEST_TRAILERS]);
  find(file, "callout_on_response_trailers", &hooks.phases[CALLOUT_RESPONSE_TRAILERS]);
  return hooks;
}

}  // namespace internal

// One instance, created here and destroyed with the object.
class Plugin {
 public:
  struct Log {
    callout_log_level_t level;
    std::string text;
  };

  explicit Plugin(const std::string& path, std::string_view config = {})
      : Plugin(internal::loaded_hooks(path), config) {}
  explicit Plugin(Linked, std::string_view config = {})
      : Plugin(internal::linked_hooks(), config) {}
  ~Plugin() {
    if (status_ == CALLOUT_OK && hooks_.destroy != nullptr) hooks_.destroy(args_.plugin);
  }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  // What callout_plugin_create returned. Streams need OK.
  callout_status_t status() const { return status_; }
  // What it asked for: phases, whole_body_bytes_max, blocking.
  const callout_create_args_t& wants() const { return args_; }

  std::vector<Log> logs() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return logs_;
  }
  // What a counter has added up to, a gauge was set to, or a histogram has seen last.
  double metric(std::string_view name) const {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const Metric& metric : metrics_) {
      if (metric.name == name) return metric.value;
    }
    return 0;
  }

 private:
  friend class Stream;
  struct Metric {
    std::string name;
    callout_metric_kind_t kind;
    double value;
  };
  // The table handed out comes first, so that the way back is a cast.
  struct Table {
    callout_host_t abi;
    Plugin* plugin;
  };

  Plugin(const internal::Hooks& hooks, std::string_view config);
  static Plugin* from(const callout_host_t* host) {
    return reinterpret_cast<const Table*>(host)->plugin;
  }
  static callout_status_t define(const callout_host_t* host, callout_metric_kind_t kind,
                                 callout_bytes_t name, callout_bytes_t help, uint32_t* id);
  static void record(const callout_host_t* host, uint32_t id, double value);
  static void log(const callout_host_t* host, callout_log_level_t level, callout_bytes_t text);

  internal::Hooks hooks_;
  Table table_{};
  callout_create_args_t args_{};
  callout_status_t status_ = CALLOUT_OK;
  mutable std::mutex mutex_;
  std::vector<Log> logs_;
  std::vector<Metric> metrics_;
};

// One HTTP request: opened with its first message, closed with the object.
class Stream {
 public:
  explicit Stream(Plugin& plugin) : plugin_(plugin) {
    call_.owner = this;
    call_.abi.struct_size = sizeof(callout_call_t);
    call_.abi.host = &plugin.table_.abi;
    call_.abi.plugin = plugin.args_.plugin;
  }
  ~Stream() {
    if (state_ != kOpen) return;
    begin(0, {});
    if (plugin_.hooks_.close != nullptr) plugin_.hooks_.close(&call_.abi);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // --- Before the first message ---

  // What Envoy would say of the request. `attributes` is a serialized Struct of them
  // (callout::StructWriter), `metadata` one of namespaces.
  Stream& set_attributes(std::string_view attributes);
  Stream& set_metadata(std::string_view metadata);
  Stream& set_grpc_metadata(std::string key, std::string value) {
    grpc_metadata_.emplace(std::move(key), std::move(value));
    return *this;
  }
  Stream& set_property(callout_property_t property, std::string value) {
    properties_[property] = std::move(value);
    return *this;
  }
  Stream& set_body_modes(callout_body_mode_t request, callout_body_mode_t response) {
    body_modes_[0] = request;
    body_modes_[1] = response;
    return *this;
  }
  std::chrono::milliseconds wait_max{10000};  // for a deferred call

  // --- Messages ---

  Answer request_headers(const HeaderList& headers, bool end_of_stream = false) {
    return headers_message(CALLOUT_REQUEST_HEADERS, headers, end_of_stream);
  }
  Answer response_headers(const HeaderList& headers, bool end_of_stream = false) {
    return headers_message(CALLOUT_RESPONSE_HEADERS, headers, end_of_stream);
  }
  Answer request_body(std::string_view body, bool end_of_stream = true) {
    return body_message(CALLOUT_REQUEST_BODY, body, end_of_stream);
  }
  Answer response_body(std::string_view body, bool end_of_stream = true) {
    return body_message(CALLOUT_RESPONSE_BODY, body, end_of_stream);
  }
  Answer request_trailers(const HeaderList& trailers) {
    return headers_message(CALLOUT_REQUEST_TRAILERS, trailers, false);
  }
  Answer response_trailers(const HeaderList& trailers) {
    return headers_message(CALLOUT_RESPONSE_TRAILERS, trailers, false);
  }
  // Any message: a serialized HttpHeaders, HttpBody or HttpTrailers.
  Answer message(callout_phase_t phase, std::string_view message, uint32_t flags = 0);

  // The client leaves: is_cancelled() from here on.
  void cancel() {
    cancelled_ = true;
    if (state_ == kOpen && plugin_.hooks_.cancel != nullptr) plugin_.hooks_.cancel(&call_.abi);
  }

 private:
  friend class Plugin;
  enum State { kFresh, kOpen, kRefused };
  struct FakeCall {
    callout_call_t abi;
    Stream* owner;
  };
  static Stream* from(const callout_call_t* call) {
    return reinterpret_cast<const FakeCall*>(call)->owner;
  }

  Answer headers_message(callout_phase_t phase, const HeaderList& headers, bool end_of_stream);
  Answer body_message(callout_phase_t phase, std::string_view body, bool end_of_stream);
  void begin(callout_phase_t phase, std::string_view message);
  void open();
  callout_status_t call_hooks();
  void settle(callout_status_t status);
  Answer* set_answer(callout_field_t field, const callout_bytes_t* parts, size_t count,
                     Answer* answer);
  void read_whole(std::string_view response);
  void take_annotation(callout_field_t field, std::string_view bytes);

  static callout_status_t respond(callout_call_t* call, callout_field_t field,
                                  const callout_bytes_t* parts, size_t count);
  static callout_status_t send(callout_call_t* call, callout_field_t field,
                               const callout_bytes_t* parts, size_t count);
  static callout_status_t annotate(callout_call_t* call, callout_field_t field,
                                   callout_bytes_t message);
  static void set_error(callout_call_t* call, callout_bytes_t text) {
    from(call)->answer_.error.assign(to_view(text).substr(0, 1024));
  }
  static callout_status_t finish(callout_call_t* call, callout_status_t status);
  static int32_t is_cancelled(const callout_call_t* call) { return from(call)->cancelled_; }
  static callout_status_t get_metadata(const callout_call_t* call, callout_bytes_t key,
                                       uint32_t index, callout_bytes_t* value);
  static callout_status_t get_property(const callout_call_t* call, callout_property_t property,
                                       callout_bytes_t* value);

  Plugin& plugin_;
  FakeCall call_{};
  State state_ = kFresh;
  bool may_answer_ = false;
  std::atomic<bool> cancelled_{false};
  std::string attributes_;
  std::string metadata_;
  std::multimap<std::string, std::string> grpc_metadata_;
  std::map<callout_property_t, std::string> properties_;
  callout_body_mode_t body_modes_[2] = {CALLOUT_BODY_BUFFERED, CALLOUT_BODY_BUFFERED};
  uint64_t body_offsets_[2] = {0, 0};
  std::string message_;
  std::string request_;
  Answer answer_;
  std::mutex mutex_;  // guards finished_ and status_
  std::condition_variable finished_event_;
  bool finished_ = false;
  callout_status_t status_ = CALLOUT_OK;
};

}  // namespace callout::testing

#include <callout/testing_host.hpp>

#endif  // CALLOUT_TESTING_HPP_
