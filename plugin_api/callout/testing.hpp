// SPDX-License-Identifier: Apache-2.0

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
// A deferred call is waited for, up to Stream::wait_max. The plugin's timers run while one is, and
// when the test sets the clock:
//     plugin.advance(std::chrono::minutes(1));
//
// The fake host holds a plugin to the
// rules of the real one, and is stricter in two things: it does not mend an illegal answer
// but says so in Answer::problem, and it overwrites a message once its call is over, so that
// a plugin that keeps views into it is found out. It knows no chain, no policy and no body
// buffering, so it cannot tell whether headers have gone (late_header), nor what the whole chain
// makes of a request; callout-test can. What a plugin shares between streams is best tried by
// run_in_parallel().
//
// Thread: a Stream belongs to one thread at a time; different streams of one Plugin may
// run at once. A Plugin outlives its streams.
#ifndef CALLOUT_TESTING_HPP_
#define CALLOUT_TESTING_HPP_

#include <callout/message.h>
#include <callout/rpc_metadata.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <callout/testing_answer.hpp>
#include <callout/testing_check.hpp>
#include <callout/testing_data.hpp>
#include <callout/testing_extensions.hpp>
#include <callout/testing_rate_limit.hpp>
#include <callout/testing_trace.hpp>
#include <callout/view.hpp>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

// Hooks of a plugin that is linked in are found if they are there.
#pragma weak callout_plugin_create
#pragma weak callout_plugin_destroy
#pragma weak callout_plugin_destroy_with
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
#pragma weak callout_on_check
#pragma weak callout_on_read_data
#pragma weak callout_on_write_data
#pragma weak callout_on_connection
#pragma weak callout_on_rate_limit

namespace callout::testing {

enum Linked { kLinked };

namespace internal {

using CallHook = callout_status_t (*)(callout_call_t*);
using StreamHook = void (*)(callout_call_t*);

struct Hooks {
  callout_status_t (*create)(callout_create_args_t*) = nullptr;
  void (*destroy)(void*) = nullptr;
  void (*destroy_with)(const callout_destroy_args_t*) = nullptr;
  CallHook open = nullptr;
  StreamHook close = nullptr;
  StreamHook cancel = nullptr;
  CallHook phases[8] = {};  // by phase; 0: on_process
  CallHook others[5] = {};  // from CALLOUT_CHECK to CALLOUT_RATE_LIMIT
  CallHook of(callout_phase_t phase) const {
    if (phase >= CALLOUT_CHECK && phase <= CALLOUT_RATE_LIMIT) return others[phase - CALLOUT_CHECK];
    return phase < 8 ? phases[phase] : nullptr;
  }
};

inline Hooks linked_hooks() {
  Hooks hooks;
  hooks.create = &callout_plugin_create;
  hooks.destroy = &callout_plugin_destroy;
  hooks.destroy_with = &callout_plugin_destroy_with;
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
  hooks.others[CALLOUT_CHECK - CALLOUT_CHECK] = &callout_on_check;
  hooks.others[CALLOUT_READ_DATA - CALLOUT_CHECK] = &callout_on_read_data;
  hooks.others[CALLOUT_WRITE_DATA - CALLOUT_CHECK] = &callout_on_write_data;
  hooks.others[CALLOUT_CONNECTION - CALLOUT_CHECK] = &callout_on_connection;
  hooks.others[CALLOUT_RATE_LIMIT - CALLOUT_CHECK] = &callout_on_rate_limit;
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
  find(file, "callout_plugin_destroy_with", &hooks.destroy_with);
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
  find(file, "callout_on_check", &hooks.others[CALLOUT_CHECK - CALLOUT_CHECK]);
  find(file, "callout_on_read_data", &hooks.others[CALLOUT_READ_DATA - CALLOUT_CHECK]);
  find(file, "callout_on_write_data", &hooks.others[CALLOUT_WRITE_DATA - CALLOUT_CHECK]);
  find(file, "callout_on_connection", &hooks.others[CALLOUT_CONNECTION - CALLOUT_CHECK]);
  find(file, "callout_on_rate_limit", &hooks.others[CALLOUT_RATE_LIMIT - CALLOUT_CHECK]);
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

  // Plugins with the same store share their data and their clock; without one each has its own.
  explicit Plugin(const std::string& path, std::string_view config = {},
                  std::shared_ptr<Store> store = nullptr)
      : Plugin(internal::loaded_hooks(path), config, std::move(store)) {}
  explicit Plugin(Linked, std::string_view config = {}, std::shared_ptr<Store> store = nullptr)
      : Plugin(internal::linked_hooks(), config, std::move(store)) {}
  ~Plugin();
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  // What callout_plugin_create returned. Streams need OK.
  callout_status_t status() const { return status_; }
  // What it asked for: phases, whole_body_bytes_max, blocking.
  const callout_create_args_t& wants() const { return args_; }
  // The files it follows.
  const std::vector<std::string>& followed_files() const { return followed_files_; }

  // Lets time pass for timers, calls to upstreams and shared data; the timers that are due run
  // here, and calls end here. Not from a timer.
  void advance(std::chrono::nanoseconds by) {
    store_->advance(by);
    run_due();
  }
  // Its calls to upstreams that are under way.
  size_t call_count() const { return calls_.count(); }
  // Its timers that wait.
  size_t timer_count() const { return timers_.count(); }
  // What it shares. The instance's own space is "".
  Store& store() { return *store_; }

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
    std::string labels;  // name=value, each with a comma behind it
    callout_metric_kind_t kind;
    double value;
  };
  // The table handed out comes first, so that the way back is a cast.
  struct Table {
    callout_host_t abi;
    void* no_services[32];
    Plugin* plugin;
  };

