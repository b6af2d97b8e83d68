// SPDX-License-Identifier: Apache-2.0

// callout/check.hpp - ext_authz in C++: the call that a Check hook is given. Include
// <callout/plugin.hpp>.
//
//     CALLOUT_ON_CHECK(call) {
//       const auto token = call.headers().get("authorization");
//       if (!token) return call.deny(401, "who are you?");
//       call.allow().set_header("x-user", user_of(*token)).remove_header("authorization");
//     }
//
// Only allow() lets a request pass: a hook that says nothing refuses it. A denial stands,
// whatever comes after it, and the host's log says what that was. What Envoy would pass on
// unchecked (CR and LF in a header, a status that is none, content-length) makes the call a fault:
// see callout_on_check.
#ifndef CALLOUT_CHECK_HPP_
#define CALLOUT_CHECK_HPP_

#include <callout/check.h>

#include <callout/call.hpp>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace callout {

namespace internal {

// What a Check hook has said so far.
class CheckState : public HookState {
 public:
  explicit CheckState(callout_call_t* raw_call) : HookState(raw_call) {
    callout_check_begin(&answer, CALLOUT_CHECK_OK);
  }
  CheckState(CheckState&& other) noexcept
      : HookState(std::move(other)), answer(other.answer), decided(other.decided) {
    callout_check_begin(&other.answer, CALLOUT_CHECK_OK);
  }
  ~CheckState() { callout_check_free(&answer); }
  CheckState& operator=(CheckState&&) = delete;

  bool denied() const { return decided && answer.field != CALLOUT_CHECK_OK; }
  // True if a step may still be made: the request is not refused.
  bool may_go_on(const char* step) { return may_go_on_unless(denied(), step); }
  // False after a denial, which stands.
  bool begin(callout_field_t field, uint32_t http_status, const char* step) {
    if (!may_go_on(step)) return false;
    callout_check_free(&answer);
    if (field == CALLOUT_CHECK_OK) {
      callout_check_allow(&answer);
    } else {
      callout_check_refuse(&answer, field, http_status);
    }
    decided = true;
    return true;
  }

  // Hands the answer to the host; what the hook is to return.
  callout_status_t settle() noexcept {
    if (call == nullptr) return settle_deferred();
    report_late_step("a denial", "the hook after it");
    if (denied()) return settle_refusal(callout_check_respond(&answer, call));
    if (outcome != CALLOUT_OK) return settle_outcome();
    return decided ? callout_check_respond(&answer, call) : CALLOUT_OK;
  }

  callout_check_answer_t answer;
  bool decided = false;
};

struct CheckHeaderCursor {
  using Item = Header;
  callout_check_headers_t headers;
  bool next(Header* item) {
    callout_header_t header;
    if (!callout_check_headers_next(&headers, &header)) return false;
    *item = {to_view(header.key), to_view(header.value)};
    return true;
  }
};

}  // namespace internal

// The headers of the request, pseudo headers among them, in the order of the message. Unless
// Envoy sends raw headers, the values of a name are one text with commas.
class CheckHeaders : public internal::Range<internal::CheckHeaderCursor> {
 public:
  explicit CheckHeaders(const callout_call_t* call)
      : Range({callout_read_check_headers(call)}), call_(call) {}

  // The first value of `key`; names compare without case.
  std::optional<std::string_view> get(std::string_view key) const {
    callout_bytes_t value;
    if (!callout_check_header(call_, to_bytes(key), &value)) return std::nullopt;
    return to_view(value);
  }
  std::string_view get(std::string_view key, std::string_view otherwise) const {
    return get(key).value_or(otherwise);
  }
  bool contains(std::string_view key) const { return get(key).has_value(); }

 private:
  const callout_call_t* call_;
};

// One end of the connection.
struct Peer {
  std::string_view address;  // "10.0.0.7"; empty for what is no socket
  uint32_t port = 0;
  std::string_view principal;  // by its certificate; empty without one
  // PEM, percent-encoded; where Envoy is told to send it (include_peer_certificate).
  std::string_view certificate;
};

