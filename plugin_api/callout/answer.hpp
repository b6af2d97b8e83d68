// SPDX-License-Identifier: Apache-2.0

// callout/answer.hpp - what a C++ hook says back. Include <callout/plugin.hpp>.
//
// Answer and Reply are handles on the call that is being answered, useless once the hook
// has returned (or the deferred call is finished); so an Answer cannot be copied. Everything
// given to them is copied. Steps work in the order they are written. A step that cannot be
// done makes the call end as an error, with its reason, once the hook is over; nothing throws.
//
// After a decision (deny, reply, stream_reply) only the Reply adds to the response. Any other step
// that would change it is an error: it does nothing, the decision stands, and the host's log says
// which step it was. So a missing `return` after deny() lets nothing out. A call that then fails is
// a fault that no policy lets pass. Checks, rate limits and connections keep to the same rule.
#ifndef CALLOUT_ANSWER_HPP_
#define CALLOUT_ANSWER_HPP_

#include <callout/host.hpp>
#include <callout/view.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace callout {

// What setting a header does where the name exists. See callout_append_action_t for what
// Envoy understands of it.
enum class AppendAction : callout_append_action_t {
  kAppendIfExistsOrAdd = CALLOUT_APPEND_IF_EXISTS_OR_ADD,
  kAddIfAbsent = CALLOUT_ADD_IF_ABSENT,
  kOverwriteIfExistsOrAdd = CALLOUT_OVERWRITE_IF_EXISTS_OR_ADD,
  kOverwriteIfExists = CALLOUT_OVERWRITE_IF_EXISTS,
};

enum class SendMode : callout_send_mode_t { kDefault = 0, kSend = 1, kSkip = 2 };
enum class BodyMode : callout_body_mode_t {
  kNone = CALLOUT_BODY_NONE,
  kStreamed = CALLOUT_BODY_STREAMED,
  kBuffered = CALLOUT_BODY_BUFFERED,
  kBufferedPartial = CALLOUT_BODY_BUFFERED_PARTIAL,
  kFullDuplexStreamed = CALLOUT_BODY_FULL_DUPLEX_STREAMED,
  kGrpc = CALLOUT_BODY_GRPC,
};

// Which parts Envoy sends from here on; what is not named stays as it is:
//     call.override_modes(callout::Modes().response_body(callout::BodyMode::kBuffered));
class Modes {
 public:
  Modes& request_headers(SendMode mode) { return set(&modes_.request_headers, mode); }
  Modes& response_headers(SendMode mode) { return set(&modes_.response_headers, mode); }
  Modes& request_body(BodyMode mode) { return set(&modes_.request_body, mode); }
  Modes& response_body(BodyMode mode) { return set(&modes_.response_body, mode); }
  Modes& request_trailers(SendMode mode) { return set(&modes_.request_trailers, mode); }
  Modes& response_trailers(SendMode mode) { return set(&modes_.response_trailers, mode); }
  const callout_mode_override_t& raw() const { return modes_; }

 private:
  template <class Mode>
  Modes& set(uint32_t* to, Mode mode) {
    *to = static_cast<uint32_t>(mode);
    return *this;
  }
  callout_mode_override_t modes_ = callout_keep_modes();
};

// A google.protobuf.Struct being written:
//     callout::StructWriter metadata;
//     metadata.open("my.namespace").set("user", "ada").set("score", 0.5).close();
//     call.set_metadata(metadata);
class StructWriter {
 public:
  StructWriter() { callout_writer_init(&writer_, buffer_, sizeof(buffer_)); }
  ~StructWriter() { callout_writer_free(&writer_); }
  StructWriter(const StructWriter&) = delete;
  StructWriter& operator=(const StructWriter&) = delete;

  // A text, a number, a bool, or nullptr. In a list: add.
  template <class T>
  StructWriter& set(std::string_view key, const T& value) {
    return put(to_bytes(key), value);
  }
  template <class T>
  StructWriter& add(const T& value) {
    return put(CALLOUT_ITEM, value);
  }

  // An object or a list as a value, up to the next close(). In a list without a key.
  StructWriter& open(std::string_view key) { return open_struct(to_bytes(key)); }
  StructWriter& open() { return open_struct(CALLOUT_ITEM); }
  StructWriter& open_list(std::string_view key) { return open_list(to_bytes(key)); }
  StructWriter& open_list() { return open_list(CALLOUT_ITEM); }
  StructWriter& close() {
    callout_write_close(&writer_);
    return *this;
  }

