// SPDX-License-Identifier: Apache-2.0

#include "host/reload/withdrawn_versions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "host/base/atomic_write.h"
#include "host/base/file.h"
#include "host/base/json_text.h"
#include "host/base/log.h"
#include "host/base/owned_fd.h"
#include "host/base/sha256.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

using Json = nlohmann::json;

constexpr int64_t kFormat = 1;
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

// Locks the directory until the result is destroyed. UNAVAILABLE: another process has it. On a file
// system without locks nothing is locked.
absl::StatusOr<OwnedFd> Lock(const std::string& directory) {
  constexpr int kEachMs = 1;
  OwnedFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return absl::Status(absl::ErrnoToStatusCode(errno), strerror(errno));
  for (int waited_ms = 0; flock(fd.get(), LOCK_EX | LOCK_NB) != 0; waited_ms += kEachMs) {
    if (errno != EWOULDBLOCK) break;
    if (waited_ms >= WithdrawnVersions::kLockWaitMs) {
      return absl::UnavailableError(fmt::format(
          "another process has locked it for {} ms; give each host a directory of its own",
          waited_ms));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kEachMs));
  }
  return fd;
}

}  // namespace

VersionDigest DigestOf(const GenerationSource& source) {
  // Each text behind its digest, so that none runs into the next.
  return {source.sha256,
          Sha256(Sha256(source.config) + Sha256(source.settings_text) + source.watched_sha256)};
}

// --- The file's text ----------------------------------------------------------

WithdrawnVersions::Contents WithdrawnVersions::Parse(std::string_view text) {
  Contents contents;
  const auto complain = [&contents](std::string_view why) {
    if (contents.problem.empty()) contents.problem = why;
  };
  const absl::StatusOr<Json> json = ParseJsonText(text);
  if (!json.ok()) {
    complain(MessageOf(json.status()));
    return contents;
  }
  int64_t format = 0;
  if (!json->is_object() || !Get(*json, "format", &format)) {
    complain("it has no \"format\"");
    return contents;
  }
  // Another version of the host may have written it, and its entries may have grown.
  if (format != kFormat) {
    complain(fmt::format("its format is {}, and this host reads {}", format, kFormat));
  }
  const auto list = json->find("withdrawn");
  if (list == json->end() || !list->is_array()) {
    complain("it has no list \"withdrawn\"");
    return contents;
  }
  for (const Json& item : *list) {
    std::optional<Entry> entry = EntryOf(item);
    if (!entry.has_value()) {
      complain("an entry is incomplete");
      continue;
    }
    if (contents.entries.size() >= kPluginsMax && !contents.entries.contains(entry->plugin)) {
      complain(fmt::format("it has more than {} entries", kPluginsMax));
      break;
    }
    std::string plugin = entry->plugin;
    contents.entries.insert_or_assign(std::move(plugin), *std::move(entry));
  }
  return contents;
}

std::string WithdrawnVersions::Format(const Entries& entries) {
  Json json = {{"format", kFormat}, {"withdrawn", Json::array()}};
  for (const auto& [plugin, entry] : entries) {
    json["withdrawn"].push_back({{"plugin", plugin},
                                 {"sha256", entry.digest.code},
                                 {"inputs_sha256", entry.digest.inputs},
                                 {"generation", entry.generation},
                                 {"why", entry.why},
                                 {"since", entry.since_ms}});
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// --- The file -----------------------------------------------------------------

WithdrawnVersions::WithdrawnVersions(const std::string& directory)
    : directory_(directory), path_(directory.empty() ? "" : directory + kFileName) {}

absl::StatusOr<WithdrawnVersions> WithdrawnVersions::Open(const std::string& directory) {
  WithdrawnVersions versions(directory);
  if (directory.empty()) return versions;
  // Better now than when a version has to be remembered.
  if (absl::Status status = CheckDirectory(directory); !status.ok()) return status;
  std::optional<Contents> contents = versions.Read();
  if (!contents.has_value()) return versions;
  versions.problem_ = std::move(contents->problem);
  versions.entries_ = std::move(contents->entries);
  if (versions.problem_.empty()) return versions;
  for (const auto& [plugin, entry] : versions.entries_) versions.changes_[plugin] = entry;
  // If it fails, the next one tries again, and says so.
  versions.Save().IgnoreError();
  return versions;
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

std::optional<WithdrawnVersions::Contents> WithdrawnVersions::Read() const {
  const absl::StatusOr<std::string> text = ReadFile(path_, kFileBytesMax);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  Contents contents;
  if (text.ok()) {
    contents = Parse(*text);
  } else {
    contents.problem = MessageOf(text.status());
  }
  if (!contents.problem.empty()) PutAside(&contents);
  return contents;
}

void WithdrawnVersions::PutAside(Contents* contents) const {
  const std::string aside = path_ + ".unreadable";
  const bool moved = std::rename(path_.c_str(), aside.c_str()) == 0;
  const size_t complete = contents->entries.size();
  const std::string kept =
      complete == 0 ? "" : fmt::format(", except for those of its {} complete entries", complete);
  contents->problem = fmt::format(
      "cannot read {}: {}; versions of plugins that were withdrawn before this start may serve "
      "again{}{}",
      path_, contents->problem, kept, moved ? fmt::format("; the file is now {}", aside) : "");
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
  changes_[entry.plugin] = entry;
  std::string plugin = entry.plugin;
  entries_.insert_or_assign(std::move(plugin), std::move(entry));
}

void WithdrawnVersions::Remove(std::string_view plugin) {
  const auto found = entries_.find(plugin);
  if (found == entries_.end()) return;
  changes_[found->first] = std::nullopt;
  entries_.erase(found);
}

// What is in the file, where another host may have written, with the changes of this one.
WithdrawnVersions::Entries WithdrawnVersions::Merged() const {
  std::optional<Contents> found = Read();
  if (!found.has_value()) return entries_;
  Entries entries = std::move(found->entries);
  if (!found->problem.empty()) {
    Log(LogLevel::kError, "{}", found->problem);
    for (const auto& [plugin, entry] : entries_) {
      if (entries.size() < kPluginsMax) entries.emplace(plugin, entry);
    }
  }
  for (const auto& [plugin, entry] : changes_) {
    entries.erase(plugin);
    if (entry.has_value() && entries.size() < kPluginsMax) entries.emplace(plugin, *entry);
  }
  return entries;
}

absl::Status WithdrawnVersions::Save() {
  if (changes_.empty()) return absl::OkStatus();
  const absl::StatusOr<OwnedFd> lock = Lock(directory_);
  absl::Status status = lock.status();
  Entries entries;
  if (status.ok()) {
    entries = Merged();
    status = WriteAtomically(path_, Format(entries));
  }
  if (!status.ok()) {
    return absl::Status(status.code(),
                        fmt::format("cannot write {} (--state_dir): {}; after a restart the "
                                    "versions that were withdrawn may serve again",
                                    path_, MessageOf(status)));
  }
  entries_ = std::move(entries);
  changes_.clear();
  return absl::OkStatus();
}

}  // namespace callout::host
