// SPDX-License-Identifier: Apache-2.0

// Compresses by gzip (RFC 1952), with zlib.
//
// A plain function; any thread.
//
// Tested by tests/host/telemetry/gzip_test.cc.
#ifndef CALLOUT_HOST_TELEMETRY_GZIP_H_
#define CALLOUT_HOST_TELEMETRY_GZIP_H_

#include <optional>
#include <string>
#include <string_view>

namespace callout::host {

// None if there is no memory for it (about 256 KiB), or `bytes` has 4 GiB or more.
std::optional<std::string> Gzip(std::string_view bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_TELEMETRY_GZIP_H_
