// callout/testing_host.hpp - how the fake host of <callout/testing.hpp> works. Not to be
// included by itself.
#ifndef CALLOUT_TESTING_HOST_HPP_
#define CALLOUT_TESTING_HOST_HPP_

#include <callout/testing.hpp>

namespace callout::testing {

// --- Plugin ---

inline Plugin::Plugin(const internal::Hooks& hooks, std::string_view config) : hooks_(hooks) {
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
  host.get_extension = [](const callout_host_t*, const char*) -> const void* { return nullptr; };
  table_.plugin = this;

  args_.struct_size = sizeof(args_);
  args_.host = &host;
  args_.instance = "test";
  args_.config = to_bytes(config);
  for (callout_phase_t phase = 0; phase < 8; ++phase) {
    if (hooks_.phases[phase] != nullptr) args_.phases |= CALLOUT_PHASE_BIT(phase);
  }
  if (hooks_.create != nullptr) status_ = hooks_.create(&args_);
  args_.config = callout_make_bytes(nullptr, 0);
}

inline callout_status_t Plugin::define(const callout_host_t* host, callout_metric_kind_t kind,
                                       callout_bytes_t name, callout_bytes_t, uint32_t* id) {
  Plugin* plugin = from(host);
  std::lock_guard<std::mutex> lock(plugin->mutex_);
  for (*id = 0; *id < plugin->metrics_.size(); ++*id) {
    const Metric& metric = plugin->metrics_[*id];
    if (metric.name == to_view(name)) {
      return metric.kind == kind ? CALLOUT_OK : CALLOUT_INVALID_ARGUMENT;
    }
  }
  if (*id == 64) return CALLOUT_RESOURCE_EXHAUSTED;
  plugin->metrics_.push_back({std::string(to_view(name)), kind, 0});
  return CALLOUT_OK;
}

inline void Plugin::record(const callout_host_t* host, uint32_t id, double value) {
  Plugin* plugin = from(host);
  std::lock_guard<std::mutex> lock(plugin->mutex_);
  if (id >= plugin->metrics_.size()) return;
  Metric& metric = plugin->metrics_[id];
  metric.value = metric.kind == CALLOUT_METRIC_COUNTER ? metric.value + value : value;
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
  uint32_t flags = CALLOUT_CALL_FIRST;
  if (end_of_stream || callout_is_trailers_phase(phase)) flags |= CALLOUT_CALL_LAST;
  return message(phase, bytes, flags);
}

inline Answer Stream::body_message(callout_phase_t phase, std::string_view body,
                                   bool end_of_stream) {
  const std::string bytes = internal::written([&](callout_writer_t* writer) {
    callout_write_bytes(writer, 1, to_bytes(body));
    if (end_of_stream) callout_write_number(writer, 2, 1);
  });
  uint64_t& offset = body_offsets_[phase % 2];
  uint32_t flags = 0;
  if (offset == 0) flags |= CALLOUT_CALL_FIRST;
  if (end_of_stream) flags |= CALLOUT_CALL_LAST;
  if (offset == 0 && end_of_stream) flags |= CALLOUT_CALL_WHOLE_BODY;
  call_.abi.body_offset = offset;
  offset += body.size();
  return message(phase, bytes, flags);
}

// --- Calling the plugin ---

inline void Stream::begin(callout_phase_t phase, std::string_view message) {
  message_.assign(message);
  request_ = internal::written([&](callout_writer_t* writer) {
    if (phase != 0) callout_write_bytes(writer, phase, to_bytes(message_));
    callout_write_bytes(writer, 8, to_bytes(metadata_));
    callout_write_raw(writer, to_bytes(attributes_));
  });
  answer_ = Answer();
  finished_ = false;
  callout_call_t& call = call_.abi;
  call.phase = phase;
  call.message = to_bytes(message_);
  call.request = phase == 0 ? callout_make_bytes(nullptr, 0) : to_bytes(request_);
  call.attributes = to_bytes(attributes_);
  call.metadata_context = to_bytes(metadata_);
  call.body_mode = phase == 0 ? 0 : body_modes_[phase % 2];
  if (!callout_is_body_phase(phase)) call.body_offset = 0;
}

inline void Stream::open() {
  begin(0, {});
  callout_status_t status = CALLOUT_OK;
  if (plugin_.hooks_.open != nullptr) status = plugin_.hooks_.open(&call_.abi);
  state_ = status < 0 ? kRefused : kOpen;
  answer_.status = status;
}

inline callout_status_t Stream::call_hooks() {
  const callout_phase_t phase = call_.abi.phase;
  callout_status_t status = CALLOUT_NEXT;
  if ((plugin_.args_.phases & CALLOUT_PHASE_BIT(0)) != 0) {
    status = plugin_.hooks_.phases[0](&call_.abi);
  }
  if (status != CALLOUT_NEXT) return status;
  if ((plugin_.args_.phases & CALLOUT_PHASE_BIT(phase)) == 0) return CALLOUT_OK;
  return plugin_.hooks_.phases[phase](&call_.abi);
}

inline Answer Stream::message(callout_phase_t phase, std::string_view message, uint32_t flags) {
  const uint64_t offset = call_.abi.body_offset;
  if (state_ == kFresh) open();
  if (state_ == kRefused) return answer_;
  call_.abi.body_offset = offset;
  begin(phase, message);
  call_.abi.flags = flags;
  may_answer_ = true;
  callout_status_t status = call_hooks();
  if (status == CALLOUT_DEFERRED) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!finished_event_.wait_for(lock, wait_max, [this] { return finished_; })) {
      throw std::runtime_error("a deferred call was not finished");
    }
    answer_.deferred = true;
    status = status_;
  }
  may_answer_ = false;
  settle(status);
  return answer_;
}

