// SPDX-License-Identifier: Apache-2.0

// callout/testing_host.hpp - how the fake host of <callout/testing.hpp> works. Not to be
// included by itself.
#ifndef CALLOUT_TESTING_HOST_HPP_
#define CALLOUT_TESTING_HOST_HPP_

#include <callout/testing.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace callout::testing {

// --- Plugin ---

inline Plugin::Plugin(const internal::Hooks& hooks, std::string_view config,
                      std::shared_ptr<Store> store)
    : hooks_(hooks),
      store_(store != nullptr ? std::move(store) : std::make_shared<Store>()),
      timers_(store_),
      calls_(store_) {
  callout_host_t& host = table_.abi;
  host.struct_size = sizeof(host);
  host.abi_version = CALLOUT_ABI_VERSION;
  host.name = "callout-testing/1";
  host.respond = Stream::respond;
  host.send = Stream::send;
  host.annotate = Stream::annotate;
  host.set_error = Stream::set_error;
  host.finish = Stream::finish;
  host.is_cancelled = Stream::is_cancelled;
  host.get_metadata = Stream::get_metadata;
  host.get_property = Stream::get_property;
  host.log_enabled = [](const callout_host_t*, callout_log_level_t) { return int32_t{1}; };
  host.log = log;
  host.metric_define = define;
  host.metric_record = record;
  host.get_extension = find_extension;
  host.define_metric = define_metric;
  host.follow_file = follow_file;
  host.send_room = Stream::send_room;
  table_.plugin = this;

  args_.struct_size = sizeof(args_);
  args_.host = &host;
  args_.instance = "test";
  args_.config = to_bytes(config);
  args_.grants =
      CALLOUT_WANT_BOTH_DIRECTIONS | CALLOUT_WANT_REAL_END | CALLOUT_WANT_REQUEST_HEADERS;
  const bool processes = hooks_.phases[0] != nullptr;
  for (callout_phase_t phase = 0; phase < 8; ++phase) {
    const bool is_phase = phase == 0 || phase >= CALLOUT_REQUEST_HEADERS;
    if (hooks_.phases[phase] != nullptr || (processes && is_phase)) {
      args_.phases |= CALLOUT_PHASE_BIT(phase);
    }
  }
  for (callout_phase_t phase = CALLOUT_CHECK; phase <= CALLOUT_RATE_LIMIT; ++phase) {
    if (hooks_.of(phase) != nullptr) args_.phases |= CALLOUT_PHASE_BIT(phase);
  }
  const uint64_t offered = args_.phases;
  if (hooks_.create != nullptr) status_ = hooks_.create(&args_);
  created_ = true;
  if (status_ != CALLOUT_OK) timers_.close();
  if (status_ != CALLOUT_OK) calls_.close();
  args_.phases &= offered;
  args_.wants &= args_.grants;
  args_.config = callout_make_bytes(nullptr, 0);
}

inline const void* Plugin::find_extension(const callout_host_t*, const char* id) {
  static const callout_rpc_metadata_t kRpcMetadata = {sizeof(kRpcMetadata), 0,
                                                      Stream::get_metadata_at};
  static const callout_timers_t kTimers = {
      sizeof(kTimers), 0,
      [](const callout_host_t* host, const callout_timer_t* timer, uint64_t* timer_id) {
        return from(host)->timers_.start(*timer, timer_id);
      },
      [](const callout_host_t* host, uint64_t timer_id) {
        return from(host)->timers_.cancel(timer_id);
      }};
  static const callout_shared_data_t kSharedData = {
      sizeof(kSharedData),
      0,
      [](const callout_host_t* host, callout_bytes_t space, callout_bytes_t key, char* to,
         size_t capacity, callout_shared_entry_t* entry) {
        return from(host)->store_->get(space, key, to, capacity, entry);
      },
      [](const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
         callout_bytes_t value, const callout_shared_put_t* how,
         uint64_t* version) { return from(host)->store_->put(space, key, value, how, version); },
      [](const callout_host_t* host, callout_bytes_t space, callout_bytes_t key,
         uint64_t expected) { return from(host)->store_->remove(space, key, expected); },
      [](const callout_host_t* host, callout_bytes_t space, callout_bytes_t key, int64_t amount,
         uint64_t ttl_ns,
         int64_t* sum) { return from(host)->store_->add(space, key, amount, ttl_ns, sum); }};
  static const callout_calls_t kCalls = {sizeof(kCalls), 0, find_upstream, start_call,
                                         [](const callout_host_t* host, uint64_t call_id) {
                                           return from(host)->calls_.cancel(call_id);
                                         }};
  static const callout_trace_t kTrace = {sizeof(kTrace),         0,
                                         Stream::is_recording,   Stream::set_span_attribute,
                                         Stream::add_span_event, Stream::get_trace_context};
  const std::string_view wanted(id);
  if (wanted == CALLOUT_CALLS) return &kCalls;
  if (wanted == CALLOUT_RPC_METADATA) return &kRpcMetadata;
  if (wanted == CALLOUT_TRACE) return &kTrace;
  if (wanted == CALLOUT_TIMERS) return &kTimers;
  return wanted == CALLOUT_SHARED_DATA ? &kSharedData : nullptr;
}

