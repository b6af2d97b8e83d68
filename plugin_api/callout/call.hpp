// SPDX-License-Identifier: Apache-2.0

// callout/call.hpp - the call that a C++ hook is given. Include <callout/plugin.hpp>.
//
//     HeadersCall   request and response headers
//     BodyCall      request and response bodies, whole or in chunks
//     TrailersCall  request and response trailers
//     CheckCall     ext_authz's question (callout/check.hpp)
//     ConnectionCall, DataCall   a TCP connection and its bytes (callout/data.hpp)
//     RateLimitCall the question about rate limits (callout/rate_limit.hpp)
//     ProcessCall   any of the former three, in callout_on_process
//     OpenCall      the opening of a stream
//
// Each reads what came, answers it (callout/answer.hpp) and can be deferred. A call is
// gone when the hook returns; views into it are too.
#ifndef CALLOUT_CALL_HPP_
#define CALLOUT_CALL_HPP_

#include <callout/answer.hpp>
#include <callout/host.hpp>
#include <callout/view.hpp>
#include <chrono>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#if defined(__cpp_exceptions)
#define CALLOUT_TRY try
#define CALLOUT_CATCH_ALL(state)                \
  catch (const std::exception& error) {         \
    (state).fail_with_thrown(error.what());     \
  }                                             \
  catch (...) {                                 \
    (state).fail_with_thrown("the hook threw"); \
  }
#else
#define CALLOUT_TRY
#define CALLOUT_CATCH_ALL(state)
#endif

namespace callout {

namespace internal {

// What is known of any call, whatever service it is of. `Derived` has raw().
template <class Derived>
class CallFacts {
 public:
  // What other filters left, all of it or one value.
  Metadata metadata() const { return Metadata(to_view(raw()->metadata_context)); }
  Value metadata(std::string_view name, std::string_view key) const {
    return metadata()[name][key];
  }
  // Of the gRPC request that carries the stream; `key` in lower case.
  std::optional<std::string_view> grpc_metadata(std::string_view key, uint32_t index = 0) const {
    callout_bytes_t value;
    if (raw()->host->get_metadata(raw(), to_bytes(key), index, &value) != CALLOUT_OK) {
      return std::nullopt;
    }
    return to_view(value);
  }

  // Empty where it is not to be had. These views live as long as the stream.
  std::string_view peer() const { return property(CALLOUT_PEER); }
  std::string_view listener() const { return property(CALLOUT_LISTENER); }
  std::string_view peer_identity() const { return property(CALLOUT_PEER_IDENTITY); }
  std::string_view stream_id() const { return property(CALLOUT_STREAM_ID); }

  // When the host answers in the plugin's place. What extend_timeout() adds is not in it.
  std::optional<std::chrono::steady_clock::time_point> deadline() const {
    if (raw()->deadline_ns == 0) return std::nullopt;
    return std::chrono::steady_clock::time_point(
        std::chrono::nanoseconds(static_cast<int64_t>(raw()->deadline_ns)));
  }
  bool is_cancelled() const { return raw()->host->is_cancelled(raw()) != 0; }
  Host host() const { return Host(raw()->host); }

 private:
  callout_call_t* raw() const { return static_cast<const Derived*>(this)->raw(); }
  std::string_view property(callout_property_t which) const {
    callout_bytes_t value;
    const callout_status_t status = raw()->host->get_property(raw(), which, &value);
    return status == CALLOUT_OK ? to_view(value) : std::string_view();
  }
};

}  // namespace internal

// What is known in every phase.
class Call : public Answer, public internal::CallFacts<Call> {
 public:
  using State = internal::CallState;
  using Answer::Answer;

  callout_phase_t phase() const { return raw()->phase; }  // CALLOUT_REQUEST_HEADERS, ...
  bool is_request() const { return phase() % 2 == 0; }
  bool is_first() const { return has(CALLOUT_CALL_FIRST); }
  // Nothing more follows in this direction. Unknown in advance if trailers follow.
  bool is_last() const { return has(CALLOUT_CALL_LAST); }
  // Answers are not sent to Envoy.
  bool is_observed() const { return has(CALLOUT_CALL_OBSERVABILITY); }
  BodyMode body_mode() const { return static_cast<BodyMode>(raw()->body_mode); }

