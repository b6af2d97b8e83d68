// SPDX-License-Identifier: Apache-2.0

// What plugins of other services are given to read messages and to respond with: check.h,
// rate_limit.h and data.h against the generated classes.
//
// Readers: plugin_api/callout/check.h plugin_api/callout/rate_limit.h plugin_api/callout/data.h
#include <callout/check.h>
#include <callout/data.h>
#include <callout/rate_limit.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "envoy/service/auth/v3/attribute_context.pb.h"
#include "envoy/service/auth/v3/external_auth.pb.h"
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
    (void)callout_check_certificate(call, CALLOUT_CHECK_SOURCE);
    (void)callout_check_sni(call);
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

// --- Responses ---

// What a call has said to the host.
struct Said {
  callout_field_t field = 0;
  std::string bytes;
  std::string error;
  size_t responses = 0;
};
Said* g_said = nullptr;

const callout_host_t& Host() {
  static const auto* const host = [] {
    auto* const made = new callout_host_t();
    made->respond = [](callout_call_t*, callout_field_t field, const callout_bytes_t* parts,
                       size_t count) {
      g_said->field = field;
      g_said->bytes.clear();
      for (size_t i = 0; i < count; ++i) g_said->bytes += ToView(parts[i]);
      ++g_said->responses;
      return callout_status_t{CALLOUT_OK};
    };
    made->set_error = [](callout_call_t*, callout_bytes_t text) { g_said->error = ToView(text); };
    return made;
  }();
  return *host;
}

std::string Text(Choices& choices) {
  return std::string(choices.Next(150), static_cast<char>('a' + choices.Next(26)));
}

// Returns whether all of it may be said; the class has the same.
bool SayToCheck(Choices& choices, callout_check_answer_t* answer,
                envoy::service::auth::v3::OkHttpResponse* ok,
                envoy::service::auth::v3::DeniedHttpResponse* denied) {
  bool may = true;
  const auto option = [](auto* into, const std::string& key, const std::string& value,
                         callout_append_action_t action) {
    into->mutable_header()->set_key(key);
    into->mutable_header()->set_value(value);
    into->mutable_header()->set_raw_value(value);
    if (action == CALLOUT_APPEND_IF_EXISTS_OR_ADD) {
      into->mutable_append()->set_value(true);
    } else {
      into->set_append_action(static_cast<std::decay_t<decltype(into->append_action())>>(action));
    }
  };
  for (unsigned i = choices.Next(4); i > 0; --i) {
    const std::string key = Text(choices), value = Text(choices);
    const auto action = static_cast<callout_append_action_t>(choices.Next(5));
    const unsigned what = choices.Next(6);
    if (what < 2) may = may && action <= CALLOUT_OVERWRITE_IF_EXISTS;
    if (what > 0 && what < 5) may = may && ok != nullptr;
    if (what == 5) may = may && denied != nullptr;
    switch (what) {
      case 0:
        callout_check_set_header(answer, ToBytes(key), ToBytes(value), action);
        if (may)
          option(ok != nullptr ? ok->add_headers() : denied->add_headers(), key, value, action);
        break;
      case 1:
        callout_check_set_response_header(answer, ToBytes(key), ToBytes(value), action);
        if (may) option(ok->add_response_headers_to_add(), key, value, action);
        break;
      case 2:
        callout_check_remove_header(answer, ToBytes(key));
        if (may) ok->add_headers_to_remove(key);
        break;
      case 3:
        callout_check_set_query(answer, ToBytes(key), ToBytes(value));
        if (may) {
          ok->add_query_parameters_to_set()->set_key(key);
          ok->mutable_query_parameters_to_set()->rbegin()->set_value(value);
        }
        break;
      case 4:
        callout_check_remove_query(answer, ToBytes(key));
        if (may) ok->add_query_parameters_to_remove(key);
        break;
      default:
        callout_check_set_body(answer, ToBytes(value));
        if (may) denied->set_body(value);
    }
  }
  return may;
}

// "" if the call has said `expected`, or the error of what may not be said.
template <class Message>
std::string Compare(const Said& said, bool may, const Message& expected) {
  Message told;
  if (!may) return said.error.empty() ? "what may not be said is no error" : "";
  if (!said.error.empty()) return "what may be said is an error: " + said.error;
  if (said.responses != 1) return "there is not one response";
  if (!ParsesAs(said.bytes, &told)) return "a response cannot be parsed";
  return InOrder(told) == InOrder(expected) ? "" : "a response is another";
}