inline callout_status_t Plugin::find_upstream(const callout_host_t* host, callout_bytes_t name,
                                              callout_upstream_info_t* info) {
  const Upstreams& upstreams = from(host)->store_->upstreams;
  if (!upstreams.has(to_view(name))) return CALLOUT_NOT_FOUND;
  if (info == nullptr) return CALLOUT_OK;
  info->flags = CALLOUT_UPSTREAM_GRPC;
  info->timeout_ns = static_cast<uint64_t>(upstreams.timeout.count());
  info->request_bytes_max = info->response_bytes_max = 1048576;  // the defaults
  return CALLOUT_OK;
}

inline callout_status_t Plugin::start_call(const callout_host_t* host,
                                           const callout_outgoing_t* outgoing, uint64_t* id) {
  Plugin* plugin = from(host);
  CallRequest request;
  if (!CALLOUT_HAS(outgoing, callout_outgoing_t, data) || outgoing->done == nullptr) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  Upstreams& upstreams = plugin->store_->upstreams;
  if (!upstreams.has(to_view(outgoing->upstream))) return CALLOUT_NOT_FOUND;
  if (!internal::read_request(*outgoing, &request)) return CALLOUT_INVALID_ARGUMENT;
  if (!plugin->created_) return CALLOUT_FAILED_PRECONDITION;
  const std::chrono::nanoseconds given(static_cast<int64_t>(outgoing->timeout_ns));
  request.timeout = given.count() == 0 ? upstreams.timeout : std::min(given, upstreams.timeout);
  const std::chrono::nanoseconds timeout = request.timeout;
  CallResponse response = upstreams.ask(std::move(request));
  if (response.delay > timeout) {
    response = CallResponse::failure(CALLOUT_DEADLINE_EXCEEDED, "no response in time");
    response.delay = timeout;
  }
  callout_timer_t timer = {};
  timer.struct_size = sizeof(timer);
  timer.delay_ns = static_cast<uint64_t>(response.delay.count());
  timer.run = internal::FakeCall::run;
  timer.release = internal::FakeCall::release;
  auto call = std::make_unique<internal::FakeCall>(*outgoing, std::move(response));
  timer.data = call.get();
  uint64_t ignored = 0;
  const callout_status_t status = plugin->calls_.start(timer, id != nullptr ? id : &ignored);
  if (status == CALLOUT_OK) static_cast<void>(call.release());  // FakeCall::release deletes it
  return status;
}

inline Plugin::~Plugin() {
  timers_.close();
  calls_.close();
  if (status_ != CALLOUT_OK) return;
  if (hooks_.destroy_with != nullptr) {
    callout_destroy_args_t args = {};
    args.struct_size = sizeof(args);
    args.reason = CALLOUT_DESTROY_SHUTDOWN;
    args.host = &table_.abi;
    args.plugin = args_.plugin;
    hooks_.destroy_with(&args);
  } else if (hooks_.destroy != nullptr) {
    hooks_.destroy(args_.plugin);
  }
}

inline callout_status_t Plugin::define(const callout_host_t* host, callout_metric_kind_t kind,
                                       callout_bytes_t name, callout_bytes_t help, uint32_t* id) {
  callout_metric_spec_t spec = {};
  spec.struct_size = sizeof(spec);
  spec.kind = kind;
  spec.name = name;
  spec.help = help;
  return define_metric(host, &spec, id);
}

namespace internal {

// [a-zA-Z_][a-zA-Z0-9_]*, of a metric with colons.
inline bool is_metric_name(std::string_view name, bool may_have_colons) {
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool starts = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                        (may_have_colons && c == ':');
    if (!starts && (i == 0 || c < '0' || c > '9')) return false;
  }
  return !name.empty() && name.size() <= 256;
}

inline bool is_metric_spec(const callout_metric_spec_t& spec) {
  constexpr size_t kLabelsMax = 8;
  constexpr size_t kBucketsMax = 100;
  if (!CALLOUT_HAS(&spec, callout_metric_spec_t, bucket_count) ||
      spec.kind > CALLOUT_METRIC_UP_DOWN || !is_metric_name(to_view(spec.name), true) ||
      spec.help.size > 1024 || spec.label_count > kLabelsMax || spec.bucket_count > kBucketsMax ||
      (spec.bucket_count > 0 && spec.kind != CALLOUT_METRIC_HISTOGRAM)) {
    return false;
  }
  for (size_t i = 0; i < spec.label_count; ++i) {
    const std::string_view name = to_view(spec.labels[i].name);
    if (!is_metric_name(name, false) || name == "plugin" || name.substr(0, 2) == "__" ||
        spec.labels[i].value.size > 1024) {
      return false;
    }
  }
  for (size_t i = 0; i < spec.bucket_count; ++i) {
    if (!std::isfinite(spec.buckets[i])) return false;
    if (i > 0 && spec.buckets[i] <= spec.buckets[i - 1]) return false;
  }
  return true;
}

}  // namespace internal