  // An attribute that Envoy was told to send: "request.path", "source.address", ...
  Value attribute(std::string_view name) const {
    callout_value_t value;
    const bool found = callout_find_attribute(raw()->attributes, to_bytes(name), &value) != 0;
    return found ? Value(value) : Value();
  }
  // In response phases, if the class has called Setup::want_request_headers(). Valid until
  // the stream is closed.
  Headers request_headers() const { return Headers(to_view(raw()->request_headers)); }

  callout_call_t* raw() const { return state_->call; }

 protected:
  bool has(uint32_t flag) const { return (raw()->flags & flag) != 0; }
  std::string_view message() const { return to_view(raw()->message); }
  void clear_route() const {
    if (state_->may_go_on("clear_route_cache")) callout_answer_clear_route_cache(&state_->answer);
  }
};

// A call whose hook has returned but which is not settled yet. Any one thread may hold it,
// read from the call and answer it through `->`, and finish it; no more of the stream comes
// until then. One that is dropped is finished as an error.
//
//     std::thread([deferred = call.defer()]() mutable {
//       deferred.finish_with([](auto& call) { call.set_header("x-user", look_up()); });
//     }).detach();
template <class PhaseCall>
class Deferred {
 public:
  Deferred(Deferred&& other) noexcept = default;
  Deferred& operator=(Deferred&& other) noexcept {
    if (this != &other) drop();
    held_ = std::move(other.held_);
    return *this;
  }
  ~Deferred() { drop(); }

  // For what must be copied, such as a std::function: the call is dropped with its last
  // owner. `*this` is empty afterwards.
  //     work.push([deferred = call.defer().share()] { deferred->finish(); });
  std::shared_ptr<Deferred> share() {
    return std::shared_ptr<Deferred>(new Deferred(std::move(*this)));
  }

  // While the call is held.
  const PhaseCall* operator->() const { return &held_->call; }
  const PhaseCall& operator*() const { return held_->call; }
  explicit operator bool() const { return held_ != nullptr; }

  // Sends the answer. CANCELLED: the client had left. DEADLINE_EXCEEDED: the host has
  // answered already. The call is gone, whatever comes back. OK also if it was handed on, by a
  // defer() of its own: whoever holds it then finishes it.
  callout_status_t finish() {
    if (held_ == nullptr) return CALLOUT_FAILED_PRECONDITION;
    const std::unique_ptr<Held> held = std::move(held_);
    callout_call_t* call = held->state.call;
    const callout_host_t* host = held->state.host;
    const callout_status_t status = held->state.settle();
    return call == nullptr ? CALLOUT_OK : host->finish(call, status);
  }

  // Calls `answer(call)` and finishes. An exception ends the call as an error, as it does
  // in a hook.
  template <class Function>
  callout_status_t finish_with(Function&& answer) {
    if (held_ == nullptr) return CALLOUT_FAILED_PRECONDITION;
    CALLOUT_TRY { answer(held_->call); }
    CALLOUT_CATCH_ALL(held_->state)
    return finish();
  }

 private:
  friend PhaseCall;
  using State = typename PhaseCall::State;
  struct Held {
    explicit Held(State* from) : state(std::move(*from)), call(&state) {}
    State state;
    PhaseCall call;
  };

  explicit Deferred(State* from) {
    if (from->call != nullptr) {
      held_ = std::make_unique<Held>(from);
    } else {
      Host(from->host)
          .error(
              "defer() was called on a call that is deferred already, and gives an empty Deferred; "
              "call it once, and share() what it gives");
    }
  }

  void drop() noexcept {
    if (held_ == nullptr) return;
    held_->state.fail_with(CALLOUT_INTERNAL, "the plugin dropped a deferred call");
    finish();
  }

  std::unique_ptr<Held> held_;
};

// A local reply in pieces: see HeadersCall::stream_reply.
class StreamedReply {
 public:
  // One that comes after a decision does nothing: then `state` is null.
  StreamedReply(internal::CallState* state, std::initializer_list<Header> headers) : state_(state) {
    if (state_ != nullptr) state_->has_replied = true;
    write([&](callout_writer_t* writer) {
      callout_write_open(writer, 1);
      write_map(writer, 1, headers);
      callout_write_close(writer);
    });
  }

  // Sends one piece of the body now.
  StreamedReply& send(std::string_view body) {
    write(
        [&](callout_writer_t* writer) { callout_write_streamed_body(writer, to_bytes(body), 0); });
    return *this;
  }
  // Either of them, once, ends the reply.
  void end(std::string_view body = {}) {
    write([&](callout_writer_t* writer) { callout_write_streamed_body(writer, to_bytes(body), 1); },
          true);
  }
  void end_with_trailers(std::initializer_list<Header> trailers) {
    write([&](callout_writer_t* writer) { write_map(writer, 3, trailers); }, true);
  }

