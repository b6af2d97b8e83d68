// SPDX-License-Identifier: Apache-2.0

// SHA-256. Plain functions; any thread. Both return "" if OpenSSL does not provide it.
#ifndef CALLOUT_HOST_BASE_SHA256_H_
#define CALLOUT_HOST_BASE_SHA256_H_

#include <string>
#include <string_view>

namespace callout::host {

std::string Sha256(std::string_view bytes);  // in hexadecimal
std::string Sha256Bytes(std::string_view bytes);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_SHA256_H_
