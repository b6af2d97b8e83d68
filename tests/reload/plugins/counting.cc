// SPDX-License-Identifier: Apache-2.0

// Stamps messages with its label and process, and counts how often it was made in any
// process. Configuration: LABEL [FILE [ACTION FIRST LAST]…]: FILE grows by a byte each
// time, and creations from the FIRSTth to the LASTth do ACTION: fail, abort, hang, or linger:
// hang when they are destroyed. Without LAST, only the FIRSTth.
#include <callout/plugin.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <unistd.h>

namespace {

class Counting {
 public:
  explicit Counting(callout::Setup& setup)
      : made_(setup.counter("counting_made_total", "Instances made")) {
    std::istringstream words{std::string(setup.config())};
    std::string file, action;
    words >> label_ >> file;
    label_ += "@" + std::to_string(getpid());
    made_.add();
    if (file.empty()) return;
    std::ofstream(file, std::ios::app) << '.';
    const uint64_t number = std::filesystem::file_size(file);
    for (uint64_t first = 0, last = 0; words >> action >> first;) {
      if (!(words >> last)) last = first;
      if (number < first || number > last) continue;
      if (action == "abort") std::abort();
      if (action == "fail") setup.fail("this is the one that fails");
      while (action == "hang") pause();
      lingers_ = action == "linger";
    }
  }
  ~Counting() {
    while (lingers_) pause();
  }

  void on_request_headers(callout::HeadersCall& call) { call.set_header("x-version", label_); }
  void on_response_headers(callout::HeadersCall& call) { call.set_header("x-version", label_); }

 private:
  std::string label_;
  bool lingers_ = false;
  callout::Counter made_;
};

}  // namespace

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_CLASS(Counting, request_headers, response_headers);
