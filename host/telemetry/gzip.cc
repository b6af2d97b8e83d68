// SPDX-License-Identifier: Apache-2.0

#include "host/telemetry/gzip.h"

#include <zlib.h>

#include <climits>

namespace callout::host {

std::optional<std::string> Gzip(std::string_view bytes) {
  constexpr int kGzipHeader = 16;  // added to the bits of the window, as zlib has it
  constexpr int kMemoryLevel = 8;
  if (bytes.size() > UINT_MAX) return std::nullopt;
  z_stream stream = {};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzipHeader,
                   kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK) {
    return std::nullopt;
  }
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const bool ended = deflate(&stream, Z_FINISH) == Z_STREAM_END;
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (!ended) return std::nullopt;
  return out;
}

}  // namespace callout::host
