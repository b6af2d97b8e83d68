// SPDX-License-Identifier: Apache-2.0

// A generation is one version of one plugin. Here are what it is made of, what it says about
// itself, and the interface of whatever creates it. The reloader (host/reload/reloader.h) decides
// which generations there are. They live in a GenerationTarget: the PluginSet of this process, or
// the workers.
//
// Plain values, and an interface for the reloading thread.
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
#include "host/plugin/call_tally.h"
#include "host/plugin/settings.h"
#include "host/reload/private_copy.h"

namespace callout::host {

// A host never uses an id twice. 0: none.
using GenerationId = uint64_t;

// Files that a plugin follows, by path: which version of each there is.
using FollowedFiles = std::map<std::string, FileStamp>;

// Everything that a generation is made of.
struct GenerationSource {
  GenerationId id = 0;
  uint64_t number = 0;  // of this plugin: 1, 2, …
  std::string name;
  std::string path;  // the operator's file
  std::string sha256;
  std::string signer;                       // as in PluginContents; workers are not told
  std::string load_path;                    // the file that is loaded: the copy, or `path` itself
  std::shared_ptr<const PrivateCopy> copy;  // keeps the copy; may be null
  std::string config;
  std::string settings_text;          // "": none; an empty file is an error
  std::string watched_sha256;         // of the files in the setting `watch`; "": none
  std::optional<ErrorPolicy> policy;  // overrides that of the settings
  FollowedFiles followed;             // as of its creation
  // Not empty: a stand-in with this name and these settings, without code. All its calls are faults
  // with this text.
  std::string quarantine;
  // Of a version that was prepared, and of a stand-in for it: GenerationFacts::phases.
  std::optional<uint64_t> phases = std::nullopt;
  bool on_trial = false;  // it replaces another generation
  // By its setting `canary`: while the generation before it in the chain is one of the same plugin,
  // the two divide the streams between them, and the target counts the calls of both.
  bool canary = false;
  // It is prepared on another thread than the reloading one: a Commit without it does not discard
  // it.
  bool aside = false;
};

// The settings of `settings_text`, with the policy overridden by `policy`.
absl::StatusOr<InstanceSettings> SettingsOf(const GenerationSource& source);

// What the plugin says about itself.
struct GenerationFacts {
  std::string name;
  std::string version;
  std::string description;
  uint32_t abi_version = 0;
  std::string config_schema;  // JSON, or empty
  // Files whose change makes a new generation, with absolute paths; as they were before the plugin
  // read them.
  FollowedFiles followed_files;
  std::vector<std::string> hooks;
  std::vector<std::string> extensions = {};  // that it has asked for; " (unknown)" behind one
  uint64_t phases = 0;                       // CALLOUT_PHASE_BIT of each that the instance wants
  uint32_t services = 0;                     // RpcServices that there are hooks for
  std::vector<std::string> warnings;
};

class GenerationTarget {
 public:
  virtual ~GenerationTarget() = default;

  // Creates the generation beside those in service. It does not serve before Commit. An error is
  // one line: what is wrong with which file.
  virtual absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) = 0;

  // Whether Prepare may run on other threads than the reloading one, several at a time.
  virtual bool MayPrepareAside() const { return false; }

  // Discards a generation that was prepared and is not needed.
  virtual void Discard(GenerationId) {}

  // From now on new streams get the generations of these ids, in this order. All were prepared, and
  // were in every Commit since. Generations that are missing here end with their last stream. A
  // canary stands behind the generation that it is compared with.
  virtual void Commit(const std::vector<GenerationId>& chain) = 0;

  // The operator has touched the generation's files or sent SIGHUP: if it is in quarantine, it is
  // enabled again. An error if it cannot be created: then it stays in quarantine.
  virtual absl::Status EndQuarantine(GenerationId) { return absl::OkStatus(); }

  // Does whatever the target has to do on the reloading thread. Returns when (MonotonicNs) it wants
  // to be called again at the latest.
  static constexpr uint64_t kNothingDue = UINT64_MAX;
  virtual uint64_t DoChores() { return kNothingDue; }

  // The generations whose trial has failed since the last call.
  virtual std::vector<GenerationId> TakeFailedTrials() = 0;

  struct Usage {
    std::map<GenerationId, size_t> streams = {};  // by generation that is not destroyed
    // Of canaries and the generations beside them, since these became a pair.
    std::map<GenerationId, CallCounts> calls = {};
    size_t mapped = 0;  // files loaded, which stay mapped until the process ends
    std::map<std::string, std::string> quarantined = {};  // why, by plugin
    std::map<std::string, std::string> last_crash = {};   // in words, by plugin
    std::map<std::string, uint64_t> crashes = {};         // since the start, by plugin
    std::vector<std::string> problems = {};               // one line each, with the remedy
    // False: a worker that may have more generations did not respond in time.
    bool complete = true;
  };
  // Any thread.
  virtual Usage GetUsage() const = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_GENERATION_H_
