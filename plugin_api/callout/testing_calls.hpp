// SPDX-License-Identifier: Apache-2.0

// callout/testing_calls.hpp - upstreams for unit tests, which answer as the test says. Include
// <callout/testing.hpp>.
//
//     auto store = std::make_shared<callout::testing::Store>();
//     store->upstreams.add("users", [](const callout::testing::CallRequest& request) {
//       auto response = callout::testing::CallResponse::of("team-a");
//       if (request.path != "/users/ada") response.http_status = 404;
//       response.delay = std::chrono::milliseconds(20);
//       return response;
//     });
//     callout::testing::Plugin plugin("./checked.so", "", store);
//
// The function is asked when the plugin starts a call. The call ends in Plugin::advance(), and
// while a deferred call is waited for; one whose delay is over its timeout ends with
// DEADLINE_EXCEEDED. No other thread runs it.
#ifndef CALLOUT_TESTING_CALLS_HPP_
#define CALLOUT_TESTING_CALLS_HPP_

#include <callout/calls.h>
#include <callout/timers.h>

#include <algorithm>
#include <callout/testing_answer.hpp>
#include <callout/view.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::testing {

struct CallRequest {
  std::string upstream, method, path;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;
  bool grpc = false, idempotent = false;
  std::chrono::nanoseconds timeout{0};

  std::string header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return "";
  }
};

struct CallResponse {
  callout_status_t status = CALLOUT_OK;  // another: there is no response, or gRPC's error
  uint32_t http_status = 200;            // 0: there is no response
  std::vector<std::pair<std::string, std::string>> headers, trailers;
  std::string body;
  std::string message;
  std::chrono::nanoseconds delay{0};

  static CallResponse of(std::string body, uint32_t http_status = 200) {
    CallResponse response;
    response.http_status = http_status;
    response.body = std::move(body);
    return response;
  }
  // The service was not reached, or what it said is of no use.
  static CallResponse failure(callout_status_t status, std::string message = "as the test says") {
    CallResponse response;
    response.status = status;
    response.http_status = 0;
    response.message = std::move(message);
    return response;
  }
};

// The upstreams of a process. Any thread.
class Upstreams {
 public:
  using Answers = std::function<CallResponse(const CallRequest& request)>;

  // Before the plugins that ask for it; again: it answers otherwise from now on.
  void add(const std::string& name, Answers answers) {
    std::lock_guard<std::mutex> lock(mutex_);
    upstreams_[name] = std::move(answers);
  }
  // As the configuration of an upstream, for all of them. Set it before they are used.
  std::chrono::nanoseconds timeout = std::chrono::seconds(1);

  // What the plugins have asked, in order.
  std::vector<CallRequest> requests() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return requests_;
  }

  bool has(std::string_view name) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return upstreams_.count(std::string(name)) > 0;
  }
  CallResponse ask(CallRequest request) {
    Answers answers;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      answers = upstreams_[request.upstream];
      requests_.push_back(request);
    }
    return answers(request);
  }

 private:
  mutable std::mutex mutex_;  // guards the following
  std::map<std::string, Answers> upstreams_;
  std::vector<CallRequest> requests_;
};

namespace internal {

// A call that ends later, as what a timer runs.
class FakeCall {
 public:
  FakeCall(const callout_outgoing_t& outgoing, CallResponse response)
      : done_(outgoing.done),
        release_(outgoing.release),
        data_(outgoing.data),
        response_(std::move(response)) {}

  static void run(void* data) { static_cast<FakeCall*>(data)->tell(); }
  static void release(void* data) {
    std::unique_ptr<FakeCall> self(static_cast<FakeCall*>(data));
    if (self->release_ != nullptr) self->release_(self->data_);
  }

