// SPDX-License-Identifier: Apache-2.0

#include "host/config/extension_options.h"

#include <climits>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "host/config/option_kinds.h"
#include "host/upstream/upstream_config.h"

namespace callout::host {

void AddExtensionOptions(ExtensionOptions* config, OptionSet* options) {
  constexpr char kGroup[] = "Extensions";
  constexpr uint64_t kBytesMax = uint64_t{1} << 40;
  SharedData::Limits* data = &config->shared_data;
  options->Add(NumberOption("max_timer_threads", kGroup, "THREADS", 1, 1024,
                            &config->timer_threads_max,
                            "Threads that run the timers of plugins. The timers of one plugin run "
                            "one after the other"));
  options->Add(NumberOption("max_timers", kGroup, "TIMERS", 0, INT_MAX, &config->timers_max,
                            "Timers that one instance of a plugin may have at a time"));
  options->Add({.name = "upstreams",
                .group = kGroup,
                .value = "FILE",
                .default_text = "",
                .help = "The services that plugins may call, as JSON: {\"NAME\": {\"url\": URL}}. "
                        "docs/upstreams.md has the keys. Read once, at the start",
                .set = [config](const std::string& path) {
                  absl::StatusOr<std::vector<UpstreamConfig>> upstreams = ReadUpstreams(path);
                  if (!upstreams.ok()) return upstreams.status();
                  config->upstreams = *std::move(upstreams);
                  return absl::OkStatus();
                }});
  options->Add(NumberOption("max_calls", kGroup, "CALLS", 0, INT_MAX, &config->calls_max,
                            "Calls to upstreams that one instance of a plugin may have under way"));
  options->Add(NumberOption("max_shared_data_bytes", kGroup, "BYTES", 0, kBytesMax,
                            &data->bytes_max,
                            "Memory for the values that plugins share in a process: keys, values "
                            "and 320 bytes for each of them"));
  options->Add(NumberOption("max_shared_data_keys", kGroup, "KEYS", 0, INT_MAX, &data->keys_max,
                            "Values that plugins share in a process"));
  options->Add(NumberOption("max_shared_data_value_bytes", kGroup, "BYTES", 8, kBytesMax,
                            &data->value_bytes_max, "Largest value that plugins can share"));
  options->Add(NumberOption("max_trace_bytes", kGroup, "BYTES", 0, INT_MAX,
                            &config->trace_bytes_max,
                            "Memory for what plugins add to the trace of one exchange: keys, "
                            "values, and 96 bytes for each of them"));
}

}  // namespace callout::host
