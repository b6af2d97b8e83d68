// SPDX-License-Identifier: Apache-2.0

// callout/testing_answer.hpp - what a plugin has answered, taken apart for a test. Include
// <callout/testing.hpp>.
#ifndef CALLOUT_TESTING_ANSWER_HPP_
#define CALLOUT_TESTING_ANSWER_HPP_

#include <callout/message.h>

#include <callout/view.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::testing {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

inline bool same_name(std::string_view a, std::string_view b) {
  return callout_names_equal(to_bytes(a), to_bytes(b)) != 0;
}

// What the host takes for names and values of headers.
inline bool is_token(std::string_view text) {
  for (const char c : text) {
    const bool is_plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!is_plain && std::string_view("!#$%&'*+-.^_`|~").find(c) == std::string_view::npos) {
      return false;
    }
  }
  return !text.empty();
}
inline bool is_header_name(std::string_view name) {
  return is_token(!name.empty() && name[0] == ':' ? name.substr(1) : name);
}
inline bool is_header_value(std::string_view value) {
  for (const char c : value) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return false;
  }
  return true;
}

// One answer. Members that its kind does not have keep their defaults.
struct Answer {
  struct Set {
    std::string key;
    std::string value;
    bool append = false;  // the flag Envoy obeys: add to what is there
    uint32_t append_action = 0;
  };
  enum class Body { kUnchanged, kReplaced, kCleared, kStreamed };

  callout_status_t status = CALLOUT_OK;  // of the hook, or given to finish()
  std::string error;                     // set_error's text
  bool deferred = false;
  std::string problem;  // what the host would not accept, or empty

  callout_field_t field = 0;  // CALLOUT_*_RESPONSE; 0: nothing was set
  std::string message;        // the bytes in it
  std::vector<Set> sets;
  std::vector<std::string> removes;
  bool has_header_mutation = false;
  bool clear_route_cache = false;
  bool continue_and_replace = false;
  Body body_kind = Body::kUnchanged;
  std::string body;
  bool end_of_stream = false;  // of a streamed body

  uint32_t http_status = 0;  // immediate responses
  std::string details;
  std::optional<uint32_t> grpc_status;

  std::vector<Answer> sent;            // ahead of this one
  std::string metadata;                // dynamic_metadata: a Struct
  std::string modes;                   // mode_override: a ProcessingMode
  std::optional<uint64_t> timeout_ms;  // override_message_timeout

  bool is_immediate() const { return field == CALLOUT_IMMEDIATE_RESPONSE; }
  bool is_empty() const {
    return !has_header_mutation && !clear_route_cache && body_kind == Body::kUnchanged &&
           !is_immediate();
  }
  // The value that `key` was last set to.
  std::optional<std::string> header(std::string_view key) const {
    for (auto set = sets.rbegin(); set != sets.rend(); ++set) {
      if (same_name(set->key, key)) return set->value;
    }
    return std::nullopt;
  }
  bool removed(std::string_view key) const {
    for (const std::string& name : removes) {
      if (same_name(name, key)) return true;
    }
    return false;
  }
  // `before` as Envoy leaves it: removals first, then each set.
  HeaderList apply(HeaderList before) const {
    for (const std::string& name : removes) {
      if (name.empty() || (name[0] != ':' && !same_name(name, "host"))) erase(&before, name);
    }
    for (const Set& set : sets) {
      if (!set.append) erase(&before, set.key);
      before.emplace_back(set.key, set.value);
    }
    return before;
  }

  // Why the host refuses its headers; empty: it takes them.
  std::string header_problem() const {
    constexpr size_t kEntriesMax = 100;
    if (sets.size() > kEntriesMax || removes.size() > kEntriesMax) {
      return "more than 100 headers are set, or removed";
    }
    for (const Set& set : sets) {
      if (!is_header_name(set.key)) return "illegal name of a header: \"" + set.key + "\"";
      if (!is_header_value(set.value)) return "illegal value of the header \"" + set.key + "\"";
    }
    for (const std::string& name : removes) {
      if (!is_header_name(name)) return "illegal name of a header: \"" + name + "\"";
    }
    return "";
  }