// What goes with the permission. Each step gives it back.
class Allowance {
 public:
  explicit Allowance(internal::CheckState* state) : state_(state) {}

  // Of the request that goes on. An action is settled against its headers.
  const Allowance& set_header(std::string_view key, std::string_view value,
                              AppendAction action = AppendAction::kOverwriteIfExistsOrAdd) const {
    if (may_go_on("set_header")) {
      callout_check_set_header(&state_->answer, to_bytes(key), to_bytes(value),
                               static_cast<callout_append_action_t>(action));
    }
    return *this;
  }
  const Allowance& append_header(std::string_view key, std::string_view value) const {
    return set_header(key, value, AppendAction::kAppendIfExistsOrAdd);
  }
  const Allowance& remove_header(std::string_view key) const {
    if (may_go_on("remove_header")) callout_check_remove_header(&state_->answer, to_bytes(key));
    return *this;
  }
  // Plain text; the host encodes it.
  const Allowance& set_query(std::string_view key, std::string_view value) const {
    if (may_go_on("set_query")) {
      callout_check_set_query(&state_->answer, to_bytes(key), to_bytes(value));
    }
    return *this;
  }
  const Allowance& remove_query(std::string_view key) const {
    if (may_go_on("remove_query")) callout_check_remove_query(&state_->answer, to_bytes(key));
    return *this;
  }
  // Of the response that the request will get.
  const Allowance& set_response_header(
      std::string_view key, std::string_view value,
      AppendAction action = AppendAction::kOverwriteIfExistsOrAdd) const {
    if (may_go_on("set_response_header")) {
      callout_check_set_response_header(&state_->answer, to_bytes(key), to_bytes(value),
                                        static_cast<callout_append_action_t>(action));
    }
    return *this;
  }
  const Allowance& append_response_header(std::string_view key, std::string_view value) const {
    return set_response_header(key, value, AppendAction::kAppendIfExistsOrAdd);
  }

 private:
  // Not once the request is refused, be it later.
  bool may_go_on(const char* step) const { return state_ != nullptr && state_->may_go_on(step); }

  internal::CheckState* state_;  // null: the request was refused before
};

// What goes with a refusal.
class Denial {
 public:
  explicit Denial(internal::CheckState* state) : state_(state) {}

  const Denial& set_header(std::string_view key, std::string_view value) const {
    return put(key, value, CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD);
  }
  const Denial& append_header(std::string_view key, std::string_view value) const {
    return put(key, value, CALLOUT_APPEND_IF_EXISTS_OR_ADD);
  }
  // UTF-8.
  const Denial& body(std::string_view text) const {
    if (state_ != nullptr) callout_check_set_body(&state_->answer, to_bytes(text));
    return *this;
  }

 private:
  const Denial& put(std::string_view key, std::string_view value,
                    callout_append_action_t action) const {
    if (state_ != nullptr) {
      callout_check_set_header(&state_->answer, to_bytes(key), to_bytes(value), action);
    }
    return *this;
  }
  internal::CheckState* state_;  // null: an earlier refusal stands
};

class CheckCall : public internal::CallFacts<CheckCall> {
 public:
  using State = internal::CheckState;
  explicit CheckCall(internal::CheckState* state) : state_(state) {}
  CheckCall(const CheckCall&) = delete;
  CheckCall& operator=(const CheckCall&) = delete;

  // --- What is asked ---

  // The network filter asks, about a connection: there is no request.
  bool is_connection() const { return callout_check_http(raw()).size == 0; }
  CheckHeaders headers() const { return CheckHeaders(raw()); }
  std::string_view method() const { return text(CALLOUT_HTTP_METHOD); }
  std::string_view path() const { return text(CALLOUT_HTTP_PATH); }  // with the query
  std::string_view authority() const { return text(CALLOUT_HTTP_HOST); }
  std::string_view scheme() const { return text(CALLOUT_HTTP_SCHEME); }
  std::string_view protocol() const { return text(CALLOUT_HTTP_PROTOCOL); }  // "HTTP/1.1"
  // Where Envoy is told to send it (with_request_body).
  std::string_view body() const { return to_view(callout_check_body(raw())); }

