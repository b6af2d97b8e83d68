// SPDX-License-Identifier: Apache-2.0

#include "host/unary/check_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/heap_bytes.h"
#include "host/base/log.h"
#include "host/base/utf8.h"
#include "host/plugin/services.h"
#include "host/stream/guard.h"
#include "host/unary/check_guard.h"
#include "host/wire/annotations.h"
#include "host/wire/response.h"

namespace callout::host {

namespace {

constexpr uint64_t kExtProcPhases =
    CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS) | CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_HEADERS) |
    CALLOUT_PHASE_BIT(CALLOUT_REQUEST_BODY) | CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_BODY) |
    CALLOUT_PHASE_BIT(CALLOUT_REQUEST_TRAILERS) | CALLOUT_PHASE_BIT(CALLOUT_RESPONSE_TRAILERS);
constexpr uint64_t kBridgedPhases = CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS);

// google.rpc.Code
constexpr int32_t kPermissionDenied = 7;
constexpr int32_t kResourceExhausted = 8;
constexpr int32_t kInternal = 13;
constexpr int32_t kUnavailable = 14;
constexpr int32_t kUnauthenticated = 16;

int32_t CodeOf(uint64_t http_status) {
  switch (http_status) {
    case 401:
      return kUnauthenticated;
    case 413:
    case 429:
    case 431:
      return kResourceExhausted;
    case 500:
      return kInternal;
    case 503:
      return kUnavailable;
    default:
      return kPermissionDenied;
  }
}

std::vector<std::string> PhaseNames(uint64_t phases) {
  std::vector<std::string> names;
  for (const callout_phase_t phase : kPhases) {
    if ((phases & CALLOUT_PHASE_BIT(phase)) != 0) names.emplace_back(PhaseName(phase));
  }
  return names;
}

// Whether the headers are those of a request without a body, as far as they tell. Without
// content-length and transfer-encoding an HTTP/1 request has none (RFC 9112, section 6). But Envoy
// may leave these out (allowed_headers, disallowed_headers) without saying so. So a request is only
// believed if its method usually has no body and none of the pseudo headers is left out.
bool HasNoBodyByRule(const CheckRequestView& request) {
  if (!request.protocol.starts_with("HTTP/1")) return false;
  const auto has = [&request](std::string_view name) {
    return std::any_of(request.headers.begin(), request.headers.end(),
                       [name](const CheckHeader& header) { return header.name == name; });
  };
  const bool usually_none =
      std::any_of(request.headers.begin(), request.headers.end(), [](const CheckHeader& header) {
        return header.name == ":method" && (header.value == "GET" || header.value == "HEAD");
      });
  return usually_none && has(":path") && has(":authority") && has(":scheme");
}

// Whether it is certain that the request ends with its headers. A Check does not say. A
// content-length of 0 does. In HTTP/2 and HTTP/3 any other request, of any method, may have a body.
bool EndsWithHeaders(const CheckRequestView& request) {
  if (request.has_body) return false;
  bool ends = HasNoBodyByRule(request);
  for (const CheckHeader& header : request.headers) {
    if (EqualsIgnoreCase(header.name, "content-length")) {
      ends = header.value == "0";
      if (!ends) return false;
    }
    const bool goes_on = EqualsIgnoreCase(header.name, "transfer-encoding") ||
                         IsUpgrade(header.name) ||
                         (header.name == ":method" && header.value == "CONNECT");
    if (goes_on) return false;
  }
  return ends;
}

// ext_proc's mutation, which removes first and then does one after the other, as ext_authz
// has it, which sets first, appends then, and removes last.
CheckResponseView Translate(const HeaderMutationView& mutation) {
  CheckResponseView ok;
  const auto removed = [&mutation](std::string_view name) {
    return std::any_of(mutation.remove.begin(), mutation.remove.end(),
                       [&](std::string_view r) { return EqualsIgnoreCase(r, name); });
  };
  const auto is_named = [](const CheckHeaderOption& option, std::string_view name) {
    return EqualsIgnoreCase(option.name, name);
  };
  for (const HeaderSet& header : mutation.set) {
    const bool is_first =
        std::none_of(ok.headers.begin(), ok.headers.end(),
                     [&](const CheckHeaderOption& o) { return is_named(o, header.key); });
    const bool appends = header.append && !(is_first && removed(header.key));
    if (!appends) {
      std::erase_if(ok.headers,
                    [&](const CheckHeaderOption& o) { return is_named(o, header.key); });
    }
    ok.headers.push_back(
        {header.key, header.value, appends ? HeaderAction::kAppend : HeaderAction::kSet, true});
  }
  for (std::string_view name : mutation.remove) {
    if (std::none_of(ok.headers.begin(), ok.headers.end(),
                     [&](const CheckHeaderOption& o) { return is_named(o, name); })) {
      ok.remove.push_back(name);
    }
  }
  return ok;
}

