// SPDX-License-Identifier: Apache-2.0

// What plugins want to send and to tell, and what of it goes on: requests to other services, which
// a client's text in a header or a path must not turn into another one; attributes and events of
// spans, within their limits.
//
// Readers: host/upstream/request_rules.cc host/trace/span_notes.cc
#include <callout/calls.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "host/base/utf8.h"
#include "host/trace/span_notes.h"
#include "host/upstream/connection.h"
#include "host/upstream/grpc_message.h"
#include "host/upstream/request_rules.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

callout_bytes_t BytesOf(const std::string& text) { return {text.data(), text.size()}; }

size_t Count(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
  return count;
}

// What HTTP/1.1 makes of it is one request, with one line for each header.
std::string LookAtBytes(const UpstreamRequest& request) {
  static const UpstreamConfig* const config = [] {
    auto* made = new UpstreamConfig;
    made->authority = "service";
    return made;
  }();
  std::string sent;
  auto connection = MakeHttp1Connection(config, [&](const std::string& bytes) { sent += bytes; });
  connection->Send(request, 1, 1'000'000, [](const AttemptResult&) {});
  const size_t end = sent.find("\r\n\r\n");
  if (end == sent.npos || sent.substr(end + 4) != request.body) return "the body is another";
  const std::string_view head = std::string_view(sent).substr(0, end);
  if (head.find('\0') != head.npos) return "NUL in a request";
  const size_t own = 1 + (HasHeader(request, "user-agent") ? 0 : 1) +
                     (!request.body.empty() || ExpectsBody(request.method) ? 1 : 0);
  const size_t hosts =
      static_cast<size_t>(std::count_if(request.headers.begin(), request.headers.end(),
                                        [](const auto& header) { return header.first == "host"; }));
  if (Count(head, "\r\n") != own + request.headers.size() - hosts) return "a line too many";
  if (Count(head, "\n") != Count(head, "\r\n") || Count(head, "\r") != Count(head, "\r\n")) {
    return "half a line's end";
  }
  const std::string_view line = head.substr(0, head.find("\r\n"));
  return Count(line, " ") == 2 ? "" : "a request's line of more than three words";
}

std::string Send(Choices& choices) {
  const std::string method = choices.Next(2) == 0 ? "" : choices.Bytes(8);
  std::string path = choices.Bytes(40);
  if (choices.Next(4) != 0) path.insert(0, "/");
  std::vector<std::pair<std::string, std::string>> texts;
  for (unsigned i = choices.Next(4); i > 0; --i) {
    const char* const names[] = {"host", "content-length", "te", "x-a"};
    std::string name = choices.Next(2) == 0 ? names[choices.Next(4)] : choices.Bytes(6);
    texts.emplace_back(std::move(name), choices.Bytes(20));
  }
  // At times more than a request may have, or larger ones.
  if (!texts.empty() && choices.OneIn(16)) texts.resize(choices.Next(200), texts.front());
  if (!texts.empty() && choices.OneIn(16)) texts.back().second.assign(70'000, 'v');
  std::vector<callout_header_field_t> headers;
  for (const auto& [name, value] : texts) headers.push_back({BytesOf(name), BytesOf(value)});
  callout_outgoing_t outgoing = {};
  outgoing.struct_size = sizeof(outgoing);
  outgoing.flags = choices.Next(4);
  outgoing.method = BytesOf(method);
  outgoing.path = BytesOf(path);
  outgoing.headers = headers.data();
  outgoing.header_count = headers.size();
  const RequestRules rules = {.allow_host = choices.Next(2) == 0, .body_bytes_max = 8};
  const std::string body = choices.Bytes(16);
  outgoing.body = BytesOf(body);
  const absl::StatusOr<UpstreamRequest> request = TakeRequest(outgoing, rules);
  if (!request.ok()) {
    const std::string why(request.status().message());
    return why.empty() ? "a request is refused without a word" : "";
  }
  if (body.size() > rules.body_bytes_max) return "a body over its limit is sent";
  for (const auto& [name, value] : request->headers) {
    if (name == "host" && !rules.allow_host) return "host is sent, which is not allowed";
    if (name == "content-length" || name == "te") return "a header that frames the request";
  }
  if (request->grpc) {
    return request->body == FrameGrpcMessage(body) ? "" : "a gRPC message is framed another way";
  }
  return LookAtBytes(*request);
}

// As host/plugin/trace_service does, which takes UTF-8 only.
std::string Text(Choices& choices, size_t most) {
  std::string text = choices.Bytes(most);
  return IsUtf8(text) ? text : std::string(text.size(), 'u');
}

std::string Note(Choices& choices) {
  const SpanLimits limits = {.attributes_max = 3,
                             .events_max = 2,
                             .event_attributes_max = 2,
                             .text_bytes_max = 5,
                             .bytes_max = 1000};
  SpanBudget budget{limits.bytes_max};
  SpanNotes notes;
  size_t refused = 0;
  while (!choices.empty()) {
    if (choices.Next(2) == 0) {
      const bool is_text = choices.Next(2) == 0;
      SpanAttribute attribute{Text(choices, 4), int64_t{7}};
      if (is_text) attribute.value = Text(choices, 12);
      refused += notes.Set(std::move(attribute), limits, &budget) ? 0 : 1;
    } else {
      SpanEvent event;
      event.name = Text(choices, 12);
      for (unsigned i = choices.Next(4); i > 0; --i) {
        event.attributes.push_back({Text(choices, 3), Text(choices, 8)});
      }
      refused += notes.Add(std::move(event), limits, &budget) ? 0 : 1;
    }
    if (budget.left > limits.bytes_max) return "the budget of a trace grows without end";
  }
  if (notes.attributes().size() > limits.attributes_max) return "too many attributes";
  if (notes.events().size() > limits.events_max) return "too many events";
  if (notes.dropped_attributes() + notes.dropped_events() != refused)
    return "drops are not counted";
  for (const SpanAttribute& attribute : notes.attributes()) {
    const auto* const text = std::get_if<std::string>(&attribute.value);
    if (text != nullptr && (text->size() > limits.text_bytes_max || !IsUtf8(*text))) {
      return "a text that is too long, or cut within a character";
    }
  }
  for (const SpanEvent& event : notes.events()) {
    if (event.attributes.size() > limits.event_attributes_max) return "an event of many attributes";
  }
  return "";
}

FUZZ_TARGET(outgoing, .rounds = 20000, .bytes = 60) {
  return choices.Next(3) != 0 ? Send(choices) : Note(choices);
}

}  // namespace
}  // namespace callout::host