 private:
  static void write_map(callout_writer_t* writer, uint32_t field,
                        std::initializer_list<Header> headers) {
    callout_write_open(writer, field);
    for (const Header& header : headers) {
      callout_write_open(writer, 1);
      callout_write_bytes(writer, 1, to_bytes(header.key));
      callout_write_bytes(writer, 3, to_bytes(header.value));
      callout_write_close(writer);
    }
    callout_write_close(writer);
  }

  template <class Write>
  void write(Write&& write_piece, bool last = false) {
    if (state_ == nullptr) return;
    char buffer[512];
    callout_writer_t writer;
    callout_writer_init(&writer, buffer, sizeof(buffer));
    write_piece(&writer);
    callout_status_t status = callout_writer_status(&writer);
    if (status == CALLOUT_OK) {
      const callout_bytes_t piece = callout_writer_bytes(&writer);
      const auto pass = last ? state_->host->respond : state_->host->send;
      status = pass(state_->call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, &piece, 1);
    }
    callout_writer_free(&writer);
    if (status < 0) state_->fail(status, "a piece of the streamed reply could not be sent");
  }

  internal::CallState* state_;
};

class HeadersCall : public Call {
 public:
  using Call::Call;

  Headers headers() const { return Headers(message()); }
  // No body and no trailers follow.
  bool end_of_stream() const { return is_last(); }

  // Chooses the route anew, by the headers as the answer leaves them. Request side only.
  void clear_route_cache() const { clear_route(); }
  // Puts `body` in place of the one that would follow, which Envoy then does not send.
  template <class Text>
  void replace_body(Text&& body) const {
    if (state_->may_go_on("replace_body")) take_body(std::forward<Text>(body));
  }
  // Begins a local reply in pieces; `headers` has ":status". Request side, and only with
  // the request body mode NONE or FULL_DUPLEX_STREAMED.
  StreamedReply stream_reply(std::initializer_list<Header> headers) const {
    return StreamedReply(state_->may_go_on("stream_reply") ? state_ : nullptr, headers);
  }

  // The hook returns at once and the call goes on elsewhere; `*this` must not be used
  // any more.
  Deferred<HeadersCall> defer() const { return Deferred<HeadersCall>(state_); }
};

class BodyCall : public Call {
 public:
  using Call::Call;

  std::string_view body() const { return to_view(callout_body_bytes(raw()->message)); }
  bool end_of_stream() const { return is_last(); }
  bool is_whole() const { return has(CALLOUT_CALL_WHOLE_BODY); }  // all of the body
  uint64_t offset() const { return raw()->body_offset; }          // bytes in the chunks before

  // Replaces this body or chunk, in whatever mode Envoy sends it. An empty text is an empty
  // body.
  template <class Text>
  void set_body(Text&& body) const {
    if (state_->may_go_on("set_body")) take_body(std::forward<Text>(body));
  }
  void clear_body() const {
    if (state_->may_go_on("clear_body")) callout_answer_clear_body(&state_->answer);
  }
  void clear_route_cache() const { clear_route(); }

  // FULL_DUPLEX_STREAMED only: sends a piece ahead of the answer.
  void send(std::string_view piece) const {
    if (!state_->may_go_on("send")) return;
    callout_writer_t head;
    char buffer[24];
    callout_writer_init(&head, buffer, sizeof(buffer));
    // BodyResponse.response.body_mutation.streamed_response.body, inside out.
    const size_t streamed = callout_record_size(1, piece.size());
    const size_t mutation = callout_record_size(3, streamed);
    char* to = callout_put_head(buffer, 1, callout_record_size(3, mutation));
    to = callout_put_head(callout_put_head(to, 3, mutation), 3, streamed);
    to = callout_put_head(to, 1, piece.size());
    const callout_bytes_t parts[] = {{buffer, static_cast<size_t>(to - buffer)}, to_bytes(piece)};
    const callout_status_t status = state_->host->send(raw(), phase() - 1, parts, 2);
    if (status < 0) state_->fail(status, "a piece of the body could not be sent");
  }
  // How many bytes send() takes now.
  uint64_t send_room() const { return state_->host->send_room(raw()); }
  // FULL_DUPLEX_STREAMED only: this chunk is kept back, or dropped. Any other step of the call
  // makes it an error (CALLOUT_INVALID_ARGUMENT): there is no response that the step could be in.
  void hold() const {
    if (!state_->may_go_on("hold")) return;
    if (state_->outcome == CALLOUT_OK) state_->outcome = CALLOUT_NO_RESPONSE;
  }

