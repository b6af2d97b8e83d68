// SPDX-License-Identifier: Apache-2.0

// The messages of the benchmark: the requests of each scenario as Envoy would send them, and the
// check of a server's responses.
#ifndef CALLOUT_TESTS_BENCH_MESSAGES_H_
#define CALLOUT_TESTS_BENCH_MESSAGES_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace callout::bench {

struct Scenario {
  const char* path = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
  // ProcessingRequests in order.
  std::vector<std::string> requests;
  // So many responses must have come before each is sent; empty: each waits for the response to the
  // last.
  std::vector<size_t> awaited;
  size_t answers = 0;  // that end it, once all requests are sent
  // The first byte of each response, which names its phase; 0: any. Empty: all any.
  std::vector<char> answer_tags;
  // FULL_DUPLEX_STREAMED: bytes of a body that each response has to repeat; empty: none.
  std::vector<size_t> echoed;
  bool is_check = false;
  // The server may end the RPC with OK, or respond to the client itself, before all are sent.
  bool may_end_early = false;
};

// `name` is one of
//   headers  1 message: request headers (12 headers, about 570 bytes)
//   both     2 messages: request and response headers
//   check    a Check of ext_authz with the same request headers
//   bodies   6 messages: headers and two chunks of 16 KiB, both ways
// or, with `body_bytes` of a request's body, and its headers before them, one of
//   buffered  1 message (BUFFERED)
//   streamed  chunks of 64 KiB that wait for no responses, as Envoy sends them (STREAMED)
//   duplex    the same, which the responses repeat (FULL_DUPLEX_STREAMED)
// Empty for another name.
Scenario MakeScenario(std::string_view name, size_t body_bytes = 0);

// What is wrong with `answer`, the response to request number `index`; "": nothing. `header` is the
// header that the response to request headers must set; "": none.
std::string WrongWith(const Scenario& scenario, size_t index, std::string_view answer,
                      std::string_view header);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_MESSAGES_H_
