// SPDX-License-Identifier: Apache-2.0

// Remembers over restarts which versions of plugins were withdrawn (--state_dir): rolled back, gone
// back from, or in quarantine. At most one of each plugin.
//
//   absl::StatusOr<WithdrawnVersions> versions = WithdrawnVersions::Open("/var/lib/callout-host");
//   if (const auto* entry = versions->Find("auth", digest)) …   // it must not serve
//   versions->Set({.plugin = "auth", .digest = digest, .why = "…"});
//   versions->Save();                                            // writes if something has changed
//
// A version is what its generation is made of: code, configuration, settings, and the files of the
// setting `watch`. If one of these changes, it is another version.
//
// The file is DIR/withdrawn.json:
//
//   {"format": 1, "withdrawn": [
//     {"plugin": "auth", "sha256": "…", "inputs_sha256": "…", "generation": 2,
//      "why": "…", "since": 1764426517000}]}
//
// If it cannot be read, is of another format, or has something else in it, the host serves without
// it: refusing to start would turn a damaged file into an outage of everything. The file is then
// renamed to withdrawn.json.unreadable, and `problem` says so. Entries of it that are complete
// hold nevertheless, and are written to a new file.
//
// Several hosts may have the same directory, though each should have its own: a Save changes only
// the plugins that this host has changed, and leaves what others have written meanwhile. A lock of
// the directory (flock) keeps them from writing at the same time.
//
// One thread at a time.
//
// Tested by tests/host/reload/withdrawn_versions_test.cc.
#ifndef CALLOUT_HOST_RELOAD_WITHDRAWN_VERSIONS_H_
#define CALLOUT_HOST_RELOAD_WITHDRAWN_VERSIONS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/reload/generation.h"

namespace callout::host {

struct VersionDigest {
  std::string code;    // SHA-256
  std::string inputs;  // of configuration, settings and watched files
  bool operator==(const VersionDigest&) const = default;
};

VersionDigest DigestOf(const GenerationSource& source);

// Which files a version follows, and how they are, makes no other one.
inline bool IsSameVersion(const GenerationSource& a, const GenerationSource& b) {
  return DigestOf(a) == DigestOf(b);
}

class WithdrawnVersions {
 public:
  // Plugins that are remembered; the versions of further ones are not.
  static constexpr size_t kPluginsMax = 1000;
  static constexpr size_t kFileBytesMax = 4194304;
  static constexpr size_t kWhyBytesMax = 1024;
  static constexpr int kLockWaitMs = 5000;

  struct Entry {
    std::string plugin;
    VersionDigest digest;
    uint64_t generation = 0;  // its number, in the run that has withdrawn it
    std::string why;
    int64_t since_ms = 0;  // since 1970
  };
  using Entries = std::map<std::string, Entry, std::less<>>;  // by plugin

  // What a file says. `problem` is "" if all of it was understood; else one line, and `entries` has
  // those that were.
  struct Contents {
    Entries entries;
    std::string problem;
  };
  static Contents Parse(std::string_view text);
  static std::string Format(const Entries& entries);

  // OK if a file can be written in the directory; none is left there. Also beside a host that uses
  // it.
  static absl::Status CheckDirectory(const std::string& directory);
  // "" remembers nothing. Errors of CheckDirectory.
  static absl::StatusOr<WithdrawnVersions> Open(const std::string& directory);

  // Null: no version of the plugin, or another one.
  const Entry* Find(std::string_view plugin, const VersionDigest& digest) const;
  const Entry* FindAny(std::string_view plugin) const;
  void Set(Entry entry);
  void Remove(std::string_view plugin);

  // OK if nothing has changed since the last time that it was. An error is one line. Waits for
  // another host that writes, at most kLockWaitMs.
  absl::Status Save();

  // One line about the file that was found; "": there is nothing to say.
  const std::string& problem() const { return problem_; }

 private:
  explicit WithdrawnVersions(const std::string& directory);

  // What is in the file now; puts it aside if that is not understood. Nothing: there is none.
  std::optional<Contents> Read() const;
  void PutAside(Contents* contents) const;
  Entries Merged() const;

  std::string directory_, path_;  // "": nothing is remembered
  Entries entries_;
  // Of plugins, since the last Save that was OK; nothing: the entry was removed.
  std::map<std::string, std::optional<Entry>, std::less<>> changes_;
  std::string problem_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_WITHDRAWN_VERSIONS_H_