inline callout_status_t Plugin::define_metric(const callout_host_t* host,
                                              const callout_metric_spec_t* spec, uint32_t* id) {
  Plugin* plugin = from(host);
  if (plugin->created_) return CALLOUT_FAILED_PRECONDITION;
  if (!internal::is_metric_spec(*spec)) return CALLOUT_INVALID_ARGUMENT;
  std::string name(to_view(spec->name));
  const std::string unit = "_" + std::string(to_view(spec->unit));
  const bool has_unit =
      name.size() >= unit.size() && name.compare(name.size() - unit.size(), name.npos, unit) == 0;
  if (unit.size() > 1 && !has_unit) name += unit;
  std::string labels;
  for (size_t i = 0; i < spec->label_count; ++i) {
    labels.append(to_view(spec->labels[i].name)).append("=");
    labels.append(to_view(spec->labels[i].value)).append(",");
  }
  std::lock_guard<std::mutex> lock(plugin->mutex_);
  for (uint32_t i = 0; i < plugin->metrics_.size(); ++i) {
    const Metric& metric = plugin->metrics_[i];
    if (metric.name != name) continue;
    if (metric.kind != spec->kind) return CALLOUT_INVALID_ARGUMENT;
    if (metric.labels != labels) continue;
    *id = i;
    return CALLOUT_OK;
  }
  if (plugin->metrics_.size() == 64) return CALLOUT_RESOURCE_EXHAUSTED;
  *id = static_cast<uint32_t>(plugin->metrics_.size());
  plugin->metrics_.push_back({std::move(name), std::move(labels), spec->kind, 0});
  return CALLOUT_OK;
}

inline callout_status_t Plugin::follow_file(const callout_host_t* host, callout_bytes_t path) {
  Plugin* plugin = from(host);
  const std::string_view name = to_view(path);
  if (plugin->created_) return CALLOUT_FAILED_PRECONDITION;
  if (name.empty() || name[0] != '/' || name.size() > 4095 || name.find('\0') != name.npos) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  for (const std::string& known : plugin->followed_files_) {
    if (known == name) return CALLOUT_OK;
  }
  if (plugin->followed_files_.size() == 64) return CALLOUT_RESOURCE_EXHAUSTED;
  plugin->followed_files_.emplace_back(name);
  return CALLOUT_OK;
}

inline void Plugin::record(const callout_host_t* host, uint32_t id, double value) {
  Plugin* plugin = from(host);
  std::lock_guard<std::mutex> lock(plugin->mutex_);
  if (id >= plugin->metrics_.size()) return;
  Metric& metric = plugin->metrics_[id];
  const bool adds = metric.kind == CALLOUT_METRIC_UP_DOWN ||
                    (metric.kind == CALLOUT_METRIC_COUNTER && value >= 0);
  if (metric.kind == CALLOUT_METRIC_COUNTER && !adds) return;
  metric.value = adds ? metric.value + value : value;
}

inline void Plugin::log(const callout_host_t* host, callout_log_level_t level,
                        callout_bytes_t text) {
  Plugin* plugin = from(host);
  std::lock_guard<std::mutex> lock(plugin->mutex_);
  plugin->logs_.push_back({level, std::string(to_view(text))});
}

// --- Writing messages ---

namespace internal {

// Calls `write(writer)` and returns what it wrote.
template <class Write>
std::string written(Write&& write) {
  callout_writer_t writer;
  callout_writer_init(&writer, nullptr, 0);
  write(&writer);
  std::string bytes(to_view(callout_writer_bytes(&writer)));
  callout_writer_free(&writer);
  return bytes;
}

}  // namespace internal

// ProcessingRequest.attributes 9: an entry of key 1 and value 2.
inline Stream& Stream::set_attributes(std::string_view attributes) {
  attributes_ = internal::written([&](callout_writer_t* writer) {
    callout_write_open(writer, 9);
    callout_write_bytes(writer, 1, callout_text("envoy.filters.http.ext_proc"));
    callout_write_bytes(writer, 2, to_bytes(attributes));
    callout_write_close(writer);
  });
  return *this;
}

// Metadata.filter_metadata 1: the namespaces, each with a Struct.
inline Stream& Stream::set_metadata(std::string_view metadata) {
  metadata_ = internal::written([&](callout_writer_t* writer) {
    for (Field field : Struct(metadata)) {
      callout_write_open(writer, 1);
      callout_write_bytes(writer, 1, to_bytes(field.key));
      callout_write_bytes(writer, 2, to_bytes(field.value.object().message()));
      callout_write_close(writer);
    }
  });
  return *this;
}

inline Answer Stream::headers_message(callout_phase_t phase, const HeaderList& headers,
                                      bool end_of_stream) {
  const std::string bytes = internal::written([&](callout_writer_t* writer) {
    callout_write_open(writer, 1);
    for (const auto& [key, value] : headers) {
      callout_write_open(writer, 1);
      callout_write_bytes(writer, 1, to_bytes(key));
      callout_write_bytes(writer, 3, to_bytes(value));
      callout_write_close(writer);
    }
    callout_write_close(writer);
    if (end_of_stream) callout_write_number(writer, 3, 1);
  });
  for (const auto& [key, value] : headers) {
    if (key == ":status") http_status_ = static_cast<uint32_t>(std::atoi(value.c_str()));
  }
  uint32_t flags = CALLOUT_CALL_FIRST;
  if (end_of_stream || callout_is_trailers_phase(phase)) flags |= CALLOUT_CALL_LAST;
  return message(phase, bytes, flags);
}

