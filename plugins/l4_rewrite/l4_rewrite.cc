// SPDX-License-Identifier: Apache-2.0

// Replaces texts in the bytes of a TCP connection, and closes connections that send others. See
// README.md.
#include <callout/plugin.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l4_rewrite/rewriter.h"
#include "support/json_config.hpp"

namespace {

using callout::plugins::JsonConfig;
using callout::plugins::Rewriter;
using callout::plugins::Rules;

// "replace_read": {"from": "…", "to": "…"}, … and "close_read": ["…"].
Rules ReadRules(JsonConfig* config, const std::string& direction) {
  Rules rules;
  for (JsonConfig& item : config->objects("replace_" + direction)) {
    rules.push_back({item.text("from"), item.text("to"), false});
    item.done();
  }
  for (const std::string& text : config->texts("close_" + direction, std::vector<std::string>())) {
    rules.push_back({text, "", true});
  }
  for (const auto& rule : rules) {
    if (rule.from.empty() || rule.from.size() > callout::plugins::kPatternBytesMax) {
      throw std::invalid_argument("configuration: a text to look for has 1 to " +
                                  std::to_string(callout::plugins::kPatternBytesMax) + " bytes");
    }
  }
  return rules;
}

class L4Rewrite {
 public:
  explicit L4Rewrite(callout::Setup& setup) : L4Rewrite(setup, JsonConfig(setup.config())) {}

  struct Stream {
    explicit Stream(L4Rewrite& plugin) : read(&plugin.read_), write(&plugin.write_) {}
    Rewriter read, write;
  };

  void on_read_data(callout::DataCall& call, Stream& stream) const { Rewrite(call, &stream.read); }
  void on_write_data(callout::DataCall& call, Stream& stream) const {
    Rewrite(call, &stream.write);
  }

 private:
  L4Rewrite(callout::Setup& setup, JsonConfig config)
      : read_(ReadRules(&config, "read")),
        write_(ReadRules(&config, "write")),
        replaced_(setup.counter("l4_rewrite_replaced_total", "Texts replaced")),
        closed_(setup.counter("l4_rewrite_closed_total", "Connections closed")) {
    config.done();
  }

  void Rewrite(const callout::DataCall& call, Rewriter* rewriter) const {
    const Rewriter::Result result = rewriter->Take(call.data(), call.is_last());
    if (result.closes) {
      closed_.add();
      return call.close();
    }
    if (result.replaced > 0) replaced_.add(static_cast<double>(result.replaced));
    if (result.bytes != call.data()) call.replace(result.bytes);
  }

  const Rules read_, write_;
  callout::Counter replaced_, closed_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(L4Rewrite, ("l4_rewrite", "1.0.0", "Replaces texts in TCP connections"),
                     read_data, write_data);
