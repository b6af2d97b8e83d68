// SPDX-License-Identifier: Apache-2.0

// Decides which version of which plugin serves: looks at the operator's files,
// has a generation made of what has changed, and has all changes of a look
// switched over at once.
//
//   Reloader reloader({.sources = …, .target = &set, .metrics = &metrics});
//   absl::Status status = reloader.LoadFirst(MonotonicNs());  // before the first stream
//   uint64_t due_ns = reloader.Look(MonotonicNs());           // whenever files may have changed
//
// A change is taken up once it has rested for kDebounceNs: files are often written
// slowly, and one after the other. One that does not do (it cannot be loaded, its
// create fails) changes nothing: the generation in service goes on, and the reason
// is in the log, in Status() and in callout_reloads_total. A generation that fails
// its trial is withdrawn in favour of the one before. A file that is gone takes
// its plugin out of service; a directory that is gone does not.
//
// A create that does not return within Options::create_patience_ns goes on beside the reloading
// thread, and the reloads of other plugins go on, too. Its generation serves when it is there.
//
// A shared object of a directory that has nothing of a plugin, and that another one there needs
// (DT_NEEDED), is a library and no broken plugin.
//
// Metrics: callout_reloads_total{plugin,outcome}, with the outcomes loaded, failed,
// removed and withdrawn; callout_plugin_refused{plugin}, 1 while the file that is
// there is not the one that serves; callout_plugin_problems, how many there are;
// callout_plugin_stand_ins, how many plugins a stand-in answers for;
// callout_plugin_creates_running, creates of new versions that have not returned.
//
// Two files implement it: reloader.cc (what is to serve) and reloader_status.cc
// (what is shown of it).
//
// All functions but Status belong to one thread at a time; Status to any.
#ifndef CALLOUT_HOST_RELOAD_RELOADER_H_
#define CALLOUT_HOST_RELOAD_RELOADER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/metrics/metrics.h"
#include "host/reload/generation.h"
#include "host/reload/plugin_config.h"
#include "host/reload/plugin_contents.h"
#include "host/reload/plugin_sources.h"
#include "host/reload/preparation.h"
#include "host/reload/private_copy.h"

namespace callout::host {

class Reloader {
 public:
  static constexpr uint64_t kDebounceNs = 100'000'000;
  // For a file that is no whole ELF file: it may be a slow copy.
  static constexpr uint64_t kIncompleteRestNs = 2'000'000'000;
  // Creates that have not returned; more are not begun.
  static constexpr size_t kCreatesMax = 16;
  // With more plugins that do not load the host does not start.
  static constexpr size_t kStandInsMax = 64;
  static constexpr uint64_t kNever = UINT64_MAX;

  struct Options {
    PluginSources::Options sources;
    RequirePlugins require_plugins = RequirePlugins::kAuto;
    PluginFileRules file_rules;
    uint64_t create_timeout_ms = 10000;
    GenerationTarget* target = nullptr;    // outlives the reloader
    Metrics* metrics = nullptr;            // outlives the reloader
    std::vector<std::string> copy_places;  // of PrivateCopies; empty: the usual
    // How long the other plugins wait for a create.
    uint64_t create_patience_ns = 500'000'000;
  };

  enum class State : uint8_t {
    kServing,
    kRefused,   // nothing of it serves: what there is does not do
    kWaiting,   // nothing of it serves: its file is not there, or not whole yet
    kDisabled,  // by its settings
    kRemoved,   // its file is gone; its last streams may go on
    kLibrary,   // no plugin, and another plugin of a directory needs it
  };

  struct GenerationStatus {
    GenerationId id = 0;
    uint64_t number = 0;
    std::string sha256;
    int64_t loaded_at_ms = 0;  // since 1970
    bool in_service = false;
    GenerationFacts facts;
  };

  struct PluginStatus {
    std::string name;
    std::string path;
    State state = State::kWaiting;
    bool stand_in = false;   // answers in place of the plugin
    std::string last_error;  // "": what is there serves
    int64_t last_error_at_ms = 0;
    std::vector<GenerationStatus> generations;  // newest first
  };

  struct Snapshot {
    std::vector<PluginStatus> plugins;  // in chain order, then those that are gone
    // Whatever is not as the operator wants it, one line each: directories, names, files that were
    // refused or withdrawn.
    std::vector<std::string> problems;
  };

  explicit Reloader(Options options);

  // Tries every plugin there is, once, without waiting for rest, and logs nothing.
  // An error if one that --require_plugins requires does not load, or a directory cannot be read.
  // By default a stand-in takes the place of one of a directory that does not load: all its calls
  // are faults, answered by the plugin's error policy.
  absl::Status LoadFirst(uint64_t now_ns);
  // A line for each plugin and problem, once the start has succeeded.
  void LogFirst() const;

  // Takes up what has changed. Returns when to look again by the clock; kNever if
  // nothing is under way.
  uint64_t Rescan(uint64_t now_ns);