inline Answer Stream::body_message(callout_phase_t phase, std::string_view body,
                                   bool end_of_stream) {
  const std::string bytes = internal::written([&](callout_writer_t* writer) {
    if (!body.empty()) callout_write_bytes(writer, 1, to_bytes(body));
    if (end_of_stream) callout_write_number(writer, 2, 1);
  });
  uint64_t& offset = body_offsets_[phase % 2];
  uint32_t flags = 0;
  const bool first = !std::exchange(body_begun_[phase % 2], true);
  if (first) flags |= CALLOUT_CALL_FIRST;
  if (end_of_stream) flags |= CALLOUT_CALL_LAST;
  if (first && end_of_stream) flags |= CALLOUT_CALL_WHOLE_BODY;
  body_offset_ = offset;
  offset += body.size();
  return message(phase, bytes, flags);
}

// --- Calling the plugin ---

inline Stream* Stream::live(const callout_call_t* call) {
  FakeCall* fake = from(call);
  if (fake == nullptr) return nullptr;
  std::lock_guard<std::mutex> lock(fake->owner->mutex_);
  return fake->over || fake->finished ? nullptr : fake->owner;
}

inline Stream::FakeCall* Stream::begin(callout_phase_t phase, std::string_view message) {
  calls_.push_back(std::make_unique<FakeCall>());
  FakeCall* fake = calls_.back().get();
  fake->owner = this;
  fake->message.assign(message);
  fake->request = internal::written([&](callout_writer_t* writer) {
    if (phase == CALLOUT_CHECK) return callout_write_bytes(writer, 1, to_bytes(fake->message));
    if (phase == CALLOUT_RATE_LIMIT) return callout_write_raw(writer, to_bytes(fake->message));
    if (phase == CALLOUT_CONNECTION) return;
    if (phase == CALLOUT_READ_DATA || phase == CALLOUT_WRITE_DATA) {
      return callout_write_bytes(writer, phase == CALLOUT_READ_DATA ? 1 : 2,
                                 to_bytes(fake->message));
    }
    if (phase != 0) callout_write_bytes(writer, phase, to_bytes(fake->message));
    callout_write_bytes(writer, 8, to_bytes(metadata_));
    callout_write_raw(writer, to_bytes(attributes_));
  });
  answer_ = Answer();
  finished_ = false;
  sent_bytes_ = 0;
  callout_call_t& call = fake->abi;
  call.struct_size = sizeof(call);
  call.self = &call;
  call.host = &plugin_.table_.abi;
  call.plugin = plugin_.args_.plugin;
  call.stream = stream_;
  call.phase = phase;
  call.attributes = to_bytes(attributes_);
  call.metadata_context = to_bytes(metadata_);
  const auto deadline = std::chrono::steady_clock::now() + wait_max;
  call.deadline_ns =
      static_cast<uint64_t>(std::chrono::nanoseconds(deadline.time_since_epoch()).count());
  if (phase == 0) return fake;
  call.message = to_bytes(fake->message);
  call.request = to_bytes(fake->request);
  call.body_mode = body_modes_[phase % 2];
  const bool is_data = phase == CALLOUT_READ_DATA || phase == CALLOUT_WRITE_DATA;
  if (callout_is_body_phase(phase) || is_data) call.body_offset = body_offset_;
  if (phase == CALLOUT_REQUEST_HEADERS) request_headers_ = fake->message;
  if (phase % 2 == 1 && (plugin_.args_.wants & CALLOUT_WANT_REQUEST_HEADERS) != 0) {
    call.request_headers = to_bytes(request_headers_);
  }
  return fake;
}

// Views into the message must not be used any more: they are made to be seen.
inline void Stream::end_call(FakeCall* call) {
  stream_ = call->abi.stream;
  std::lock_guard<std::mutex> lock(mutex_);
  call->over = true;
  call->message.assign(call->message.size(), '\x7f');
  call->request.assign(call->request.size(), '\x7f');
}

inline void Stream::open() {
  FakeCall* fake = begin(0, {});
  callout_status_t status = CALLOUT_OK;
  answered_at_open_ = false;
  if (plugin_.hooks_.open != nullptr) status = plugin_.hooks_.open(&fake->abi);
  end_call(fake);
  if (status > 0 || (status == CALLOUT_OK && answered_at_open_)) {
    close();
    answer_.problem = "callout_on_stream_open may not defer or answer";
    status = CALLOUT_FAILED_PRECONDITION;
  }
  state_ = status < 0 ? kRefused : kOpen;
  answer_.status = status;
}

inline void Stream::fill_end() {
  if (end.request_body_bytes == 0) end.request_body_bytes = body_offsets_[0];
  if (end.response_body_bytes == 0) end.response_body_bytes = body_offsets_[1];
  if (end.http_status == 0) end.http_status = http_status_;
}

inline void Stream::close() {
  FakeCall* fake = begin(0, {});
  fake->abi.deadline_ns = 0;
  fill_end();
  fake->abi.attributes = fake->abi.metadata_context = callout_make_bytes(nullptr, 0);
  fake->abi.end = &end;
  if (plugin_.hooks_.close != nullptr) plugin_.hooks_.close(&fake->abi);
  fake->abi.end = nullptr;
  end_call(fake);
}

