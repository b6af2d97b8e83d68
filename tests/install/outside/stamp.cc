// SPDX-License-Identifier: Apache-2.0

// A plugin as someone who has only the installed files would write it.
#include <callout/plugin.hpp>

CALLOUT_PLUGIN();
CALLOUT_PLUGIN_INFO("stamp", "1.0.0", "Stamps requests");

namespace {

class Stamp {
 public:
  explicit Stamp(callout::Setup& setup) : text_(setup.config()) {}
  void on_request_headers(callout::HeadersCall& call) { call.set_header("x-stamp", text_); }

 private:
  std::string text_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(Stamp, request_headers);