  // CALLOUT_OK if all was written and closed.
  callout_status_t status() const { return callout_writer_status(&writer_); }
  // The serialized Struct; empty if status() is not OK. Valid until the next write.
  std::string_view message() const { return to_view(callout_writer_bytes(&writer_)); }
  callout_writer_t* raw() { return &writer_; }

 private:
  template <class T>
  StructWriter& put(callout_bytes_t key, const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      callout_write_bool(&writer_, key, value);
    } else if constexpr (std::is_same_v<T, std::nullptr_t>) {
      callout_write_null(&writer_, key);
    } else if constexpr (std::is_arithmetic_v<T>) {
      callout_write_real(&writer_, key, static_cast<double>(value));
    } else {
      callout_write_string(&writer_, key, to_bytes(std::string_view(value)));
    }
    return *this;
  }
  StructWriter& open_struct(callout_bytes_t key) {
    callout_write_struct(&writer_, key);
    return *this;
  }
  StructWriter& open_list(callout_bytes_t key) {
    callout_write_list(&writer_, key);
    return *this;
  }

  char buffer_[256];
  callout_writer_t writer_;
};

namespace internal {

// A call, and what its hook comes to beside an answer.
class HookState {
 public:
  explicit HookState(callout_call_t* raw_call) : call(raw_call), host(raw_call->host) {}
  // Takes the call over and leaves `other` without it.
  HookState(HookState&& other) noexcept
      : call(std::exchange(other.call, nullptr)),
        host(other.host),
        outcome(other.outcome),
        error(std::move(other.error)),
        late_step(std::exchange(other.late_step, nullptr)) {}
  HookState& operator=(HookState&&) = delete;

  // The first failure counts.
  void fail(callout_status_t status, std::string_view text) {
    if (outcome < 0) return;
    outcome = status;
    error.assign(text);
  }
  // The same without an allocation that could fail, for the hook's edge.
  void fail_with(callout_status_t status, const char* text) noexcept {
    if (call == nullptr || outcome < 0) return;
    outcome = status;
    call->host->set_error(call, callout_text(text));
  }
  // Of what a hook, or a function that answers for it, has thrown.
  void fail_with_thrown(const char* text) noexcept {
    if (call != nullptr) return fail_with(CALLOUT_INTERNAL, text);
    Host(host).error("thrown after the call was handed on by defer(), which changes nothing: ",
                     text);
  }
  // Hands dynamic metadata to the host, as a record of `field`.
  void set_metadata(callout_field_t field, const StructWriter& metadata) {
    if (metadata.status() != CALLOUT_OK) {
      return fail(metadata.status(), "the metadata was not written to its end");
    }
    const callout_status_t status = host->annotate(call, field, to_bytes(metadata.message()));
    if (status < 0) fail(status, "the host refused the metadata");
  }

  callout_call_t* call;  // null: deferred and moved elsewhere
  const callout_host_t* host;
  callout_status_t outcome = CALLOUT_OK;
  std::string error;
  const char* late_step = nullptr;  // the first one after a decision, or after defer()

 protected:
  // True if no decision has been taken, and the call is still here; else `step` is late.
  bool may_go_on_unless(bool decided, const char* step) {
    const bool late = decided || call == nullptr;
    if (late && late_step == nullptr) late_step = step;
    return !late;
  }
  // Of a call that defer() has moved elsewhere: it may be over, and only the log is left.
  callout_status_t settle_deferred() noexcept {
    LateText text;
    if (late_step != nullptr) log_late_step(&text, "defer()", "the hook after it");
    return CALLOUT_DEFERRED;
  }
  struct LateText {
    callout_bytes_t bytes() const { return callout_make_bytes(text, size); }
    char text[160];
    size_t size = 0;
  };
  void log_late_step(LateText* to, const char* after, const char* remedy) noexcept {
    to->size = static_cast<size_t>(std::snprintf(to->text, sizeof(to->text),
                                                 "%s() after %s does nothing: return from %s",
                                                 late_step, after, remedy));
    host->log(host, CALLOUT_LOG_ERROR, to->bytes());
  }
  void report_late_step(const char* after, const char* remedy) noexcept {
    if (late_step == nullptr) return;
    LateText text;
    log_late_step(&text, after, remedy);
    host->set_error(call, text.bytes());
  }
  // What the hook is to return once the host knows of a refusal, which came to `told`: a fault
  // remains one, and the host lets none pass.
  callout_status_t settle_refusal(callout_status_t told) noexcept {
    const bool is_decision =
        outcome == CALLOUT_PERMISSION_DENIED || outcome == CALLOUT_UNAUTHENTICATED;
    return outcome < 0 && !is_decision ? settle_outcome() : told;
  }
  // What the hook is to return, with its error.
  callout_status_t settle_outcome() noexcept {
    if (outcome != CALLOUT_OK && !error.empty()) host->set_error(call, to_bytes(error));
    return outcome;
  }
};

// What a hook has said so far. On the stack of the hook's edge or, once the call is
// deferred, on the heap.
class CallState : public HookState {
 public:
  explicit CallState(callout_call_t* raw_call) : HookState(raw_call) {
    callout_answer_init(&answer, raw_call, buffer_, sizeof(buffer_));
  }
  CallState(CallState&& other) noexcept
      : HookState(std::move(other)),
        answer(other.answer),
        body(std::move(other.body)),
        details(std::move(other.details)),
        has_replied(other.has_replied) {
    if (answer.mutation.on_heap) {
      callout_writer_init(&other.answer.mutation, nullptr, 0);
    } else {
      if (answer.mutation.size > 0) memcpy(buffer_, other.buffer_, answer.mutation.size);
      answer.mutation.data = buffer_;
      answer.mutation.capacity = sizeof(buffer_);
    }
  }
  ~CallState() { callout_answer_free(&answer); }
  CallState& operator=(CallState&&) = delete;