inline void Stream::cancel() {
  if (cancelled_.exchange(true)) return;
  if (state_ != kOpen || plugin_.hooks_.cancel == nullptr) return;
  FakeCall fake = {};
  fake.owner = this;
  fake.abi.struct_size = sizeof(fake.abi);
  fake.abi.self = &fake.abi;
  fake.abi.host = &plugin_.table_.abi;
  fake.abi.plugin = plugin_.args_.plugin;
  fake.abi.stream = stream_;
  plugin_.hooks_.cancel(&fake.abi);
}

inline callout_status_t Stream::call_hooks(callout_call_t* call) {
  const uint64_t phases = plugin_.args_.phases;
  const callout_phase_t phase = call->phase;
  callout_status_t status = CALLOUT_NEXT;
  if ((phases & CALLOUT_PHASE_BIT(phase)) == 0) return CALLOUT_OK;
  if ((phases & CALLOUT_PHASE_BIT(0)) != 0) status = plugin_.hooks_.phases[0](call);
  if (status != CALLOUT_NEXT) return status;
  const internal::CallHook hook = plugin_.hooks_.of(phase);
  return hook == nullptr ? CALLOUT_OK : hook(call);
}

inline CheckAnswer Stream::check(const CheckQuestion& question) {
  const Answer answer =
      message(CALLOUT_CHECK, question.write(), CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST);
  CheckAnswer taken;
  taken.status = answer.status;
  taken.error = answer.error;
  taken.deferred = answer.deferred;
  taken.problem = answer.problem;
  const bool is_whole = answer.field == CALLOUT_WHOLE_RESPONSE;
  if ((!is_whole || !answer.message.empty()) &&
      !taken.read(answer.field, to_bytes(answer.message))) {
    taken.problem = "the answer is malformed";
  }
  taken.metadata.append(answer.metadata);
  taken.look_for_problems();
  return taken;
}

inline RateLimitAnswer Stream::rate_limit(const RateLimitQuestion& question) {
  const Answer answer =
      message(CALLOUT_RATE_LIMIT, question.write(), CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST);
  RateLimitAnswer taken;
  taken.status = answer.status;
  taken.error = answer.error;
  taken.deferred = answer.deferred;
  taken.problem = answer.problem;
  if (!taken.read(to_bytes(answer.message))) taken.problem = "the answer is malformed";
  taken.metadata.append(answer.metadata);
  taken.look_for_problems(question.descriptors.size());
  return taken;
}

inline DataAnswer Stream::taken_data(callout_phase_t phase, const Answer& answer,
                                     std::string_view data) {
  DataAnswer taken;
  taken.status = answer.status;
  taken.error = answer.error;
  taken.deferred = answer.deferred;
  taken.problem = answer.problem;
  taken.data.assign(data);
  const bool is_whole = answer.field == CALLOUT_WHOLE_RESPONSE;
  if ((!is_whole || !answer.message.empty()) &&
      !taken.read(phase, answer.field, to_bytes(answer.message))) {
    taken.problem = "the answer is malformed";
  }
  taken.metadata.append(answer.metadata);
  if (answer.status > 0) taken.problem = "the hook may not return this status";
  return taken;
}

inline DataAnswer Stream::data_message(callout_phase_t phase, std::string_view data,
                                       bool end_of_stream) {
  if (!std::exchange(announced_, true)) {
    const DataAnswer taken =
        taken_data(CALLOUT_CONNECTION,
                   message(CALLOUT_CONNECTION, {}, CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST), data);
    if (!taken.passes()) return taken;
  }
  const std::string bytes = internal::written([&](callout_writer_t* writer) {
    if (!data.empty()) callout_write_bytes(writer, 1, to_bytes(data));
    if (end_of_stream) callout_write_number(writer, 2, 1);
  });
  const size_t way = phase == CALLOUT_READ_DATA ? 0 : 1;
  body_offset_ = body_offsets_[way];
  body_offsets_[way] += data.size();
  const bool is_first = !std::exchange(body_begun_[way], true);
  return taken_data(
      phase,
      message(phase, bytes,
              (is_first ? CALLOUT_CALL_FIRST : 0) | (end_of_stream ? CALLOUT_CALL_LAST : 0)),
      data);
}

inline Answer Stream::message(callout_phase_t phase, std::string_view message, uint32_t flags) {
  spans_.begin(phase);
  if (state_ == kFresh) open();
  if (state_ == kRefused) return answer_;
  FakeCall* fake = begin(phase, message);
  fake->abi.flags = flags;
  may_answer_ = true;
  callout_status_t status = call_hooks(&fake->abi);
  if (status == CALLOUT_DEFERRED) {
    await_finish();
    answer_.deferred = true;
    status = status_;
  } else if (finished_) {
    answer_.problem = "the hook called finish() and did not return CALLOUT_DEFERRED";
  }
  may_answer_ = false;
  end_call(fake);
  settle(phase, fake->abi.body_mode, status);
  return answer_;
}