  // The next look tries refused files again, changed or not.
  void Retry() { retry_ = true; }

  // Puts the generation before in the place of those whose trial has failed.
  void WithdrawFailed();

  // Logs which generations have ended since the last call.
  void NoteEnded();

  // What a DirectoryWatch should watch, as of the last look.
  const std::vector<std::string>& watched_paths() const { return watched_paths_; }

  Snapshot Status() const;

  // False while a stand-in answers for a plugin. Any thread.
  bool complete() const { return complete_.load(std::memory_order_acquire); }

 private:
  // A generation whose create has not returned yet.
  struct Pending {
    GenerationSource source;
    std::shared_ptr<Preparation> preparation;
    uint64_t deadline_ns = 0;
    bool overdue = false;  // and that was said
  };

  struct Slot {
    PluginFiles files;
    bool listed = false;
    std::vector<std::string> followed;  // files of the plugin's own that it follows
    PluginStamps seen;                  // at the last look
    uint64_t seen_since_ns = 0;
    std::optional<PluginStamps> taken;        // what has been dealt with
    std::optional<GenerationSource> current;  // what serves, or the stand-in
    std::optional<Pending> pending;
    std::optional<GenerationSource> previous;   // to go back to
    std::optional<GenerationSource> withdrawn;  // not to be taken again
    uint64_t last_number = 0;
    std::vector<std::string> watch;     // of the settings
    std::string settings_text;          // as last read, if they were valid
    std::vector<std::string> warnings;  // about the files that were read last
    // What the code that was read last is to other files: its name and the libraries it needs.
    std::string soname;
    std::vector<std::string> needed;
    absl::Status not_a_plugin;  // not OK: it has nothing of a plugin, but may be a library
    State state = State::kWaiting;
    absl::Status refusal;  // of what was dealt with last
    int64_t refused_at_ms = 0;
    std::vector<GenerationStatus> generations;  // newest first
  };

  enum class Outcome : uint8_t { kLoaded, kFailed, kRemoved, kWithdrawn };
  // What to do about a slot's files, after they were read.
  enum class Taken : uint8_t { kDone, kIncomplete, kChanging };

  void RescanEverything(uint64_t now_ns, bool first, uint64_t* due_ns);
  void UpdateSlots();
  void UpdateProblems(const std::vector<PluginSources::Problem>& problems);
  uint64_t RescanFile(Slot* slot, uint64_t now_ns, bool first);
  void SettleLibraries();
  bool IsNeeded(const Slot& slot) const;
  uint64_t RescanStamps(Slot* slot, uint64_t now_ns, bool first);
  uint64_t CheckPending(Slot* slot, uint64_t now_ns);
  void DropPending(Slot* slot);
  void ReapAbandoned();
  std::string DescribeServing(const Slot& slot) const;
  void StandIn(Slot* slot);
  static std::vector<FileStamp> StampsOfFollowed(const Slot& slot);
  Taken Take(Slot* slot, bool at_once, uint64_t rested_ns);
  Taken Decide(Slot* slot, PluginContents contents, bool may_be_incomplete);
  void NoteCode(Slot* slot, const std::string& code);
  absl::Status Adopt(Slot* slot, PluginContents contents);
  absl::Status Prepare(Slot* slot, GenerationSource source);
  absl::StatusOr<std::shared_ptr<const PrivateCopy>> CopyOf(const Slot& slot,
                                                            PluginContents* contents);
  void Refuse(Slot* slot, absl::Status status);
  void StopServing(Slot* slot, State state);
  void Serve(Slot* slot, GenerationSource source, GenerationFacts facts);
  void Withdraw(Slot* slot);
  void Commit();
  bool IsRequired(const Slot& slot) const;

  // --- reloader_status.cc ---
  void Count(const Slot& slot, Outcome outcome);
  void Say(LogLevel level, std::string text);
  void Publish();
  void PublishStatus();
  bool IsRefusal(const PluginSources::Problem& problem) const;
  void SetGauge(const char* name, const char* help, size_t value);
  PluginStatus StatusOf(const Slot& slot) const;

  const Options options_;
  PluginSources sources_;
  std::shared_ptr<PrivateCopies> copies_;  // made when first needed
  std::vector<std::string> order_;         // names, in chain order
  std::map<std::string, Slot> slots_;
  std::vector<Pending> abandoned_;
  std::vector<GenerationId> committed_;
  std::vector<std::string> watched_paths_;
  std::vector<PluginSources::Problem> problems_;
  GenerationId last_id_ = 0;
  bool retry_ = false;
  bool quiet_ = true;                                      // until LoadFirst is done
  uint64_t now_ns_ = 0;                                    // of the look under way
  std::vector<std::pair<LogLevel, std::string>> sayings_;  // for the log, after Commit

  std::atomic<bool> complete_{true};
  mutable std::mutex mutex_;
  Snapshot snapshot_;  // guarded by mutex_
};

// "serving", "refused", …
std::string_view StateName(Reloader::State state);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_RELOADER_H_