uint64_t BytesSet(const CheckResponseView& view) {
  uint64_t bytes = view.body.size();
  for (const auto* headers : {&view.headers, &view.response_headers}) {
    for (const CheckHeaderOption& header : *headers) {
      bytes += header.name.size() + header.value.size();
    }
  }
  return bytes;
}

bool ChangesAnything(const CheckResponseView& ok) {
  return !ok.headers.empty() || !ok.remove.empty() || !ok.response_headers.empty() ||
         !ok.query_set.empty() || !ok.query_remove.empty() || !ok.metadata.empty();
}

// The records of `annotations` of ProcessingResponse as one of CheckResponse's.
std::string TranslateMetadata(const Annotations& annotations) {
  std::string records;
  if (annotations.has_dynamic_metadata) {
    AppendRecord(CALLOUT_CHECK_DYNAMIC_METADATA, annotations.dynamic_metadata, &records);
  }
  return records;
}

}  // namespace

bool IsBridgeable(uint64_t phases) { return (phases & kExtProcPhases) == kBridgedPhases; }

std::string WhyNoBridge(uint64_t phases) {
  const uint64_t others = phases & kExtProcPhases & ~kBridgedPhases;
  if (others == 0) return "";
  return fmt::format(
      "it has no callout_on_check, and a Check has no place for what it does in {}; export "
      "callout_on_check, or leave ext_authz out of --services",
      fmt::join(PhaseNames(others), ", "));
}

absl::Status CheckService::Begin(std::string_view bytes) {
  absl::StatusOr<CheckRequestView> view = ParseCheckRequest(bytes, limits_->message_fields_max);
  effect_.emplace(&request_);  // of a request that is refused, too
  if (!view.ok()) return view.status();
  request_ = *std::move(view);
  effect_.emplace(&request_);
  return absl::OkStatus();
}

// --- Who is asked, and what it is shown -----------------------------------------

bool CheckService::IsBridged(const Instance& instance) const {
  return bridge_ && !instance.HasHook(CALLOUT_CHECK);
}

UnaryService::Role CheckService::RoleOf(const Instance& instance) const {
  if (!IsBridged(instance)) {
    return instance.Wants(CALLOUT_CHECK) ? Role::kCalled : Role::kNone;
  }
  if ((instance.phases() & kExtProcPhases) == 0) return Role::kNone;
  const bool can = IsBridgeable(instance.phases()) && request_.has_http;
  return can ? Role::kCalled : Role::kCannot;
}

std::string CheckService::WhyNot(const Instance& instance) const {
  std::string why = WhyNoBridge(instance.phases());
  if (!why.empty()) return why;
  return "it has no callout_on_check, and a connection, which the network filter asks about, has "
         "no "
         "request headers";
}

const StreamFacts& CheckService::Facts() {
  if (!facts_.has_value()) {
    const std::string message = WriteHttpHeaders(request_.headers, false);
    const std::string record = WriteCheckAttributes(request_);
    RequestView view;
    view.phase = CALLOUT_REQUEST_HEADERS;
    view.message = message;
    view.attribute_records.push_back(record);
    facts_.emplace(view);
    facts_bytes_ = message.size() + record.size() + facts_->kept_bytes();
  }
  return *facts_;
}

std::string_view CheckService::Keep(std::string text) {
  kept_.push_back(std::make_unique<std::string>(std::move(text)));
  text_bytes_ += sizeof(std::string) + kept_.back()->capacity();
  return *kept_.back();
}

size_t CheckService::kept_bytes() const {
  return sizeof(*this) + HeapBytes(request_.headers) + text_bytes_ + facts_bytes_ +
         error_as_denial_.capacity() + (refusal_.has_value() ? refusal_->capacity() : 0) +
         (effect_.has_value() ? effect_->kept_bytes() : 0);
}

void CheckService::Show() {
  if (std::exchange(is_shown_, true)) return;
  shown_headers_ = {};
  if (!effect_->changes_request()) {
    shown_ = request_.request;
    shown_attributes_ = request_.attributes;
    return;
  }
  shown_ = Keep(WriteCheckRequest(request_, effect_->headers()));
  const absl::StatusOr<CheckRequestView> view = ParseCheckRequest(shown_, SIZE_MAX);
  shown_attributes_ = view.ok() ? view->attributes : std::string_view();
}

void CheckService::ShowHttpHeaders() {
  Show();
  if (!shown_headers_.empty()) return;
  shown_headers_ = Keep(WriteHttpHeaders(effect_->headers(), EndsWithHeaders(request_)));
  if (attribute_record_.empty()) attribute_record_ = Keep(WriteCheckAttributes(request_));
  shown_processing_request_ =
      Keep(WriteProcessingRequest(request_, shown_headers_, attribute_record_));
}