// Timers of the plugin run and its calls end meanwhile, as time passes.
inline void Stream::await_finish() {
  constexpr std::chrono::nanoseconds kLookAgain = std::chrono::milliseconds(1);
  const auto deadline = std::chrono::steady_clock::now() + wait_max;
  for (;;) {
    plugin_.run_due();
    std::chrono::nanoseconds wait = deadline - std::chrono::steady_clock::now();
    const bool is_late = wait.count() <= 0;
    for (const internal::FakeTimers* those : {&plugin_.timers_, &plugin_.calls_}) {
      if (const auto due = those->due()) {
        wait = std::min(wait, std::max(*due - plugin_.store_->now(), kLookAgain));
      }
    }
    std::unique_lock<std::mutex> lock(mutex_);
    if (finished_event_.wait_for(lock, wait, [this] { return finished_; })) return;
    if (is_late) throw std::runtime_error("a deferred call was not finished");
  }
}

// The checks that the real host makes too.
inline void Stream::settle(callout_phase_t phase, callout_body_mode_t mode,
                           callout_status_t status) {
  answer_.status = status;
  if (phase >= CALLOUT_CHECK) return;  // check() and its like look
  const bool duplex = callout_is_body_phase(phase) && mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  const bool may_hold =
      !callout_is_trailers_phase(phase) && mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  const bool is_own = answer_.field == phase - 1 || answer_.field == 0 || answer_.is_immediate() ||
                      answer_.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
  if (!is_own) answer_.problem = "the answer is one of another phase";
  if (status > CALLOUT_NO_RESPONSE || status == CALLOUT_NEXT || status == CALLOUT_DEFERRED ||
      (status == CALLOUT_NO_RESPONSE && !may_hold)) {
    answer_.problem = "the hook may not return this status";
  }
  if (answer_.body_kind == Answer::Body::kStreamed && !duplex) {
    answer_.problem = "streamed_response outside FULL_DUPLEX_STREAMED";
  }
  if (answer_.problem.empty()) answer_.problem = answer_.header_problem();
  for (const Answer& sent : answer_.sent) {
    if (!duplex && sent.field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
      answer_.problem = "send() outside FULL_DUPLEX_STREAMED";
    }
  }
}

// --- Services ---

inline bool Stream::is_answer(callout_field_t field) {
  return (field >= CALLOUT_REQUEST_HEADERS_RESPONSE && field <= CALLOUT_IMMEDIATE_RESPONSE) ||
         field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
}

// What respond() and send() refuse; else `bytes` is all of the parts.
inline callout_status_t Stream::check_answer(callout_field_t field, const callout_bytes_t* parts,
                                             size_t count, std::string* bytes) {
  if (field != CALLOUT_WHOLE_RESPONSE && !is_answer(field)) return CALLOUT_INVALID_ARGUMENT;
  for (size_t i = 0; i < count; ++i) {
    if (parts[i].size > kMessageBytesMax - bytes->size()) return CALLOUT_RESOURCE_EXHAUSTED;
    bytes->append(to_view(parts[i]));
  }
  const bool readable =
      field != CALLOUT_WHOLE_RESPONSE ||
      read_records(to_bytes(*bytes), [](const callout_reader_t&) { return true; });
  return readable ? CALLOUT_OK : CALLOUT_INVALID_ARGUMENT;
}

inline void Stream::set_answer(callout_field_t field, std::string_view bytes, Answer* answer) {
  if (field == CALLOUT_WHOLE_RESPONSE) return read_whole(bytes, answer);
  answer->field = field;
  if (!answer->read(bytes)) answer_.problem = "the answer is malformed";
}

// ProcessingResponse: one answer; the rest goes beside it.
inline void Stream::read_whole(std::string_view response, Answer* answer) {
  read_records(to_bytes(response), [&](const callout_reader_t& record) {
    if (record.type != CALLOUT_WIRE_BYTES) return true;
    if (is_answer(record.field)) {
      set_answer(record.field, to_view(record.bytes), answer);
    } else {
      take_annotation(record.field, to_view(record.bytes));
    }
    return true;
  });
}

inline void Stream::take_annotation(callout_field_t field, std::string_view bytes) {
  if (field == CALLOUT_DYNAMIC_METADATA) answer_.metadata.append(bytes);
  if (field == CALLOUT_MODE_OVERRIDE) answer_.modes.append(bytes);
  if (field == CALLOUT_OVERRIDE_MESSAGE_TIMEOUT) {
    answer_.timeout_ms = uint64_t{read_number(to_bytes(bytes), 1)} * 1000 +
                         read_number(to_bytes(bytes), 2) / 1000000;
  }
}

// Null if the call may not be answered: it is a copy, or over, or of no phase.
inline Stream* Stream::answerable(const callout_call_t* call) {
  Stream* stream = live(call);
  if (stream == nullptr) return nullptr;
  if (!stream->may_answer_) stream->answered_at_open_ = true;
  return stream->may_answer_ ? stream : nullptr;
}

// For phases of other services.
inline bool Stream::is_answer_to(callout_phase_t phase, callout_field_t field) {
  if (field == CALLOUT_WHOLE_RESPONSE) return true;
  if (phase == CALLOUT_READ_DATA) return field == CALLOUT_READ_DATA_RESPONSE;
  if (phase == CALLOUT_WRITE_DATA) return field == CALLOUT_WRITE_DATA_RESPONSE;
  return phase == CALLOUT_CHECK && (field == CALLOUT_CHECK_OK || field == CALLOUT_CHECK_DENIED ||
                                    field == CALLOUT_CHECK_ERROR);
}