// The checks that the real host makes too.
inline void Stream::settle(callout_status_t status) {
  answer_.status = status;
  const callout_phase_t phase = call_.abi.phase;
  const bool duplex =
      callout_is_body_phase(phase) && call_.abi.body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  const bool is_own = answer_.field == phase - 1 || answer_.field == 0 || answer_.is_immediate() ||
                      answer_.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
  if (!is_own) answer_.problem = "the answer is one of another phase";
  if (status > CALLOUT_NO_RESPONSE || status == CALLOUT_NEXT || status == CALLOUT_DEFERRED ||
      (status == CALLOUT_NO_RESPONSE && !duplex)) {
    answer_.problem = "the hook may not return this status";
  }
  if (answer_.body_kind == Answer::Body::kStreamed && !duplex) {
    answer_.problem = "streamed_response outside FULL_DUPLEX_STREAMED";
  }
  for (const Answer& sent : answer_.sent) {
    if (!duplex && sent.field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
      answer_.problem = "send() outside FULL_DUPLEX_STREAMED";
    }
  }
}

// --- Services ---

inline Answer* Stream::set_answer(callout_field_t field, const callout_bytes_t* parts, size_t count,
                                  Answer* answer) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes.append(to_view(parts[i]));
  if (field == CALLOUT_WHOLE_RESPONSE) {
    read_whole(bytes);
    return answer;
  }
  answer->field = field;
  if (!answer->read(bytes)) answer_.problem = "the answer is malformed";
  return answer;
}

// ProcessingResponse: the oneof 1 to 7 and 11; the rest goes beside the answer.
inline void Stream::read_whole(std::string_view response) {
  const bool ok = read_records(to_bytes(response), [&](const callout_reader_t& record) {
    const bool is_answer = record.field <= CALLOUT_IMMEDIATE_RESPONSE ||
                           record.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE;
    if (is_answer) {
      set_answer(record.field, &record.bytes, 1, &answer_);
    } else if (record.type == CALLOUT_WIRE_BYTES) {
      take_annotation(record.field, to_view(record.bytes));
    }
    return true;
  });
  if (!ok) answer_.problem = "the answer is malformed";
}

