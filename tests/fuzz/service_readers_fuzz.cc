// SPDX-License-Identifier: Apache-2.0

// What plugins of other services are given to read messages with: check.h, rate_limit.h and data.h
// against the generated classes.
//
// Readers: plugin_api/callout/check.h plugin_api/callout/rate_limit.h plugin_api/callout/data.h
#include <callout/check.h>
#include <callout/data.h>
#include <callout/rate_limit.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/auth/v3/attribute_context.pb.h"
#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "envoy/service/ratelimit/v3/rls.pb.h"
#include "host/wire/wire.h"
#include "tests/fuzz/proto_oracle.h"
#include "tests/fuzz/target.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::host {
namespace {

using envoy::service::auth::v3::AttributeContext;
using envoy::service::network_ext_proc::v3::Data;
using envoy::service::ratelimit::v3::RateLimitRequest;

callout_call_t CallOf(const std::string& message) {
  callout_call_t call = {};
  call.message = ToBytes(message);
  return call;
}

using Fields = std::vector<std::pair<std::string, std::string>>;

Fields HeadersOf(const callout_call_t* call) {
  Fields fields;
  callout_check_headers_t headers = callout_read_check_headers(call);
  callout_header_t header;
  while (callout_check_headers_next(&headers, &header)) {
    fields.emplace_back(ToView(header.key), ToView(header.value));
  }
  std::sort(fields.begin(), fields.end());
  return fields;
}

// Views cannot join two records of one message, as protobuf does: what is compared is what protobuf
// writes. Any bytes are read before, for what reads beyond them.
std::string ReadCheck(const std::string& bytes) {
  const auto read = [](const callout_call_t* call, const char* key) {
    callout_bytes_t value = {};
    uint32_t port = 0;
    (void)callout_check_header(call, callout_text(key), &value);
    (void)callout_check_extension(call, callout_text(key), &value);
    (void)callout_check_principal(call, CALLOUT_CHECK_SOURCE);
    (void)callout_check_address(call, CALLOUT_CHECK_DESTINATION, &port);
    (void)callout_check_body(call);
    return HeadersOf(call);
  };
  const callout_call_t any = CallOf(bytes);
  (void)read(&any, "a");
  AttributeContext expected;
  if (!ParsesAs(bytes, &expected) || HasGroup(bytes, expected)) return "";
  const std::string written = expected.SerializeAsString();
  const callout_call_t call = CallOf(written);
  const Fields found = read(&call, "a");
  const auto& http = expected.request().http();
  Fields wanted;
  for (const auto& [key, value] : http.headers()) wanted.emplace_back(key, value);
  for (const auto& header : http.header_map().headers()) {
    wanted.emplace_back(header.key(),
                        header.raw_value().empty() ? header.value() : header.raw_value());
  }
  std::sort(wanted.begin(), wanted.end());
  if (found != wanted) return "headers of a Check differ";
  if (ToView(callout_check_text(&call, CALLOUT_HTTP_PATH)) != http.path())
    return "the path differs";
  if (ToView(callout_check_text(&call, CALLOUT_HTTP_METHOD)) != http.method()) {
    return "the method differs";
  }
  const std::string& body = http.raw_body().empty() ? http.body() : http.raw_body();
  if (ToView(callout_check_body(&call)) != body) return "the body differs";
  if (ToView(callout_check_principal(&call, CALLOUT_CHECK_SOURCE)) !=
      expected.source().principal()) {
    return "the principal differs";
  }
  uint32_t port = 0;
  const auto& socket = expected.source().address().socket_address();
  if (ToView(callout_check_address(&call, CALLOUT_CHECK_SOURCE, &port)) != socket.address() ||
      port != socket.port_value()) {
    return "the address differs";
  }
  for (const auto& [key, value] : expected.context_extensions()) {
    callout_bytes_t extension = {};
    if (!callout_check_extension(&call, ToBytes(key), &extension) || ToView(extension) != value) {
      return "an extension differs";
    }
  }
  return "";
}

std::string CompareDescriptor(
    const callout_descriptor_t& read,
    const envoy::extensions::common::ratelimit::v3::RateLimitDescriptor& expected,
    uint64_t hits_of_request) {
  const uint64_t hits =
      expected.has_hits_addend() ? expected.hits_addend().value() : hits_of_request;
  if (read.hits != hits) return "the hits of a descriptor differ";
  if ((read.has_limit != 0) != expected.has_limit()) return "a limit is there, or is not";
  if (read.has_limit != 0 && read.limit_count != expected.limit().requests_per_unit()) {
    return "the limit of a descriptor differs";
  }
  callout_reader_t entries = callout_read(read.message);
  callout_header_t entry;
  for (const auto& wanted : expected.entries()) {
    if (!callout_entries_next(&entries, &entry)) return "entries of a descriptor are missing";
    if (ToView(entry.key) != wanted.key() || ToView(entry.value) != wanted.value()) {
      return "an entry differs";
    }
  }
  return callout_entries_next(&entries, &entry) ? "an entry from nowhere" : "";
}

std::string ReadRateLimit(const std::string& bytes) {
  const auto read = [](const callout_call_t* call) {
    std::vector<callout_descriptor_t> all;
    callout_descriptors_t descriptors = callout_read_descriptors(call);
    callout_descriptor_t descriptor = {};
    while (callout_descriptors_next(&descriptors, &descriptor)) {
      callout_bytes_t value = {};
      (void)callout_descriptor_get(&descriptor, callout_text("a"), &value);
      all.push_back(descriptor);
    }
    return all;
  };
  const callout_call_t any = CallOf(bytes);
  (void)read(&any);
  RateLimitRequest expected;
  if (!ParsesAs(bytes, &expected) || HasGroup(bytes, expected)) return "";
  const std::string written = expected.SerializeAsString();
  const callout_call_t call = CallOf(written);
  if (ToView(callout_rate_limit_domain(&call)) != expected.domain()) return "the domain differs";
  const uint32_t hits = std::max(expected.hits_addend(), 1u);
  if (callout_rate_limit_hits(&call) != hits) return "the hits differ";
  const std::vector<callout_descriptor_t> found = read(&call);
  if (static_cast<int>(found.size()) != expected.descriptors_size()) {
    return "the number of descriptors differs";
  }
  for (int i = 0; i < expected.descriptors_size(); ++i) {
    std::string error =
        CompareDescriptor(found[static_cast<size_t>(i)], expected.descriptors(i), hits);
    if (!error.empty()) return error;
  }
  return "";
}

std::string ReadData(const std::string& bytes) {
  callout_call_t call = CallOf(bytes);
  callout_data_t data;
  callout_get_data(&call, &data);
  Data expected;
  if (!ParsesAs(bytes, &expected) || HasGroup(bytes, expected) || MayHaveWideTag(bytes)) return "";
  const bool same = ToView(data.bytes) == expected.data() &&
                    (data.end_of_stream != 0) == expected.end_of_stream();
  return same ? "" : "the data of a connection differ";
}

FUZZ_TARGET(service_readers, .rounds = 20000, .bytes = 24) {
  const unsigned kind = choices.Next(3);
  const std::string bytes = choices.Rest();
  if (kind == 0) return ReadCheck(bytes);
  return kind == 1 ? ReadRateLimit(bytes) : ReadData(bytes);
}

}  // namespace
}  // namespace callout::host
