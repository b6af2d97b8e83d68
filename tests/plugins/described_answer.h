// SPDX-License-Identifier: Apache-2.0

// An answer of the host in words, so that a table of them can be read:
//
//   DescribeAnswer(response) is e.g.
//   {"request_headers", "set header-request: request", "remove foo", "clear route cache"}
//
// Nothing is left out: what has no words of its own stands at the end in protobuf's
// text format. Plain functions.
#ifndef CALLOUT_TESTS_PLUGINS_DESCRIBED_ANSWER_H_
#define CALLOUT_TESTS_PLUGINS_DESCRIBED_ANSWER_H_

#include <string>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"

namespace callout::tests {

using Lines = std::vector<std::string>;

// The phase (or "immediate 301"), then one line for each
//   set NAME: VALUE      overwrite, or add
//   append NAME: VALUE   beside the values that are there
//   remove NAME
//   body "TEXT" | clear body
//   chunk "TEXT" | last chunk "TEXT"      in FULL_DUPLEX_STREAMED
//   details TEXT | grpc status N          of an immediate response
//   clear route cache
//   metadata JSON                         the dynamic metadata
Lines DescribeAnswer(const envoy::service::ext_proc::v3::ProcessingResponse& response);

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_PLUGINS_DESCRIBED_ANSWER_H_
