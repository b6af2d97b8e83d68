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
// If it cannot be read, or has something else in it, the host serves without it: refusing to start
// would turn a damaged file into an outage of everything. The file is then renamed to
// withdrawn.json.unreadable, and `problem` says so.
//
// One thread at a time.
//
// Tested by tests/host/reload/withdrawn_versions_test.cc.
#ifndef CALLOUT_HOST_RELOAD_WITHDRAWN_VERSIONS_H_
#define CALLOUT_HOST_RELOAD_WITHDRAWN_VERSIONS_H_

#include <cstddef>
#include <cstdint>
#include <map>
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

class WithdrawnVersions {
 public:
  // Plugins that are remembered; the versions of further ones are not.
  static constexpr size_t kPluginsMax = 1000;
  static constexpr size_t kFileBytesMax = 4194304;
  static constexpr size_t kWhyBytesMax = 1024;

  struct Entry {
    std::string plugin;
    VersionDigest digest;
    uint64_t generation = 0;  // its number, in the run that has withdrawn it
    std::string why;
    int64_t since_ms = 0;  // since 1970
  };

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

  // OK if nothing has changed since the last time that it was. An error is one line.
  absl::Status Save();

  // One line about the file that was found; "": there is nothing to say.
  const std::string& problem() const { return problem_; }

 private:
  explicit WithdrawnVersions(std::string path) : path_(std::move(path)) {}

  void Read();
  void PutAside(std::string_view why);

  std::string path_;                                   // "": nothing is remembered
  std::map<std::string, Entry, std::less<>> entries_;  // by plugin
  bool changed_ = false;
  std::string problem_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_WITHDRAWN_VERSIONS_H_