void CheckService::FillCall(const Instance& instance, callout_call_t* call) {
  call->metadata_context = ToBytes(request_.metadata_context);
  call->flags = CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST;
  if (!IsBridged(instance)) {
    Show();
    call->message = ToBytes(shown_attributes_);
    call->request = ToBytes(shown_);
    return;
  }
  ShowHttpHeaders();
  call->message = ToBytes(shown_headers_);
  call->request = ToBytes(shown_processing_request_);
  call->attributes = ToBytes(attribute_record_);
  if (!EndsWithHeaders(request_)) call->flags = CALLOUT_CALL_FIRST;
}

std::string_view CheckService::headers_for_log() {
  ShowHttpHeaders();
  return shown_headers_;
}

// --- What a call has come to ----------------------------------------------------

Finding CheckService::Take(const CallState& state, callout_phase_t phase) {
  return phase == CALLOUT_CHECK ? TakeCheck(state) : TakeHeaders(state);
}

Finding CheckService::TakeCheck(const CallState& state) {
  const Response& response = state.response;
  const std::string& beside = state.annotations;
  if (!CheckAnnotationsAreWellFormed(beside)) {
    return {Violation::kMalformed,
            "what stands beside the response is malformed protobuf, or has a string that is not "
            "UTF-8"};
  }
  if (!limits_->metadata_controls) {
    Finding found = CheckMetadata(beside, CALLOUT_CHECK_DYNAMIC_METADATA);
    if (!found.ok()) return found;
  }
  const int32_t said = ReadCheckStatus(beside);
  if (response.field == 0) {
    effect_->AddMetadata(beside);
    return Deny(CALLOUT_CHECK_DENIED, {}, said != 0 ? said : kPermissionDenied, {},
                fmt::format("plugin {} has set nothing", state.instance->name()));
  }
  CheckResponseView view;
  if (!ReadCheckResponse(response.field, response.payload(), &view)) {
    return {Violation::kMalformed,
            fmt::format("{} bytes that are no such message of CheckResponse, or a string that is "
                        "not UTF-8",
                        response.payload().size())};
  }
  if (Finding found = CheckCheckResponse(response.field, view); !found.ok()) return found;
  if (response.field == CALLOUT_CHECK_OK) {
    if (said != 0) {
      return {
          Violation::kWrongType,
          fmt::format("ok_response with status.code {}: one allows and the other does not", said)};
    }
    return Allow(view, beside);
  }
  const int32_t code = said != 0 ? said : CodeOf(view.http_status);
  return Deny(response.field, view, code, beside,
              fmt::format("denied by plugin {}", state.instance->name()));
}

Finding CheckService::TakeHeaders(const CallState& state) {
  const Response& response = state.response;
  if (!AnnotationsAreWellFormed(state.annotations)) {
    return {Violation::kMalformed, "what stands beside the response is malformed protobuf"};
  }
  if (!limits_->metadata_controls) {
    Finding found = CheckMetadata(state.annotations, CALLOUT_DYNAMIC_METADATA);
    if (!found.ok()) return found;
  }
  const Annotations beside = ReadAnnotations(state.annotations);
  if (beside.mode_override.present) {
    return {Violation::kNotCarried, "a mode override, which a Check has no place for"};
  }
  if (!beside.rest.empty()) {
    return {Violation::kNotCarried,
            "typed metadata, or a field this host does not know, beside the response"};
  }
  if (response.field == 0) return Allow({}, TranslateMetadata(beside));
  ResponseView view;
  if (!ReadResponse(response.field, response.payload(), &view)) {
    return {Violation::kMalformed, "the response is malformed protobuf"};
  }
  if (response.field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) {
    return {Violation::kNotCarried, "a reply in pieces, which a Check has no place for"};
  }
  Finding found = CheckResponse({CALLOUT_REQUEST_HEADERS, CALLOUT_BODY_NONE}, response.field, view);
  if (!found.ok()) return found;
  if (response.field == CALLOUT_IMMEDIATE_RESPONSE) return TakeImmediate(state);
  if (view.continue_and_replace || view.body_mutation != ResponseView::Body::kUnchanged) {
    return {Violation::kNotCarried, "a new body, which a Check has no place for"};
  }
  if (view.clear_route_cache) {
    LogLimited(LogLevel::kWarning, fmt::format("{}/route", state.instance->name()),
               "plugin {}: clear_route_cache has no place in a Check; set clear_route_cache in "
               "Envoy's ext_authz filter",
               state.instance->name());
  }
  const CheckResponseView ok = Translate(view.headers);
  found = CheckCheckResponse(CALLOUT_CHECK_OK, ok);
  return found.ok() ? Allow(ok, TranslateMetadata(beside)) : found;
}

