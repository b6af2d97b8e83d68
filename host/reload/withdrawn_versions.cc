// SPDX-License-Identifier: Apache-2.0

#include "host/reload/withdrawn_versions.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "host/base/atomic_write.h"
#include "host/base/file.h"
#include "host/base/json_text.h"
#include "host/base/log.h"
#include "host/base/sha256.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr char kFileName[] = "/withdrawn.json";

template <class T>
bool Get(const Json& object, const char* key, T* out) {
  const auto found = object.find(key);
  if (found == object.end()) return false;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return false;
  } else if (!found->is_number_integer()) {
    return false;
  }
  *out = found->get<T>();
  return true;
}

std::optional<WithdrawnVersions::Entry> EntryOf(const Json& json) {
  WithdrawnVersions::Entry entry;
  const bool complete = json.is_object() && Get(json, "plugin", &entry.plugin) &&
                        Get(json, "sha256", &entry.digest.code) &&
                        Get(json, "inputs_sha256", &entry.digest.inputs) &&
                        Get(json, "generation", &entry.generation) &&
                        Get(json, "why", &entry.why) && Get(json, "since", &entry.since_ms);
  if (!complete) return std::nullopt;
  entry.why = EscapeControls(entry.why.substr(0, WithdrawnVersions::kWhyBytesMax));
  return entry;
}

}  // namespace

VersionDigest DigestOf(const GenerationSource& source) {
  // Each text behind its digest, so that none runs into the next.
  return {source.sha256,
          Sha256(Sha256(source.config) + Sha256(source.settings_text) + source.watched_sha256)};
}

absl::Status WithdrawnVersions::CheckDirectory(const std::string& directory) {
  // Of this process, so that nobody removes it who looks at the same time.
  const std::string probe = fmt::format("{}/.writable.{}", directory, getpid());
  if (absl::Status status = WriteAtomically(probe, ""); !status.ok()) {
    return absl::Status(status.code(),
                        fmt::format("cannot write to --state_dir={}: {}; create the directory, and "
                                    "let this user write to it",
                                    directory, MessageOf(status)));
  }
  std::remove(probe.c_str());
  return absl::OkStatus();
}

absl::StatusOr<WithdrawnVersions> WithdrawnVersions::Open(const std::string& directory) {
  if (directory.empty()) return WithdrawnVersions("");
  // Better now than when a version has to be remembered.
  if (absl::Status status = CheckDirectory(directory); !status.ok()) return status;
  WithdrawnVersions versions(directory + kFileName);
  versions.Read();
  return versions;
}

void WithdrawnVersions::Read() {
  const absl::StatusOr<std::string> text = ReadFile(path_, kFileBytesMax);
  if (absl::IsNotFound(text.status())) return;
  if (!text.ok()) return PutAside(MessageOf(text.status()));
  const absl::StatusOr<Json> json = ParseJsonText(*text);
  if (!json.ok()) return PutAside(MessageOf(json.status()));
  int format = 0;
  if (!json->is_object() || !Get(*json, "format", &format) || format != kFormat) {
    return PutAside(fmt::format("its format is not {}", kFormat));
  }
  const auto list = json->find("withdrawn");
  if (list == json->end() || !list->is_array()) return PutAside("it has no list \"withdrawn\"");
  std::map<std::string, Entry, std::less<>> entries;
  for (const Json& item : *list) {
    std::optional<Entry> entry = EntryOf(item);
    if (!entry.has_value() || entries.size() >= kPluginsMax) {
      return PutAside("an entry is incomplete, or there are too many");
    }
    std::string plugin = entry->plugin;
    entries.insert_or_assign(std::move(plugin), *std::move(entry));
  }
  entries_ = std::move(entries);
}

void WithdrawnVersions::PutAside(std::string_view why) {
  const std::string aside = path_ + ".unreadable";
  const bool moved = std::rename(path_.c_str(), aside.c_str()) == 0;
  problem_ = fmt::format(
      "cannot read {}: {}; versions of plugins that were withdrawn before this start may serve "
      "again{}",
      path_, why, moved ? fmt::format("; the file is now {}", aside) : "");
}

const WithdrawnVersions::Entry* WithdrawnVersions::FindAny(std::string_view plugin) const {
  const auto found = entries_.find(plugin);
  return found == entries_.end() ? nullptr : &found->second;
}

const WithdrawnVersions::Entry* WithdrawnVersions::Find(std::string_view plugin,
                                                        const VersionDigest& digest) const {
  const Entry* const entry = FindAny(plugin);
  return entry != nullptr && entry->digest == digest ? entry : nullptr;
}

void WithdrawnVersions::Set(Entry entry) {
  if (path_.empty()) return;
  entry.why.resize(std::min(entry.why.size(), kWhyBytesMax));
  const bool known = entries_.contains(entry.plugin);
  if (!known && entries_.size() >= kPluginsMax) return;
  std::string plugin = entry.plugin;
  entries_.insert_or_assign(std::move(plugin), std::move(entry));
  changed_ = true;
}

void WithdrawnVersions::Remove(std::string_view plugin) {
  const auto found = entries_.find(plugin);
  if (found == entries_.end()) return;
  entries_.erase(found);
  changed_ = true;
}

absl::Status WithdrawnVersions::Save() {
  if (!changed_) return absl::OkStatus();
  Json json = {{"format", kFormat}, {"withdrawn", Json::array()}};
  for (const auto& [plugin, entry] : entries_) {
    json["withdrawn"].push_back({{"plugin", plugin},
                                 {"sha256", entry.digest.code},
                                 {"inputs_sha256", entry.digest.inputs},
                                 {"generation", entry.generation},
                                 {"why", entry.why},
                                 {"since", entry.since_ms}});
  }
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (absl::Status status = WriteAtomically(path_, text); !status.ok()) {
    return absl::Status(status.code(),
                        fmt::format("cannot write {} (--state_dir): {}; after a restart the "
                                    "versions that were withdrawn may serve again",
                                    path_, MessageOf(status)));
  }
  changed_ = false;
  return absl::OkStatus();
}

}  // namespace callout::host
