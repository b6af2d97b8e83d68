// SPDX-License-Identifier: Apache-2.0

// Attributes as ext_proc has them, for services whose requests have none: `match` and the bridge
// read these.
//
//   std::string fields;
//   AppendTextAttribute("source.address", "10.0.0.7:41312", &fields);
//   const std::string record = WriteAttributeRecord("envoy.filters.http.ext_authz", fields);
//
// Tested by tests/host/unary/check_codec_test.cc.
#ifndef CALLOUT_HOST_WIRE_ATTRIBUTE_RECORD_H_
#define CALLOUT_HOST_WIRE_ATTRIBUTE_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace callout::host {

// An entry of a map from string to string or message.
void AppendMapEntry(uint32_t number, std::string_view key, std::string_view value,
                    std::string* out);

// Appends one attribute to the fields of a Struct.
void AppendTextAttribute(std::string_view name, std::string_view text, std::string* fields);

// A record of ProcessingRequest.attributes.
std::string WriteAttributeRecord(std::string_view filter, std::string_view fields);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_ATTRIBUTE_RECORD_H_
