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

OptionSet::Option UpstreamsOption(std::string group, std::string help,
                                  std::vector<UpstreamConfig>* upstreams) {
  return {.name = "upstreams",
          .group = std::move(group),
          .value = "FILE",
          .default_text = "",
          .help = std::move(help),
          .set = [upstreams](const std::string& path) {
            absl::StatusOr<std::vector<UpstreamConfig>> read = ReadUpstreams(path);
            if (!read.ok()) return read.status();
            *upstreams = *std::move(read);
            return absl::OkStatus();
          }};
}

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
  options->Add(
      UpstreamsOption(kGroup,
                      "The services that plugins may call, as JSON: {\"NAME\": {\"url\": URL}}. "
                      "docs/upstreams.md has the keys. Read once, at the start",
                      &config->upstreams));
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
