// SPDX-License-Identifier: Apache-2.0

#include "host/unary/check_guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "host/base/ascii.h"
#include "host/base/log.h"
#include "host/base/utf8.h"
#include "host/stream/guard.h"

namespace callout::host {

namespace {

constexpr uint64_t kStatusMin = 200;
constexpr uint64_t kStatusMax = 599;

Finding Illegal(std::string what) { return {Violation::kIllegalHeader, std::move(what)}; }

std::string Shown(std::string_view name) {
  constexpr size_t kShownMax = 64;
  return EscapeControls(name.substr(0, kShownMax));
}

// Headers that say where a message ends: Envoy writes them itself.
bool FramesMessage(std::string_view name) {
  return EqualsIgnoreCase(name, "content-length") || EqualsIgnoreCase(name, "transfer-encoding");
}

bool IsPseudoOfRequests(std::string_view name) {
  static constexpr std::array<std::string_view, 4> kNames = {":authority", ":method", ":path",
                                                             ":scheme"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// They go into the request line: a blank would end them there.
Finding CheckPseudoValue(const CheckHeaderOption& option) {
  const bool legal =
      !option.value.empty() && std::all_of(option.value.begin(), option.value.end(),
                                           [](char c) { return c > ' ' && c < '\x7f'; });
  if (legal && option.action != HeaderAction::kAppend) return {};
  return Illegal(legal ? fmt::format("a value appended to '{}', which has one", option.name)
                       : fmt::format("the value of '{}' is empty or has a byte other than 0x21 to "
                                     "0x7e",
                                     option.name));
}

Finding CheckHeaderList(const std::vector<CheckHeaderOption>& headers, bool of_request,
                        std::string_view list) {
  if (headers.empty()) return {};
  if (headers.size() > kHeaderMutationEntriesMax) {
    return Illegal(fmt::format("{} entries in {}, the limit is {}", headers.size(), list,
                               kHeaderMutationEntriesMax));
  }
  HeaderMutationView mutation;
  mutation.set.reserve(headers.size());
  for (const CheckHeaderOption& option : headers) {
    mutation.set.push_back({option.name, option.value});
  }
  if (Finding found = CheckMutation(mutation); !found.ok()) return found;
  for (const CheckHeaderOption& option : headers) {
    if (FramesMessage(option.name)) {
      return Illegal(fmt::format("'{}' in {}, which Envoy sets itself", Shown(option.name), list));
    }
    if (of_request && IsUpgrade(option.name)) {
      return Illegal(
          fmt::format("'{}' in {}: Envoy would take the response for one of another protocol",
                      Shown(option.name), list));
    }
    const bool is_pseudo = option.name.front() == ':';
    if (is_pseudo && (!of_request || !IsPseudoOfRequests(option.name))) {
      return Illegal(fmt::format("'{}' in {}", Shown(option.name), list));
    }
    // Envoy keeps a request's "host" as ":authority".
    if (is_pseudo || (of_request && EqualsIgnoreCase(option.name, "host"))) {
      if (Finding found = CheckPseudoValue(option); !found.ok()) return found;
    }
    if (!IsUtf8(option.value)) {
      return Illegal(
          fmt::format("the value of '{}' is not UTF-8, which a CheckResponse cannot "
                      "carry",
                      Shown(option.name)));
    }
  }
  return {};
}

Finding CheckNames(const std::vector<std::string_view>& names, std::string_view list) {
  if (names.empty()) return {};
  HeaderMutationView mutation;
  for (std::string_view name : names) mutation.remove.push_back(name);
  if (names.size() > kHeaderMutationEntriesMax) {
    return Illegal(fmt::format("{} entries in {}, the limit is {}", names.size(), list,
                               kHeaderMutationEntriesMax));
  }
  return CheckMutation(mutation);
}

Finding CheckQuery(const CheckResponseView& view) {
  const size_t count = view.query_set.size() + view.query_remove.size();
  if (count > kHeaderMutationEntriesMax) {
    return Illegal(
        fmt::format("{} query parameters, the limit is {}", count, kHeaderMutationEntriesMax));
  }
  const bool unnamed = std::any_of(view.query_set.begin(), view.query_set.end(),
                                   [](const auto& parameter) { return parameter.first.empty(); }) ||
                       std::any_of(view.query_remove.begin(), view.query_remove.end(),
                                   [](std::string_view key) { return key.empty(); });
  return unnamed ? Illegal("a query parameter without a name") : Finding{};
}

Finding CheckOk(const CheckResponseView& view) {
  if (Finding found = CheckHeaderList(view.headers, true, "headers"); !found.ok()) return found;
  if (Finding found = CheckNames(view.remove, "headers_to_remove"); !found.ok()) return found;
  Finding found = CheckHeaderList(view.response_headers, false, "response_headers_to_add");
  return found.ok() ? CheckQuery(view) : found;
}

Finding CheckDenied(const CheckResponseView& view) {
  if (view.http_status != 0 && (view.http_status < kStatusMin || view.http_status > kStatusMax)) {
    return Illegal(
        fmt::format("HTTP status {}, expected {} to {}", view.http_status, kStatusMin, kStatusMax));
  }
  if (!IsUtf8(view.body)) {
    return {Violation::kMalformed, "a body that is not UTF-8, which a CheckResponse cannot carry"};
  }
  return CheckHeaderList(view.headers, false, "the denial's headers");
}

constexpr int kHeaderFieldsTooLarge = 431;

}  // namespace

bool IsUpgrade(std::string_view name) { return EqualsIgnoreCase(name, "upgrade"); }

Finding CheckCheckResponse(callout_field_t field, const CheckResponseView& view) {
  return field == CALLOUT_CHECK_OK ? CheckOk(view) : CheckDenied(view);
}

Finding CheckMethod(const std::vector<CheckHeaderOption>& headers,
                    const CheckRequestView& request) {
  constexpr std::string_view kMethod = ":method";
  for (const CheckHeaderOption& option : headers) {
    if (option.name != kMethod || (option.value != "HEAD" && option.value != "CONNECT")) continue;
    const bool is_the_clients = std::any_of(
        request.headers.begin(), request.headers.end(),
        [&](const auto& header) { return header.name == kMethod && header.value == option.value; });
    if (is_the_clients) continue;
    return Illegal(
        fmt::format("the method {} for a request of another one: the client would wait for "
                    "a body that does not come",
                    option.value));
  }
  return {};
}

Finding CheckAddedHeaders(const std::vector<CheckHeaderOption>& headers, std::string_view list) {
  return CheckHeaderList(headers, false, list);
}

bool FitsWithAll(const CheckHeaders& headers, const CheckResponseView& ok, size_t header_count_max,
                 size_t header_bytes_max) {
  constexpr size_t kGrowthMax =
      12;  // by ", " between two values, or ":authority" in place of "host"
  if (!ok.query_set.empty() || !ok.query_remove.empty()) return false;
  if (headers.size() + ok.headers.size() > header_count_max) return false;
  size_t bytes = 0;
  for (const CheckHeader& header : headers) bytes += header.name.size() + header.value.size();
  for (const CheckHeaderOption& option : ok.headers) {
    bytes += option.name.size() + option.value.size() + kGrowthMax;
  }
  return bytes <= header_bytes_max;
}

Finding CheckPath(std::string_view path, size_t header_bytes_max) {
  if (path.size() <= header_bytes_max) return {};
  return {Violation::kIllegalHeader,
          fmt::format("a change of the query of a path of {} bytes, limit --max_header_bytes={}",
                      path.size(), header_bytes_max),
          kHeaderFieldsTooLarge, true, true};
}

Finding CheckRequestLimits(const CheckRequestView& before, const CheckHeaders& after,
                           size_t header_count_max, size_t header_bytes_max) {
  size_t bytes_before = 0;
  for (const auto& header : before.headers)
    bytes_before += header.name.size() + header.value.size();
  size_t bytes = 0;
  for (const CheckHeader& header : after) bytes += header.name.size() + header.value.size();
  if (after.size() > header_count_max && before.headers.size() <= header_count_max) {
    return {Violation::kIllegalHeader,
            fmt::format("{} headers, limit --max_header_count={}", after.size(), header_count_max),
            kHeaderFieldsTooLarge, true,
            IsMostlyOfMessage(before.headers.size(), header_count_max)};
  }
  if (bytes > header_bytes_max && bytes_before <= header_bytes_max) {
    return {
        Violation::kIllegalHeader,
        fmt::format("{} bytes of headers, limit --max_header_bytes={}", bytes, header_bytes_max),
        kHeaderFieldsTooLarge, true, IsMostlyOfMessage(bytes_before, header_bytes_max)};
  }
  return {};
}

}  // namespace callout::host
