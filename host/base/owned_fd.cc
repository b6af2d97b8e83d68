#include "host/base/owned_fd.h"

#include <sys/types.h>

#include <cerrno>

namespace callout::host {

bool ReadToEnd(int fd, size_t bytes_max, std::string* bytes) {
  bytes->resize(bytes_max);
  size_t size = 0;
  while (size < bytes_max) {
    const ssize_t got = read(fd, bytes->data() + size, bytes_max - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  bytes->resize(size);
  return true;
}

}  // namespace callout::host
