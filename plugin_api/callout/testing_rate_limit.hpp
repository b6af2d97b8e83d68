// SPDX-License-Identifier: Apache-2.0

// callout/testing_rate_limit.hpp - rate limits in the fake host of <callout/testing.hpp>, which is
// to be included.
//
//     callout::testing::RateLimitQuestion question;
//     question.descriptors = {{{{"user", "ada"}}}};
//     callout::testing::RateLimitAnswer answer = stream.rate_limit(question);
//     assert(answer.within_limit());
#ifndef CALLOUT_TESTING_RATE_LIMIT_HPP_
#define CALLOUT_TESTING_RATE_LIMIT_HPP_

#include <callout/message.h>

#include <callout/testing_answer.hpp>
#include <callout/view.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::testing {

// What Envoy's rate limit filter asks. What is empty is left out.
struct RateLimitQuestion {
  struct Limit {
    uint32_t count = 0;
    callout_limit_unit_t unit = CALLOUT_PER_SECOND;
    uint32_t units = 1;
  };
  struct Descriptor {
    HeaderList entries;
    std::optional<Limit> limit;    // by the route
    std::optional<uint64_t> hits;  // its own
    bool gives_back = false;
  };
  std::string domain = "test";
  std::vector<Descriptor> descriptors;
  uint32_t hits = 0;  // 0: 1

  // The RateLimitRequest.
  std::string write() const;
};

// What a plugin has answered, taken apart.
struct RateLimitAnswer {
  struct Status {
    uint32_t code = 0;  // 1: OK, 2: OVER_LIMIT
    bool has_limit = false;
    std::string name;
    uint32_t count = 0;
    callout_limit_unit_t unit = CALLOUT_PER_UNKNOWN;
    uint32_t units = 1;
    uint32_t remaining = 0;
    uint32_t reset_seconds = 0;
  };

  callout_status_t status = CALLOUT_OK;  // of the hook, or given to finish()
  std::string error;
  bool deferred = false;
  std::string problem;  // what the host would not accept, or empty

  uint32_t code = 0;  // overall_code: 0 and 1 let the request pass
  std::vector<Status> statuses;
  HeaderList response_headers;
  HeaderList request_headers;
  std::string body;
  std::string metadata;  // a Struct

  // Every status but OK is over the limit, or a fault.
  bool within_limit() const { return status == CALLOUT_OK && code < 2 && problem.empty(); }

  // Reads a RateLimitResponse; false if it is malformed.
  bool read(callout_bytes_t bytes);
  // The checks that the real host makes too.
  void look_for_problems(size_t descriptors);

 private:
  bool read_status(callout_bytes_t bytes);
  static bool read_header(callout_bytes_t bytes, HeaderList* headers);
  void look_at(const HeaderList& headers);
};

// RateLimitRequest: domain 1, descriptors 2 (entries 1, limit 2, hits_addend 3,
// is_negative_hits 4), hits_addend 3.
inline std::string RateLimitQuestion::write() const {
  callout_writer_t writer;
  callout_writer_init(&writer, nullptr, 0);
  callout_write_bytes(&writer, 1, to_bytes(domain));
  for (const Descriptor& descriptor : descriptors) {
    callout_write_open(&writer, 2);
    for (const auto& [key, value] : descriptor.entries) {
      callout_write_open(&writer, 1);
      callout_write_bytes(&writer, 1, to_bytes(key));
      callout_write_bytes(&writer, 2, to_bytes(value));
      callout_write_close(&writer);
    }
    if (descriptor.limit.has_value()) {
      callout_write_open(&writer, 2);
      callout_write_number(&writer, 1, descriptor.limit->count);
      callout_write_number(&writer, 2, descriptor.limit->unit);
      callout_write_open(&writer, 3);
      callout_write_number(&writer, 1, descriptor.limit->units);
      callout_write_close(&writer);
      callout_write_close(&writer);
    }
    if (descriptor.hits.has_value()) {
      callout_write_open(&writer, 3);
      callout_write_number(&writer, 1, *descriptor.hits);
      callout_write_close(&writer);
    }
    if (descriptor.gives_back) callout_write_number(&writer, 4, 1);
    callout_write_close(&writer);
  }
  if (hits != 0) callout_write_number(&writer, 3, hits);
  std::string bytes(to_view(callout_writer_bytes(&writer)));
  callout_writer_free(&writer);
  return bytes;
}

// DescriptorStatus: code 1, current_limit 2 (requests_per_unit 1, unit 2, name 3,
// unit_multiplier 4), limit_remaining 3, duration_until_reset 4.
inline bool RateLimitAnswer::read_status(callout_bytes_t bytes) {
  Status status;
  const bool ok = read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) status.code = static_cast<uint32_t>(record.number);
    if (record.field == 3) status.remaining = static_cast<uint32_t>(record.number);
    if (record.field == 4) status.reset_seconds = read_number(record.bytes, 1);
    if (record.field != 2) return true;
    status.has_limit = true;
    return read_records(record.bytes, [&](const callout_reader_t& limit) {
      if (limit.field == 1) status.count = static_cast<uint32_t>(limit.number);
      if (limit.field == 2) status.unit = static_cast<uint32_t>(limit.number);
      if (limit.field == 3) status.name.assign(to_view(limit.bytes));
      if (limit.field == 4) status.units = read_number(limit.bytes, 1);
      return true;
    });
  });
  statuses.push_back(std::move(status));
  return ok;
}

inline bool RateLimitAnswer::read_header(callout_bytes_t bytes, HeaderList* headers) {
  callout_header_t header;
  if (!callout_parse_header(bytes, &header)) return false;
  headers->emplace_back(to_view(header.key), to_view(header.value));
  return true;
}

// RateLimitResponse: overall_code 1, statuses 2, response_headers_to_add 3,
// request_headers_to_add 4, raw_body 5, dynamic_metadata 6.
inline bool RateLimitAnswer::read(callout_bytes_t bytes) {
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) code = static_cast<uint32_t>(record.number);
    if (record.field == 2) return read_status(record.bytes);
    if (record.field == 3) return read_header(record.bytes, &response_headers);
    if (record.field == 4) return read_header(record.bytes, &request_headers);
    if (record.field == 5) body.assign(to_view(record.bytes));
    if (record.field == 6) metadata.append(to_view(record.bytes));
    return true;
  });
}

inline void RateLimitAnswer::look_at(const HeaderList& headers) {
  for (const auto& [key, value] : headers) {
    for (const char c : value) {
      const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\t';
      if (control || c == '\x7f') problem = "a control character in the header " + key;
    }
    if (same_name(key, "content-length") || same_name(key, "transfer-encoding") ||
        same_name(key, "host") || key.empty() || key[0] == ':') {
      problem = "the header '" + key + "' cannot be added";
    }
  }
}

inline void RateLimitAnswer::look_for_problems(size_t descriptors) {
  look_at(response_headers);
  look_at(request_headers);
  if (code > 2) problem = "a code that is none";
  if (!statuses.empty() && statuses.size() != descriptors) {
    problem = "statuses for some of the descriptors only";
  }
  for (const Status& one : statuses) {
    if (one.code > 2) problem = "a code that is none";
    if (one.code == 2 && code != 2) problem = "a status is over its limit, and the request is not";
    for (const char c : one.name) {
      if (static_cast<unsigned char>(c) < 0x20 || c == '\x7f' || c == '"' || c == '\\') {
        problem = "a character in the name of a limit that cannot be shown";
      }
    }
  }
  if (status > 0) problem = "the hook may not return this status";
}

}  // namespace callout::testing

#endif  // CALLOUT_TESTING_RATE_LIMIT_HPP_
