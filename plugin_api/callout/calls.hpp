// SPDX-License-Identifier: Apache-2.0

// callout/calls.hpp - calls to other services, as <callout/calls.h> describes them. Include it
// beside <callout/plugin.hpp>.
//
//     class Checked {
//      public:
//       explicit Checked(callout::Setup& setup) : users_(setup, "users") {}
//       void on_request_headers(callout::HeadersCall& call) {
//         callout::HttpRequest ask;
//         ask.path = "/teams/current";
//         // As a header: in the path, a client could write "../" or "?".
//         ask.headers = {{"x-user", std::string(call.headers().get("x-user", "nobody"))}};
//         users_.call(ask, call.defer(), [](callout::HeadersCall& later, const auto& response) {
//           if (!response.ok() || response.http_status() != 200) return later.deny(503);
//           later.set_header("x-team", response.body());
//         });
//       }
//      private:
//       callout::Upstream users_;
//     };
//
// A function may use the plugin's object: none runs once its destructor has begun. It runs on a
// thread that makes the calls of all plugins, so it must not wait for anything. It runs beside
// hooks, so what they share is for the class to guard. What it throws ends a deferred call as an
// error, and is logged where there is no call.
//
// Thread: Upstream is [any]; an OutgoingCall belongs to one thread at a time.
#ifndef CALLOUT_CALLS_HPP_
#define CALLOUT_CALLS_HPP_

#include <callout/calls.h>

#include <algorithm>
#include <callout/call.hpp>
#include <callout/host.hpp>
#include <callout/started.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout {

// What is sent. An empty method is POST if there is a body, else GET.
struct HttpRequest {
  std::string method;
  std::string path = "/";  // with the query
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // It may reach the service twice: it is sent again if the connection breaks. GET and its like may
  // always.
  bool idempotent = false;
  std::chrono::nanoseconds timeout{0};  // 0: the upstream's
};
struct GrpcRequest {
  std::string path;     // "/package.Service/Method"
  std::string message;  // serialized
  std::vector<std::pair<std::string, std::string>> metadata;
  bool idempotent = false;
  std::chrono::nanoseconds timeout{0};  // 0: the upstream's
};

// How a call came out. Its views are valid while the function that is given it runs.
class IncomingResponse {
 public:
  explicit IncomingResponse(const callout_incoming_t& raw_incoming) : raw_(&raw_incoming) {}

  // HTTP: there is a response, of any status. gRPC: the service has said OK.
  bool ok() const { return raw_->status == CALLOUT_OK; }
  callout_status_t status() const { return raw_->status; }
  // What a gRPC service has said, in contrast to a call that has not reached it.
  bool is_from_service() const { return raw_->from_service != 0; }
  uint32_t http_status() const { return raw_->http_status; }     // 0: there is no response
  std::string_view body() const { return to_view(raw_->body); }  // of gRPC: the message
  // The first of this name, in lower case; `otherwise` if there is none.
  std::string_view header(std::string_view name, std::string_view otherwise = {}) const {
    return find(raw_->headers, raw_->header_count, name, otherwise);
  }
  std::string_view trailer(std::string_view name, std::string_view otherwise = {}) const {
    return find(raw_->trailers, raw_->trailer_count, name, otherwise);
  }
  // What went wrong, for a log.
  std::string_view message() const { return to_view(raw_->message); }
  std::chrono::nanoseconds elapsed() const {
    return std::chrono::nanoseconds(static_cast<int64_t>(raw_->elapsed_ns));
  }
  uint64_t attempts() const { return raw_->attempts; }
  const callout_incoming_t& raw() const { return *raw_; }

 private:
  static std::string_view find(const callout_header_field_t* fields, size_t count,
                               std::string_view name, std::string_view otherwise) {
    for (size_t i = 0; i < count; ++i) {
      if (to_view(fields[i].name) == name) return to_view(fields[i].value);
    }
    return otherwise;
  }

  const callout_incoming_t* raw_;
};

namespace internal {

template <class Work>
struct CallWork {
  const callout_host_t* host;
  Work work;

  static void done(void* data, const callout_incoming_t* incoming) noexcept {
    CallWork* self = static_cast<CallWork*>(data);
    run_and_log(self->host, "the end of a call", [&] { self->work(IncomingResponse(*incoming)); });
  }
  static void release(void* data) noexcept { delete static_cast<CallWork*>(data); }
};

}  // namespace internal

// A call that was started. It is cancelled with the object, unless detach() was called.
using OutgoingCall = internal::Started<callout_calls_t>;

// One of the services that the operator has configured.
class Upstream {
 public:
  // There is none.
  Upstream() = default;
  // The instance is not made if the host makes no calls, or has no upstream of this name.
  Upstream(Setup& setup, std::string_view name) : Upstream(setup.host().raw(), name) {
    if (table_ == nullptr) {
      setup.fail("this host has no extension " CALLOUT_CALLS);
    } else if (!*this) {
      setup.fail(std::string("there is no upstream \"")
                     .append(name)
                     .append("\": add it to the file of --upstreams"));
    }
  }
  // False as a bool if there is none of this name.
  Upstream(const callout_host_t* host, std::string_view name)
      : host_(host),
        table_(static_cast<const callout_calls_t*>(host->get_extension(host, CALLOUT_CALLS))),
        name_(name) {
    info_.struct_size = sizeof(info_);
    is_known_ =
        table_ != nullptr && table_->find(host_, to_bytes(name_view()), &info_) == CALLOUT_OK;
  }
  explicit operator bool() const { return is_known_; }

