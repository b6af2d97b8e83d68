// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/check_driver.h"

#include <algorithm>

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/base/ascii.h"
#include "host/unary/check_guard.h"
#include "host/wire/check_effect.h"
#include "host/wire/check_request.h"
#include "host/wire/check_response.h"
#include "host/wire/envelope.h"
#include "tests/fuzz/header_text.h"
#include "tests/fuzz/proto_oracle.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::host {
namespace {

using envoy::service::auth::v3::CheckRequest;
using envoy::service::auth::v3::CheckResponse;

template <class Options>
std::string LookAtHeaders(const Options& options, bool of_request) {
  for (const auto& option : options) {
    const std::string& name = option.header().key();
    for (const std::string* text : {&name, &option.header().value()}) {
      if (HasForbiddenByte(*text)) {
        return "CR, LF or NUL in " + name;
      }
    }
    if (name.empty()) return "a header without a name";
    if (EqualsIgnoreCase(name, "content-length")) return "content-length";
    if (name[0] == ':' && !of_request) return name + " in a response";
    if (option.header().value() != option.header().raw_value()) return "two values of " + name;
  }
  return "";
}

std::string LookAt(const CheckResponse& response) {
  const bool allows = response.status().code() == 0;
  if (allows != response.has_ok_response()) return "the code is not that of the answer";
  const auto& ok = response.ok_response();
  if (std::string found = LookAtHeaders(ok.headers(), true); !found.empty()) return found;
  for (const auto& option : ok.response_headers_to_add()) {
    if (option.has_append() && option.append().value() != (option.append_action() == 0)) {
      return "two actions";
    }
  }
  if (std::string found = LookAtHeaders(ok.response_headers_to_add(), false); !found.empty()) {
    return found;
  }
  for (const auto& parameter : ok.query_parameters_to_set()) {
    if ((parameter.key() + parameter.value()).find_first_of(" &=#\r\n") != std::string::npos) {
      return "a query parameter that is not encoded";
    }
  }
  if (allows) return "";
  const auto& denied =
      response.has_denied_response() ? response.denied_response() : response.error_response();
  if (denied.status().code() < 200 || denied.status().code() > 599) return "the HTTP status";
  return LookAtHeaders(denied.headers(), false);
}

std::string LookAtStatus(const std::string& beside) {
  CheckResponse told;
  if (!ParsesAs(beside, &told)) return "";
  return told.status().code() == ReadCheckStatus(beside) ? "" : "the status beside an answer";
}

// What the hooks of a plugin for ext_proc are shown of the request.
std::string LookAtTranslation(const CheckRequestView& view, const CheckHeaders& headers) {
  envoy::service::ext_proc::v3::HttpHeaders shown;
  const std::string message = WriteHttpHeaders(headers, true);
  if (!ParsesAs(message, &shown)) return "";  // a name that is not UTF-8
  if (static_cast<size_t>(shown.headers().headers_size()) != headers.size())
    return "a header is lost";
  for (size_t i = 0; i < headers.size(); ++i) {
    const auto& header = shown.headers().headers(static_cast<int>(i));
    if (header.key() != headers[i].name || header.raw_value() != headers[i].value) {
      return "a header that is shown is another";
    }
  }
  const std::string attributes = WriteCheckAttributes(view);
  const std::string bytes = WriteProcessingRequest(view, message, attributes);
  const auto request = ParseRequest(bytes, SIZE_MAX);
  if (!request.ok() || request->message != message)
    return "what is shown is no request of ext_proc";
  envoy::service::ext_proc::v3::ProcessingRequest whole;
  const bool parses = ParsesAs(attributes, &whole);
  return !parses || whole.attributes_size() <= 1 ? "" : "there are several maps of attributes";
}

// The limits that Envoy would hold the next request to.
std::string LookAtLimits(const CheckRequestView& view, const CheckHeaders& before,
                         const CheckHeaders& after, const CheckResponseView& ok) {
  constexpr size_t kCountMax = 6, kBytesMax = 60;
  const Finding found = CheckRequestLimits(view, after, kCountMax, kBytesMax);
  if (FitsWithAll(before, ok, kCountMax, kBytesMax) && !found.ok()) return "what fits is too large";
  const bool may_be_over = after.size() > kCountMax ||
                           std::any_of(after.begin(), after.end(),
                                       [](const auto& header) { return !header.value.empty(); });
  return found.ok() || may_be_over ? "" : "what has nothing is too large";
}

// With this method Envoy would wait for no body, or for one that does not come.
std::string LookAtMethod(const CheckRequestView& view, const CheckResponseView& ok) {
  const bool legal = CheckMethod(ok.headers, view).ok();
  const bool sets = std::any_of(ok.headers.begin(), ok.headers.end(), [](const auto& option) {
    return option.name == ":method" && (option.value == "HEAD" || option.value == "CONNECT");
  });
  if (!sets && !legal) return "a method is refused that nobody sets";
  (void)CheckAddedHeaders(ok.response_headers, "response headers");
  return "";
}

}  // namespace

std::string RunCheck(std::string_view request, std::string_view said) {
  const absl::StatusOr<CheckRequestView> view = ParseCheckRequest(request, 100);
  if (!view.ok()) return "";
  CheckEffect effect(&*view);
  std::string out;
  // Twice, as two instances that say the same.
  for (int i = 0; i < 2; ++i) {
    Response response;
    std::string beside;
    if (!SplitCheckResponse(said, &response, &beside) || !CheckAnnotationsAreWellFormed(beside)) {
      return "";
    }
    CheckResponseView answer;
    if (response.field == 0) return "";
    if (!ReadCheckResponse(response.field, response.payload(), &answer)) return "";
    if (!CheckCheckResponse(response.field, answer).ok()) return "";
    if (std::string found = LookAtStatus(beside); !found.empty()) return found;
    effect.AddMetadata(beside);
    if (response.field == CALLOUT_CHECK_DENIED) {
      out = effect.WriteDenied(answer, 7, "denied");
      break;
    }
    if (response.field == CALLOUT_CHECK_ERROR) {
      out = effect.WriteError(answer, "error");
      break;
    }
    if (std::string found = LookAtMethod(*view, answer); !found.empty()) return found;
    const CheckHeaders before = effect.headers();
    if (effect.Allow(answer).has_value()) return "";
    if (std::string found = LookAtLimits(*view, before, effect.headers(), answer); !found.empty()) {
      return found;
    }
    if (std::string found = LookAtTranslation(*view, effect.headers()); !found.empty())
      return found;
    const std::string next = WriteCheckRequest(*view, effect.headers());
    if (!ParseCheckRequest(next, SIZE_MAX).ok()) return "the next instance gets no request";
    out = effect.WriteAllowed();
  }
  CheckResponse told;
  if (!told.ParseFromString(out)) return "what goes out is no CheckResponse";
  return LookAt(told);
}

}  // namespace callout::host