  Deferred<BodyCall> defer() const { return Deferred<BodyCall>(state_); }
};

class TrailersCall : public Call {
 public:
  using Call::Call;

  Headers trailers() const { return Headers(message()); }

  Deferred<TrailersCall> defer() const { return Deferred<TrailersCall>(state_); }
};

// A message on its way to whatever hook its phase has.
class ProcessCall : public Call {
 public:
  using Call::Call;

  // Passes the message on to the hook of its phase; what was set here is dropped.
  void next() const {
    if (!state_->may_go_on("next")) return;
    if (state_->outcome == CALLOUT_OK) state_->outcome = CALLOUT_NEXT;
  }

  // The call by its phase; nothing if it is another.
  std::optional<HeadersCall> as_headers() const {
    return as<HeadersCall>(callout_is_headers_phase(phase()));
  }
  std::optional<BodyCall> as_body() const { return as<BodyCall>(callout_is_body_phase(phase())); }
  std::optional<TrailersCall> as_trailers() const {
    return as<TrailersCall>(callout_is_trailers_phase(phase()));
  }

 private:
  template <class PhaseCall>
  std::optional<PhaseCall> as(int is_phase) const {
    if (!is_phase) return std::nullopt;
    return std::optional<PhaseCall>(std::in_place, state_);
  }
};

// The client has left. Read-only: the call that is under way goes on elsewhere.
class CancelCall {
 public:
  explicit CancelCall(callout_call_t* raw_call) : call_(raw_call) {}
  CancelCall(const CancelCall&) = delete;
  CancelCall& operator=(const CancelCall&) = delete;

  Host host() const { return Host(call_->host); }
  callout_call_t* raw() const { return call_; }

 private:
  callout_call_t* call_;
};

// How a stream ended: see callout_stream_end_t.
class StreamEnd {
 public:
  explicit StreamEnd(const callout_call_t* raw_call) : call_(raw_call) {
    if (raw_call->end != nullptr) end_ = *raw_call->end;
  }
  callout_outcome_t outcome() const { return end_.outcome; }  // CALLOUT_END_COMPLETED, ...
  callout_status_t status() const { return end_.status; }
  uint32_t http_status() const { return end_.http_status; }  // 0: none was seen
  uint64_t request_body_bytes() const { return end_.request_body_bytes; }
  uint64_t response_body_bytes() const { return end_.response_body_bytes; }
  std::chrono::nanoseconds stream_time() const { return time(end_.stream_ns); }
  std::chrono::nanoseconds instance_time() const { return time(end_.instance_ns); }
  Host host() const { return Host(call_->host); }
  const callout_stream_end_t& raw() const { return end_; }

 private:
  static std::chrono::nanoseconds time(uint64_t ns) {
    return std::chrono::nanoseconds(static_cast<int64_t>(ns));
  }
  const callout_call_t* call_;
  callout_stream_end_t end_ = {};
};

// The opening of a stream. It cannot be answered, only refused: deny_callout or fail.
class OpenCall {
 public:
  using State = internal::CallState;
  explicit OpenCall(internal::CallState* state) : call_(state) {}

  Value attribute(std::string_view name) const { return call_.attribute(name); }
  Metadata metadata() const { return call_.metadata(); }
  std::optional<std::string_view> grpc_metadata(std::string_view key, uint32_t index = 0) const {
    return call_.grpc_metadata(key, index);
  }
  std::string_view peer() const { return call_.peer(); }
  std::string_view listener() const { return call_.listener(); }
  std::string_view peer_identity() const { return call_.peer_identity(); }
  std::string_view stream_id() const { return call_.stream_id(); }
  Host host() const { return call_.host(); }
  // For whoever extends this layer.
  internal::CallState* state() const { return call_.state(); }
  callout_call_t* raw() const { return call_.raw(); }

  void deny_callout(std::string_view text = "Callout DENIED.") const { call_.deny_callout(text); }
  void fail(std::string_view text, callout_status_t status = CALLOUT_INTERNAL) const {
    call_.fail(text, status);
  }

 private:
  Call call_;
};

}  // namespace callout

#endif  // CALLOUT_CALL_HPP_
