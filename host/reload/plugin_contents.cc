#include "host/reload/plugin_contents.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/plugin/elf_image.h"
#include "host/plugin/loader.h"
#include "host/reload/plugin_config.h"

namespace callout::host {

PluginStamps StampsOf(const PluginFiles& files) {
  return {StampOf(files.path), StampOf(files.config_path), StampOf(files.settings_path), {}};
}

absl::StatusOr<PluginContents> ReadContents(const PluginFiles& files, const PluginStamps& stamps) {
  PluginContents contents;
  contents.config = files.config;
  const bool optional = files.from_directory;
  const auto read = [](const std::string& path, const FileStamp& stamp, size_t bytes_max,
                       std::string* text) {
    absl::StatusOr<std::string> bytes = ReadUnchanged(path, stamp, bytes_max);
    if (!bytes.ok()) return bytes.status();
    *text = *std::move(bytes);
    return absl::OkStatus();
  };
  const auto read_text = [&](const std::string& path, const FileStamp& stamp, std::string* text) {
    if (path.empty() || (optional && !stamp.exists)) return absl::OkStatus();
    return read(path, stamp, kPluginFileBytesMax, text);
  };
  if (!stamps.code.exists) {
    return absl::NotFoundError(
        fmt::format("cannot load plugin {}: there is no such file; check the path", files.path));
  }
  absl::Status status = read(files.path, stamps.code, kPluginBytesMax, &contents.code);
  if (status.ok()) status = read_text(files.config_path, stamps.config, &contents.config);
  if (status.ok()) {
    status = read_text(files.settings_path, stamps.settings, &contents.settings_text);
  }
  if (!status.ok()) return status;
  contents.sha256 = Sha256(contents.code);
  return contents;
}

bool HasOriginInRunPath(std::string_view code) {
  absl::StatusOr<ElfImage> image = ElfImage::Parse(code);
  if (!image.ok()) return false;
  const auto& paths = image->run_paths();
  return std::any_of(paths.begin(), paths.end(), [](std::string_view path) {
    return path.find("$ORIGIN") != path.npos || path.find("${ORIGIN}") != path.npos;
  });
}

}  // namespace callout::host