  Peer source() const { return peer_of(CALLOUT_CHECK_SOURCE); }
  Peer destination() const { return peer_of(CALLOUT_CHECK_DESTINATION); }
  // Of the client, by its certificate.
  std::string_view principal() const { return source().principal; }
  // The name that the client has asked for by SNI, where Envoy is told to send it
  // (include_tls_session).
  std::string_view sni() const { return to_view(callout_check_sni(raw())); }
  // What the route's configuration says (context_extensions).
  std::optional<std::string_view> extension(std::string_view key) const {
    callout_bytes_t value;
    if (!callout_check_extension(raw(), to_bytes(key), &value)) return std::nullopt;
    return to_view(value);
  }

  // --- The answer ---

  // Lets the request pass, with what is set on the result. An allow() before it is forgotten.
  Allowance allow() const {
    return Allowance(state_->begin(CALLOUT_CHECK_OK, 0, "allow") ? state_ : nullptr);
  }
  // Refuses it, 200 to 599. To leave the hook as well:
  //     if (!allowed) return call.deny(403, "no");
  void deny(uint32_t http_status = 403, std::string_view body = {}) const {
    const Denial denial = refuse(http_status);
    if (!body.empty()) denial.body(body);
  }
  // The same, with what is set on the result.
  Denial refuse(uint32_t http_status = 403) const {
    return Denial(state_->begin(CALLOUT_CHECK_DENIED, http_status, "deny") ? state_ : nullptr);
  }
  // The plugin cannot decide: Envoy refuses the request with this status or, where it is told
  // to fail open, lets it pass.
  Denial error(uint32_t http_status = 503) const {
    return Denial(state_->begin(CALLOUT_CHECK_ERROR, http_status, "error") ? state_ : nullptr);
  }
  // Ends the call as an error of the plugin: the operator's policy decides.
  void fail(std::string_view text, callout_status_t status = CALLOUT_INTERNAL) const {
    state_->fail(status, text);
  }

  // For later filters, under the name of Envoy's filter, whatever is decided.
  void set_metadata(const StructWriter& metadata) const {
    state_->set_metadata(CALLOUT_CHECK_DYNAMIC_METADATA, metadata);
  }

  // The hook returns at once and the call goes on elsewhere; `*this` must not be used any
  // more.
  Deferred<CheckCall> defer() const { return Deferred<CheckCall>(state_); }

  callout_call_t* raw() const { return state_->call; }
  // For whoever extends this layer.
  internal::CheckState* state() const { return state_; }

 private:
  std::string_view text(uint32_t field) const { return to_view(callout_check_text(raw(), field)); }
  Peer peer_of(uint32_t side) const {
    Peer peer;
    peer.address = to_view(callout_check_address(raw(), side, &peer.port));
    peer.principal = to_view(callout_check_principal(raw(), side));
    peer.certificate = to_view(callout_check_certificate(raw(), side));
    return peer;
  }

  internal::CheckState* state_;
};

// --- The tools of the samples, by name ---

inline void allow_request(const CheckCall& call,
                          std::initializer_list<Header> headers_to_add = {}) {
  const Allowance allowance = call.allow();
  for (const Header& header : headers_to_add) allowance.set_header(header.key, header.value);
}

// The samples' tool of this name lets requests pass; this one does not.
inline void deny_request(const CheckCall& call, uint32_t status_code = 403,
                         std::string_view body = {}, std::initializer_list<Header> headers = {}) {
  const Denial denial = call.refuse(status_code);
  for (const Header& header : headers) denial.append_header(header.key, header.value);
  if (!body.empty()) denial.body(body);
}

}  // namespace callout

#endif  // CALLOUT_CHECK_HPP_
