// SPDX-License-Identifier: Apache-2.0

// What clients say of their trace.
#include <string>

#include "host/plugin/request_ids.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

FUZZ_TARGET(traceparent, .rounds = 20000, .bytes = 60) {
  const std::string text = choices.Rest();
  const TraceRef trace = ReadTraceparent(text);
  if (trace.id.empty()) return "";
  const bool is_id = trace.id.size() == 32 &&
                     trace.id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  return is_id ? "" : "a trace id that is none: " + text;
}

}  // namespace
}  // namespace callout::host
