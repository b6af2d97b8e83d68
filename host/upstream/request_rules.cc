// SPDX-License-Identifier: Apache-2.0

#include "host/upstream/request_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/ascii.h"
#include "host/base/ascii.h"
#include "host/base/field_text.h"
#include "host/upstream/grpc_message.h"

namespace callout::host {
namespace {

using std::string_view;

// What belongs to the connection or to the framing, which are the host's.
constexpr std::array<string_view, 10> kOwn = {
    "connection",        "content-length",   "expect", "http2-settings",
    "keep-alive",        "proxy-connection", "te",     "trailer",
    "transfer-encoding", "upgrade"};
constexpr std::array<string_view, 6> kIdempotent = {"GET",   "HEAD", "OPTIONS",
                                                    "TRACE", "PUT",  "DELETE"};

string_view View(callout_bytes_t bytes) {
  return bytes.size == 0 ? string_view() : string_view(bytes.data, bytes.size);
}

absl::Status Invalid(const std::string& why) { return absl::InvalidArgumentError(why); }

bool IsPath(string_view path) {
  return !path.empty() && path.front() == '/' && path.size() <= CALLOUT_OUTGOING_PATH_BYTES_MAX &&
         std::all_of(path.begin(), path.end(),
                     [](char c) { return c > ' ' && c < 0x7f && c != '#'; });
}

// "/package.Service/Method"
bool IsGrpcPath(string_view path) {
  const size_t slash = path.find('/', 1);
  return slash != path.npos && slash > 1 && slash + 1 < path.size() &&
         path.find('/', slash + 1) == path.npos && path.find('?') == path.npos;
}

absl::Status TakeMethod(string_view given, bool has_body, UpstreamRequest* request) {
  if (request->grpc) {
    if (!given.empty()) return Invalid("a gRPC call has no method of its own");
    request->method = "POST";
    return absl::OkStatus();
  }
  request->method = given.empty() ? (has_body ? "POST" : "GET") : std::string(given);
  const bool is_upper = std::none_of(given.begin(), given.end(), [](char c) {
    return absl::ascii_islower(static_cast<unsigned char>(c));
  });
  if (!IsToken(request->method) || !is_upper || given == "CONNECT" ||
      given.size() > CALLOUT_OUTGOING_METHOD_BYTES_MAX) {
    return Invalid(
        "the method is not allowed: expected a token in upper case of up to 32 bytes, not CONNECT");
  }
  if (std::find(kIdempotent.begin(), kIdempotent.end(), request->method) != kIdempotent.end()) {
    request->idempotent = true;
  }
  return absl::OkStatus();
}

// Why the header must not go out; "": it may.
string_view Objection(string_view name, string_view value, bool grpc, const RequestRules& rules) {
  if (!IsToken(name)) return "its name is no token, or a pseudo header";
  if (!IsFieldValue(value)) {
    return "its value has a control character, or spaces around it";
  }
  if (name == "host" && !rules.allow_host) {
    return "the operator does not allow it; the option is \"allow_host_header\" of the upstream";
  }
  if (std::find(kOwn.begin(), kOwn.end(), name) != kOwn.end()) return "the host sets it, or nobody";
  if (grpc && (name == "content-type" || name.starts_with("grpc-"))) {
    return "the host sets it for gRPC";
  }
  return {};
}

absl::Status TakeHeaders(const callout_outgoing_t& outgoing, const RequestRules& rules,
                         UpstreamRequest* request) {
  if (outgoing.header_count > CALLOUT_OUTGOING_HEADERS_MAX) {
    return Invalid(fmt::format("{} headers, the limit is {}", outgoing.header_count,
                               CALLOUT_OUTGOING_HEADERS_MAX));
  }
  size_t bytes = 0;
  request->headers.reserve(outgoing.header_count);
  for (size_t i = 0; i < outgoing.header_count; ++i) {
    std::string name = ToLowerAscii(View(outgoing.headers[i].name));
    const string_view value = View(outgoing.headers[i].value);
    const string_view objection = Objection(name, value, request->grpc, rules);
    if (!objection.empty()) {
      return Invalid(fmt::format("header {} ({}): {}", i + 1, name.substr(0, 64), objection));
    }
    bytes += name.size() + value.size();
    request->headers.emplace_back(std::move(name), value);
  }
  if (bytes > CALLOUT_OUTGOING_HEADER_BYTES_MAX) {
    return Invalid(fmt::format("headers of {} bytes, the limit is {}", bytes,
                               CALLOUT_OUTGOING_HEADER_BYTES_MAX));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsFieldValue(string_view value) {
  if (value.empty()) return true;
  const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
  return !is_space(value.front()) && !is_space(value.back()) && IsFieldText(value);
}

absl::StatusOr<UpstreamRequest> TakeRequest(const callout_outgoing_t& outgoing,
                                            const RequestRules& rules) {
  UpstreamRequest request;
  request.grpc = (outgoing.flags & CALLOUT_OUTGOING_GRPC) != 0;
  request.idempotent = (outgoing.flags & CALLOUT_OUTGOING_IDEMPOTENT) != 0;
  const string_view body = View(outgoing.body);
  if (absl::Status status = TakeMethod(View(outgoing.method), !body.empty(), &request);
      !status.ok()) {
    return status;
  }
  request.path = View(outgoing.path);
  if (!IsPath(request.path)) {
    return Invalid(
        fmt::format("the path is not allowed: expected visible ASCII of up to {} bytes that begins "
                    "with '/', without '#'",
                    CALLOUT_OUTGOING_PATH_BYTES_MAX));
  }
  if (request.grpc && !IsGrpcPath(request.path)) {
    return Invalid("the path of a gRPC call has the form /package.Service/Method");
  }
  if (absl::Status status = TakeHeaders(outgoing, rules, &request); !status.ok()) return status;
  if (body.size() > rules.body_bytes_max) {
    return absl::ResourceExhaustedError(
        fmt::format("a body of {} bytes is over \"max_request_bytes\": {} of the upstream",
                    body.size(), rules.body_bytes_max));
  }
  request.body = request.grpc ? FrameGrpcMessage(body) : std::string(body);
  request.timeout_ns = outgoing.timeout_ns;
  return request;
}

}  // namespace callout::host
