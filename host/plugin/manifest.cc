// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/manifest.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/base/file.h"
#include "host/base/sha256.h"
#include "host/base/status_text.h"
#include "host/plugin/loader.h"

namespace callout::host {
namespace {

// Keys stay in the order in which they are set.
using OrderedJson = nlohmann::ordered_json;

absl::StatusOr<OrderedJson> ManifestOf(const std::string& path) {
  const absl::StatusOr<std::string> code = ReadFile(path, kPluginBytesMax);
  if (!code.ok()) {
    return absl::Status(code.status().code(),
                        fmt::format("cannot load plugin {}: {}", path, MessageOf(code.status())));
  }
  const absl::StatusOr<std::shared_ptr<const Plugin>> plugin = LoadPlugin(path);
  if (!plugin.ok()) return plugin.status();
  const PluginInfo& info = (*plugin)->info();
  OrderedJson json;
  json["format"] = 1;
  json["name"] = info.name.empty() ? (*plugin)->name() : info.name;
  json["version"] = info.version;
  json["description"] = info.description;
  json["file"] = path.substr(path.rfind('/') + 1);
  json["sha256"] = Sha256(*code);
  json["abi"] = (*plugin)->abi_version();
  json["abi_revision"] = (*plugin)->abi_revision();
  json["hooks"] = (*plugin)->hook_names();
  // What is no JSON is no schema.
  json["config_schema"] =
      OrderedJson::parse((*plugin)->config_schema(), nullptr, /*allow_exceptions=*/false);
  if (json["config_schema"].is_discarded()) json["config_schema"] = nullptr;
  return json;
}

}  // namespace

absl::StatusOr<std::string> ManifestsJson(const std::vector<std::string>& paths) {
  OrderedJson manifests = OrderedJson::array();
  for (const std::string& path : paths) {
    absl::StatusOr<OrderedJson> manifest = ManifestOf(path);
    if (!manifest.ok()) return manifest.status();
    manifests.push_back(*std::move(manifest));
  }
  // A file's name may not be UTF-8.
  return manifests.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

}  // namespace callout::host
