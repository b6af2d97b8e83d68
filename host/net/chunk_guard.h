// SPDX-License-Identifier: Apache-2.0

// Keeps Beast 1.74 from ending the process: its parser asserts that what is left of a message has
// five bytes, once it has read "0\r\n" as the first chunk of a body and waits for the trailers. A
// peer that sends one more byte by itself breaks that (basic_parser.ipp, parse_chunk_header). No
// body in chunks ends with less than these five bytes, "0\r\n\r\n", so waiting for them delays
// nothing.
//
//   while (… && !IsTooLittleForBeast(parser, buffer.size())) parser.put(buffer, error);
#ifndef CALLOUT_HOST_NET_CHUNK_GUARD_H_
#define CALLOUT_HOST_NET_CHUNK_GUARD_H_

#include <boost/beast/http/basic_parser.hpp>
#include <cstddef>

namespace callout::host {

// Whether put() has to wait for more than the `bytes` that are there.
template <bool is_request>
bool IsTooLittleForBeast(const boost::beast::http::basic_parser<is_request>& parser, size_t bytes) {
  constexpr size_t kLastChunkBytes = 5;
  return parser.is_header_done() && !parser.is_done() && parser.chunked() &&
         bytes < kLastChunkBytes;
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_CHUNK_GUARD_H_
