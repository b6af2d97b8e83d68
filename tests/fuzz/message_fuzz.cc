// SPDX-License-Identifier: Apache-2.0

// libFuzzer's entry: the readers of what comes from outside, which must not read
// outside of it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "host/stream/guard.h"
#include "host/wire/annotations.h"
#include "host/wire/envelope.h"
#include "host/wire/mutation.h"
#include "host/wire/response.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace callout::host;
  if (size == 0) return 0;
  // A copy of its own, so that AddressSanitizer sees every byte beyond.
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const uint32_t field = data[0] % 12;
  (void)ParseRequest(bytes);
  ResponseView view;
  if (ReadResponse(field, bytes, &view) && !view.headers.empty()) {
    (void)ApplyHeaderMutation(bytes, view.headers);
    (void)CheckHeaderLimits(bytes, view.headers, 100, 61440);
    MergedHeaders merged;
    merged.Add(view.headers);
    merged.AddUnder(view.headers, merged);
    (void)merged.Write();
  }
  (void)ReadAnnotations(bytes);
  (void)ReadTimeoutMs(bytes);
  std::string merged;
  (void)MergeStructs(bytes, bytes, &merged);
  Response answer;
  std::string annotations;
  (void)SplitResponse(bytes, &answer, &annotations);
  return 0;
}