std::string RespondToCheck(Choices& choices) {
  Said said;
  g_said = &said;
  callout_call_t call = {};
  call.host = &Host();
  callout_check_answer_t answer;
  envoy::service::auth::v3::OkHttpResponse ok;
  envoy::service::auth::v3::DeniedHttpResponse denied;
  const unsigned kind = choices.Next(5);
  const uint32_t status = 150 + 2 * choices.Next(256);
  const bool may_deny = status >= 200 && status <= 599;
  denied.mutable_status()->set_code(static_cast<envoy::type::v3::StatusCode>(status));
  const std::string text = Text(choices);
  const callout_header_t header = {callout_text("x-a"), ToBytes(text)};
  if (kind < 2) {
    kind == 0 ? callout_check_deny(&answer, status) : callout_check_error(&answer, status);
    const bool may = SayToCheck(choices, &answer, nullptr, &denied) && may_deny;
    (void)callout_check_respond(&answer, &call);
    // One that cannot be made is one all the same.
    if (said.field != (kind == 0 ? CALLOUT_CHECK_DENIED : CALLOUT_CHECK_ERROR)) return "no denial";
    return Compare(said, may, denied);
  }
  if (kind == 2) {
    callout_check_allow(&answer);
    const bool may = SayToCheck(choices, &answer, &ok, nullptr);
    (void)callout_check_respond(&answer, &call);
    if (!may && said.responses > 0) return "a pass that cannot be made is one";
    return Compare(said, may, ok);
  }
  if (kind == 3) {
    (void)callout_allow_request(&call, &header, 1);
    auto* const set = ok.add_headers();
    set->mutable_header()->set_key("x-a");
    set->mutable_header()->set_value(text);
    set->mutable_header()->set_raw_value(text);
    set->set_append_action(envoy::config::core::v3::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
    return Compare(said, true, ok);
  }
  (void)callout_deny_request(&call, status, ToBytes(text));
  if (said.field != CALLOUT_CHECK_DENIED) return "a denial is none";
  denied.set_body(text);
  if (std::string error = Compare(said, may_deny, denied); !error.empty()) return error;
  said = {};
  (void)callout_deny_request_with(&call, 403, ToBytes(text), &header, 1);
  return said.error.empty() && said.bytes.find("x-a") != std::string::npos ? ""
                                                                           : "a header got lost";
}

std::string RespondToRateLimit(Choices& choices) {
  Said said;
  g_said = &said;
  callout_call_t call = {};
  call.host = &Host();
  envoy::service::ratelimit::v3::RateLimitResponse expected;
  using Code = std::decay_t<decltype(expected.overall_code())>;
  callout_rate_limit_answer_t answer;
  callout_rate_limit_within(&answer);
  bool over = choices.OneIn(4);
  if (over) callout_rate_limit_over(&answer);
  const std::string name = Text(choices), value = Text(choices);
  for (unsigned i = choices.Next(3); i > 0; --i) {
    callout_limit_status_t status = {};
    status.over_limit = static_cast<int>(choices.Next(2));
    status.has_limit = static_cast<int>(choices.Next(2));
    status.name = ToBytes(name);
    status.count = choices.Next(256);
    status.unit = static_cast<callout_limit_unit_t>(choices.Next(5));
    status.units = choices.Next(3);
    status.remaining = choices.Next(256);
    status.reset_seconds = choices.Next(256);
    over = over || status.over_limit != 0;
    callout_rate_limit_add_status(&answer, &status);
    auto* const told = expected.add_statuses();
    told->set_code(static_cast<Code>(status.over_limit != 0 ? 2 : 1));
    if (status.has_limit == 0) continue;
    auto* const limit = told->mutable_current_limit();
    limit->set_requests_per_unit(status.count);
    limit->set_unit(static_cast<std::decay_t<decltype(limit->unit())>>(status.unit));
    limit->set_name(name);
    if (status.units > 1) {
      // unit_multiplier, which these classes do not know: a UInt32Value.
      auto* const unknown = limit->GetReflection()->MutableUnknownFields(limit);
      *unknown->AddLengthDelimited(4) = {'\x08', static_cast<char>(status.units)};
    }
    told->set_limit_remaining(status.remaining);
    told->mutable_duration_until_reset()->set_seconds(status.reset_seconds);
  }
  const auto add = [&](auto* header) {
    header->set_key(name);
    header->set_value(value);
  };
  if (choices.Next(2) == 0) {
    callout_rate_limit_add_response_header(&answer, ToBytes(name), ToBytes(value));
    add(expected.add_response_headers_to_add());
    callout_rate_limit_add_request_header(&answer, ToBytes(name), ToBytes(value));
    add(expected.add_request_headers_to_add());
  }
  callout_rate_limit_set_body(&answer, ToBytes(value));
  expected.set_raw_body(value);
  expected.set_overall_code(static_cast<Code>(over ? 2 : 1));
  // A close without an open spoils it.
  const bool spoilt = choices.OneIn(8);
  if (spoilt) callout_write_close(&answer.writer);
  (void)callout_rate_limit_respond(&answer, &call);
  if (!spoilt) return Compare(said, true, expected);
  if (said.error.empty()) return "a response that is spoilt is no error";
  return said.responses == (over ? 1 : 0) ? "" : "a request over its limit passes, or the contrary";
}

std::string RespondToData(Choices& choices) {
  using Response = envoy::service::network_ext_proc::v3::ProcessingResponse;
  Said said;
  g_said = &said;
  callout_call_t call = {};
  call.host = &Host();
  call.phase = choices.Next(2) == 0 ? CALLOUT_READ_DATA : CALLOUT_WRITE_DATA;
  Response end;
  if (choices.Next(2) == 0) {
    const bool resets = choices.Next(2) == 0;
    (void)(resets ? callout_reset_connection(&call) : callout_close_connection(&call));
    end.set_connection_status(resets ? Response::CLOSE_RST : Response::CLOSE);
    return Compare(said, true, end);
  }
  Data data;
  data.set_data(choices.Rest());
  (void)callout_replace_data(&call, ToBytes(data.data()));
  const callout_field_t field =
      call.phase == CALLOUT_READ_DATA ? CALLOUT_READ_DATA_RESPONSE : CALLOUT_WRITE_DATA_RESPONSE;
  if (said.field != field) return "data of another direction";
  // An empty record says that there are no bytes any more.
  Data told;
  return ParsesAs(said.bytes, &told) && told.data() == data.data() ? "" : "data are others";
}

FUZZ_TARGET(service_readers, .rounds = 20000, .bytes = 24) {
  const unsigned kind = choices.Next(6);
  if (kind == 3) return RespondToCheck(choices);
  if (kind == 4) return RespondToRateLimit(choices);
  if (kind == 5) return RespondToData(choices);
  const std::string bytes = choices.Rest();
  if (kind == 0) return ReadCheck(bytes);
  return kind == 1 ? ReadRateLimit(bytes) : ReadData(bytes);
}

}  // namespace
}  // namespace callout::host
