// SPDX-License-Identifier: Apache-2.0

// What a benchmark's calls say: the requests of each scenario as Envoy would send
// them, and the check that a server has answered them as it should.
#ifndef CALLOUT_TESTS_BENCH_MESSAGES_H_
#define CALLOUT_TESTS_BENCH_MESSAGES_H_

#include <string>
#include <string_view>
#include <vector>

namespace callout::bench {

struct Scenario {
  // ProcessingRequests in order; each wants one answer before the next is sent.
  std::vector<std::string> requests;
  // The first byte of the answer to each, which names its phase.
  std::vector<char> answer_tags;
};

// `name` is one of
//   headers  1 message: request headers (12 headers, about 570 bytes)
//   both     2 messages: request and response headers
//   bodies   6 messages: headers and two chunks of 16 KiB, both ways
// Empty if it is none of these.
Scenario MakeScenario(std::string_view name);

// What is wrong with `answer` to the request number `index`; empty if nothing is.
// `header` is to be set by the answer to request headers; "" if by none.
std::string WrongWith(const Scenario& scenario, size_t index, std::string_view answer,
                      std::string_view header);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_MESSAGES_H_
