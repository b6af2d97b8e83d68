// SPDX-License-Identifier: Apache-2.0

// The command line, the environment, the file of --config and that of --explain_key: any words.
// What they come to gives the same again when it is passed on to a worker. Files that options name
// are read, if they are there.
//
// Readers: host/config/config.cc host/config/options.cc host/config/option_kinds.cc
#include <string>
#include <vector>

#include "host/config/config.h"
#include "tests/fuzz/target.h"
#include "tests/fuzz/text_file.h"

namespace callout::host {
namespace {

// Lines are words.
std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == '\n') {
      words.emplace_back();
    } else if (c != '\0') {
      words.back() += c;
    }
  }
  return words;
}

std::vector<const char*> Pointers(const std::vector<std::string>& words) {
  std::vector<const char*> pointers;
  for (const std::string& word : words) pointers.push_back(word.c_str());
  pointers.push_back(nullptr);
  return pointers;
}

absl::StatusOr<Config> Parse(std::vector<std::string> arguments,
                             const std::vector<std::string>& environment) {
  arguments.insert(arguments.begin(), "callout-host");
  return ParseConfig(static_cast<int>(arguments.size()), Pointers(arguments).data(),
                     Pointers(environment).data());
}

FUZZ_TARGET(options, .rounds = 500, .bytes = 40) {
  const unsigned kind = choices.Next(8);
  const std::string text = choices.Rest();
  const TextFile file(text);
  const auto parse = [&] {
    if (kind == 5) return Parse({"--explain_key=@" + file.path()}, {});
    if (kind == 6) return Parse({"--config=" + file.path()}, {});
    return kind % 4 == 3 ? Parse({}, Words(text)) : Parse(Words(text), {});
  };
  const absl::StatusOr<Config> config = parse();
  if (!config.ok()) {
    const bool line = config.status().message().find('\n') == std::string_view::npos;
    return line ? "" : "an error has more than a line";
  }
  if (config->command != Config::Command::kServe) return "";
  const absl::StatusOr<Config> again = Parse(config->worker_options, {});
  if (!again.ok()) return "a worker refuses its options: " + again.status().ToString();
  if (again->worker_options != config->worker_options) return "a worker's options are others";
  const bool same = again->limits.message_bytes_max == config->limits.message_bytes_max &&
                    again->drain_timeout_ms == config->drain_timeout_ms &&
                    again->log_level == config->log_level &&
                    again->redacted_headers == config->redacted_headers;
  return same ? "" : "a worker reads its options another way";
}

}  // namespace
}  // namespace callout::host
