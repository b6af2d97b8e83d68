// SPDX-License-Identifier: Apache-2.0

// The file of versions that were withdrawn (--state_dir): any bytes, and good ones that were
// changed.
#include <string>

#include "host/base/utf8.h"
#include "host/reload/withdrawn_versions.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

using Versions = WithdrawnVersions;

bool IsPlainLine(const std::string& text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return IsUtf8(text);
}

FUZZ_TARGET(state_file, .rounds = 20000, .bytes = 60) {
  const std::string text = choices.Rest();
  const Versions::Contents contents = Versions::Parse(text);
  if (!IsPlainLine(contents.problem)) return "an error is more than a line of text";
  if (contents.entries.size() > Versions::kPluginsMax) return "more entries than allowed";
  for (const auto& [plugin, entry] : contents.entries) {
    if (plugin != entry.plugin) return "an entry of another plugin";
    if (!IsPlainLine(entry.why)) return "a reason is more than a line of text: " + entry.why;
  }
  // What is understood outlives a restart.
  const Versions::Contents again = Versions::Parse(Versions::Format(contents.entries));
  if (!again.problem.empty()) return "what was written is not understood: " + again.problem;
  if (again.entries.size() != contents.entries.size()) return "entries are lost";
  for (const auto& [plugin, entry] : contents.entries) {
    const auto found = again.entries.find(plugin);
    if (found == again.entries.end() || !(found->second.digest == entry.digest)) {
      return "an entry is another one when it is read again";
    }
  }
  return "";
}

}  // namespace
}  // namespace callout::host