  // Reads `payload` as what `field` of ProcessingResponse is.
  bool read(std::string_view payload);

 private:
  static void erase(HeaderList* headers, std::string_view key) {
    HeaderList kept;
    for (auto& header : *headers) {
      if (!same_name(header.first, key)) kept.push_back(std::move(header));
    }
    *headers = std::move(kept);
  }
  bool read_common(callout_bytes_t bytes);
  bool read_mutation(callout_bytes_t bytes);
  bool read_set(callout_bytes_t bytes);
  bool read_body(callout_bytes_t bytes);
  bool read_streamed_body(callout_bytes_t bytes);
  bool read_immediate(callout_bytes_t bytes);
};

// Calls `take(record)` for each record; false if malformed or `take` says so.
template <class Take>
bool read_records(callout_bytes_t bytes, Take&& take) {
  callout_reader_t reader = callout_read(bytes);
  while (callout_reader_next(&reader)) {
    if (!take(reader)) return false;
  }
  return !reader.malformed;
}

inline uint32_t read_number(callout_bytes_t bytes, uint32_t field) {
  uint32_t number = 0;
  read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == field) number = static_cast<uint32_t>(record.number);
    return true;
  });
  return number;
}

inline bool Answer::read(std::string_view payload) {
  message.assign(payload);
  const callout_bytes_t bytes = to_bytes(message);
  if (field == CALLOUT_IMMEDIATE_RESPONSE) return read_immediate(bytes);
  const bool trailers =
      field == CALLOUT_REQUEST_TRAILERS_RESPONSE || field == CALLOUT_RESPONSE_TRAILERS_RESPONSE;
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field != 1 || field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) return true;
    return trailers ? read_mutation(record.bytes) : read_common(record.bytes);
  });
}

// CommonResponse: status 1, header_mutation 2, body_mutation 3, clear_route_cache 5.
inline bool Answer::read_common(callout_bytes_t bytes) {
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) continue_and_replace = record.number == 1;
    if (record.field == 2) return read_mutation(record.bytes);
    if (record.field == 3) return read_body(record.bytes);
    if (record.field == 5) clear_route_cache = record.number != 0;
    return true;
  });
}

// HeaderMutation: set_headers 1, remove_headers 2.
inline bool Answer::read_mutation(callout_bytes_t bytes) {
  has_header_mutation = true;
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 2) removes.emplace_back(to_view(record.bytes));
    return record.field != 1 || read_set(record.bytes);
  });
}

// HeaderValueOption: header 1, append 2, append_action 3.
inline bool Answer::read_set(callout_bytes_t bytes) {
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
  sets.push_back(std::move(set));
  return ok;
}

// BodyMutation: body 1, clear_body 2, streamed_response 3.
inline bool Answer::read_body(callout_bytes_t bytes) {
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) {
      body_kind = Body::kReplaced;
      body.assign(to_view(record.bytes));
    }
    if (record.field == 2 && record.number != 0) body_kind = Body::kCleared;
    return record.field != 3 || read_streamed_body(record.bytes);
  });
}

// StreamedBodyResponse: body 1, end_of_stream 2.
inline bool Answer::read_streamed_body(callout_bytes_t bytes) {
  body_kind = Body::kStreamed;
  callout_body_t streamed;
  if (!callout_read_body(bytes, &streamed)) return false;
  body.assign(to_view(streamed.bytes));
  end_of_stream = streamed.end_of_stream != 0;
  return true;
}

// ImmediateResponse: status 1, headers 2, body 3, grpc_status 4, details 5.
inline bool Answer::read_immediate(callout_bytes_t bytes) {
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) http_status = read_number(record.bytes, 1);
    if (record.field == 2) return read_mutation(record.bytes);
    if (record.field == 3) body.assign(to_view(record.bytes));
    if (record.field == 4) grpc_status = read_number(record.bytes, 1);
    if (record.field == 5) details.assign(to_view(record.bytes));
    return true;
  });
}

}  // namespace callout::testing

#endif  // CALLOUT_TESTING_ANSWER_HPP_
