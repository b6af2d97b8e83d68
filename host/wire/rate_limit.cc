// SPDX-License-Identifier: Apache-2.0

#include "host/wire/rate_limit.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "absl/status/status.h"
#include "host/base/utf8.h"
#include "host/wire/annotations.h"
#include "host/wire/attribute_record.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

constexpr char kAttributesKey[] = "envoy.filters.http.ratelimit";

absl::Status Malformed() {
  return absl::InvalidArgumentError("the message is not a RateLimitRequest");
}

struct Entry {
  std::string_view key;
  std::string_view value;
};

bool ReadEntry(std::string_view bytes, Entry* entry) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::Entry::kKey)) entry->key = reader.bytes();
    if (reader.Is(field::Entry::kValue)) entry->value = reader.bytes();
  }
  return reader.ok();
}

// Passes each entry of a descriptor to `take`. False if it is malformed.
template <class Take>
bool ReadDescriptor(std::string_view bytes, Take&& take) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::RateLimitDescriptor::kEntries)) {
      Entry entry;
      if (!ReadEntry(reader.bytes(), &entry)) return false;
      take(entry);
    } else if (reader.Is(field::RateLimitDescriptor::kLimit) ||
               reader.Is(field::RateLimitDescriptor::kHitsAddend)) {
      if (!IsWellFormed(reader.bytes())) return false;
    }
  }
  return reader.ok();
}

bool ReadHeader(std::string_view bytes, std::vector<RateLimitHeader>* headers) {
  RateLimitHeader header;
  std::string_view raw;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::HeaderValue::kKey)) header.name = reader.bytes();
    if (reader.Is(field::HeaderValue::kValue)) header.value = reader.bytes();
    if (reader.Is(field::HeaderValue::kRawValue)) raw = reader.bytes();
  }
  if (!raw.empty()) header.value = raw;
  headers->push_back(header);
  return reader.ok();
}

bool IsQuota(std::string_view bytes) {
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::Quota::kValidUntil) && !IsWellFormed(reader.bytes())) return false;
    if (reader.Is(field::Quota::kId) && !IsUtf8(reader.bytes())) return false;
  }
  return reader.ok();
}

bool ReadLimit(std::string_view bytes, RateLimitStatusView* status) {
  status->has_limit = true;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::RateLimit::kName)) {
      status->limit_name = reader.bytes();
      if (!IsUtf8(status->limit_name)) return false;
    } else if (reader.Is(field::RateLimit::kUnitMultiplier) && !IsWellFormed(reader.bytes())) {
      return false;
    }
  }
  return reader.ok();
}

bool ReadStatus(std::string_view bytes, std::vector<RateLimitStatusView>* statuses) {
  RateLimitStatusView status;
  status.bytes = bytes;
  WireReader reader(bytes);
  while (reader.Next()) {
    bool good = true;
    if (reader.IsVarint(field::DescriptorStatus::kCode)) {
      status.code = reader.varint();
    } else if (reader.Is(field::DescriptorStatus::kCurrentLimit)) {
      good = !status.has_limit && ReadLimit(reader.bytes(), &status);
    } else if (reader.IsVarint(field::DescriptorStatus::kLimitRemaining)) {
      status.remaining = reader.varint();
    } else if (reader.Is(field::DescriptorStatus::kDurationUntilReset)) {
      good = IsWellFormed(reader.bytes());
    } else if (reader.Is(field::DescriptorStatus::kQuota)) {
      good = IsQuota(reader.bytes());
    }
    if (!good) return false;
  }
  statuses->push_back(status);
  return reader.ok();
}

}  // namespace

