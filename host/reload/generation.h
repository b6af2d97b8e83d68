// SPDX-License-Identifier: Apache-2.0

// One version of one plugin: what it is made of, what became of it, and who makes
// it. The reloader (host/reload/reloader.h) decides which generations there are; a
// GenerationTarget has them: the process's own plugin set (host/reload/plugin_set.h), or
// the workers' together.
//
// Plain values, and an interface for the one thread that reloads.
//
// Tested by tests/host/reload/reloader_test.cc.
#ifndef CALLOUT_HOST_RELOAD_GENERATION_H_
#define CALLOUT_HOST_RELOAD_GENERATION_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "host/base/file.h"
#include "host/plugin/settings.h"
#include "host/reload/private_copy.h"

namespace callout::host {

// Never used twice by a host. 0: none.
using GenerationId = uint64_t;

// All that makes a generation. The same code, configuration and settings make an
// equal one.
struct GenerationSource {
  GenerationId id = 0;
  uint64_t number = 0;  // of this plugin's: 1, 2, …
  std::string name;
  std::string path;  // the operator's file
  std::string sha256;
  std::string load_path;                    // what is loaded: the copy, or `path` itself
  std::shared_ptr<const PrivateCopy> copy;  // keeps it there; may be null
  std::string config;
  std::string settings_text;          // "": none
  std::string watched_sha256;         // of the files that the settings tell to watch; "": none
  std::optional<ErrorPolicy> policy;  // above what the settings say
  std::vector<FileStamp> followed;    // the files it follows, as they were when it was made
  // Not empty: no code is loaded. An instance of this name and these settings stands
  // in its place, all of whose calls are faults, with this text.
  std::string quarantine;
  bool on_trial = false;  // it takes the place of another
  // It is prepared beside the reloading thread: a Commit without it does not drop it.
  bool aside = false;
};

// `settings_text` with `policy` above it.
absl::StatusOr<InstanceSettings> SettingsOf(const GenerationSource& source);

// What the plugin says of itself.
struct GenerationFacts {
  std::string name;
  std::string version;
  std::string description;
  uint32_t abi_version = 0;
  std::string config_schema;  // JSON, or empty
  // Absolute paths: a change of one of them makes a new generation.
  std::vector<std::string> followed_files;
  std::vector<std::string> hooks;
  uint64_t phases = 0;    // CALLOUT_PHASE_BIT of each that the instance wants
  uint32_t services = 0;  // RpcServices that there are hooks for
  std::vector<std::string> warnings;
};

class GenerationTarget {
 public:
  virtual ~GenerationTarget() = default;

  // Makes the generation, beside those in service; it serves nothing before
  // Commit. An error is one line: what was wrong with which file.
  virtual absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) = 0;

  // Whether Prepare may run on another thread than the reloading one, also several at a time.
  virtual bool MayPrepareAside() const { return false; }

  // What was prepared aside is not wanted after all.
  virtual void Discard(GenerationId) {}

  // New streams get the generations of these ids, in this order, from now on and
  // all at once. All were prepared and not left out of a Commit since; those left
  // out now end with their last stream.
  virtual void Commit(const std::vector<GenerationId>& chain) = 0;

  // The operator has touched the generation's files or asked for everything to be tried
  // again: if it was taken out of service for its crashes, it comes back.
  virtual void EndQuarantine(GenerationId) {}

  // Whatever the target has to do on the reloading thread.
  virtual void DoChores() {}

  // The generations whose trial has failed since the last call.
  virtual std::vector<GenerationId> TakeFailedTrials() = 0;

  struct Usage {
    std::map<GenerationId, size_t> streams = {};  // of every generation that is not destroyed
    size_t mapped = 0;  // files loaded, which stay mapped as long as the process lives
    std::map<std::string, std::string> quarantined = {};  // why, by plugin
    std::map<std::string, std::string> last_crash = {};   // in words, by plugin
    std::map<std::string, uint64_t> crashes = {};         // since the start, by plugin
    std::vector<std::string> problems = {};  // each in a line, with what to do about it
    // False: somebody who may have more generations has not told in time.
    bool complete = true;
  };
  // Any thread.
  virtual Usage GetUsage() const = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_GENERATION_H_