  Plugin(const internal::Hooks& hooks, std::string_view config, std::shared_ptr<Store> store);
  static Plugin* from(const callout_host_t* host) {
    return reinterpret_cast<const Table*>(host)->plugin;
  }
  static callout_status_t define(const callout_host_t* host, callout_metric_kind_t kind,
                                 callout_bytes_t name, callout_bytes_t help, uint32_t* id);
  static callout_status_t define_metric(const callout_host_t* host,
                                        const callout_metric_spec_t* spec, uint32_t* id);
  static callout_status_t follow_file(const callout_host_t* host, callout_bytes_t path);
  static void record(const callout_host_t* host, uint32_t id, double value);
  static void log(const callout_host_t* host, callout_log_level_t level, callout_bytes_t text);

  static const void* find_extension(const callout_host_t* host, const char* id);
  static callout_status_t find_upstream(const callout_host_t* host, callout_bytes_t name,
                                        callout_upstream_info_t* info);
  static callout_status_t start_call(const callout_host_t* host, const callout_outgoing_t* outgoing,
                                     uint64_t* id);
  // Timers and calls, until none is due.
  void run_due() {
    const std::chrono::nanoseconds now = store_->now();
    for (bool ran = true; ran;) {
      ran = timers_.run_until(now);
      ran = calls_.run_until(now) || ran;
    }
  }

