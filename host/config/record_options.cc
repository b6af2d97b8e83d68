// SPDX-License-Identifier: Apache-2.0

#include "host/config/record_options.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "host/base/redaction.h"
#include "host/base/status_text.h"
#include "host/config/option_kinds.h"
#include "host/record/record_rule.h"

namespace callout::host {
namespace {

constexpr char kGroup[] = "Recordings";
constexpr uint64_t kBytesMax = uint64_t{1} << 40;

// Files can be created in it.
absl::Status CheckDirectory(const std::string& option, const std::string& directory) {
  struct stat there = {};
  const char* why = nullptr;
  const bool exists = stat(directory.c_str(), &there) == 0;
  if (exists && !S_ISDIR(there.st_mode)) {
    why = "it is no directory";
  } else if (!exists || access(directory.c_str(), W_OK | X_OK) != 0) {
    why = strerror(errno);
  }
  if (why == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: no file can be created in {}: {}", option, directory, why));
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

OptionSet::Option PercentOption(RecordConfig* config) {
  return {.name = "record_percent",
          .group = kGroup,
          .value = "PERCENT",
          .default_text = "100",
          .help = "Share of the exchanges that --record writes, above 0 and up to 100",
          .set = [config](const std::string& text) {
            const absl::StatusOr<double> percent = ParsePercent(text);
            if (percent.ok()) config->percent = *percent;
            return percent.status();
          }};
}

OptionSet::Option MatchOption(RecordConfig* config) {
  return {.name = "record_match",
          .group = kGroup,
          .value = "FORM",
          .default_text = "",
          .help =
              "Only record exchanges that match: path_prefix, host, method and header, as in "
              "path_prefix=/api&header=x-tenant:7. Default: all",
          // A header that it names may carry a credential.
          .secret = true,
          .set = [config](const std::string& text) {
            config->match = text;
            return MakeRecordRule(100, text).status();
          }};
}

}  // namespace

void AddRecordOptions(RecordConfig* config, OptionSet* options) {
  options->Add(TextOption("record", kGroup, "FILE", &config->path,
                          "Record exchanges with all messages of both ways, for callout-replay. "
                          "With --workers each worker adds .wN to the name. Default: none"));
  options->Add(PercentOption(config));
  options->Add(MatchOption(config));
  options->Add(ChoiceOption(
      "record_bodies", kGroup, "off|on", {"off", "on"}, 0,
      [config](size_t choice) { config->bodies = choice == 1; },
      "Record the bytes of bodies. off: only their sizes"));
  options->Add({.name = "record_redact",
                .group = kGroup,
                .value = "NAMES",
                .default_text = "",
                .help = "Names of headers, attributes and metadata whose values recordings leave "
                        "out, as in --log_redacted_headers. none: record all values. Default: the "
                        "default of --log_redacted_headers, and what that option names",
                .set = [config](const std::string& text) {
                  config->redacts_by_default = false;
                  return SetHeaderPatterns(text, &config->redacted);
                }});
  options->Add(Renamed(
      "record_max_bytes",
      NumberOption("max_record_bytes", kGroup, "BYTES", 65536, kBytesMax, &config->file_bytes_max,
                   "Size of a recording's file. A full one becomes FILE.1, and "
                   "that FILE.2, and so on")));
  options->Add(Renamed("record_files",
                       NumberOption("max_record_files", kGroup, "FILES", 1, 1000, &config->files,
                                    "Files that a recording has, with the current one. The oldest "
                                    "goes")));
  options->Add(NumberOption("max_record_queue_bytes", kGroup, "BYTES", 65536, kBytesMax,
                            &config->queue_bytes_max,
                            "Memory for exchanges that are recorded, until they are written. "
                            "Without room, exchanges are dropped and counted"));
  options->Add(NumberOption("max_record_exchange_bytes", kGroup, "BYTES", 4096, 33554432,
                            &config->exchange_bytes_max,
                            "Memory for one of them. Over it, bodies are recorded by their sizes, "
                            "then the rest of the exchange is left out"));
  options->Add(TextOption("record_dir", kGroup, "DIR", &config->tap_directory,
                          "Directory for recordings that POST /tap of the admin listener begins. "
                          "Default: none, and /tap refuses"));
}

absl::Status FinishRecordOptions(const std::vector<std::string>& log_redacted,
                                 RecordConfig* config) {
  if (config->redacts_by_default) {
    config->redacted = Redaction::DefaultPatterns();
    for (const std::string& pattern : log_redacted) {
      const auto& known = config->redacted;
      if (std::find(known.begin(), known.end(), pattern) != known.end()) continue;
      config->redacted.push_back(pattern);
    }
  }
  if (!config->path.empty()) {
    const std::string option = fmt::format("--record={}", config->path);
    if (absl::Status status = CheckDirectory(option, DirectoryOf(config->path)); !status.ok()) {
      return status;
    }
  }
  return config->tap_directory.empty() ? absl::OkStatus() : CheckTapDirectory(*config);
}

absl::Status CheckTapDirectory(const RecordConfig& config) {
  return CheckDirectory(fmt::format("--record_dir={}", config.tap_directory), config.tap_directory);
}

}  // namespace callout::host