  // True if a step of the answer may still be made: no decision has been taken.
  bool may_go_on(const char* step) {
    return may_go_on_unless(answer.is_immediate != 0 || has_replied, step);
  }

  // Hands the answer to the host; what the hook is to return.
  // hold() sends no response, so there is none that other steps could be in.
  void refuse_lost_steps() noexcept {
    if (callout_answer_is_empty(&answer)) return;
    if (answer.status != CALLOUT_OK) return fail_with(answer.status, answer.reason);
    fail_with(CALLOUT_INVALID_ARGUMENT,
              "hold() beside another step of the same call, which would be lost: only hold, or "
              "only set");
  }
  callout_status_t settle() noexcept {
    if (call == nullptr) return settle_deferred();
    report_late_step("deny() or reply()", "the hook after them, or add to the Reply");
    if (has_replied) return settle_refusal(CALLOUT_OK);
    if (outcome == CALLOUT_NO_RESPONSE && answer.is_immediate == 0) refuse_lost_steps();
    if (outcome != CALLOUT_OK && answer.is_immediate == 0) return settle_outcome();
    if (callout_answer_is_empty(&answer)) return CALLOUT_OK;
    if (answer.body_kind == CALLOUT_BODY_REPLACED) answer.body = to_bytes(body);
    answer.details = to_bytes(details);
    const bool decided = answer.is_immediate != 0;
    const callout_status_t told = callout_answer_respond(&answer, call);
    return decided ? settle_refusal(told) : told;
  }

  callout_answer_t answer;
  std::string body;
  std::string details;
  bool has_replied = false;  // the host has an immediate response, or the beginning of one

 private:
  char buffer_[CALLOUT_TOOL_BUFFER_BYTES];
};

// What Answer and Reply share.
class AnswerHandle {
 public:
  explicit AnswerHandle(CallState* state) : state_(state) {}

  // For whoever extends this layer.
  CallState* state() const { return state_; }

 protected:
  void put_header(std::string_view key, std::string_view value, AppendAction action) const {
    callout_answer_set_header(&state_->answer, to_bytes(key), to_bytes(value),
                              static_cast<callout_append_action_t>(action));
  }
  void drop_header(std::string_view key) const {
    callout_answer_remove_header(&state_->answer, to_bytes(key));
  }
  void put_body(std::string_view body) const {
    state_->body.assign(body);
    callout_answer_set_body(&state_->answer, to_bytes(state_->body));
  }
  void put_body(std::string&& body) const {
    state_->body = std::move(body);
    callout_answer_set_body(&state_->answer, to_bytes(state_->body));
  }
  // Text or a string to be moved from.
  template <class Text>
  void take_body(Text&& body) const {
    if constexpr (std::is_same_v<Text, std::string>) {
      put_body(std::move(body));
    } else {
      put_body(std::string_view(body));
    }
  }

  CallState* state_;
};

}  // namespace internal

// An immediate response being made:
//     call.reply(301).set_header("location", "https://example.com/");
// One that came after another decision does nothing.
class Reply : public internal::AnswerHandle {
 public:
  using AnswerHandle::AnswerHandle;

