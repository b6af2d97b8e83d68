// SPDX-License-Identifier: Apache-2.0

// The constant responses of the benchmark's C++ servers: one header set in request headers, like
// plugins/minimal_c, and "continue" otherwise. A Check is allowed, with that header.
#ifndef CALLOUT_TESTS_BENCH_ANSWERS_H_
#define CALLOUT_TESTS_BENCH_ANSWERS_H_

#include <string_view>

namespace callout::bench {

// The ProcessingResponse to the ProcessingRequest `request`, which begins with its
// phase's field, as Envoy writes it; or the CheckResponse to a CheckRequest. Empty if it is
// neither.
std::string_view AnswerTo(std::string_view request);

// Reads each header of `request` once, like a plugin that looks for an absent header. Returns their
// number; 0 if it is not a message of headers.
int ScanHeaders(std::string_view request);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_ANSWERS_H_
