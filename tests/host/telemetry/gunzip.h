// SPDX-License-Identifier: Apache-2.0

// Reads gzip, by zlib's own reader of files in this format.
#ifndef CALLOUT_TESTS_HOST_TELEMETRY_GUNZIP_H_
#define CALLOUT_TESTS_HOST_TELEMETRY_GUNZIP_H_

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

namespace callout::host {

// A failure of the test if it is not of this format.
inline std::string Gunzip(const std::string& packed) {
  constexpr int kGzipOnly = 16;
  z_stream stream = {};
  EXPECT_EQ(inflateInit2(&stream, MAX_WBITS + kGzipOnly), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  int status = Z_OK;
  while (status == Z_OK) {
    char piece[65536];
    stream.next_out = reinterpret_cast<Bytef*>(piece);
    stream.avail_out = sizeof(piece);
    status = inflate(&stream, Z_NO_FLUSH);
    text.append(piece, sizeof(piece) - stream.avail_out);
  }
  EXPECT_EQ(status, Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0u);
  inflateEnd(&stream);
  return text;
}

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_TELEMETRY_GUNZIP_H_
