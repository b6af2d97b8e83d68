// SPDX-License-Identifier: Apache-2.0

// Whether a stream is one that an instance serves (InstanceSettings::match).
//
// Decided on the first message of a stream. What that message does not bring (it
// has no request headers, say, if Envoy is told not to send them) matches
// nothing.
//
// Tested by tests/host/plugin/chain_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_MATCH_H_
#define CALLOUT_HOST_PLUGIN_MATCH_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/plugin/settings.h"
#include "host/wire/envelope.h"

namespace callout::host {

// What of a first message can be matched, read once for all instances.
class StreamFacts {
 public:
  explicit StreamFacts(const RequestView& view);
  // The host of :authority (or Host) is compared without its port.
  bool Match(const StreamMatch& match) const;

 private:
  void ReadHeaders(std::string_view message);
  void ReadAttributes(std::string_view record);
  const std::string* FindHeader(std::string_view name) const;

  std::vector<std::pair<std::string, std::string>> headers_;  // names in lower case
  // Attribute names and their values as text: strings as they are, booleans as
  // true and false, numbers as short as they can be written.
  std::vector<std::pair<std::string, std::string>> attributes_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_MATCH_H_
