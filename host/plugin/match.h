// SPDX-License-Identifier: Apache-2.0

// Decides whether an instance serves a stream (InstanceSettings::match), on the stream's first
// message. Whatever that message does not have matches nothing: if Envoy does not send request
// headers, no path matches.
//
// A client can write one path, or one host, in several ways. A prefix matches the path as it
// came and as a server may read it: percent-decoded once, with "\\" as "/", without empty
// segments, "." and "..", and without path parameters (";v=1"). A host matches without case,
// port, final dot and user. So an instance may see more than it was meant to, never less.
#ifndef CALLOUT_HOST_PLUGIN_MATCH_H_
#define CALLOUT_HOST_PLUGIN_MATCH_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/base/heap_bytes.h"
#include "host/plugin/settings.h"
#include "host/wire/envelope.h"

namespace callout::host {

// The facts of a first message that can be matched, read once for all instances.
class StreamFacts {
 public:
  explicit StreamFacts(const RequestView& view);
  // Compares the host of :authority, else that of Host.
  bool Match(const StreamMatch& match) const;
  // The first value of a request header, by its name in lower case; "": there is none.
  std::string_view Header(std::string_view name) const {
    const std::string* const value = FindHeader(name);
    return value == nullptr ? std::string_view() : std::string_view(*value);
  }
  // Beside the texts.
  size_t kept_bytes() const { return HeapBytes(headers_) + HeapBytes(attributes_); }

 private:
  void ReadHeaders(std::string_view message);
  void ReadAttributes(std::string_view record);
  const std::string* FindHeader(std::string_view name) const;

  std::vector<std::pair<std::string, std::string>> headers_;  // names in lower case
  // Names of attributes and their values as text: strings as they are, booleans as true and false,
  // numbers in their shortest form.
  std::vector<std::pair<std::string, std::string>> attributes_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_MATCH_H_
