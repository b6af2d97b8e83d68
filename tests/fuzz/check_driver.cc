// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/check_driver.h"

#include "envoy/service/auth/v3/external_auth.pb.h"
#include "host/base/ascii.h"
#include "host/unary/check_guard.h"
#include "host/wire/check_effect.h"
#include "host/wire/check_request.h"
#include "host/wire/check_response.h"
#include "tests/fuzz/header_text.h"

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
    effect.AddMetadata(beside);
    if (response.field == CALLOUT_CHECK_DENIED) {
      out = effect.WriteDenied(answer, 7, "denied");
      break;
    }
    if (response.field == CALLOUT_CHECK_ERROR) {
      out = effect.WriteError(answer, "error");
      break;
    }
    if (effect.Allow(answer).has_value()) return "";
    const std::string next = WriteCheckRequest(*view, effect.headers());
    if (!ParseCheckRequest(next, SIZE_MAX).ok()) return "the next instance gets no request";
    out = effect.WriteAllowed();
  }
  CheckResponse told;
  if (!told.ParseFromString(out)) return "what goes out is no CheckResponse";
  return LookAt(told);
}

}  // namespace callout::host