  const Reply& set_header(std::string_view key, std::string_view value) const {
    if (state_ != nullptr) put_header(key, value, AppendAction::kOverwriteIfExistsOrAdd);
    return *this;
  }
  const Reply& append_header(std::string_view key, std::string_view value) const {
    if (state_ != nullptr) put_header(key, value, AppendAction::kAppendIfExistsOrAdd);
    return *this;
  }
  const Reply& remove_header(std::string_view key) const {
    if (state_ != nullptr) drop_header(key);
    return *this;
  }
  template <class Text>
  const Reply& body(Text&& text) const {
    if (state_ != nullptr) take_body(std::forward<Text>(text));
    return *this;
  }
  // For Envoy's access log; the client does not see it.
  const Reply& details(std::string_view text) const {
    if (state_ != nullptr) state_->details.assign(text);
    return *this;
  }
  // For gRPC clients; without it Envoy derives one from the HTTP status.
  const Reply& grpc_status(uint32_t status) const {
    if (state_ != nullptr) callout_answer_set_grpc_status(&state_->answer, status);
    return *this;
  }
};

// What can be answered in every phase.
class Answer : public internal::AnswerHandle {
 public:
  using AnswerHandle::AnswerHandle;
  // To take a call elsewhere, defer() it.
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  // --- Headers (in a trailers phase: trailers) ---

  void set_header(std::string_view key, std::string_view value,
                  AppendAction action = AppendAction::kOverwriteIfExistsOrAdd) const {
    if (state_->may_go_on("set_header")) put_header(key, value, action);
  }
  // Keeps the values that are there.
  void append_header(std::string_view key, std::string_view value) const {
    if (!state_->may_go_on("append_header")) return;
    put_header(key, value, AppendAction::kAppendIfExistsOrAdd);
  }
  // Also one that was set just before. Envoy keeps "host" and names with a leading ":".
  void remove_header(std::string_view key) const {
    if (state_->may_go_on("remove_header")) drop_header(key);
  }

  // --- Instead of going on ---

  // Lets Envoy answer the client itself, 200 to 599; what was set before is forgotten.
  // The first decision of a call stands.
  Reply reply(uint32_t http_status) const {
    if (!state_->may_go_on("reply")) return Reply(nullptr);
    callout_answer_immediate(&state_->answer, http_status);
    state_->details.clear();
    return Reply(state_);
  }
  // Refuses the request with a response of its own. To leave the hook as well:
  //     if (!allowed) return call.deny(403, "no");
  void deny(uint32_t http_status = 403, std::string_view body = {}) const {
    const Reply response = reply(http_status);
    if (!body.empty()) response.body(body);
  }
  // Ends the stream with PERMISSION_DENIED. Prefer deny: Envoy turns this into a 500 or,
  // failing open, lets the request through. See callout_deny_callout.
  void deny_callout(std::string_view text = "Callout DENIED.") const {
    if (state_->may_go_on("deny_callout")) state_->fail(CALLOUT_PERMISSION_DENIED, text);
  }
  // Ends the call as an error of the plugin: the operator's policy decides.
  void fail(std::string_view text, callout_status_t status = CALLOUT_INTERNAL) const {
    state_->fail(status, text);
  }

  // --- Beside the answer ---

  // Metadata for later filters; the keys at the top are namespaces.
  void set_metadata(const StructWriter& metadata) const {
    check(metadata.status(), "the metadata was not written to its end");
    if (metadata.status() == CALLOUT_OK) {
      check(callout_set_dynamic_metadata(state_->call, to_bytes(metadata.message())),
            "the host refused the metadata");
    }
  }
  // Names the endpoint for a load balancer's dynamic forwarding.
  void forward_to(std::string_view ip, uint32_t port) const {
    check(callout_forward_to(state_->call, to_bytes(ip), port), {});
  }
  // Needs allow_mode_override in Envoy's filter, and a headers phase.
  void override_modes(const Modes& modes) const {
    check(callout_override_mode(state_->call, &modes.raw()), "the host refused the mode override");
  }
  // Before defer(): asks Envoy to wait so much longer. See
  // callout_override_message_timeout. deadline() and Upstream::call() keep to the time without it;
  // Upstream::start() does not.
  void extend_timeout(std::chrono::milliseconds more) const {
    check(callout_override_message_timeout(state_->call, static_cast<uint64_t>(more.count())),
          "the host refused the longer timeout");
  }

 private:
  // Without a `reason` the tool has set it.
  void check(callout_status_t status, std::string_view reason) const {
    if (status < 0) state_->fail(status, reason);
  }
};

}  // namespace callout

#endif  // CALLOUT_ANSWER_HPP_
