#include "host/base/text_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace callout::host {

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t bytes_max) {
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  std::string text;
  if (stream) {
    text.resize(bytes_max + 1);
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(stream.gcount()));
  }
  if (!stream.is_open() || stream.bad()) {
    return absl::InvalidArgumentError(fmt::format("cannot read {}: {}", path, strerror(errno)));
  }
  if (text.size() > bytes_max) {
    return absl::InvalidArgumentError(fmt::format("{} has more than {} bytes", path, bytes_max));
  }
  return text;
}

}  // namespace callout::host
