// SPDX-License-Identifier: Apache-2.0

// Which values people are not to see: those of headers that carry credentials by their names, and
// queries of URLs. The log, explanations and recordings leave out the same ones.
//
//   const Redaction redaction;                                  // the defaults
//   redaction.Shown("authorization", "Bearer x");               // "[redacted]"
//   redaction.Shown(":path", "/a?token=x");                     // "/a?[redacted]"
//
// A pattern is a name in lower case; "*" at its beginning or end matches anything, and "?query" is
// the part after the question mark in :path, referer, location and other headers with URLs. The
// header that marks an exchange to be explained has a key as its value and is never shown, whatever
// the patterns.
//
// Plain values; any thread may read one.
//
// Tested by tests/host/base/redaction_test.cc.
#ifndef CALLOUT_HOST_BASE_REDACTION_H_
#define CALLOUT_HOST_BASE_REDACTION_H_

#include <string>
#include <string_view>
#include <vector>

namespace callout::host {

// What stands in the place of a value.
inline constexpr std::string_view kRedacted = "[redacted]";

class Redaction {
 public:
  // Names that credentials have, and queries.
  static const std::vector<std::string>& DefaultPatterns();

  explicit Redaction(std::vector<std::string> patterns = DefaultPatterns());

  const std::vector<std::string>& patterns() const { return patterns_; }
  // Only the key of explanations is left out.
  bool empty() const { return patterns_.empty(); }
  // Whether the whole value of this name is left out. `name` in any case.
  bool Hides(std::string_view name) const;
  // The value of a header, or what is shown in its place.
  std::string Shown(std::string_view name, std::string_view value) const;

 private:
  std::vector<std::string> patterns_;
  bool hides_queries_ = false;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_REDACTION_H_
