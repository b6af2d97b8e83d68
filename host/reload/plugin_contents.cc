// SPDX-License-Identifier: Apache-2.0

#include "host/reload/plugin_contents.h"

#include <elf.h>
#include <fmt/format.h>

#include <utility>

#include "host/base/file_trust.h"
#include "host/base/sha256.h"
#include "host/base/status_text.h"
#include "host/plugin/elf_image.h"
#include "host/plugin/settings.h"

namespace callout::host {
namespace {

// Of larger files, the head is checked before the rest is read.
constexpr off_t kSmallBytes = off_t{1} << 20;

absl::Status CannotRead(const std::string& path, const absl::Status& why) {
  return absl::Status(why.code(), fmt::format("cannot read {}: {}", path, MessageOf(why)));
}

absl::Status CannotLoad(const std::string& path, absl::StatusCode code, std::string_view why) {
  return absl::Status(code, fmt::format("cannot load plugin {}: {}", path, why));
}

class Reader {
 public:
  Reader(const PluginFiles& files, const PluginStamps& stamps, const PluginFileRules& rules)
      : files_(files), stamps_(stamps), rules_(rules) {}

  absl::StatusOr<PluginContents> Read() {
    contents_.config = files_.config;
    absl::Status status =
        ReadText(files_.settings_path, stamps_.settings, &contents_.settings_text);
    if (!status.ok()) return status;
    InstanceSettings settings;
    if (!contents_.settings_text.empty()) {
      absl::StatusOr<InstanceSettings> parsed = ParseInstanceSettings(contents_.settings_text);
      if (!parsed.ok())
        return std::move(contents_);  // the caller parses them and reports the error
      settings = *std::move(parsed);
    }
    if (settings.disabled) return std::move(contents_);
    status = ReadText(files_.config_path, stamps_.config, &contents_.config);
    if (status.ok()) status = ReadCode();
    if (status.ok()) status = DigestWatched(std::move(settings.watch));
    if (!status.ok()) return status;
    return std::move(contents_);
  }

 private:
  absl::Status CheckTrust(const std::string& path) {
    if (rules_.permissions == PluginPermissions::kOff) return absl::OkStatus();
    FileTrust trust = CheckFileTrust(path);
    if (!trust.refusal.empty() && rules_.permissions == PluginPermissions::kStrict) {
      return absl::PermissionDeniedError(
          fmt::format("{}, or give --plugin_permissions=warn", trust.refusal));
    }
    if (!trust.refusal.empty()) contents_.warnings.push_back(std::move(trust.refusal));
    for (std::string& warning : trust.warnings) {
      // Files beside each other have the same directory.
      bool known = false;
      for (const std::string& other : contents_.warnings) known = known || other == warning;
      if (!known) contents_.warnings.push_back(std::move(warning));
    }
    return absl::OkStatus();
  }

  absl::Status ReadText(const std::string& path, const FileStamp& stamp, std::string* text) {
    if (path.empty() || (files_.from_directory && stamp.absent())) return absl::OkStatus();
    if (absl::Status status = CheckRegular(stamp); !status.ok()) return CannotRead(path, status);
    if (absl::Status status = CheckTrust(path); !status.ok()) return CannotRead(path, status);
    absl::StatusOr<std::string> bytes = ReadUnchanged(path, stamp, kPluginFileBytesMax);
    if (!bytes.ok()) return CannotRead(path, bytes.status());
    *text = *std::move(bytes);
    return absl::OkStatus();
  }

  absl::Status ReadCode() {
    const std::string& path = files_.path;
    if (stamps_.code.absent()) {
      return CannotLoad(path, absl::StatusCode::kNotFound, "there is no such file; check the path");
    }
    absl::Status status = CheckRegular(stamps_.code);
    if (status.ok()) status = CheckTrust(path);
    if (status.ok()) status = CheckSize();
    if (!status.ok()) return CannotLoad(path, status.code(), MessageOf(status));
    absl::StatusOr<std::string> code = ReadUnchanged(path, stamps_.code, rules_.max_code_bytes);
    if (!code.ok()) return CannotRead(path, code.status());
    contents_.code = *std::move(code);
    contents_.sha256 = Sha256(contents_.code);
    return absl::OkStatus();
  }

  // Checks the head first, so that a large file that is no plugin is not read.
  absl::Status CheckSize() {
    const off_t size = stamps_.code.size;
    if (size > kSmallBytes) {
      absl::StatusOr<FileContents> start = ReadStart(files_.path, sizeof(Elf64_Ehdr));
      if (!start.ok()) return start.status();
      absl::Status status = ElfImage::CheckHead(start->bytes);
      if (!status.ok()) {
        return absl::Status(status.code(), fmt::format("it {}", MessageOf(status)));
      }
    }
    if (static_cast<uint64_t>(size) <= rules_.max_code_bytes) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("it has {} bytes, over the limit --max_plugin_file_bytes={}; strip it, or give "
                    "a higher limit",
                    size, rules_.max_code_bytes));
  }

  // The plugin reads these files itself. Their digest tells whether it has to read them again.
  absl::Status DigestWatched(std::vector<std::string> paths) {
    std::string digests;
    for (const std::string& path : paths) {
      const FileStamp stamp = StampOf(path);
      if (!stamp.absent()) {
        if (absl::Status status = CheckRegular(stamp); !status.ok()) {
          return CannotRead(path, status);
        }
        absl::StatusOr<std::string> bytes = ReadFile(path, kPluginFileBytesMax);
        if (!bytes.ok()) return CannotRead(path, bytes.status());
        digests += Sha256(*bytes);
      }
      digests += '\n';
    }
    if (!paths.empty()) contents_.watched_sha256 = Sha256(digests);
    contents_.watch = std::move(paths);
    return absl::OkStatus();
  }

  const PluginFiles& files_;
  const PluginStamps& stamps_;
  const PluginFileRules& rules_;
  PluginContents contents_;
};

}  // namespace

PluginStamps StampsOf(const PluginFiles& files) {
  PluginStamps stamps = {
      StampOf(files.path), StampOf(files.config_path), StampOf(files.settings_path), {}, {}};
  for (const std::string& path : files.watch) stamps.watched.push_back(StampOf(path));
  return stamps;
}

absl::StatusOr<PluginContents> ReadContents(const PluginFiles& files, const PluginStamps& stamps,
                                            const PluginFileRules& rules) {
  return Reader(files, stamps, rules).Read();
}

}  // namespace callout::host