// Envoy sends an immediate response without a status, or with one below 200, as 200.
Finding CheckService::TakeImmediate(const CallState& state) {
  constexpr uint64_t kOk = 200;
  ResponseView view;
  ReadResponse(state.response.field, state.response.payload(), &view);
  CheckResponseView denied;
  denied.http_status =
      std::max<uint64_t>(kOk, ReadImmediateStatus(state.response.field, state.response.payload()));
  denied.body = view.body;
  for (const HeaderSet& header : view.headers.set) {
    denied.headers.push_back({header.key, header.value,
                              header.append ? HeaderAction::kAppend : HeaderAction::kSet, true});
  }
  if (Finding found = CheckCheckResponse(CALLOUT_CHECK_DENIED, denied); !found.ok()) return found;
  return Deny(CALLOUT_CHECK_DENIED, denied, CodeOf(denied.http_status),
              TranslateMetadata(ReadAnnotations(state.annotations)),
              fmt::format("denied by plugin {}", state.instance->name()));
}

// --- The effect -----------------------------------------------------------------

Finding CheckService::Allow(const CheckResponseView& ok, std::string_view metadata_records) {
  if (Finding found = CheckMethod(ok.headers, request_); !found.ok()) return found;
  if (!limits_->metadata_controls) {
    for (std::string_view metadata : ok.metadata) {
      if (Finding found = CheckMetadataStruct(metadata); !found.ok()) return found;
    }
  }
  const bool changes_query = !ok.query_set.empty() || !ok.query_remove.empty();
  if (changes_query) {
    Finding found = CheckPath(effect_->path(), limits_->header_bytes_max);
    if (!found.ok()) return found;
  }
  // A copy to go back to is rarely needed.
  const bool fits =
      FitsWithAll(effect_->headers(), ok, limits_->header_count_max, limits_->header_bytes_max);
  std::optional<CheckEffect> before;
  if (!fits) before = *effect_;
  if (std::optional<std::string> why = effect_->Allow(ok)) {
    return {Violation::kNotCarried, *std::move(why)};
  }
  if (!fits) {
    Finding found = CheckRequestLimits(request_, effect_->headers(), limits_->header_count_max,
                                       limits_->header_bytes_max);
    if (!found.ok()) {
      effect_ = std::move(before);
      return found;
    }
  }
  effect_->AddMetadata(metadata_records);
  last_effect_ = {ChangesAnything(ok) || !metadata_records.empty(), 0, BytesSet(ok)};
  if (effect_->changes_request()) is_shown_ = false;
  has_say_ = true;
  return {};
}

Finding CheckService::Deny(callout_field_t field, const CheckResponseView& denied, int32_t code,
                           std::string_view metadata_records, std::string_view why) {
  effect_->AddMetadata(metadata_records);
  const std::string_view shown = IsUtf8(why) ? why : std::string_view();
  // Envoy's own for a refusal without a status.
  constexpr uint64_t kForbidden = 403;
  constexpr uint64_t kStatusMax = 599;
  const uint64_t status = denied.http_status == 0 ? kForbidden : denied.http_status;
  last_effect_ = {true, static_cast<uint16_t>(std::min(status, kStatusMax + 1)), BytesSet(denied)};
  std::string as_denial = effect_->WriteDenied(denied, code, shown);
  if (field != CALLOUT_CHECK_ERROR) {
    is_error_ = false;
    refusal_ = std::move(as_denial);
  } else if (!std::exchange(is_error_, true)) {
    refusal_ = effect_->WriteError(denied, shown);
    error_as_denial_ = std::move(as_denial);
  }
  return {};
}

void CheckService::TakeDenial(callout_status_t status, std::string_view why) {
  CheckResponseView denied;
  if (status == CALLOUT_UNAUTHENTICATED) denied.http_status = 401;
  Deny(CALLOUT_CHECK_DENIED, denied, -status, {}, why);
}

void CheckService::Refuse(int http_status, std::string_view why) {
  CheckResponseView denied;
  denied.http_status = static_cast<uint64_t>(http_status);
  Deny(CALLOUT_CHECK_DENIED, denied, CodeOf(denied.http_status), {}, why);
}

std::string CheckService::Write() {
  if (!refusal_.has_value() && !has_say_) {
    Deny(CALLOUT_CHECK_DENIED, {}, kPermissionDenied, {},
         "no plugin was asked: none has a hook for this request");
  }
  if (is_error_ && effect_->changes_request()) refusal_ = std::move(error_as_denial_);
  return refusal_.has_value() ? *std::move(refusal_) : effect_->WriteAllowed();
}

}  // namespace callout::host