// Whether what was set refuses: then it stands.
inline bool Stream::refuses(callout_phase_t phase) const {
  const callout_field_t field = answer_.field;
  if (phase < CALLOUT_CHECK) {
    return answer_.is_immediate() || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
  }
  if (field == CALLOUT_WHOLE_RESPONSE && answer_.message.empty()) return false;
  const callout_bytes_t message = to_bytes(answer_.message);
  if (phase == CALLOUT_CHECK) {
    CheckAnswer taken;
    return !taken.read(field, message) || taken.kind == CheckAnswer::Kind::kDenied ||
           taken.kind == CheckAnswer::Kind::kError;
  }
  if (phase == CALLOUT_RATE_LIMIT) {
    RateLimitAnswer taken;
    if (!taken.read(message) || taken.code == 2) return true;
    return std::any_of(taken.statuses.begin(), taken.statuses.end(),
                       [](const RateLimitAnswer::Status& status) { return status.code == 2; });
  }
  DataAnswer taken;
  return !taken.read(phase, field, message) || taken.connection != DataAnswer::Connection::kGoesOn;
}

// What is in it check() and its like find out.
inline callout_status_t Stream::take_whole(callout_phase_t phase, callout_field_t field,
                                           const callout_bytes_t* parts, size_t count) {
  if (!is_answer_to(phase, field)) return CALLOUT_INVALID_ARGUMENT;
  answer_.field = field;
  answer_.message.clear();
  for (size_t i = 0; i < count; ++i) answer_.message.append(to_view(parts[i]));
  return CALLOUT_OK;
}

inline callout_status_t Stream::respond(callout_call_t* call, callout_field_t field,
                                        const callout_bytes_t* parts, size_t count) {
  Stream* stream = answerable(call);
  if (stream == nullptr || stream->refuses(call->phase)) return CALLOUT_FAILED_PRECONDITION;
  std::string bytes;
  if (from(call)->is_other_service()) return stream->take_whole(call->phase, field, parts, count);
  const callout_status_t status = check_answer(field, parts, count, &bytes);
  // An answer that cannot be used drops the one before it.
  if (status == CALLOUT_INVALID_ARGUMENT && field != CALLOUT_WHOLE_RESPONSE) return status;
  // The last one counts, up to one that refuses; what was said beside it stays.
  Answer answer;
  std::swap(answer, stream->answer_);
  stream->answer_.error = std::move(answer.error);
  stream->answer_.sent = std::move(answer.sent);
  stream->answer_.metadata = std::move(answer.metadata);
  stream->answer_.modes = std::move(answer.modes);
  stream->answer_.timeout_ms = answer.timeout_ms;
  if (status == CALLOUT_OK) {
    stream->set_answer(field, bytes, &stream->answer_);
  } else {
    stream->answer_.problem = status == CALLOUT_RESOURCE_EXHAUSTED
                                  ? "the answer is over --max_message_bytes"
                                  : "the answer is malformed";
    // One that cannot be taken refuses all the same.
    const bool is_refusal =
        field == CALLOUT_IMMEDIATE_RESPONSE || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
    if (is_refusal) stream->answer_.field = field;
  }
  return status;
}

inline callout_status_t Stream::send(callout_call_t* call, callout_field_t field,
                                     const callout_bytes_t* parts, size_t count) {
  if (is_cancelled(call)) return CALLOUT_CANCELLED;
  Stream* stream = answerable(call);
  if (stream == nullptr || stream->refuses(call->phase)) return CALLOUT_FAILED_PRECONDITION;
  std::string bytes;
  const callout_status_t status = check_answer(field, parts, count, &bytes);
  if (status != CALLOUT_OK) return status;
  const size_t size = callout_record_size(field, bytes.size());
  if (stream->sent_bytes_ > 0 && stream->sent_bytes_ + size > kUnsentBytesMax) {
    return CALLOUT_RESOURCE_EXHAUSTED;
  }
  stream->sent_bytes_ += size;
  Answer sent;
  stream->set_answer(field, bytes, &sent);
  stream->answer_.sent.push_back(std::move(sent));
  return CALLOUT_OK;
}

inline callout_status_t Stream::annotate(callout_call_t* call, callout_field_t field,
                                         callout_bytes_t message) {
  Stream* stream = answerable(call);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (message.size > kMessageBytesMax) return CALLOUT_RESOURCE_EXHAUSTED;
  if (from(call)->is_other_service()) {
    callout_field_t metadata = CALLOUT_DATA_DYNAMIC_METADATA;
    if (call->phase == CALLOUT_CHECK) metadata = CALLOUT_CHECK_DYNAMIC_METADATA;
    if (call->phase == CALLOUT_RATE_LIMIT) metadata = CALLOUT_RATE_LIMIT_DYNAMIC_METADATA;
    if (field != metadata) return CALLOUT_INVALID_ARGUMENT;
    stream->answer_.metadata.append(to_view(message));
    return CALLOUT_OK;
  }
  switch (field) {
    case CALLOUT_WHOLE_RESPONSE:
      if (!read_records(message, [](const callout_reader_t& record) {
            return !is_answer(record.field) || record.type != CALLOUT_WIRE_BYTES;
          })) {
        return CALLOUT_INVALID_ARGUMENT;
      }
      stream->read_whole(to_view(message), &stream->answer_);
      return CALLOUT_OK;
    case CALLOUT_DYNAMIC_METADATA:
    case CALLOUT_MODE_OVERRIDE:
    case CALLOUT_OVERRIDE_MESSAGE_TIMEOUT:
    case CALLOUT_TYPED_DYNAMIC_METADATA:
      stream->take_annotation(field, to_view(message));
      return CALLOUT_OK;
    default:
      return CALLOUT_INVALID_ARGUMENT;
  }
}

