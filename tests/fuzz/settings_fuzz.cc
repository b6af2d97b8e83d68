// SPDX-License-Identifier: Apache-2.0

// What operators write as JSON or short texts: settings, policies, addresses.
//
// Readers: host/plugin/settings.cc host/net/address.cc host/base/json_text.cc
// Not counted: PeerText MappedIpv4 (ask the kernel for an address, and read no text)
#include <nlohmann/json.hpp>
#include <string>

#include "host/base/json_text.h"
#include "host/base/utf8.h"
#include "host/net/address.h"
#include "host/plugin/settings.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

bool IsPlainLine(const std::string& text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return true;
}

bool IsDenial(const ErrorPolicy& policy) {
  return policy.action != ErrorPolicy::Action::kDeny ||
         (policy.http_status >= 200 && policy.http_status <= 599);
}

std::string ReadSettings(const std::string& text) {
  const absl::StatusOr<InstanceSettings> settings = ParseInstanceSettings(text);
  if (!settings.ok()) {
    return IsPlainLine(std::string(settings.status().message()))
               ? ""
               : "an error is more than a line of text";
  }
  if (!nlohmann::json::accept(text)) return "what is no JSON is taken for settings";
  if (!IsDenial(settings->too_large) || !IsDenial(settings->policy.value_or(ErrorPolicy()))) {
    return "a denial has a status that denies nothing";
  }
  return settings->watch.size() <= kWatchedFilesMax ? "" : "more files are watched than allowed";
}

std::string ReadAddress(const std::string& text) {
  const absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) return "";
  if (address->unix_path().empty() == text.starts_with("unix:")) return "a socket without a path";
  if (address->port() != 0 && text.starts_with("unix:")) return "a path with a port";
  if (text.starts_with("127.") && !address->IsLoopback()) return "loopback is none";
  const absl::StatusOr<Address> again = ParseAddress(address->ToString());
  if (!again.ok()) return "an address cannot be read again: " + address->ToString();
  return again->ToString() == address->ToString() ? "" : "an address is another when read again";
}

FUZZ_TARGET(settings, .rounds = 20000, .bytes = 24) {
  const unsigned kind = choices.Next(4);
  const std::string text = choices.Rest();
  if (kind == 0) return ReadAddress(text);
  if (kind == 1) {
    const absl::StatusOr<ErrorPolicy> policy = ParseErrorPolicy(text);
    return !policy.ok() || IsDenial(*policy) ? "" : "a denial has a status that denies nothing";
  }
  if (kind == 2) {
    const absl::StatusOr<nlohmann::json> json = ParseJsonText(text);
    return !json.ok() || IsUtf8(json->dump()) ? "" : "JSON is read that is not UTF-8";
  }
  return ReadSettings(text);
}

}  // namespace
}  // namespace callout::host
