// SPDX-License-Identifier: Apache-2.0

// Percent-encoding, as in URLs and forms.
//
//   std::optional<std::string> value = FormDecoded("a%2Fb+c");  // "a/b c"
//
// Plain functions; any thread.
//
// Tested by tests/host/base/percent_test.cc.
#ifndef CALLOUT_HOST_BASE_PERCENT_H_
#define CALLOUT_HOST_BASE_PERCENT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace callout::host {

// "%20" is a blank; none if a % has no two hexadecimal digits behind it.
std::optional<std::string> PercentDecoded(std::string_view text);

// The same, but what is no escape stays as it is, as lenient servers have it.
std::string LenientlyDecoded(std::string_view text);

// PercentDecoded for application/x-www-form-urlencoded, where "+" is a blank, too.
std::optional<std::string> FormDecoded(std::string_view text);

// A part of a form.
struct FormPair {
  std::string_view text;  // "tenant=a%2Fb", as it stands in the form
  bool has_equals = false;
  // Decoded; none where FormDecoded has none. Without "=", all is the key, and the value is "".
  std::optional<std::string> key, value;
};

// The parts of "tenant=a%2Fb&name=c", without empty ones. They have views of `form`.
std::vector<FormPair> FormPairs(std::string_view form);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_PERCENT_H_
