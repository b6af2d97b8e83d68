// SPDX-License-Identifier: Apache-2.0

// What the headers of a message say about the body that follows.
//
// Tested by tests/host/stream/endings_test.cc.
#ifndef CALLOUT_HOST_WIRE_HEADER_FACTS_H_
#define CALLOUT_HOST_WIRE_HEADER_FACTS_H_

#include <string_view>

#include "host/wire/response.h"

namespace callout::host {

// Views into the message.
struct HeaderFacts {
  std::string_view content_type;  // as sent, parameters included
  std::string_view status;        // of a response: ":status"
  bool is_connect = false;        // ":method" is CONNECT
  bool has_upgrade = false;       // an "upgrade" header
  bool has_trailer = false;       // a "trailer" header announces trailers
  HeaderMutationView list;        // all headers, as `list.set`

  bool HasHeader(std::string_view name) const;
  // Compares the media type without parameters and without case; `type` may end in '*'.
  bool HasContentType(std::string_view type) const;
};

// Reads HttpHeaders. Malformed bytes give no facts.
HeaderFacts ReadHeaderFacts(std::string_view message);

// As FindHeader, for a tenth of what that costs: searches the bytes for `name`, which has less than
// 128 of them, instead of reading header by header. For what is only shown, or checked by itself:
// it finds what protobuf's libraries have written, and a value with control characters that look
// like a header is taken for one.
std::string_view SearchHeader(std::string_view message, std::string_view name);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_HEADER_FACTS_H_
