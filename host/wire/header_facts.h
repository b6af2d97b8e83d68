// SPDX-License-Identifier: Apache-2.0

// What the headers of a message tell of the body that follows.
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
  // Media type without parameters, without case; `type` may end in '*'.
  bool HasContentType(std::string_view type) const;
};

// Of HttpHeaders; malformed bytes tell nothing.
HeaderFacts ReadHeaderFacts(std::string_view message);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_HEADER_FACTS_H_