  const std::string& name() const { return name_; }
  bool takes_grpc() const { return (info_.flags & CALLOUT_UPSTREAM_GRPC) != 0; }
  std::chrono::nanoseconds timeout() const {
    return std::chrono::nanoseconds(static_cast<int64_t>(info_.timeout_ns));
  }

  // Asks the service for a call that waits. `answer(call, response)` gets the call as a hook does,
  // and it is finished afterwards. It runs in any case: where the host has not started the call, at
  // once, with the status that says why. It is bounded by time_for(): so a service that is slow is
  // a case for `answer`, too, and no missed deadline. What extend_timeout() adds is not in that: a
  // call that is to use it is made by start(), whose `take` finishes the deferred call.
  // If the call is cancelled, the deferred one ends as an error.
  template <class Request, class PhaseCall, class Answer>
  void call(Request request, Deferred<PhaseCall> deferred, Answer answer) const {
    if (!deferred) return;
    const std::chrono::nanoseconds left = time_for(*deferred);
    if (left.count() != 0 && (request.timeout.count() == 0 || left < request.timeout)) {
      request.timeout = left;
    }
    struct Waiting {
      Deferred<PhaseCall> deferred;
      Answer answer;
    };
    const auto waiting = std::make_shared<Waiting>(Waiting{std::move(deferred), std::move(answer)});
    const auto take = [waiting](const IncomingResponse& response) {
      waiting->deferred.finish_with([&](PhaseCall& later) { waiting->answer(later, response); });
    };
    const callout_status_t status = start_with(request, take, nullptr);
    if (status == CALLOUT_OK) return;
    callout_incoming_t incoming = {};
    incoming.struct_size = sizeof(incoming);
    incoming.status = status;
    incoming.message = callout_text("the host has not started the call; its log says why");
    take(IncomingResponse(incoming));
  }

  // How long a request may take so that the call which waits for it can still be answered: the time
  // to the call's deadline, less an eighth, at most 50 ms, for all that comes after it. 0: the call
  // has no deadline. Without what extend_timeout() adds.
  template <class AnyCall>
  static std::chrono::nanoseconds time_for(const AnyCall& call) {
    const auto deadline = call.deadline();
    if (!deadline.has_value()) return std::chrono::nanoseconds(0);
    const std::chrono::nanoseconds left = *deadline - std::chrono::steady_clock::now();
    const std::chrono::nanoseconds reserve_max = std::chrono::milliseconds(50);
    const std::chrono::nanoseconds time = left - std::min(left / 8, reserve_max);
    return std::max(time, std::chrono::nanoseconds(1));
  }

  // Asks the service for nobody's call: in the background, or for several that wait.
  // `take(response)` runs unless the call is cancelled. The result is false if the host has not
  // started it: then `take` does not run.
  template <class Request, class Take>
  [[nodiscard]] OutgoingCall start(const Request& request, Take take,
                                   callout_status_t* status = nullptr) const {
    uint64_t id = 0;
    const callout_status_t started = start_with(request, std::move(take), &id);
    if (status != nullptr) *status = started;
    return started == CALLOUT_OK ? OutgoingCall(table_, host_, id) : OutgoingCall();
  }

 private:
  std::string_view name_view() const { return name_; }

  static void describe(const HttpRequest& request, callout_outgoing_t* outgoing) {
    outgoing->method = to_bytes(std::string_view(request.method));
    outgoing->body = to_bytes(std::string_view(request.body));
  }
  static void describe(const GrpcRequest& request, callout_outgoing_t* outgoing) {
    outgoing->flags |= CALLOUT_OUTGOING_GRPC;
    outgoing->body = to_bytes(std::string_view(request.message));
  }
  static const auto& headers_of(const HttpRequest& request) { return request.headers; }
  static const auto& headers_of(const GrpcRequest& request) { return request.metadata; }

  template <class Request, class Work>
  callout_status_t start_with(const Request& request, Work work, uint64_t* id) const {
    using Held = internal::CallWork<Work>;
    if (table_ == nullptr) return CALLOUT_UNIMPLEMENTED;
    std::vector<callout_header_field_t> headers;
    for (const auto& [name, value] : headers_of(request)) {
      headers.push_back({to_bytes(std::string_view(name)), to_bytes(std::string_view(value))});
    }
    Held* const held = new (std::nothrow) Held{host_, std::move(work)};
    if (held == nullptr) return CALLOUT_RESOURCE_EXHAUSTED;
    callout_outgoing_t outgoing = {};
    outgoing.struct_size = sizeof(outgoing);
    if (request.idempotent) outgoing.flags |= CALLOUT_OUTGOING_IDEMPOTENT;
    outgoing.upstream = to_bytes(name_view());
    outgoing.path = to_bytes(std::string_view(request.path));
    outgoing.headers = headers.data();
    outgoing.header_count = headers.size();
    describe(request, &outgoing);
    outgoing.timeout_ns =
        request.timeout.count() > 0 ? static_cast<uint64_t>(request.timeout.count()) : 0;
    outgoing.done = Held::done;
    outgoing.release = Held::release;
    outgoing.data = held;
    uint64_t ignored = 0;
    const callout_status_t status = table_->start(host_, &outgoing, id != nullptr ? id : &ignored);
    if (status != CALLOUT_OK) delete held;
    return status;
  }

  const callout_host_t* host_ = nullptr;
  const callout_calls_t* table_ = nullptr;
  std::string name_;
  callout_upstream_info_t info_ = {};
  bool is_known_ = false;
};

}  // namespace callout

#endif  // CALLOUT_CALLS_HPP_
