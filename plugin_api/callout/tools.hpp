// SPDX-License-Identifier: Apache-2.0

// callout/tools.hpp - the tools of the callout samples by their names, in C++. Include
// <callout/plugin.hpp>. Each works on the call's answer as the members of callout/call.hpp
// do, together with what else is set on it; errors are those of callout/tools.h, and end
// the call once its hook is over.
#ifndef CALLOUT_TOOLS_HPP_
#define CALLOUT_TOOLS_HPP_

#include <callout/call.hpp>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace callout {

// Sets and removes headers, or trailers in a trailers phase; a name in both lists is set.
//     callout::add_header_mutation(call, {{"x-a", "1"}}, {"foo"}, true);
inline void add_header_mutation(
    const Call& call, std::initializer_list<Header> add,
    std::initializer_list<std::string_view> remove = {}, bool clear_route_cache = false,
    AppendAction append_action = AppendAction::kOverwriteIfExistsOrAdd) {
  for (std::string_view key : remove) call.remove_header(key);
  for (const Header& header : add) call.set_header(header.key, header.value, append_action);
  if (clear_route_cache && call.state()->may_go_on("clear_route_cache")) {
    callout_answer_clear_route_cache(&call.state()->answer);
  }
}

// Replaces the body; an empty one is a real, empty body.
inline void add_body_mutation(const BodyCall& call, std::string_view body,
                              bool clear_route_cache = false) {
  call.set_body(body);
  if (clear_route_cache) call.clear_route_cache();
}
// Removes it.
struct ClearBody {};
inline void add_body_mutation(const BodyCall& call, ClearBody, bool clear_route_cache = false) {
  call.clear_body();
  if (clear_route_cache) call.clear_route_cache();
}

inline bool headers_contain(const Headers& headers, std::string_view key) {
  return headers.contains(key);
}
inline bool headers_contain(const Headers& headers, std::string_view key, std::string_view value) {
  return headers.contains(key, value);
}

// Byte for byte, no matter what the bytes are.
inline bool body_contains(std::string_view body, std::string_view needle) {
  return callout_bytes_contain(to_bytes(body), to_bytes(needle)) != 0;
}
inline bool body_contains(const BodyCall& call, std::string_view needle) {
  return body_contains(call.body(), needle);
}

// Prefer deny: see callout_deny_callout.
inline void deny_callout(const Call& call, std::string_view text = "Callout DENIED.") {
  call.deny_callout(text);
}
inline void deny(const Call& call, uint32_t http_status = 403, std::string_view body = {}) {
  call.deny(http_status, body);
}

inline Reply header_immediate_response(const Call& call, uint32_t http_status,
                                       std::initializer_list<Header> set = {},
                                       std::initializer_list<std::string_view> remove = {}) {
  const Reply reply = call.reply(http_status);
  for (std::string_view key : remove) reply.remove_header(key);
  for (const Header& header : set) reply.set_header(header.key, header.value);
  return reply;  // .body(), .details(), .grpc_status()
}

// The serialized Struct; nothing if `ip` is no address or `port` not 1 to 65535. To send
// it at once: call.forward_to(ip, port).
inline std::optional<std::string> build_dynamic_forwarding_metadata(std::string_view ip,
                                                                    uint32_t port) {
  StructWriter metadata;
  const callout_status_t status =
      callout_build_dynamic_forwarding_metadata(metadata.raw(), to_bytes(ip), port);
  if (status != CALLOUT_OK) return std::nullopt;
  return std::string(metadata.message());
}

}  // namespace callout

#endif  // CALLOUT_TOOLS_HPP_
