// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/services.h"

#include <callout/rpc_metadata.h>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "absl/status/status.h"
#include "host/base/log.h"
#include "host/base/status_text.h"
#include "host/metrics/host_names.h"
#include "host/plugin/instance.h"
#include "host/plugin/rpc_context.h"
#include "host/wire/annotations.h"
#include "host/wire/check_response.h"
#include "host/wire/envelope.h"
#include "host/wire/network_message.h"
#include "host/wire/rate_limit.h"
#include "host/wire/refusal.h"

namespace callout::host {

const char kHostVersion[] = CALLOUT_HOST_VERSION;
const char kHostName[] = "callout-host/" CALLOUT_HOST_VERSION;

namespace {

using RefusalText = std::string_view;

callout_status_t Refuse(const callout_call_t& call, const char* service, callout_status_t status,
                        RefusalText what) {
  return RefuseCall(call, service, status, what);
}

constexpr RefusalText kCopy =
    "it was given a copy of a callout_call_t; pass the pointer that the hook got";
constexpr RefusalText kOver =
    "the call is over: its hook has returned, or it was finished; return CALLOUT_DEFERRED to keep "
    "a call, and leave it alone after finish()";

// False, and logged, for what is no call at all.
bool IsCall(const callout_call_t* call, const char* service) {
  if (call != nullptr && CallSlot::IsCall(call)) return true;
  if (call != nullptr) {
    Refuse(*call, service, CALLOUT_FAILED_PRECONDITION, kCopy);
  } else {
    LogLimited(LogLevel::kWarning, fmt::format("null/{}", service),
               "a plugin called {}() with NULL in the place of a call, which was refused; pass the "
               "pointer that the hook got",
               service);
  }
  return false;
}

}  // namespace

callout_status_t RefuseCall(const callout_call_t& call, const char* service,
                            callout_status_t status, std::string_view why) {
  ServiceTable::From(call.host)->LogRefusal(service, call.phase, why);
  return status;
}

// Every [call] service begins with it.
CallState* FindState(const callout_call_t* call, const char* service) {
  if (!IsCall(call, service)) return nullptr;
  const CallSlot* slot = CallSlot::From(call);
  CallState* state = slot->state.load(std::memory_order_acquire);
  if (state != nullptr && !slot->handshake.finished()) return state;
  Refuse(*call, service, CALLOUT_FAILED_PRECONDITION, kOver);
  return nullptr;
}

namespace {

constexpr RefusalText kNotNow =
    "the stream is being opened, cancelled or closed; respond in the hook of a phase";
constexpr RefusalText kTooLarge = "it is over --max_message_bytes";
constexpr RefusalText kStands =
    "a refusal was set before, and stands; return from the hook after it";

// FAILED_PRECONDITION in hooks that may not respond. At open that is a fault: if a plugin denies
// there and ignores the error, the stream must not pass.
callout_status_t CheckMayRespond(const callout_call_t* call, CallState* state, const char* service,
                                 callout_field_t field) {
  if (CallSlot::From(call)->may_respond) return CALLOUT_OK;
  if (state->misuse == nullptr) state->misuse = service;
  // The slot is that of the first call, which the open comes before.
  const bool may_refuse =
      state->slot != nullptr &&
      (field == CALLOUT_WHOLE_RESPONSE || IsRefusalField(state->slot->call.phase, field));
  if (may_refuse) state->refusal.store(Refusal::kStands, std::memory_order_relaxed);
  return Refuse(*call, service, CALLOUT_FAILED_PRECONDITION, kNotNow);
}

// --- What belongs to the service that the call's phase is of ---

bool IsAnswer(callout_phase_t phase, callout_field_t field) {
  switch (phase) {
    case CALLOUT_CHECK:
      return IsCheckField(field);
    case CALLOUT_READ_DATA:
      return field == CALLOUT_READ_DATA_RESPONSE;
    case CALLOUT_WRITE_DATA:
      return field == CALLOUT_WRITE_DATA_RESPONSE;
    default:
      return !IsOtherService(phase) && IsResponseField(field);
  }
}

// Nothing that comes after it may let the request pass.
bool RefusalStands(const CallState& state) {
  return state.refusal.load(std::memory_order_relaxed) == Refusal::kStands;
}

void NoteRefusal(callout_phase_t phase, CallState* state) {
  if (!IsRefusal(phase, state->response, state->annotations)) return;
  state->refusal.store(Refusal::kStands, std::memory_order_relaxed);
}

bool IsAnnotation(callout_phase_t phase, callout_field_t field) {
  if (phase == CALLOUT_CHECK) return field == CALLOUT_CHECK_DYNAMIC_METADATA;
  if (phase == CALLOUT_RATE_LIMIT) return field == CALLOUT_RATE_LIMIT_DYNAMIC_METADATA;
  if (IsOtherService(phase)) return field == CALLOUT_DATA_DYNAMIC_METADATA;
  return field == CALLOUT_DYNAMIC_METADATA || field == CALLOUT_MODE_OVERRIDE ||
         field == CALLOUT_OVERRIDE_MESSAGE_TIMEOUT || field == CALLOUT_TYPED_DYNAMIC_METADATA;
}

bool Split(callout_phase_t phase, std::string_view whole, Response* response,
           std::string* annotations) {
  if (phase == CALLOUT_CHECK) return SplitCheckResponse(whole, response, annotations);
  if (phase == CALLOUT_RATE_LIMIT) return SplitRateLimitResponse(whole, response, annotations);
  if (IsOtherService(phase)) return SplitNetworkResponse(whole, response, annotations);
  return SplitResponse(whole, response, annotations);
}

// Why a field of the service's response is not an answer.
RefusalText NoAnswer(callout_phase_t phase) {
  if (phase == CALLOUT_CHECK) {
    return "that field of CheckResponse is not a response; pass CALLOUT_CHECK_OK, "
           "CALLOUT_CHECK_DENIED or CALLOUT_CHECK_ERROR";
  }
  if (phase == CALLOUT_RATE_LIMIT) {
    return "a RateLimitResponse is passed as a whole, with CALLOUT_WHOLE_RESPONSE";
  }
  if (IsOtherService(phase)) {
    return "that field is not a response to this call; pass the data of its own direction, or a "
           "ProcessingResponse as a whole";
  }
  return "that field of ProcessingResponse is not a response; pass CALLOUT_..._RESPONSE";
}

// Builds one response from `parts`. The other fields of a whole response go to `annotations`.
// Changes nothing if it fails.
callout_status_t BuildAnswer(const callout_call_t* call, CallState* state, const char* service,
                             callout_field_t field, const callout_bytes_t* parts, size_t part_count,
                             Response* response, std::string* annotations, ResponseFault* fault) {
  if (const callout_status_t status = CheckMayRespond(call, state, service, field);
      status != CALLOUT_OK) {
    return status;
  }
  if (RefusalStands(*state)) {
    return Refuse(*call, service, CALLOUT_FAILED_PRECONDITION, kStands);
  }
  if (field != CALLOUT_WHOLE_RESPONSE && !IsAnswer(call->phase, field)) {
    return Refuse(*call, service, CALLOUT_INVALID_ARGUMENT, NoAnswer(call->phase));
  }
  const size_t bytes_max = state->instance->message_bytes_max();
  size_t size = 0;
  for (size_t i = 0; i < part_count; ++i) {
    if (parts[i].size > bytes_max - size) {
      *fault = ResponseFault::kTooLarge;
      return Refuse(*call, service, CALLOUT_RESOURCE_EXHAUSTED, kTooLarge);
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
  if (!Split(call->phase, whole, response, annotations)) {
    *fault = ResponseFault::kMalformed;
    return Refuse(
        *call, service, CALLOUT_INVALID_ARGUMENT,
        "the bytes are not a response of the call's service; pass a serialized one, or the "
        "field that they belong to");
  }
  return CALLOUT_OK;
}

bool FitsBeside(const CallState& state, size_t bytes) {
  const size_t bytes_max = state.instance->message_bytes_max();
  return bytes <= bytes_max - std::min(bytes_max, state.annotations.size());
}

void NoteTimeout(CallState* state, std::string_view records) {
  if (IsOtherService(state->slot->call.phase)) return;
  const uint64_t timeout_ms = ReadTimeoutMs(records);
  if (timeout_ms > 0) state->timeout_ms.store(timeout_ms, std::memory_order_release);
}

// The last respond() counts, with its annotations: up to one that refuses.
void TakeBack(CallState* state) {
  state->response.Clear();
  state->annotations.erase(state->whole_begin, state->whole_size);
  state->whole_begin = state->whole_size = 0;
  if (state->fault_is_of_respond) state->fault = ResponseFault::kNone;
  state->fault_is_of_respond = false;
}

// One that cannot be taken refuses all the same. The field of a whole response of ext_proc does not
// say whether it does: it falls under the instance's policy.
void NoteNotTaken(callout_phase_t phase, callout_field_t field, CallState* state) {
  if (!IsRefusalField(phase, field)) return;
  BuildRecord(field, {}, &state->response);
  NoteRefusal(phase, state);
}

callout_status_t Respond(callout_call_t* call, callout_field_t field, const callout_bytes_t* parts,
                         size_t part_count) {
  CallState* state = FindState(call, "respond");
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  ResponseFault fault = ResponseFault::kNone;
  if (field != CALLOUT_WHOLE_RESPONSE && state->whole_size == 0 && !state->fault_is_of_respond) {
    // The common case: into the response's own memory.
    const callout_status_t status = BuildAnswer(call, state, "respond", field, parts, part_count,
                                                &state->response, nullptr, &fault);
    if (fault == ResponseFault::kNone) {
      NoteRefusal(call->phase, state);
      return status;
    }
  }
  Response response;
  std::string annotations;
  callout_status_t status = CALLOUT_RESOURCE_EXHAUSTED;
  if (fault == ResponseFault::kNone) {
    status = BuildAnswer(call, state, "respond", field, parts, part_count, &response, &annotations,
                         &fault);
    if (status != CALLOUT_OK && fault == ResponseFault::kNone) return status;
  }
  TakeBack(state);
  if (fault == ResponseFault::kNone && !FitsBeside(*state, annotations.size())) {
    fault = ResponseFault::kTooLarge;
    status = Refuse(*call, "respond", CALLOUT_RESOURCE_EXHAUSTED, kTooLarge);
  }
  if (fault != ResponseFault::kNone) {
    state->fault_is_of_respond = state->fault == ResponseFault::kNone;
    state->fault = fault;
    NoteNotTaken(call->phase, field, state);
    return status;
  }
  state->response = std::move(response);
  state->whole_begin = state->annotations.size();
  state->whole_size = annotations.size();
  state->annotations.append(annotations);
  NoteTimeout(state, annotations);
  NoteRefusal(call->phase, state);
  return CALLOUT_OK;
}

// --- send() ---

// What send() did not take is tried again, in smaller pieces or later; but not a refusal. In
// ext_proc a whole response is none: send() is for bodies, and the bytes are the plugin's to mend.
// `fault` kNone: something else is wrong, such as the field.
void NoteNotSent(callout_phase_t phase, callout_field_t field, ResponseFault fault,
                 CallState* state) {
  if (fault == ResponseFault::kNone || state->refuses()) return;
  const bool may_refuse =
      IsRefusalField(phase, field) || (field == CALLOUT_WHOLE_RESPONSE && IsOtherService(phase));
  if (!may_refuse) return;
  if (state->fault == ResponseFault::kNone) state->fault = fault;
  NoteNotTaken(phase, field, state);
}

// A reply in pieces is the only refusal that goes on.
void NoteSent(callout_phase_t phase, const Response& response, std::string_view annotations,
              CallState* state) {
  if (response.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE && !IsOtherService(phase)) {
    state->refusal.store(Refusal::kBegun, std::memory_order_relaxed);
  } else if (IsRefusal(phase, response, annotations)) {
    state->refusal.store(Refusal::kStands, std::memory_order_relaxed);
  }
}

// With sent_mutex held.
size_t WaitingToSend(const CallState& state) {
  return state.sent_bytes + state.unsent_bytes.load(std::memory_order_relaxed);
}

// The bytes that send() may still add. With sent_mutex held.
uint64_t RoomToSend(const CallState& state) {
  return state.sent_bytes_max - std::min(state.sent_bytes_max, WaitingToSend(state));
}

callout_status_t Send(callout_call_t* call, callout_field_t field, const callout_bytes_t* parts,
                      size_t part_count) {
  CallState* state = FindState(call, "send");
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (state->cancelled->load(std::memory_order_relaxed)) return CALLOUT_CANCELLED;
  Response response;
  std::string annotations;
  ResponseFault fault = ResponseFault::kNone;
  const callout_status_t status =
      BuildAnswer(call, state, "send", field, parts, part_count, &response, &annotations, &fault);
  if (status != CALLOUT_OK) {
    NoteNotSent(call->phase, field, fault, state);
    return status;
  }
  if (!FitsBeside(*state, annotations.size())) {
    return Refuse(*call, "send", CALLOUT_RESOURCE_EXHAUSTED, kTooLarge);
  }
  bool has_room = false;
  {
    std::lock_guard<std::mutex> lock(state->sent_mutex);
    // The first one may have any size up to --max_message_bytes.
    has_room = WaitingToSend(*state) == 0 || response.record.size() <= RoomToSend(*state);
    if (has_room) {
      NoteSent(call->phase, response, annotations, state);
      state->sent_bytes += response.record.size();
      state->sent.push_back(std::move(response));
      state->has_sent.store(true, std::memory_order_release);
    }
  }
  if (has_room) state->annotations.append(annotations);
  // The stream looks at `sent` itself once the hook has returned. Told of a refusal,
  // it finds out how much the client has taken meanwhile.
  if (CallSlot::From(call)->handshake.elsewhere())
    state->rpc->Post(state, RpcContext::Event::kSent);
  if (has_room) return CALLOUT_OK;
  return Refuse(*call, "send", CALLOUT_RESOURCE_EXHAUSTED,
                "what waits to be sent on the stream is at --max_sent_bytes; send the rest when "
                "send_room() is large enough");
}

uint64_t SendRoom(const callout_call_t* call) {
  CallState* state = FindState(call, "send_room");
  if (state == nullptr || !CallSlot::From(call)->may_respond ||
      state->cancelled->load(std::memory_order_relaxed)) {
    return 0;
  }
  // The stream finds out how much the client has taken meanwhile, for whoever asks again.
  const bool may_be_more = state->unsent_bytes.load(std::memory_order_relaxed) != 0 &&
                           CallSlot::From(call)->handshake.elsewhere();
  if (may_be_more && !state->recount_asked.exchange(true, std::memory_order_relaxed)) {
    state->rpc->Post(state, RpcContext::Event::kSent);
  }
  std::lock_guard<std::mutex> lock(state->sent_mutex);
  return RoomToSend(*state);
}

callout_status_t AnnotateWhole(const callout_call_t* call, CallState* state,
                               std::string_view message) {
  Response response;
  std::string annotations;
  if (!Split(call->phase, message, &response, &annotations) || response.field != 0) {
    return Refuse(*call, "annotate", CALLOUT_INVALID_ARGUMENT,
                  "the bytes are not a message of fields beside a response; pass the response to "
                  "respond()");
  }
  const size_t size_before = state->annotations.size();
  state->annotations.append(annotations);
  // The status of a Check refuses, and the last one counts.
  if (RefusalStands(*state) && !IsRefusal(call->phase, state->response, state->annotations)) {
    state->annotations.resize(size_before);
    return Refuse(*call, "annotate", CALLOUT_FAILED_PRECONDITION, kStands);
  }
  NoteRefusal(call->phase, state);
  NoteTimeout(state, annotations);
  return CALLOUT_OK;
}

callout_status_t Annotate(callout_call_t* call, callout_field_t field, callout_bytes_t message) {
  CallState* state = FindState(call, "annotate");
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  if (const callout_status_t status = CheckMayRespond(call, state, "annotate", field);
      status != CALLOUT_OK) {
    return status;
  }
  if (!FitsBeside(*state, message.size)) {
    state->fault = ResponseFault::kTooLarge;
    state->fault_is_of_respond = false;
    return Refuse(*call, "annotate", CALLOUT_RESOURCE_EXHAUSTED, kTooLarge);
  }
  if (field == CALLOUT_WHOLE_RESPONSE) return AnnotateWhole(call, state, ToView(message));
  if (!IsAnnotation(call->phase, field)) {
    return Refuse(*call, "annotate", CALLOUT_INVALID_ARGUMENT,
                  "that field is not one beside the response");
  }
  AppendRecord(field, ToView(message), &state->annotations);
  NoteTimeout(state, state->annotations);
  return CALLOUT_OK;
}

void SetError(callout_call_t* call, callout_bytes_t text) {
  CallState* state = FindState(call, "set_error");
  if (state != nullptr) state->error.assign(ToView(text).substr(0, kErrorTextBytesMax));
}

// finish() on a call that is over, or was never deferred. Its stream and its instance may
// be gone; the table of services is not.
callout_status_t StaleFinish(const CallSlot& slot) {
  ServiceTable::From(slot.call.host)->CountStaleFinish(slot.call.phase, slot.stream_id);
  return CALLOUT_FAILED_PRECONDITION;
}

callout_status_t Finish(callout_call_t* call, callout_status_t status) {
  if (!IsCall(call, "finish")) return CALLOUT_FAILED_PRECONDITION;
  CallSlot* slot = CallSlot::From(call);
  if (status == CALLOUT_DEFERRED || status == CALLOUT_NEXT) {
    return Refuse(*call, "finish", CALLOUT_INVALID_ARGUMENT,
                  "DEFERRED and NEXT end no call; pass OK, NO_RESPONSE or a negative status");
  }
  if (!slot->may_respond || !slot->handshake.Claim()) return StaleFinish(*slot);
  CallState* state = slot->state.load(std::memory_order_acquire);
  if (state == nullptr) return StaleFinish(*slot);
  const bool cancelled = state->cancelled->load(std::memory_order_relaxed);
  RpcContext* rpc = state->rpc;
  slot->finish_status = status;
  bool expired = false;
  const CallHandshake::Finish who = slot->handshake.OnFinish(&expired);
  if (who == CallHandshake::Finish::kRefused) return StaleFinish(*slot);
  // From here on the hook's own thread may already be done with the call,
  // unless it is for us to post that it is over.
  if (who == CallHandshake::Finish::kPost) rpc->Post(state, RpcContext::Event::kFinished);
  if (expired) return CALLOUT_DEADLINE_EXCEEDED;
  return cancelled ? CALLOUT_CANCELLED : CALLOUT_OK;
}

int32_t IsCancelled(const callout_call_t* call) {
  const CallState* state = FindState(call, "is_cancelled");
  return state != nullptr && state->cancelled->load(std::memory_order_relaxed) ? 1 : 0;
}

callout_status_t GetMetadata(const callout_call_t* call, callout_bytes_t key, uint32_t index,
                             callout_bytes_t* value) {
  const CallState* state = FindState(call, "get_metadata");
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  std::string_view view;
  if (!state->rpc->GetMetadata(ToView(key), index, &view)) {
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
  CallState* state = FindState(call, "get_property");
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
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
  if (level >= CALLOUT_LOG_ERROR) return LogLevel::kError;
  if (level >= CALLOUT_LOG_WARNING) return LogLevel::kWarning;
  return level >= CALLOUT_LOG_INFO ? LogLevel::kInfo : LogLevel::kDebug;
}

int32_t LogEnabledFor(const callout_host_t* host, callout_log_level_t level) {
  return LogEnabled(ToLogLevel(level), ServiceTable::From(host)->name()) ? 1 : 0;
}

void LogText(const callout_host_t* host, callout_log_level_t level, callout_bytes_t text) {
  const ServiceTable* table = ServiceTable::From(host);
  if (table->retired()) return table->LogUseAfterDestroy("log");
  const std::string_view shown = ToView(text).substr(0, kLogTextBytesMax);
  if (LogEnabled(ToLogLevel(level), table->name())) {
    host::LogText(ToLogLevel(level), fmt::format("plugin {}: {}", table->name(), shown));
  }
  if (ToLogLevel(level) == LogLevel::kError) Instance::NoteError(shown);
}

callout_status_t DefineMetric(const callout_host_t* host, const callout_metric_spec_t* spec,
                              uint32_t* id) {
  const ServiceTable* table = ServiceTable::From(host);
  if (table->retired()) return CALLOUT_FAILED_PRECONDITION;
  const absl::StatusOr<uint32_t> defined = table->instance()->DefineMetric(*spec);
  if (defined.ok()) {
    *id = *defined;
    return CALLOUT_OK;
  }
  table->LogRefusal("define_metric", 0, MessageOf(defined.status()));
  return -static_cast<callout_status_t>(defined.status().code());
}

callout_status_t MetricDefine(const callout_host_t* host, callout_metric_kind_t kind,
                              callout_bytes_t name, callout_bytes_t help, uint32_t* id) {
  callout_metric_spec_t spec = {};
  spec.struct_size = sizeof(spec);
  spec.kind = kind;
  spec.name = name;
  spec.help = help;
  return DefineMetric(host, &spec, id);
}

void MetricRecord(const callout_host_t* host, uint32_t id, double value) {
  const ServiceTable* table = ServiceTable::From(host);
  if (table->retired()) return table->LogUseAfterDestroy("metric_record");
  if (std::isfinite(value)) table->RecordMetric(id, value);
}

callout_status_t MetadataAt(const callout_call_t* call, uint32_t index, callout_bytes_t* key,
                            callout_bytes_t* value) {
  const CallState* state = FindState(call, "callout.rpc_metadata: at");
  if (state == nullptr) return CALLOUT_FAILED_PRECONDITION;
  std::string_view key_view, value_view;
  if (!state->rpc->GetMetadataAt(index, &key_view, &value_view)) return CALLOUT_NOT_FOUND;
  *key = ToBytes(key_view);
  *value = ToBytes(value_view);
  return CALLOUT_OK;
}

constexpr callout_rpc_metadata_t kRpcMetadata = {sizeof(kRpcMetadata), 0, MetadataAt};

const void* GetExtension(const callout_host_t* host, const char* id) {
  const ServiceTable* table = ServiceTable::From(host);
  if (table->retired()) {
    table->LogUseAfterDestroy("get_extension");
    return nullptr;
  }
  InstanceExtensions* extensions = table->instance()->extensions();
  if (std::string_view(id) != CALLOUT_RPC_METADATA) return extensions->Find(id);
  extensions->NoteAsked(id, true);
  return &kRpcMetadata;
}

callout_status_t FollowFile(const callout_host_t* host, callout_bytes_t path) {
  const ServiceTable* table = ServiceTable::From(host);
  if (table->retired()) return CALLOUT_FAILED_PRECONDITION;
  const callout_status_t status = table->instance()->FollowFile(ToView(path));
  if (status != CALLOUT_OK) {
    table->LogRefusal(
        "follow_file", 0,
        "it takes up to 64 absolute paths of up to 4095 bytes, in callout_plugin_create");
  }
  return status;
}

}  // namespace

ServiceTable::ServiceTable(Instance* instance, std::string name, const Options& options)
    : abi_{.struct_size = static_cast<uint32_t>(options.bytes),
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
           .get_extension = GetExtension,
           .define_metric = host::DefineMetric,
           .follow_file = FollowFile,
           .send_room = SendRoom},
      instance_(instance),
      name_(std::move(name)),
      metrics_(options.metrics),
      strict_(options.strict) {
  if (options.bytes >= sizeof(abi_)) return;
  std::memset(reinterpret_cast<char*>(&abi_) + options.bytes, 0, sizeof(abi_) - options.bytes);
}

absl::StatusOr<uint32_t> ServiceTable::DefineMetric(const callout_metric_spec_t& spec) {
  static constexpr std::array<Metrics::Kind, 4> kKinds = {
      Metrics::Kind::kCounter, Metrics::Kind::kGauge, Metrics::Kind::kHistogram,
      Metrics::Kind::kGauge};
  constexpr size_t kLabelsMax = 8;
  if (!CALLOUT_HAS(&spec, callout_metric_spec_t, bucket_count)) {
    return absl::InvalidArgumentError(fmt::format(
        "the spec's struct_size is {}; set it to sizeof(callout_metric_spec_t)", spec.struct_size));
  }
  std::string name(ToView(spec.name));
  if (spec.kind >= kKinds.size() || spec.label_count > kLabelsMax ||
      (spec.bucket_count > 0 && spec.kind != CALLOUT_METRIC_HISTOGRAM)) {
    return absl::InvalidArgumentError(
        fmt::format("metric {} has an unknown kind, more than {} labels, or buckets without being "
                    "a histogram",
                    name, kLabelsMax));
  }
  const std::string unit(ToView(spec.unit));
  if (!unit.empty() && !name.ends_with("_" + unit)) name += "_" + unit;
  if (IsHostMetric(name)) {
    return absl::InvalidArgumentError(
        fmt::format("metric {} is one of the host's own; choose another name", name));
  }
  Metrics::Labels labels = {{"plugin", name_}};
  for (size_t i = 0; i < spec.label_count; ++i) {
    labels.emplace_back(ToView(spec.labels[i].name), ToView(spec.labels[i].value));
  }
  std::vector<double> buckets(spec.buckets, spec.buckets + spec.bucket_count);
  const size_t count = plugin_metric_count_.load(std::memory_order_relaxed);
  const bool has_room = count < kPluginMetricsMax;
  const auto too_many = [&name] {
    return absl::ResourceExhaustedError(
        fmt::format("metric {}: a plugin may have {} series at most", name, kPluginMetricsMax));
  };
  absl::StatusOr<Metrics::Id> defined =
      metrics_->Define(kKinds[spec.kind], name, std::string(ToView(spec.help)), std::move(labels),
                       std::move(buckets), has_room);
  if (absl::IsAlreadyExists(defined.status())) {
    return absl::InvalidArgumentError(
        fmt::format("{}. Metrics stay until the process ends, so a version that changes one needs "
                    "another name for it",
                    MessageOf(defined.status())));
  }
  if (!defined.ok()) return has_room ? defined.status() : too_many();
  for (uint32_t i = 0; i < count; ++i) {
    if (plugin_metrics_[i].id == *defined && plugin_metrics_[i].kind == spec.kind) return i;
  }
  // Another instance's of this name may be known.
  if (!has_room) return too_many();
  plugin_metrics_[count] = {spec.kind, *defined};
  plugin_metric_count_.store(count + 1, std::memory_order_release);
  return static_cast<uint32_t>(count);
}

void ServiceTable::RecordMetric(uint32_t id, double value) const {
  if (id >= plugin_metric_count_.load(std::memory_order_acquire)) return;
  const PluginMetric& metric = plugin_metrics_[id];
  switch (metric.kind) {
    case CALLOUT_METRIC_COUNTER:
      if (value >= 0) metrics_->Add(metric.id, value);
      return;
    case CALLOUT_METRIC_GAUGE:
      return metrics_->Set(metric.id, value);
    case CALLOUT_METRIC_UP_DOWN:
      return metrics_->Add(metric.id, value);
    default:
      return metrics_->Observe(metric.id, value);
  }
}

void ServiceTable::Retire(std::unique_ptr<ServiceTable> table) {
  static auto* const mutex = new std::mutex;
  static auto* const retired = new std::vector<std::unique_ptr<ServiceTable>>;
  table->retired_.store(true, std::memory_order_release);
  std::lock_guard<std::mutex> lock(*mutex);
  retired->push_back(std::move(table));
}

void ServiceTable::LogUseAfterDestroy(const char* service) const {
  LogLimited(LogLevel::kError, fmt::format("{}/destroyed", name_),
             "plugin {}: {}() was called after callout_plugin_destroy and does nothing; join the "
             "plugin's threads before destroy returns",
             name_, service);
}

void ServiceTable::CountStaleFinish(callout_phase_t phase, uint64_t stream_id) const {
  if (retired()) return LogUseAfterDestroy("finish");
  instance_->CountViolation(
      Violation::kStaleFinish, phase,
      "finish() was called on a call that had been finished or was never deferred, and settled "
      "nothing; call it once for each CALLOUT_DEFERRED",
      {stream_id, {}});
}

void ServiceTable::LogRefusal(const char* service, callout_phase_t phase,
                              std::string_view what) const {
  const std::string line = fmt::format(
      "plugin {}: {}() was refused in {}: {}", name_, service,
      phase == 0 ? std::string_view("create, open, cancel or close") : PhaseName(phase), what);
  if (strict_) {
    Log(LogLevel::kWarning, "{}", line);
  } else {
    LogLimited(LogLevel::kWarning, fmt::format("{}/{}/refused", name_, service), "{}", line);
  }
}

}  // namespace callout::host
