// SPDX-License-Identifier: Apache-2.0

// What the C++ servers of the benchmark answer, made once: to request headers what
// plugins/minimal_c does, a header set; to everything else "go on".
#ifndef CALLOUT_TESTS_BENCH_ANSWERS_H_
#define CALLOUT_TESTS_BENCH_ANSWERS_H_

#include <string_view>

namespace callout::bench {

// The ProcessingResponse to the ProcessingRequest `request`, which begins with its
// phase's field, as Envoy writes it. Empty if it does not.
std::string_view AnswerTo(std::string_view request);

// Reads each header of `request` once, as a plugin does that looks for one which
// is not there. The number of headers; 0 if it is no message of headers.
int ScanHeaders(std::string_view request);

}  // namespace callout::bench

#endif  // CALLOUT_TESTS_BENCH_ANSWERS_H_
