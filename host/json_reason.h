// Why a text is no JSON, in the words of the library that reads it.
#ifndef CALLOUT_HOST_JSON_REASON_H_
#define CALLOUT_HOST_JSON_REASON_H_

#include <exception>
#include <string_view>

namespace callout::host {

// "parse error at line 1, column 3: …" of nlohmann::json's "[json.exception.parse_error.101]
// parse error at line 1, column 3: …". Good as long as `error` is.
inline std::string_view JsonReason(const std::exception& error) {
  const std::string_view text = error.what();
  const size_t end = text.find("] ");
  return end == std::string_view::npos ? text : text.substr(end + 2);
}

}  // namespace callout::host

#endif  // CALLOUT_HOST_JSON_REASON_H_