  internal::Hooks hooks_;
  const std::shared_ptr<Store> store_;
  internal::FakeTimers timers_;
  internal::FakeTimers calls_;  // to upstreams, by when they end
  Table table_{};
  callout_create_args_t args_{};
  callout_status_t status_ = CALLOUT_OK;
  bool created_ = false;
  std::vector<std::string> followed_files_;
  mutable std::mutex mutex_;
  std::vector<Log> logs_;
  std::vector<Metric> metrics_;
};

// One HTTP request: opened with its first message, closed with the object.
class Stream {
 public:
  explicit Stream(Plugin& plugin) : plugin_(plugin) {}
  ~Stream() {
    if (state_ == kOpen) close();
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
  // False: the exchange is not sampled, so that nothing is added to its trace.
  Stream& set_recorded(bool recorded) {
    recorded_ = recorded;
    return *this;
  }
  std::chrono::milliseconds wait_max{10000};  // for a deferred call
  // What call->end says at the end. The bytes and the status that the messages have shown are
  // filled in where they are 0.
  callout_stream_end_t end = {
      sizeof(callout_stream_end_t), CALLOUT_END_COMPLETED, 0, 0, 0, 0, 0, 0};

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
  // ext_authz: the one message of its stream.
  CheckAnswer check(const CheckQuestion& question);
  // Rate limits: the one message of its stream.
  RateLimitAnswer rate_limit(const RateLimitQuestion& question);
  // Network ext_proc: the stream is a connection. Before the first bytes it is announced.
  DataAnswer read_data(std::string_view data, bool end_of_stream = false) {
    return data_message(CALLOUT_READ_DATA, data, end_of_stream);
  }
  DataAnswer write_data(std::string_view data, bool end_of_stream = false) {
    return data_message(CALLOUT_WRITE_DATA, data, end_of_stream);
  }
  // Any message: a serialized HttpHeaders, HttpBody, HttpTrailers, AttributeContext, Data or
  // RateLimitRequest.
  Answer message(callout_phase_t phase, std::string_view message, uint32_t flags = 0);

  // --- Afterwards ---

  // What the plugin has added to the span of its last call in this phase; empty if there was none.
  AddedToSpan span(callout_phase_t phase) const {
    const std::vector<AddedToSpan>& all = spans_.all();
    const auto found = std::find_if(
        all.rbegin(), all.rend(), [phase](const AddedToSpan& span) { return span.phase == phase; });
    return found == all.rend() ? AddedToSpan() : *found;
  }

  // The client leaves: is_cancelled() from here on. on_stream_cancel is called here, once, as
  // if a call were being worked on.
  void cancel();

 private:
  friend class Plugin;
  // The host's defaults of --max_message_bytes and --max_sent_bytes.
  static constexpr size_t kMessageBytesMax = 16777216;
  static constexpr size_t kUnsentBytesMax = 4194304;
  enum State { kFresh, kOpen, kRefused };
  struct FakeCall {
    callout_call_t abi;
    uint64_t spare[8];
    Stream* owner;
    bool finished;  // guarded by mutex_
    bool over;      // guarded by mutex_
    std::string message;
    std::string request;
    bool is_other_service() const { return abi.phase >= CALLOUT_CHECK; }
  };
  // Null for a copy of a call, and for none.
  static FakeCall* from(const callout_call_t* call) {
    if (call == nullptr || call->self != call) return nullptr;
    return reinterpret_cast<FakeCall*>(const_cast<callout_call_t*>(call));
  }
  // The stream of a call that is not over; else null.
  static Stream* live(const callout_call_t* call);

  Answer headers_message(callout_phase_t phase, const HeaderList& headers, bool end_of_stream);
  Answer body_message(callout_phase_t phase, std::string_view body, bool end_of_stream);
  DataAnswer data_message(callout_phase_t phase, std::string_view data, bool end_of_stream);
  DataAnswer taken_data(callout_phase_t phase, const Answer& answer, std::string_view data);
  FakeCall* begin(callout_phase_t phase, std::string_view message);
  void end_call(FakeCall* call);
  void open();
  void close();
  callout_status_t call_hooks(callout_call_t* call);
  void await_finish();
  void settle(callout_phase_t phase, callout_body_mode_t mode, callout_status_t status);
  static Stream* answerable(const callout_call_t* call);
  void set_answer(callout_field_t field, std::string_view bytes, Answer* answer);
  static bool is_answer(callout_field_t field);
  static callout_status_t check_answer(callout_field_t field, const callout_bytes_t* parts,
                                       size_t count, std::string* bytes);
  void read_whole(std::string_view response, Answer* answer);
  void fill_end();
  void take_annotation(callout_field_t field, std::string_view bytes);

  static bool is_answer_to(callout_phase_t phase, callout_field_t field);
  bool refuses(callout_phase_t phase) const;
  callout_status_t take_whole(callout_phase_t phase, callout_field_t field,
                              const callout_bytes_t* parts, size_t count);
  static callout_status_t respond(callout_call_t* call, callout_field_t field,
                                  const callout_bytes_t* parts, size_t count);
  static callout_status_t send(callout_call_t* call, callout_field_t field,
                               const callout_bytes_t* parts, size_t count);
  static callout_status_t annotate(callout_call_t* call, callout_field_t field,
                                   callout_bytes_t message);
  static void set_error(callout_call_t* call, callout_bytes_t text) {
    if (live(call) != nullptr) live(call)->answer_.error.assign(to_view(text).substr(0, 1024));
  }
  static callout_status_t finish(callout_call_t* call, callout_status_t status);
  static int32_t is_cancelled(const callout_call_t* call) {
    return live(call) != nullptr && live(call)->cancelled_;
  }
  static uint64_t send_room(const callout_call_t* call);
  static callout_status_t get_metadata_at(const callout_call_t* call, uint32_t index,
                                          callout_bytes_t* key, callout_bytes_t* value);
  static callout_status_t get_metadata(const callout_call_t* call, callout_bytes_t key,
                                       uint32_t index, callout_bytes_t* value);
  static callout_status_t get_property(const callout_call_t* call, callout_property_t property,
                                       callout_bytes_t* value);
  bool has_span(const callout_call_t* call) const;
  static int32_t is_recording(const callout_call_t* call);
  static callout_status_t set_span_attribute(callout_call_t* call,
                                             const callout_trace_attribute_t* attribute);
  static callout_status_t add_span_event(callout_call_t* call, callout_bytes_t name,
                                         const callout_trace_attribute_t* attributes, size_t count);
  static callout_status_t get_trace_context(const callout_call_t* call, char* traceparent,
                                            callout_bytes_t* tracestate);

  Plugin& plugin_;
  // Every call has an address of its own and none is used again, so that a stale finish() is
  // always found out.
  std::vector<std::unique_ptr<FakeCall>> calls_;
  void* stream_ = nullptr;  // what the plugin keeps
  uint64_t body_offset_ = 0;
  std::string request_headers_;  // of the request, for response phases
  State state_ = kFresh;
  bool may_answer_ = false;
  bool answered_at_open_ = false;
  size_t sent_bytes_ = 0;
  std::atomic<bool> cancelled_{false};
  std::string attributes_;
  std::string metadata_;
  std::multimap<std::string, std::string> grpc_metadata_;
  std::map<callout_property_t, std::string> properties_;
  callout_body_mode_t body_modes_[2] = {CALLOUT_BODY_BUFFERED, CALLOUT_BODY_BUFFERED};
  uint64_t body_offsets_[2] = {0, 0};
  bool body_begun_[2] = {false, false};
  bool announced_ = false;  // the connection
  bool recorded_ = true;
  internal::FakeSpans spans_;
  uint32_t http_status_ = 0;
  Answer answer_;
  std::mutex mutex_;  // guards finished_, status_ and FakeCall::over
  std::condition_variable finished_event_;
  bool finished_ = false;
  callout_status_t status_ = CALLOUT_OK;
};

// Calls `drive(stream, index)` for `streams` streams of their own on `threads` threads at
// once, as the real host does; under ThreadSanitizer it shows what the plugin does not guard.
// The first exception ends the run and is thrown again.
//     callout::testing::run_in_parallel(plugin, 4, 1000, [](auto& stream, size_t i) {
//       stream.request_headers({{":path", "/" + std::to_string(i)}});
//     });
template <class Drive>
void run_in_parallel(Plugin& plugin, size_t threads, size_t streams, Drive&& drive) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run = [&] {
    try {
      for (size_t i = next++; i < streams; i = next++) {
        Stream stream(plugin);
        drive(stream, i);
      }
    } catch (...) {
      next = streams;
      std::lock_guard<std::mutex> lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
  };
  std::vector<std::thread> workers;
  for (size_t i = 0; i < threads; ++i) workers.emplace_back(run);
  for (std::thread& worker : workers) worker.join();
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace callout::testing

#include <callout/testing_host.hpp>

#endif  // CALLOUT_TESTING_HPP_
