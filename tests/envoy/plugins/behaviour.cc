// SPDX-License-Identifier: Apache-2.0

// Does what the request header x-do says, so that a real Envoy shows what becomes
// of it. The table of deeds is in ../behaviour_test.cc.
#include <callout/plugin.hpp>
#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

namespace {

// Passes bytes on as they are, whatever they are.
void RespondRaw(const callout::Call& call, callout_field_t field, std::string_view bytes) {
  const callout_bytes_t part = callout::to_bytes(bytes);
  call.raw()->host->respond(call.raw(), field, &part, 1);
}

std::string Bytes(uint32_t number, std::string_view payload) {
  std::string head(16, '\0');
  char* end = callout_put_head(head.data(), number, payload.size());
  head.resize(static_cast<size_t>(end - head.data()));
  return head.append(payload);
}

// HeadersResponse.response.header_mutation.set_headers.header {key, raw_value}.
std::string RawHeader(std::string_view key, std::string_view value) {
  return Bytes(1, Bytes(2, Bytes(1, Bytes(1, Bytes(1, key) + Bytes(3, value)))));
}

// "r:name", "s:name=value" (set) or "a:name=value" (append), each after a ";".
void Mutate(const callout::Call& call, std::string_view script) {
  while (!script.empty()) {
    const size_t end = script.find(';');
    const std::string_view step = script.substr(0, end);
    script = end == std::string_view::npos ? std::string_view() : script.substr(end + 1);
    if (step.size() < 3) continue;
    const std::string_view text = step.substr(2);
    const size_t equals = text.find('=');
    if (step[0] == 'r') {
      call.remove_header(text);
    } else if (step[0] == 's') {
      call.set_header(text.substr(0, equals), text.substr(equals + 1));
    } else {
      call.append_header(text.substr(0, equals), text.substr(equals + 1));
    }
  }
}

class Behaviour {
 public:
  struct Stream {
    std::string deed;
    int bodies = 0;
  };

  void on_request_headers(callout::HeadersCall& call, Stream& stream) {
    stream.deed = std::string(call.headers().get("x-do").value_or(""));
    const std::string_view deed = stream.deed;
    if (deed == "wrong_type") return RespondRaw(call, CALLOUT_RESPONSE_HEADERS_RESPONSE, "");
    if (deed == "malformed") return RespondRaw(call, CALLOUT_REQUEST_HEADERS_RESPONSE, "\xff\xff");
    if (deed == "second_answer") {
      const callout_bytes_t part = {nullptr, 0};
      call.raw()->host->send(call.raw(), CALLOUT_REQUEST_HEADERS_RESPONSE, &part, 1);
      call.set_header("x-second", "1");
      return;
    }
    if (deed == "line_break") {
      return RespondRaw(call, CALLOUT_REQUEST_HEADERS_RESPONSE, RawHeader("x-bad", "a\r\nb: c"));
    }
    if (deed == "blank_name") {
      return RespondRaw(call, CALLOUT_REQUEST_HEADERS_RESPONSE, RawHeader("x bad", "a"));
    }
    if (deed == "not_utf8") {
      return RespondRaw(call, CALLOUT_REQUEST_HEADERS_RESPONSE,
                        Bytes(1, Bytes(2, Bytes(1, Bytes(1, Bytes(2, "\xff"))))));
    }
    if (deed == "150_headers") {
      for (int i = 0; i < 150; ++i) call.set_header("x-" + std::to_string(i), "v");
      return;
    }
    if (deed == "70_kilobytes") return call.set_header("x-large", std::string(70000, 'v'));
    if (deed == "error") return call.fail("as told", CALLOUT_UNAVAILABLE);
    if (deed == "throw") throw std::runtime_error("as told");
    if (deed == "deny") return call.deny(403, "denied");
    if (deed == "deny_callout") return call.deny_callout();
    if (deed == "streamed_reply") {
      call.stream_reply({{":status", "201"}, {"x-reply", "streamed"}}).send("part1,").end("part2");
      return;
    }
    if (deed == "replace") {
      call.set_header(":method", "POST");
      call.replace_body("from the plugin");
      return;
    }
    if (deed == "never") {
      // Held for ever: the host has to answer.
      new callout::Deferred<callout::HeadersCall>(call.defer());
      return;
    }
    if (deed == "later") {
      std::thread([held = call.defer()]() mutable {
        std::this_thread::sleep_for(std::chrono::milliseconds(600));
        held.finish_with([](auto& late) { late.set_header("x-late", "1"); });
      }).detach();
      return;
    }
    if (deed == "attributes") {
      call.set_header("x-path", call.attribute("request.path").text());
      return;
    }
    if (deed == "override_mode") {
      callout_mode_override_t modes = callout_keep_modes();
      modes.response_body = CALLOUT_BODY_BUFFERED;
      callout_override_mode(call.raw(), &modes);
      return;
    }
    if (deed == "mutate") return Mutate(call, call.headers().get("x-mutation", ""));
    if (deed == "metadata") {
      callout::StructWriter metadata;
      for (const char* space : {"my.ns", "other.ns"}) {
        metadata.open(space).set("key", "value").close();
      }
      call.set_metadata(metadata);
      return;
    }
    if (deed == "append") {
      call.append_header("x-list", "more");
      return;
    }
  }

  void on_request_body(callout::BodyCall& call, Stream& stream) {
    ++stream.bodies;
    if (stream.deed == "fail_within" && stream.bodies == 1) return call.clear_body();
    if (stream.deed == "fail_within") return call.fail("as told");
    if (stream.deed == "never_body") {
      new callout::Deferred<callout::BodyCall>(call.defer());
      return;
    }
    if (stream.deed == "whole" && call.is_whole()) {
      return call.set_body("[" + std::string(call.body()) + "]");
    }
    if (stream.deed == "deny_body") call.deny(413, "too much");
  }

  void on_response_headers(callout::HeadersCall& call, Stream& stream) {
    if (stream.deed == "deny_response") return call.deny(418, "teapot");
    call.set_header("x-seen", stream.deed);
    if (stream.deed == "metadata") {
      call.set_header("x-mine", call.metadata("my.ns", "key").text("none"));
      call.set_header("x-other", call.metadata("other.ns", "key").text("none"));
    }
  }

  void on_response_body(callout::BodyCall& call, Stream& stream) {
    if (stream.deed == "override_mode") call.set_body("buffered by the plugin");
  }
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_CLASS(Behaviour, request_headers, request_body, response_headers, response_body);