absl::StatusOr<RateLimitRequestView> ParseRateLimitRequest(std::string_view bytes,
                                                           size_t fields_max) {
  RateLimitRequestView view;
  view.request = bytes;
  size_t descriptors = 0;
  size_t entries = 0;
  WireReader reader(bytes);
  while (reader.Next()) {
    if (reader.Is(field::RateLimitRequest::kDomain)) view.domain = reader.bytes();
    if (!reader.Is(field::RateLimitRequest::kDescriptors)) continue;
    ++descriptors;
    if (!ReadDescriptor(reader.bytes(), [&entries](const Entry&) { ++entries; })) {
      return Malformed();
    }
    if (descriptors <= fields_max) view.descriptors.push_back(reader.bytes());
  }
  if (!reader.ok()) return Malformed();
  if (std::max(descriptors, entries) > fields_max) {
    return absl::ResourceExhaustedError(fmt::format(
        "{} descriptors with {} entries in a RateLimitRequest, limit --max_message_fields={}",
        descriptors, entries, fields_max));
  }
  return view;
}

std::string WriteRateLimitAttributes(const RateLimitRequestView& view) {
  std::unordered_set<std::string_view> keys = {"domain"};
  std::string fields;
  AppendTextAttribute("domain", view.domain, &fields);
  for (std::string_view descriptor : view.descriptors) {
    ReadDescriptor(descriptor, [&](const Entry& entry) {
      if (keys.insert(entry.key).second) AppendTextAttribute(entry.key, entry.value, &fields);
    });
  }
  return WriteAttributeRecord(kAttributesKey, fields);
}

bool SplitRateLimitResponse(std::string_view bytes, Response* response, std::string* annotations) {
  std::string answer;
  WireReader reader(bytes);
  while (reader.Next()) {
    const bool is_metadata = reader.Is(CALLOUT_RATE_LIMIT_DYNAMIC_METADATA);
    (is_metadata ? annotations : &answer)->append(reader.record());
  }
  if (!reader.ok()) return false;
  if (!answer.empty()) BuildRecord(kRateLimitAnswer, answer, response);
  return true;
}

bool ReadRateLimitResponse(std::string_view payload, RateLimitResponseView* view) {
  WireReader reader(payload);
  while (reader.Next()) {
    bool good = true;
    if (reader.IsVarint(field::RateLimitResponse::kOverallCode)) {
      view->overall_code = reader.varint();
    } else if (reader.Is(field::RateLimitResponse::kStatuses)) {
      good = ReadStatus(reader.bytes(), &view->statuses);
    } else if (reader.Is(field::RateLimitResponse::kResponseHeadersToAdd)) {
      good = ReadHeader(reader.bytes(), &view->response_headers);
    } else if (reader.Is(field::RateLimitResponse::kRequestHeadersToAdd)) {
      good = ReadHeader(reader.bytes(), &view->request_headers);
    } else if (reader.Is(field::RateLimitResponse::kRawBody)) {
      view->body = reader.bytes();
    } else if (reader.Is(field::RateLimitResponse::kQuota)) {
      view->quota_record = reader.record();
      good = IsQuota(reader.bytes());
    }
    if (!good) return false;
  }
  return reader.ok();
}

bool RefusesRequest(const RateLimitResponseView& view) {
  return IsOverLimit(view.overall_code) ||
         std::any_of(view.statuses.begin(), view.statuses.end(),
                     [](const RateLimitStatusView& status) { return IsOverLimit(status.code); });
}

bool RateLimitAnnotationsAreWellFormed(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(CALLOUT_RATE_LIMIT_DYNAMIC_METADATA)) continue;
    std::string as_ext_proc;
    AppendRecord(CALLOUT_DYNAMIC_METADATA, reader.bytes(), &as_ext_proc);
    if (!AnnotationsAreWellFormed(as_ext_proc)) return false;
  }
  return reader.ok();
}

void AppendRateLimitHeader(uint32_t number, std::string_view name, std::string_view value,
                           std::string* out) {
  AppendBytesHead(number,
                  BytesSize(field::HeaderValue::kKey, name.size()) +
                      BytesSize(field::HeaderValue::kValue, value.size()) +
                      BytesSize(field::HeaderValue::kRawValue, value.size()),
                  out);
  AppendBytes(field::HeaderValue::kKey, name, out);
  AppendBytes(field::HeaderValue::kValue, value, out);
  AppendBytes(field::HeaderValue::kRawValue, value, out);
}

}  // namespace callout::host