 private:
  using Fields = std::vector<callout_header_field_t>;
  static Fields fields_of(const std::vector<std::pair<std::string, std::string>>& headers) {
    Fields fields;
    for (const auto& [name, value] : headers) {
      fields.push_back({to_bytes(std::string_view(name)), to_bytes(std::string_view(value))});
    }
    return fields;
  }
  void tell() {
    const Fields headers = fields_of(response_.headers), trailers = fields_of(response_.trailers);
    callout_incoming_t incoming = {};
    incoming.struct_size = sizeof(incoming);
    incoming.status = response_.status;
    incoming.http_status = response_.http_status;
    incoming.from_service = response_.http_status != 0 && response_.status != CALLOUT_OK ? 1 : 0;
    incoming.body = to_bytes(std::string_view(response_.body));
    incoming.headers = headers.data();
    incoming.header_count = headers.size();
    incoming.trailers = trailers.data();
    incoming.trailer_count = trailers.size();
    incoming.message = to_bytes(std::string_view(response_.message));
    incoming.elapsed_ns = static_cast<uint64_t>(response_.delay.count());
    incoming.attempts = 1;
    done_(data_, &incoming);
  }

  void (*done_)(void*, const callout_incoming_t*);
  void (*release_)(void*);
  void* data_;
  const CallResponse response_;
};

// Whether the host would send this header, by name in lower case.
inline bool may_go_out(const std::string& name, const std::string& value, bool grpc) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  if (!is_token(name)) return false;
  for (const char* own :
       {"connection", "content-length", "expect", "host", "http2-settings", "keep-alive",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}) {
    if (name == own) return false;
  }
  if (grpc && (name == "content-type" || name.compare(0, 5, "grpc-") == 0)) return false;
  if (!is_header_value(value)) return false;
  return value.empty() || (!is_space(value.front()) && !is_space(value.back()));
}

// "/package.Service/Method"
inline bool is_grpc_path(const std::string& path) {
  const size_t slash = path.find('/', 1);
  return slash != path.npos && slash > 1 && slash + 1 < path.size() &&
         path.find('/', slash + 1) == path.npos && path.find('?') == path.npos;
}

inline bool is_method(const std::string& method) {
  const auto is_lower = [](char c) { return c >= 'a' && c <= 'z'; };
  return is_token(method) && method != "CONNECT" &&
         method.size() <= CALLOUT_OUTGOING_METHOD_BYTES_MAX &&
         std::none_of(method.begin(), method.end(), is_lower);
}

// The request that a plugin has made; false: the host would refuse it.
inline bool read_request(const callout_outgoing_t& outgoing, CallRequest* request) {
  request->upstream.assign(to_view(outgoing.upstream));
  request->method.assign(to_view(outgoing.method));
  request->path.assign(to_view(outgoing.path));
  request->body.assign(to_view(outgoing.body));
  request->grpc = (outgoing.flags & CALLOUT_OUTGOING_GRPC) != 0;
  request->idempotent = (outgoing.flags & CALLOUT_OUTGOING_IDEMPOTENT) != 0;
  if (request->grpc && !request->method.empty()) return false;
  if (request->method.empty()) request->method = request->body.empty() ? "GET" : "POST";
  if (request->grpc) request->method = "POST";
  if (!is_method(request->method)) return false;
  const auto is_no_path = [](char c) { return c <= ' ' || c >= 0x7f || c == '#'; };
  const std::string& path = request->path;
  if (path.empty() || path[0] != '/' || path.size() > CALLOUT_OUTGOING_PATH_BYTES_MAX ||
      std::any_of(path.begin(), path.end(), is_no_path)) {
    return false;
  }
  if (request->grpc && !is_grpc_path(path)) return false;
  if (outgoing.header_count > CALLOUT_OUTGOING_HEADERS_MAX) return false;
  size_t header_bytes = 0;
  for (size_t i = 0; i < outgoing.header_count; ++i) {
    std::string name(to_view(outgoing.headers[i].name));
    std::string value(to_view(outgoing.headers[i].value));
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    if (!may_go_out(name, value, request->grpc)) return false;
    header_bytes += name.size() + value.size();
    request->headers.emplace_back(std::move(name), std::move(value));
  }
  return header_bytes <= CALLOUT_OUTGOING_HEADER_BYTES_MAX;
}

}  // namespace internal
}  // namespace callout::testing

#endif  // CALLOUT_TESTING_CALLS_HPP_
