// SPDX-License-Identifier: Apache-2.0

// The wire form of ext_authz's CheckResponse: what a plugin has set as views, and what the
// host writes.
//
// What Envoy 1.40 reads of it is not what it says: the deprecated `append` and not
// append_action, `value` and not raw_value, and where both kinds of headers say nothing, a
// request's header is set and a response's is added. So every header is written in both
// forms, with both actions.
//
// Tested by tests/host/unary/check_codec_test.cc.
#ifndef CALLOUT_HOST_WIRE_CHECK_RESPONSE_H_
#define CALLOUT_HOST_WIRE_CHECK_RESPONSE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/wire/envelope.h"

namespace callout::host {

// HeaderValueOption.HeaderAppendAction.
enum class HeaderAction : uint8_t {
  kAppend = 0,  // or add
  kAddIfAbsent = 1,
  kSet = 2,
  kSetIfExists = 3,
};

// One HeaderValueOption. `append`, where it is present, says more than append_action.
struct CheckHeaderOption {
  std::string_view name;
  std::string_view value;  // raw_value or, where that is empty, value
  HeaderAction action = HeaderAction::kSet;
  bool says_action = false;  // `append` or append_action is there
};

// Any member of CheckResponse's oneof. What a member does not have is empty.
struct CheckResponseView {
  std::vector<CheckHeaderOption> headers;  // of the request or, denied, of the response
  std::vector<std::string_view> remove;
  std::vector<CheckHeaderOption> response_headers;
  std::vector<std::pair<std::string_view, std::string_view>> query_set;
  std::vector<std::string_view> query_remove;
  std::vector<std::string_view> metadata;  // of ok_response: Structs
  uint64_t http_status = 0;                // 0: unset
  std::string_view body;
};

// Whether `field` is a member of the oneof: CALLOUT_CHECK_OK, _DENIED or _ERROR.
bool IsCheckField(callout_field_t field);

// False if `payload` is not a well-formed message of the type that `field` has. Strings are
// left to the guard.
bool ReadCheckResponse(callout_field_t field, std::string_view payload, CheckResponseView* view);

// Takes a serialized CheckResponse apart, as SplitResponse does a ProcessingResponse. Beside
// the answer stand `status` (1) and dynamic_metadata (CALLOUT_CHECK_DYNAMIC_METADATA).
bool SplitCheckResponse(std::string_view bytes, Response* response, std::string* annotations);

// Whether the records beside an answer are what they should be.
bool CheckAnnotationsAreWellFormed(std::string_view records);
// The code of the status among them; 0 if there is none.
int32_t ReadCheckStatus(std::string_view records);

// Appends a HeaderValueOption in field `number`, in every form that some reader wants: value
// and raw_value, append_action and, where it can say as much, append.
void AppendCheckHeader(uint32_t number, std::string_view name, std::string_view value,
                       HeaderAction action, std::string* out);

// Every byte but letters, digits and "-._~" as %XX.
std::string PercentEncode(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_CHECK_RESPONSE_H_