inline uint64_t Stream::send_room(const callout_call_t* call) {
  Stream* stream = live(call);
  if (stream == nullptr || !stream->may_answer_ || stream->cancelled_) return 0;
  return kUnsentBytesMax - std::min(kUnsentBytesMax, stream->sent_bytes_);
}

inline callout_status_t Stream::finish(callout_call_t* call, callout_status_t status) {
  FakeCall* fake = from(call);
  if (fake == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (status == CALLOUT_DEFERRED || status == CALLOUT_NEXT) return CALLOUT_INVALID_ARGUMENT;
  Stream* stream = fake->owner;
  const bool cancelled = stream->cancelled_;
  std::lock_guard<std::mutex> lock(stream->mutex_);
  if (fake->over || !stream->may_answer_ || stream->finished_) return CALLOUT_FAILED_PRECONDITION;
  fake->finished = true;
  stream->finished_ = true;
  stream->status_ = status;
  stream->finished_event_.notify_all();
  return cancelled ? CALLOUT_CANCELLED : CALLOUT_OK;
}

inline callout_status_t Stream::get_metadata(const callout_call_t* call, callout_bytes_t key,
                                             uint32_t index, callout_bytes_t* value) {
  Stream* stream = live(call);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  const auto range = stream->grpc_metadata_.equal_range(std::string(to_view(key)));
  for (auto it = range.first; it != range.second; ++it) {
    if (index-- > 0) continue;
    *value = to_bytes(it->second);
    return CALLOUT_OK;
  }
  return CALLOUT_NOT_FOUND;
}

inline callout_status_t Stream::get_metadata_at(const callout_call_t* call, uint32_t index,
                                                callout_bytes_t* key, callout_bytes_t* value) {
  Stream* stream = live(call);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (index >= stream->grpc_metadata_.size()) return CALLOUT_NOT_FOUND;
  const auto entry = std::next(stream->grpc_metadata_.begin(), index);
  *key = to_bytes(entry->first);
  *value = to_bytes(entry->second);
  return CALLOUT_OK;
}

inline callout_status_t Stream::get_property(const callout_call_t* call,
                                             callout_property_t property, callout_bytes_t* value) {
  Stream* stream = live(call);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  const auto found = stream->properties_.find(property);
  if (found == stream->properties_.end()) return CALLOUT_NOT_FOUND;
  *value = to_bytes(found->second);
  return CALLOUT_OK;
}

// Cancel and close have no span, nor what is not sampled.
inline bool Stream::has_span(const callout_call_t* call) const {
  return recorded_ && (call->phase != 0 || state_ == kFresh) && call->end == nullptr;
}

inline int32_t Stream::is_recording(const callout_call_t* call) {
  const Stream* stream = live(call);
  return stream != nullptr && stream->has_span(call);
}

inline callout_status_t Stream::set_span_attribute(callout_call_t* call,
                                                   const callout_trace_attribute_t* attribute) {
  Stream* stream = live(call);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  return stream->has_span(call) ? stream->spans_.set(*attribute) : CALLOUT_OK;
}

inline callout_status_t Stream::add_span_event(callout_call_t* call, callout_bytes_t name,
                                               const callout_trace_attribute_t* attributes,
                                               size_t count) {
  Stream* stream = live(call);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  return stream->has_span(call) ? stream->spans_.add(name, attributes, count) : CALLOUT_OK;
}

// The trace is that of the gRPC metadata, if the test has set one; the span has the number of the
// call.
inline callout_status_t Stream::get_trace_context(const callout_call_t* call, char* traceparent,
                                                  callout_bytes_t* tracestate) {
  Stream* stream = live(call);
  if (tracestate != nullptr) *tracestate = callout_make_bytes(nullptr, 0);
  if (stream == nullptr) return CALLOUT_FAILED_PRECONDITION;
  const auto parent = stream->grpc_metadata_.find("traceparent");
  const auto state = stream->grpc_metadata_.find("tracestate");
  const bool has_parent =
      parent != stream->grpc_metadata_.end() && parent->second.size() == CALLOUT_TRACEPARENT_BYTES;
  if (!has_parent && !stream->has_span(call)) return CALLOUT_NOT_FOUND;
  std::string text =
      has_parent ? parent->second : "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
  if (stream->has_span(call)) {
    char span[17];
    std::snprintf(span, sizeof(span), "%016zx", stream->spans_.all().size());
    text.replace(36, 16, span).replace(53, 2, "01");
  }
  std::memcpy(traceparent, text.data(), CALLOUT_TRACEPARENT_BYTES);
  if (tracestate != nullptr && has_parent && state != stream->grpc_metadata_.end()) {
    *tracestate = to_bytes(state->second);
  }
  return CALLOUT_OK;
}

}  // namespace callout::testing

#endif  // CALLOUT_TESTING_HOST_HPP_
