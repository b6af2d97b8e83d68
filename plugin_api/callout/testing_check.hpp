// SPDX-License-Identifier: Apache-2.0

// callout/testing_check.hpp - ext_authz in the fake host of <callout/testing.hpp>, which is to
// be included.
//
//     callout::testing::CheckQuestion question;
//     question.headers = {{":path", "/"}, {"authorization", "Bearer x"}};
//     callout::testing::CheckAnswer answer = stream.check(question);
//     assert(answer.allowed() && answer.header("x-user") == "ada");
#ifndef CALLOUT_TESTING_CHECK_HPP_
#define CALLOUT_TESTING_CHECK_HPP_

#include <callout/message.h>

#include <callout/testing_answer.hpp>
#include <callout/view.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::testing {

// A Check as Envoy's HTTP filter sends it. What is empty is left out.
struct CheckQuestion {
  HeaderList headers = {{":method", "GET"}, {":path", "/"}, {":authority", "example.com"}};
  bool raw_headers = false;  // as with encode_raw_headers
  std::string body;
  std::string source_ip = "192.0.2.1";
  uint32_t source_port = 4711;
  std::string principal;
  std::string certificate;  // PEM, percent-encoded
  std::string sni;
  HeaderList extensions;       // context_extensions
  bool is_connection = false;  // as the network filter sends it: without a request

  std::string header(std::string_view key) const {
    for (const auto& [name, value] : headers) {
      if (same_name(name, key)) return value;
    }
    return {};
  }
  // The AttributeContext.
  std::string write() const;
};

// What a plugin has answered, taken apart.
struct CheckAnswer {
  using Set = Answer::Set;
  enum class Kind { kNothing, kAllowed, kDenied, kError };

  callout_status_t status = CALLOUT_OK;  // of the hook, or given to finish()
  std::string error;
  bool deferred = false;
  std::string problem;  // what the host would not accept, or empty

  Kind kind = Kind::kNothing;
  uint32_t http_status = 0;  // of a denial; 403 where none was set
  std::string body;
  std::vector<Set> sets;  // of the request or, denied, of the response
  std::vector<std::string> removes;
  std::vector<Set> response_sets;
  HeaderList query;
  std::vector<std::string> query_removes;
  std::string metadata;  // a Struct

  // To Envoy: nothing set, and every status but OK, is a denial or a fault.
  bool allowed() const { return status == CALLOUT_OK && kind == Kind::kAllowed && problem.empty(); }
  std::optional<std::string> header(std::string_view key) const { return find(sets, key); }
  std::optional<std::string> response_header(std::string_view key) const {
    return find(response_sets, key);
  }
  bool removed(std::string_view key) const {
    for (const std::string& name : removes) {
      if (same_name(name, key)) return true;
    }
    return false;
  }
  std::optional<std::string> query_parameter(std::string_view key) const {
    for (const auto& [name, value] : query) {
      if (name == key) return value;
    }
    return std::nullopt;
  }

  // Reads `field` of CheckResponse; false if it is malformed.
  bool read(callout_field_t field, callout_bytes_t bytes);
  // The checks that the real host makes too.
  void look_for_problems();

 private:
  static std::optional<std::string> find(const std::vector<Set>& sets, std::string_view key) {
    for (auto set = sets.rbegin(); set != sets.rend(); ++set) {
      if (same_name(set->key, key)) return set->value;
    }
    return std::nullopt;
  }
  static bool read_set(callout_bytes_t bytes, std::vector<Set>* sets);
  bool read_ok(callout_bytes_t bytes);
  bool read_denied(callout_bytes_t bytes);
  void look_at(const std::vector<Set>& of, bool of_request);
};

// AttributeContext: source 1, request 4 (http 2), context_extensions 10, tls_session 12.
inline std::string CheckQuestion::write() const {
  callout_writer_t writer;
  callout_writer_init(&writer, nullptr, 0);
  const auto text = [&](uint32_t field, std::string_view value) {
    if (!value.empty()) callout_write_bytes(&writer, field, to_bytes(value));
  };
  const auto pair = [&](uint32_t field, uint32_t value_field, const auto& entry) {
    callout_write_open(&writer, field);
    callout_write_bytes(&writer, 1, to_bytes(entry.first));
    callout_write_bytes(&writer, value_field, to_bytes(entry.second));
    callout_write_close(&writer);
  };
  callout_write_open(&writer, 1);  // Peer: address 1, principal 4, certificate 5
  callout_write_open(&writer, 1);
  callout_write_open(&writer, 1);
  text(2, source_ip);
  callout_write_number(&writer, 3, source_port);
  callout_write_close(&writer);
  callout_write_close(&writer);
  text(4, principal);
  text(5, certificate);
  callout_write_close(&writer);
  if (!is_connection) {
    callout_write_open(&writer, 4);
    callout_write_open(&writer, 2);
    text(CALLOUT_HTTP_METHOD, header(":method"));
    text(CALLOUT_HTTP_PATH, header(":path"));
    text(CALLOUT_HTTP_HOST, header(":authority"));
    text(CALLOUT_HTTP_SCHEME, header(":scheme"));
    text(CALLOUT_HTTP_PROTOCOL, "HTTP/1.1");
    if (raw_headers) callout_write_open(&writer, 13);
    for (const auto& entry : headers) pair(raw_headers ? 1 : 3, raw_headers ? 3 : 2, entry);
    if (raw_headers) callout_write_close(&writer);
    text(11, body);
    callout_write_close(&writer);
    callout_write_close(&writer);
  }
  for (const auto& entry : extensions) pair(10, 2, entry);
  if (!sni.empty()) {
    callout_write_open(&writer, 12);
    text(1, sni);
    callout_write_close(&writer);
  }
  std::string bytes(to_view(callout_writer_bytes(&writer)));
  callout_writer_free(&writer);
  return bytes;
}

