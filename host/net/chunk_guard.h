// SPDX-License-Identifier: Apache-2.0

// Keeps Beast 1.74 from ending the process: its parser asserts that what is left of a message has
// five bytes, once it has read "0\r\n" as the first chunk of a body and waits for the trailers. A
// peer that sends one more byte by itself breaks that (basic_parser.ipp, parse_chunk_header). No
// body in chunks ends with less than these five bytes, "0\r\n\r\n", so waiting for them delays
// nothing. So readers call PutHttp in the place of put().
#ifndef CALLOUT_HOST_NET_CHUNK_GUARD_H_
#define CALLOUT_HOST_NET_CHUNK_GUARD_H_

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>

namespace callout::host {

// As put(): returns how many bytes it took, with need_more if these are too few. `parser` is not
// done.
template <bool is_request>
size_t PutHttp(boost::beast::http::basic_parser<is_request>* parser,
               boost::asio::const_buffer bytes, boost::system::error_code* error) {
  constexpr size_t kLastChunkBytes = 5;
  if (parser->is_header_done() && parser->chunked() && bytes.size() < kLastChunkBytes) {
    *error = boost::beast::http::error::need_more;
    return 0;
  }
  return parser->put(bytes, *error);
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_NET_CHUNK_GUARD_H_
