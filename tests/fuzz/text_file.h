// SPDX-License-Identifier: Apache-2.0

// A file that is only in memory, for what reads by path.
#ifndef CALLOUT_TESTS_FUZZ_TEXT_FILE_H_
#define CALLOUT_TESTS_FUZZ_TEXT_FILE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "host/base/owned_fd.h"

namespace callout::host {

class TextFile {
 public:
  explicit TextFile(const std::string& text) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (write(fd_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) abort();
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_.get()); }

 private:
  OwnedFd fd_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_FUZZ_TEXT_FILE_H_
