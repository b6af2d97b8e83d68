// SPDX-License-Identifier: Apache-2.0

#include "host/unary/rate_limit_service.h"

#include <fmt/format.h>

#include <utility>

#include "host/base/heap_bytes.h"
#include "host/stream/guard.h"
#include "host/unary/rate_limit_guard.h"
#include "host/wire/annotations.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

std::string HeaderRecords(uint32_t number, const std::vector<RateLimitHeader>& headers) {
  std::string records;
  for (const RateLimitHeader& header : headers) {
    AppendRateLimitHeader(number, header.name, header.value, &records);
  }
  return records;
}

// Envoy's own, unless its filter's configuration names another.
constexpr uint16_t kTooManyRequests = 429;

uint64_t BytesSet(const RateLimitResponseView& view) {
  uint64_t bytes = view.body.size();
  for (const auto* headers : {&view.request_headers, &view.response_headers}) {
    for (const RateLimitHeader& header : *headers) {
      bytes += header.name.size() + header.value.size();
    }
  }
  return bytes;
}

}  // namespace

absl::Status RateLimitService::Begin(std::string_view bytes) {
  absl::StatusOr<RateLimitRequestView> view =
      ParseRateLimitRequest(bytes, limits_->message_fields_max);
  if (!view.ok()) return view.status();
  request_ = *std::move(view);
  return absl::OkStatus();
}

const StreamFacts& RateLimitService::Facts() {
  if (!facts_.has_value()) {
    const std::string record = WriteRateLimitAttributes(request_);
    RequestView view;
    view.attribute_records.push_back(record);
    facts_.emplace(view);
    facts_bytes_ = record.size() + facts_->kept_bytes();
  }
  return *facts_;
}

// What plugins have set ends with the response.
size_t RateLimitService::kept_bytes() const {
  return sizeof(*this) + HeapBytes(request_.descriptors) + facts_bytes_ + HeapBytes(statuses_) +
         request_headers_.capacity() + body_.capacity() + metadata_.capacity();
}

void RateLimitService::FillCall(const Instance&, callout_call_t* call) {
  call->message = call->request = ToBytes(request_.request);
  call->flags = CALLOUT_CALL_FIRST | CALLOUT_CALL_LAST;
}

// --- What a call has come to ----------------------------------------------------

Finding RateLimitService::Take(const CallState& state, callout_phase_t) {
  if (!RateLimitAnnotationsAreWellFormed(state.annotations)) {
    return {Violation::kMalformed,
            "the metadata beside the response is malformed protobuf, or has a string that is not "
            "UTF-8"};
  }
  if (!limits_->metadata_controls) {
    Finding found = CheckMetadata(state.annotations, CALLOUT_RATE_LIMIT_DYNAMIC_METADATA);
    if (!found.ok()) return found;
  }
  RateLimitResponseView view;
  if (state.response.field != 0) {
    const std::string_view payload = state.response.payload();
    if (!ReadRateLimitResponse(payload, &view)) {
      return {Violation::kMalformed,
              fmt::format("{} bytes that are no RateLimitResponse, or a string that is not UTF-8",
                          payload.size())};
    }
    Finding found = CheckRateLimitResponse(view, request_.descriptors.size());
    if (!found.ok()) return found;
  }
  has_say_ = true;
  over_limit_ = RefusesRequest(view);
  const uint64_t set_bytes = BytesSet(view);
  last_effect_ = {over_limit_ || set_bytes > 0 || !state.annotations.empty(),
                  over_limit_ ? kTooManyRequests : uint16_t{0}, set_bytes};
  response_headers_.push_back(
      HeaderRecords(field::RateLimitResponse::kResponseHeadersToAdd, view.response_headers));
  request_headers_ +=
      HeaderRecords(field::RateLimitResponse::kRequestHeadersToAdd, view.request_headers);
  if (over_limit_) body_.assign(view.body);
  if (!view.quota_record.empty()) quota_record_.assign(view.quota_record);
  TakeStatuses(view.statuses);
  TakeMetadata(state.annotations);
  return {};
}

// The stricter one stays: over the limit before all, then the one that leaves less.
void RateLimitService::TakeStatuses(const std::vector<RateLimitStatusView>& statuses) {
  if (statuses_.size() < statuses.size()) statuses_.resize(statuses.size());
  constexpr auto kOverLimit = static_cast<uint64_t>(RateLimitCode::kOverLimit);
  for (size_t i = 0; i < statuses.size(); ++i) {
    const RateLimitStatusView& status = statuses[i];
    Status& kept = statuses_[i];
    const bool is_over = status.code == kOverLimit;
    const bool kept_is_over = kept.code == kOverLimit;
    const bool leaves_less =
        status.has_limit && (!kept.has_limit || status.remaining < kept.remaining);
    if (kept.bytes.empty() || (is_over && !kept_is_over) ||
        (is_over == kept_is_over && leaves_less)) {
      kept = {std::string(status.bytes), status.code, status.has_limit, status.remaining};
    }
  }
}

void RateLimitService::TakeMetadata(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(CALLOUT_RATE_LIMIT_DYNAMIC_METADATA)) continue;
    MergeStructs(metadata_, reader.bytes(), &metadata_);
    has_metadata_ = true;
  }
}

void RateLimitService::TakeDenial(callout_status_t, std::string_view) { BeOverLimit(); }

void RateLimitService::Refuse(int, std::string_view) { BeOverLimit(); }

void RateLimitService::BeOverLimit() {
  over_limit_ = true;
  last_effect_ = {true, kTooManyRequests, 0};
}

// --- Out ------------------------------------------------------------------------

std::string RateLimitService::Write() {
  using Field = field::RateLimitResponse;
  std::string response;
  AppendVarint(Field::kOverallCode,
               static_cast<uint64_t>(allowed() ? RateLimitCode::kOk : RateLimitCode::kOverLimit),
               &response);
  for (const Status& status : statuses_) AppendBytes(Field::kStatuses, status.bytes, &response);
  // In the order of Envoy's filters, which see a response in reverse.
  for (auto records = response_headers_.rbegin(); records != response_headers_.rend(); ++records) {
    response += *records;
  }
  response += request_headers_;
  if (!body_.empty()) AppendBytes(Field::kRawBody, body_, &response);
  if (has_metadata_) AppendBytes(Field::kDynamicMetadata, metadata_, &response);
  return response + quota_record_;
}

}  // namespace callout::host