// HeaderValueOption: header 1, append 2, append_action 3.
inline bool CheckAnswer::read_set(callout_bytes_t bytes, std::vector<Set>* sets) {
  Set set;
  const bool ok = read_records(bytes, [&](const callout_reader_t& record) {
    callout_header_t header;
    if (record.field == 1) {
      if (!callout_parse_header(record.bytes, &header)) return false;
      set.key.assign(to_view(header.key));
      set.value.assign(to_view(header.value));
    }
    if (record.field == 2) set.append = read_number(record.bytes, 1) != 0;
    if (record.field == 3) set.append_action = static_cast<uint32_t>(record.number);
    return true;
  });
  sets->push_back(std::move(set));
  return ok;
}

// OkHttpResponse: headers 2, headers_to_remove 5, response_headers_to_add 6,
// query_parameters_to_set 7, query_parameters_to_remove 8.
inline bool CheckAnswer::read_ok(callout_bytes_t bytes) {
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 2) return read_set(record.bytes, &sets);
    if (record.field == 5) removes.emplace_back(to_view(record.bytes));
    if (record.field == 6) return read_set(record.bytes, &response_sets);
    if (record.field == 7) {
      callout_header_t parameter;  // key 1, value 2
      if (!callout_parse_header(record.bytes, &parameter)) return false;
      query.emplace_back(to_view(parameter.key), to_view(parameter.value));
    }
    if (record.field == 8) query_removes.emplace_back(to_view(record.bytes));
    return true;
  });
}

// DeniedHttpResponse: status 1, headers 2, body 3.
inline bool CheckAnswer::read_denied(callout_bytes_t bytes) {
  const bool ok = read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) http_status = read_number(record.bytes, 1);
    if (record.field == 2) return read_set(record.bytes, &sets);
    if (record.field == 3) body.assign(to_view(record.bytes));
    return true;
  });
  if (http_status == 0) http_status = 403;
  return ok;
}

inline bool CheckAnswer::read(callout_field_t field, callout_bytes_t bytes) {
  if (field == CALLOUT_WHOLE_RESPONSE) {
    return read_records(bytes, [&](const callout_reader_t& record) {
      if (record.field == CALLOUT_CHECK_DYNAMIC_METADATA) metadata.append(to_view(record.bytes));
      const bool is_answer = record.field == CALLOUT_CHECK_OK ||
                             record.field == CALLOUT_CHECK_DENIED ||
                             record.field == CALLOUT_CHECK_ERROR;
      return !is_answer || read(record.field, record.bytes);
    });
  }
  kind = field == CALLOUT_CHECK_OK       ? Kind::kAllowed
         : field == CALLOUT_CHECK_DENIED ? Kind::kDenied
                                         : Kind::kError;
  return kind == Kind::kAllowed ? read_ok(bytes) : read_denied(bytes);
}

inline void CheckAnswer::look_at(const std::vector<Set>& of, bool of_request) {
  for (const Set& set : of) {
    for (const char c : set.value) {
      const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\t';
      if (control || c == '\x7f') problem = "a control character in the header " + set.key;
    }
    if (same_name(set.key, "content-length") || same_name(set.key, "transfer-encoding")) {
      problem = set.key + " is Envoy's to set";
    }
    if (!of_request && !set.key.empty() && set.key[0] == ':') {
      problem = set.key + " is no header of a response";
    }
  }
}

inline void CheckAnswer::look_for_problems() {
  look_at(sets, kind == Kind::kAllowed);
  look_at(response_sets, false);
  if (http_status != 0 && (http_status < 200 || http_status > 599)) {
    problem = "an HTTP status that is not 200 to 599";
  }
  if (status > 0) problem = "the hook may not return this status";
}

}  // namespace callout::testing

#endif  // CALLOUT_TESTING_CHECK_HPP_
