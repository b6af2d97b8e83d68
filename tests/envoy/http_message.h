// SPDX-License-Identifier: Apache-2.0

// HTTP/1.1 for tests: header fields keep order, case and duplicates, and bodies keep their chunks.
//
//   HttpReader</*is_request=*/false> reader(fd, kGiveUpMs);
//   HttpMessage response = reader.Read();
//
// An HttpReader reads messages one after the other from a descriptor that it does not own. One
// thread. The rest is plain values and functions.
#ifndef CALLOUT_TESTS_ENVOY_HTTP_MESSAGE_H_
#define CALLOUT_TESTS_ENVOY_HTTP_MESSAGE_H_

#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace callout::tests {

using HttpFields = std::vector<std::pair<std::string, std::string>>;

// The values of `name`, whatever its case, in their order.
std::vector<std::string> ValuesOf(const HttpFields& fields, std::string_view name);

// A message that was read.
struct HttpMessage {
  std::string method;  // of a request
  std::string target;  // of a request
  int status = 0;      // of a response; 0: not even its first line came
  HttpFields headers;
  std::string body;
  std::vector<size_t> chunk_sizes;  // of a body in chunks, without the last one of no bytes
  HttpFields trailers;
  bool complete = false;  // its end has come

  // nullopt if there is none; all of them, joined by commas, if there are more.
  std::optional<std::string> Header(std::string_view name) const;
};
// For failure messages; a long body is cut.
void PrintTo(const HttpMessage& message, std::ostream* out);

// A body to send.
struct HttpBody {
  std::vector<std::string> pieces = {};
  bool chunked = false;      // each piece one chunk; else content-length and the pieces one by one
  HttpFields trailers = {};  // sent only in chunks
  // Called before each piece is sent, until it returns true, with the bytes of the message that
  // were sent so far, head included. Not called once either end has closed.
  std::function<bool(size_t bytes_sent)> may_send = nullptr;

  size_t size() const;
};

// Sends `start_line` (without line end), `headers`, the header with the body's length, and the
// body. With `omit_empty` an empty body that is not chunked has no such header. False if the
// connection is closed before the end.
bool SendMessage(int fd, const std::string& start_line, const HttpFields& headers,
                 const HttpBody& body, bool omit_empty);

template <bool is_request>
class HttpReader {
 public:
  // Waits for bytes up to `patience_ms`; -1: forever.
  HttpReader(int fd, int patience_ms) : fd_(fd), patience_ms_(patience_ms) {}

  // Reads the next message to its end, or until the other end closes, the time is up, or the bytes
  // are not HTTP. Calls `on_headers` once the headers are complete.
  HttpMessage Read(const std::function<void(const HttpMessage&)>& on_headers = nullptr);

 private:
  class Parser;

  const int fd_;
  const int patience_ms_;
  std::string buffered_;
};

extern template class HttpReader<true>;
extern template class HttpReader<false>;

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_ENVOY_HTTP_MESSAGE_H_
