// SPDX-License-Identifier: Apache-2.0

#include "host/net/chunk_guard.h"

#include <gtest/gtest.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>
#include <string_view>

namespace callout::host {
namespace {

namespace http = boost::beast::http;

// What the host's readers do with bytes that come.
template <bool is_request>
void Put(http::parser<is_request, http::string_body>* parser, std::string* bytes) {
  boost::system::error_code error;
  while (!error && !bytes->empty() && !parser->is_done()) {
    bytes->erase(0, PutHttp(parser, boost::asio::buffer(*bytes), &error));
  }
  EXPECT_TRUE(!error || error == http::error::need_more) << error.message();
}

// The message in three pieces, cut at any two places.
template <bool is_request>
void ReadHoweverCut(const std::string& head, std::string_view body) {
  const std::string message = head + "transfer-encoding: chunked\r\n\r\n" + std::string(body);
  for (size_t first = 0; first <= message.size(); ++first) {
    for (size_t second = first; second <= message.size(); ++second) {
      http::parser<is_request, http::string_body> parser;
      std::string bytes;
      for (const std::string& piece :
           {message.substr(0, first), message.substr(first, second - first),
            message.substr(second)}) {
        bytes += piece;
        Put(&parser, &bytes);
      }
      EXPECT_TRUE(parser.is_done()) << first << " and " << second << " of " << message;
      EXPECT_EQ(bytes, "") << first << " and " << second << " of " << message;
    }
  }
}

TEST(ChunkGuard, ABodyInChunksIsReadHoweverItIsCut) {
  for (const std::string_view body :
       {"0\r\n\r\n", "0\r\na: b\r\n\r\n", "0;x=y\r\n\r\n", "1\r\na\r\n0\r\n\r\n", "00\r\n\r\n"}) {
    ReadHoweverCut<true>("POST / HTTP/1.1\r\n", body);
    ReadHoweverCut<false>("HTTP/1.1 200 OK\r\n", body);
  }
}

}  // namespace
}  // namespace callout::host