inline void Stream::take_annotation(callout_field_t field, std::string_view bytes) {
  if (field == CALLOUT_DYNAMIC_METADATA) answer_.metadata.append(bytes);
  if (field == CALLOUT_MODE_OVERRIDE) answer_.modes.append(bytes);
  if (field == CALLOUT_OVERRIDE_MESSAGE_TIMEOUT) {
    answer_.timeout_ms = uint64_t{read_number(to_bytes(bytes), 1)} * 1000 +
                         read_number(to_bytes(bytes), 2) / 1000000;
  }
}

inline callout_status_t Stream::respond(callout_call_t* call, callout_field_t field,
                                        const callout_bytes_t* parts, size_t count) {
  Stream* stream = from(call);
  if (field > CALLOUT_IMMEDIATE_RESPONSE && field != CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    return CALLOUT_INVALID_ARGUMENT;
  }
  if (!stream->may_answer_) return CALLOUT_FAILED_PRECONDITION;
  // The last one counts, but for what was said beside it.
  Answer answer;
  std::swap(answer, stream->answer_);
  stream->answer_.error = std::move(answer.error);
  stream->answer_.sent = std::move(answer.sent);
  stream->answer_.metadata = std::move(answer.metadata);
  stream->answer_.modes = std::move(answer.modes);
  stream->answer_.timeout_ms = answer.timeout_ms;
  stream->set_answer(field, parts, count, &stream->answer_);
  return CALLOUT_OK;
}

inline callout_status_t Stream::send(callout_call_t* call, callout_field_t field,
                                     const callout_bytes_t* parts, size_t count) {
  Stream* stream = from(call);
  if (stream->cancelled_) return CALLOUT_CANCELLED;
  if (field == CALLOUT_WHOLE_RESPONSE) return CALLOUT_INVALID_ARGUMENT;
  if (!stream->may_answer_) return CALLOUT_FAILED_PRECONDITION;
  Answer sent;
  stream->set_answer(field, parts, count, &sent);
  stream->answer_.sent.push_back(std::move(sent));
  return CALLOUT_OK;
}

inline callout_status_t Stream::annotate(callout_call_t* call, callout_field_t field,
                                         callout_bytes_t message) {
  Stream* stream = from(call);
  if (!stream->may_answer_) return CALLOUT_FAILED_PRECONDITION;
  switch (field) {
    case CALLOUT_WHOLE_RESPONSE:
      stream->read_whole(to_view(message));
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

inline callout_status_t Stream::finish(callout_call_t* call, callout_status_t status) {
  if (status == CALLOUT_DEFERRED || status == CALLOUT_NEXT) return CALLOUT_INVALID_ARGUMENT;
  Stream* stream = from(call);
  const bool cancelled = stream->cancelled_;
  std::lock_guard<std::mutex> lock(stream->mutex_);
  if (stream->finished_) return CALLOUT_FAILED_PRECONDITION;
  stream->finished_ = true;
  stream->status_ = status;
  stream->finished_event_.notify_all();
  return cancelled ? CALLOUT_CANCELLED : CALLOUT_OK;
}

inline callout_status_t Stream::get_metadata(const callout_call_t* call, callout_bytes_t key,
                                             uint32_t index, callout_bytes_t* value) {
  const auto range = from(call)->grpc_metadata_.equal_range(std::string(to_view(key)));
  for (auto it = range.first; it != range.second; ++it) {
    if (index-- > 0) continue;
    *value = to_bytes(it->second);
    return CALLOUT_OK;
  }
  return CALLOUT_NOT_FOUND;
}

inline callout_status_t Stream::get_property(const callout_call_t* call,
                                             callout_property_t property, callout_bytes_t* value) {
  const auto found = from(call)->properties_.find(property);
  if (found == from(call)->properties_.end()) return CALLOUT_NOT_FOUND;
  *value = to_bytes(found->second);
  return CALLOUT_OK;
}

}  // namespace callout::testing

#endif  // CALLOUT_TESTING_HOST_HPP_
