#include "host/plugin/services.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "host/base/log.h"
#include "host/plugin/instance.h"
#include "host/plugin/rpc_context.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"

namespace callout::host {

const char kHostName[] = "callout-host/" CALLOUT_HOST_VERSION;

namespace {

// Builds one answer from `parts`; annotations that come inside a whole response
// go to `annotations`.
callout_status_t BuildAnswer(CallState* state, callout_field_t field, const callout_bytes_t* parts,
                             size_t part_count, Response* response, std::string* annotations) {
  if (field != CALLOUT_WHOLE_RESPONSE && !IsResponseField(field)) return CALLOUT_INVALID_ARGUMENT;
  if (!state->may_respond) return CALLOUT_FAILED_PRECONDITION;
  const size_t bytes_max = state->instance->message_bytes_max();
  size_t size = 0;
  for (size_t i = 0; i < part_count; ++i) {
    if (parts[i].size > bytes_max - size) {
      response->Clear();
      state->fault = ResponseFault::kTooLarge;
      return CALLOUT_RESOURCE_EXHAUSTED;
    }
    size += parts[i].size;
  }
  if (field != CALLOUT_WHOLE_RESPONSE) {
    BuildRecord(field, parts, part_count, size, response);
    return CALLOUT_OK;
  }
  std::string whole;
  whole.reserve(size);
  for (size_t i = 0; i < part_count; ++i) whole.append(ToView(parts[i]));
  if (!SplitResponse(whole, response, annotations)) state->fault = ResponseFault::kMalformed;
  return CALLOUT_OK;
}

callout_status_t Respond(callout_call_t* call, callout_field_t field, const callout_bytes_t* parts,
                         size_t part_count) {
  CallState* state = CallState::From(call);
  return BuildAnswer(state, field, parts, part_count, &state->response, &state->annotations);
}

callout_status_t Send(callout_call_t* call, callout_field_t field, const callout_bytes_t* parts,
                      size_t part_count) {
  CallState* state = CallState::From(call);
  if (state->cancelled->load(std::memory_order_relaxed)) return CALLOUT_CANCELLED;
  Response response;
  const callout_status_t status =
      BuildAnswer(state, field, parts, part_count, &response, &state->annotations);
  if (status != CALLOUT_OK) return status;
  bool has_room = false;
  {
    std::lock_guard<std::mutex> lock(state->sent_mutex);
    const size_t waiting = state->sent_bytes + state->unsent_bytes.load(std::memory_order_relaxed);
    has_room = waiting == 0 || waiting + response.record.size() <= state->sent_bytes_max;
    if (has_room) {
      state->sent_bytes += response.record.size();
      state->sent.push_back(std::move(response));
    }
  }
  // The stream looks at `sent` itself once the hook has returned. Told of a refusal,
  // it finds out how much the client has taken meanwhile.
  if (state->handshake.elsewhere()) state->rpc->Post(state, RpcContext::Event::kSent);
  return has_room ? CALLOUT_OK : CALLOUT_RESOURCE_EXHAUSTED;
}

void NoteTimeout(CallState* state, std::string_view records) {
  const uint64_t timeout_ms = ReadTimeoutMs(records);
  if (timeout_ms > 0) state->timeout_ms.store(timeout_ms, std::memory_order_release);
}

callout_status_t Annotate(callout_call_t* call, callout_field_t field, callout_bytes_t message) {
  CallState* state = CallState::From(call);
  if (!state->may_respond) return CALLOUT_FAILED_PRECONDITION;
  const size_t bytes_max = state->instance->message_bytes_max();
  if (message.size > bytes_max - std::min(bytes_max, state->annotations.size())) {
    state->fault = ResponseFault::kTooLarge;
    return CALLOUT_RESOURCE_EXHAUSTED;
  }
  switch (field) {
    case CALLOUT_DYNAMIC_METADATA:
    case CALLOUT_MODE_OVERRIDE:
    case CALLOUT_OVERRIDE_MESSAGE_TIMEOUT:
    case CALLOUT_TYPED_DYNAMIC_METADATA:
      AppendRecord(field, ToView(message), &state->annotations);
      NoteTimeout(state, state->annotations);
      return CALLOUT_OK;
    case CALLOUT_WHOLE_RESPONSE: {
      Response response;
      if (!SplitResponse(ToView(message), &response, &state->annotations) || response.field != 0) {
        return CALLOUT_INVALID_ARGUMENT;
      }
      NoteTimeout(state, ToView(message));
      return CALLOUT_OK;
    }
    default:
      return CALLOUT_INVALID_ARGUMENT;
  }
}

void SetError(callout_call_t* call, callout_bytes_t text) {
  CallState::From(call)->error.assign(ToView(text).substr(0, kErrorTextBytesMax));
}

callout_status_t Finish(callout_call_t* call, callout_status_t status) {
  if (status == CALLOUT_DEFERRED || status == CALLOUT_NEXT) return CALLOUT_INVALID_ARGUMENT;
  CallState* state = CallState::From(call);
  const bool cancelled = state->cancelled->load(std::memory_order_relaxed);
  RpcContext* rpc = state->rpc;
  if (!state->may_respond || state->handshake.finished()) return CALLOUT_FAILED_PRECONDITION;
  state->status = status;
  bool expired = false;
  const CallHandshake::Finish who = state->handshake.OnFinish(&expired);
  if (who == CallHandshake::Finish::kRefused) return CALLOUT_FAILED_PRECONDITION;
  // From here on the hook's own thread may already be done with the call,
  // unless it is for us to post that it is over.
  if (who == CallHandshake::Finish::kPost) rpc->Post(state, RpcContext::Event::kFinished);
  if (expired) return CALLOUT_DEADLINE_EXCEEDED;
  return cancelled ? CALLOUT_CANCELLED : CALLOUT_OK;
}

int32_t IsCancelled(const callout_call_t* call) {
  return CallState::From(call)->cancelled->load(std::memory_order_relaxed) ? 1 : 0;
}

callout_status_t GetMetadata(const callout_call_t* call, callout_bytes_t key, uint32_t index,
                             callout_bytes_t* value) {
  std::string_view view;
  if (!CallState::From(call)->rpc->GetMetadata(ToView(key), index, &view)) {
    return CALLOUT_NOT_FOUND;
  }
  *value = ToBytes(view);
  return CALLOUT_OK;
}

std::string_view StreamIdText(CallState* state) {
  char* begin = state->stream_id_text;
  if (begin[0] == '\0') {
    *std::to_chars(begin, begin + sizeof(state->stream_id_text) - 1, state->stream_id).ptr = '\0';
  }
  return begin;
}

callout_status_t GetProperty(const callout_call_t* call, callout_property_t property,
                             callout_bytes_t* value) {
  CallState* state = CallState::From(call);
  std::string_view view;
  switch (property) {
    case CALLOUT_PEER:
      view = state->rpc->peer();
      break;
    case CALLOUT_LISTENER:
      view = state->rpc->listener();
      break;
    case CALLOUT_PEER_IDENTITY:
      view = state->rpc->peer_identity();
      break;
    case CALLOUT_STREAM_ID:
      view = StreamIdText(state);
      break;
    default:
      break;
  }
  if (view.empty()) return CALLOUT_NOT_FOUND;
  *value = ToBytes(view);
  return CALLOUT_OK;
}

LogLevel ToLogLevel(callout_log_level_t level) {
  switch (level) {
    case CALLOUT_LOG_DEBUG:
      return LogLevel::kDebug;
    case CALLOUT_LOG_INFO:
      return LogLevel::kInfo;
    case CALLOUT_LOG_WARNING:
      return LogLevel::kWarning;
    default:
      return LogLevel::kError;
  }
}

int32_t LogEnabledFor(const callout_host_t*, callout_log_level_t level) {
  return LogEnabled(ToLogLevel(level)) ? 1 : 0;
}

void LogText(const callout_host_t* host, callout_log_level_t level, callout_bytes_t text) {
  const std::string_view shown = ToView(text).substr(0, kLogTextBytesMax);
  if (LogEnabled(ToLogLevel(level))) {
    Log(ToLogLevel(level), "plugin {}: {}", ServiceTable::From(host)->instance->name(), shown);
  }
  if (ToLogLevel(level) == LogLevel::kError) Instance::NoteError(shown);
}

callout_status_t MetricDefine(const callout_host_t* host, callout_metric_kind_t kind,
                              callout_bytes_t name, callout_bytes_t help, uint32_t* id) {
  return ServiceTable::From(host)->instance->DefineMetric(kind, ToView(name), ToView(help), id);
}

void MetricRecord(const callout_host_t* host, uint32_t id, double value) {
  if (std::isfinite(value)) ServiceTable::From(host)->instance->RecordMetric(id, value);
}

const void* GetExtension(const callout_host_t*, const char*) { return nullptr; }

}  // namespace

ServiceTable::ServiceTable(Instance* owner)
    : abi{.struct_size = sizeof(callout_host_t),
          .abi_version = CALLOUT_ABI_VERSION,
          .name = kHostName,
          .respond = Respond,
          .send = Send,
          .annotate = Annotate,
          .set_error = SetError,
          .finish = Finish,
          .is_cancelled = IsCancelled,
          .get_metadata = GetMetadata,
          .get_property = GetProperty,
          .log_enabled = LogEnabledFor,
          .log = LogText,
          .metric_define = MetricDefine,
          .metric_record = MetricRecord,
          .get_extension = GetExtension},
      instance(owner) {}

}  // namespace callout::host
