// SPDX-License-Identifier: Apache-2.0

// Decides which version of each plugin serves. It rescans the operator's files, creates generations
// of those that have changed, and puts all changes of a rescan into service at once.
//
//   Reloader reloader({.sources = …, .target = &set, .metrics = &metrics});
//   absl::Status status = reloader.LoadFirst(MonotonicNs());  // before the first stream
//   uint64_t due_ns = reloader.Rescan(MonotonicNs());         // whenever files may have changed
//
// A file counts as changed once it has been stable for kDebounceNs (debounce): files are often
// written slowly, and one after the other. If a new version cannot be loaded or its create fails,
// the generation in service stays, and the reason is in the log, in Status() and in
// callout_reloads_total. A generation that fails its trial is rolled back to the one before
// ("withdrawn"); if that one cannot be created, this is tried again every kReturnRetryNs. Removing
// a file takes its plugin out of service; a missing directory does not.
//
// With the setting `canary` a new version does not replace the one in service, but serves a share
// of the streams beside it (host/reload/canary.h decides): it is promoted, or withdrawn.
//
// With --state_dir a version that was withdrawn, or whose plugin is in quarantine, stays out of
// service over a restart (host/reload/withdrawn_versions.h), until the file changes or the operator
// says otherwise: by Release, or by touching the file and SIGHUP (Retry).
//
// A change of a file that a plugin follows (GenerationFacts) makes a new generation, as a change of
// its own files does. The files of the version in service and of a canary are followed. If the
// plugin's file has another version than the one in service (withdrawn, refused, or a canary), the
// one in service is created again, so that it reads what has changed. A withdrawn version stays so:
// what it follows does not make it another one.
//
// If a create takes longer than Options::create_patience_ns, the reloads of other plugins go on
// meanwhile. Its generation serves once create has returned.
//
// A shared object in a directory without any callout_* symbol, which another one there needs
// (DT_NEEDED), is a library and not a broken plugin.
//
// Metrics: callout_reloads_total{plugin,outcome}, with the outcomes loaded, failed,
// removed, withdrawn and promoted; callout_plugin_refused{plugin}, 1 while the current file
// is not the one that serves; callout_plugin_problems, their number;
// callout_plugin_stand_ins, plugins for which a stand-in answers;
// callout_plugin_creates_running, creates of new versions that have not returned;
// callout_canary_running{plugin}, 1 while a canary serves.
//
// Three files implement it: reloader.cc (decisions), reloader_recreate.cc (versions that have
// served are created again) and reloader_status.cc (log, metrics, status).
//
// All functions except Status and complete belong to one thread at a time.
#ifndef CALLOUT_HOST_RELOAD_RELOADER_H_
#define CALLOUT_HOST_RELOAD_RELOADER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
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
#include "host/reload/withdrawn_versions.h"

namespace callout::host {

class Reloader {
 public:
  static constexpr uint64_t kDebounceNs = 100'000'000;
  // The same for a file that is not a complete ELF file: it may be copied slowly.
  static constexpr uint64_t kIncompleteRestNs = 2'000'000'000;
  // Creates that may run at the same time.
  static constexpr size_t kCreatesMax = 16;
  // From a failed attempt to go back to the next.
  static constexpr uint64_t kReturnRetryNs = 5'000'000'000;
  // If more plugins than this do not load, the host does not start.
  static constexpr size_t kStandInsMax = 64;
  static constexpr uint64_t kNever = UINT64_MAX;

  struct Options {
    PluginSources::Options sources;
    RequirePlugins require_plugins = RequirePlugins::kAuto;
    PluginFileRules file_rules;
    uint64_t create_timeout_ms = 10000;
    std::string state_dir;                 // of WithdrawnVersions; "": none
    GenerationTarget* target = nullptr;    // outlives the reloader
    Metrics* metrics = nullptr;            // outlives the reloader
    std::vector<std::string> copy_places;  // of PrivateCopies; empty: the usual
    // How long the other plugins wait for a create.
    uint64_t create_patience_ns = 500'000'000;
  };

  enum class State : uint8_t {
    kServing,
    kRefused,   // no version is active: the current file was refused
    kWaiting,   // no version is active: its file is absent or incomplete
    kDisabled,  // by its settings
    kRemoved,   // its file was removed; its last streams may go on
    kLibrary,   // not a plugin; another file of the directory needs it
  };

  struct GenerationStatus {
    GenerationId id = 0;
    uint64_t number = 0;
    std::string sha256;
    std::string signer;        // as in PluginContents
    int64_t loaded_at_ms = 0;  // since 1970
    bool in_service = false;
    double canary_percent = 0;  // of a canary: its share of the streams
    GenerationFacts facts;
  };

  struct PluginStatus {
    std::string name;
    std::string path;
    State state = State::kWaiting;
    bool stand_in = false;   // a stand-in answers for the plugin
    std::string last_error;  // "": the current file serves
    int64_t last_error_at_ms = 0;
    bool may_go_back = false;                   // there is a generation for GoBack
    bool has_canary = false;                    // that Promote puts into service
    bool shadow = false;                        // it only watches
    bool withdrawn = false;                     // its file's version is; Release loads it again
    std::vector<GenerationStatus> generations;  // newest first
  };

  struct Snapshot {
    std::vector<PluginStatus> plugins;  // in chain order, then removed ones
    // One line for everything that is not as the operator wants it: directories, names, and files
    // that were refused or withdrawn.
    std::vector<std::string> problems;
  };

  explicit Reloader(Options options);

  // Loads every plugin, once, without debouncing, and logs nothing. An error if a plugin that
  // --require_plugins requires does not load, or if a directory cannot be read. By default a
  // stand-in replaces a plugin of a directory that does not load: all its calls are faults, so the
  // plugin's error policy decides. If no stand-in can be created, that is an error: the plugin's
  // requests would pass.
  absl::Status LoadFirst(uint64_t now_ns);
  // Logs each plugin and problem, once the start has succeeded.
  void LogFirst() const;

  // Rescans the files. Returns the time of the next rescan; kNever if nothing is pending.
  uint64_t Rescan(uint64_t now_ns);

  // The next rescan tries refused files again, changed or not.
  void Retry() { retry_ = true; }

  // Rolls back generations whose trial has failed.
  void WithdrawFailed();

  // Goes on with going back where WithdrawFailed and GoBack could not finish it: the create of the
  // earlier generation had not returned, or had failed. To be called after them. Returns the time
  // at which it is to be called again; kNever if there is nothing to finish.
  uint64_t CheckReturns(uint64_t now_ns);

  // Rolls back or promotes canaries by their counts. Returns the time at which it is to be called
  // again; kNever if there is no canary.
  uint64_t CheckCanaries(uint64_t now_ns);

  // Asked for by the operator. The generation before the one in service serves again, or of a
  // canary the one beside it, and the file of `plugin` is not loaded again until it changes.
  // NOT_FOUND if there is no such plugin, FAILED_PRECONDITION if it has no earlier generation.
  // DEADLINE_EXCEEDED if its create takes longer than Options::create_patience_ns: it serves once
  // that has returned.
  absl::Status GoBack(const std::string& plugin);
  // Puts the canary of `plugin` into service. FAILED_PRECONDITION if it has none.
  absl::Status Promote(const std::string& plugin);
  // Ends the quarantine of `plugin`, or lets the version of its file that was withdrawn be loaded
  // again. FAILED_PRECONDITION if there is neither, or if it cannot be created and so stays in
  // quarantine.
  absl::Status Release(const std::string& plugin);

  // Logs which generations have ended since the last call.
  void NoteEnded();

  // The paths for a DirectoryWatch, as of the last rescan.
  const std::vector<std::string>& watched_paths() const { return watched_paths_; }

  Snapshot Status() const;

  // False while a stand-in answers for a plugin, or should and could not be created: then each
  // rescan tries again. Any thread.
  bool complete() const { return complete_.load(std::memory_order_acquire); }

 private:
  // A generation whose create has not returned yet.
  struct Pending {
    GenerationSource source;
    std::shared_ptr<Preparation> preparation;
    uint64_t deadline_ns = 0;
    bool overdue = false;  // it was reported as too slow
  };

  // What a create has come to.
  struct Created {
    GenerationSource source;
    absl::StatusOr<GenerationFacts> facts;
  };

  // A version that serves beside the one in service.
  struct Canary {
    GenerationSource source;
    CanarySettings settings;
    uint64_t since_ns = 0;
    uint64_t crashes = 0;  // of the plugin, before it
  };

  // `previous` is to serve again, and does not yet.
  struct Return {
    absl::Status reason;             // why the generation in service leaves
    bool repeat = false;             // until it has left, since nobody asks again
    bool by_operator = false;        // so the plugin's file is not loaded, unless it fails
    std::optional<Pending> pending;  // nothing: its last create has failed
    uint64_t retry_ns = 0;           // then; 0: CheckReturns says when
  };

  struct Slot {
    PluginFiles files;
    bool listed = false;
    // At the last rescan: its own files, and those that the versions follow that serve.
    PluginStamps seen;
    FollowedFiles seen_followed;
    uint64_t seen_since_ns = 0;
    // The files that were handled last.
    std::optional<PluginStamps> taken;
    FollowedFiles taken_followed;
    bool file_serves = false;                 // those files are the version in service
    std::optional<GenerationSource> current;  // the generation in service, or the stand-in
    std::optional<Pending> renewal;           // of it, since files that it follows have changed
    absl::Status stale_error;                 // not OK: that failed
    std::optional<Canary> canary;
    std::optional<Pending> pending;
    std::optional<GenerationSource> previous;   // to roll back to
    std::optional<Return> returning;            // to it
    std::optional<GenerationSource> withdrawn;  // not to be loaded again
    bool touched = false;                       // since it was withdrawn
    bool forgiven = false;                      // the operator has: it is loaded again
    uint64_t last_number = 0;
    std::vector<std::string> watch;     // of the settings
    std::string settings_text;          // the last valid ones
    std::vector<std::string> warnings;  // about the files that were read last
    // Of the code that was read last: its name for other files, and the libraries that it needs.
    std::string soname;
    std::vector<std::string> needed;
    absl::Status not_a_plugin;  // not OK: it is no plugin, but may be a library
    State state = State::kWaiting;
    absl::Status refusal;  // of the files that were handled last
    int64_t refused_at_ms = 0;
    absl::Status stand_in_error;  // not OK: a stand-in should answer, and could not be created
    std::vector<GenerationStatus> generations;  // newest first
  };

  enum class Outcome : uint8_t { kLoaded, kFailed, kRemoved, kWithdrawn, kPromoted };
  // What was done about a slot's files.
  enum class Taken : uint8_t { kDone, kIncomplete, kChanging };

  void RescanEverything(uint64_t now_ns, bool first, uint64_t* due_ns);
  static int64_t NowMs();  // since 1970
  void UpdateSlots();
  void UpdateProblems(const std::vector<PluginSources::Problem>& problems);
  uint64_t RescanFile(Slot* slot, uint64_t now_ns, bool first);
  void SettleLibraries();
  bool IsNeeded(const Slot& slot) const;
  uint64_t RescanStamps(Slot* slot, uint64_t now_ns, bool first);
  void CheckPending(Slot* slot, uint64_t now_ns);
  static std::optional<Created> TakeReturned(std::optional<Pending>* pending);
  static bool IsNowOverdue(Pending* pending, uint64_t now_ns);
  void Abandon(std::optional<Pending>* pending);
  void ReapAbandoned();
  std::string DescribeServing(const Slot& slot) const;
  absl::Status StandIn(Slot* slot);
  void RetryStandIns();
  static void NoteStamps(Slot* slot, uint64_t now_ns);
  static std::set<std::string> FollowedPaths(const Slot& slot);
  static bool Serves(const Slot& slot, const GenerationSource& version);
  static bool HasChanged(const GenerationSource& source, const FollowedFiles& now);
  static bool FollowedHaveChanged(const Slot& slot);
  Taken Take(Slot* slot, bool at_once, uint64_t rested_ns);
  Taken Decide(Slot* slot, PluginContents contents, bool may_be_incomplete);
  void NoteCode(Slot* slot, const std::string& code);
  absl::Status Adopt(Slot* slot, PluginContents contents, const InstanceSettings& settings);
  bool IsWithdrawn(Slot* slot, const GenerationSource& wanted);
  bool Recall(Slot* slot, const GenerationSource& wanted);
  bool IsShadow(const Slot& slot) const;
  absl::Status Prepare(Slot* slot, GenerationSource source);
  absl::StatusOr<Pending> StartAside(GenerationSource source);
  absl::StatusOr<std::shared_ptr<const PrivateCopy>> CopyOf(const Slot& slot,
                                                            PluginContents* contents);
  void Refuse(Slot* slot, absl::Status status);
  void StopServing(Slot* slot, State state);
  void Serve(Slot* slot, GenerationSource source, GenerationFacts facts);
  void AddGeneration(Slot* slot, GenerationSource* source, GenerationFacts facts);
  void CurrentLeaves(Slot* slot);
  void ServeBeside(Slot* slot, GenerationSource source);
  void Withdraw(Slot* slot);
  void RollBack(Slot* slot, const absl::Status& reason);
  void PromoteCanary(Slot* slot, std::string_view by);
  void Commit();
  bool IsRequired(const Slot& slot) const;

  // --- reloader_recreate.cc ---
  absl::Status ReturnToPrevious(Slot* slot, absl::Status reason);
  absl::Status CheckReturn(Slot* slot);
  absl::Status FinishReturn(Slot* slot, GenerationSource source,
                            absl::StatusOr<GenerationFacts> facts);
  uint64_t AdvanceReturn(Slot* slot, uint64_t now_ns);
  uint64_t AwaitReturn(Slot* slot, uint64_t now_ns);
  void NoteFailing(Slot* slot, const absl::Status& why);
  void RenewCurrent(Slot* slot);
  void CheckRenewal(Slot* slot, uint64_t now_ns);
  void FinishRenewal(Slot* slot, GenerationSource source, absl::StatusOr<GenerationFacts> facts);
  void NoteStale(Slot* slot, const absl::Status& why);

  // --- reloader_status.cc ---
  void Count(const Slot& slot, Outcome outcome);
  void Say(LogLevel level, std::string text);
  void Publish();
  void PublishStatus();
  void RememberWithdrawn(const GenerationTarget::Usage& usage);
  bool IsRefusal(const PluginSources::Problem& problem) const;
  void SetGauge(const char* name, const char* help, size_t value);
  PluginStatus StatusOf(const Slot& slot) const;

  const Options options_;
  PluginSources sources_;
  std::shared_ptr<PrivateCopies> copies_;  // created when first needed
  std::vector<std::string> order_;         // names, in chain order
  std::map<std::string, Slot> slots_;
  std::vector<Pending> abandoned_;
  std::vector<GenerationId> committed_;
  std::optional<WithdrawnVersions> withdrawn_;  // from LoadFirst on
  std::vector<std::string> watched_paths_;
  std::vector<PluginSources::Problem> problems_;
  GenerationId last_id_ = 0;
  bool retry_ = false;
  bool quiet_ = true;                                      // until LoadFirst has returned
  uint64_t now_ns_ = 0;                                    // of the current rescan
  std::vector<std::pair<LogLevel, std::string>> sayings_;  // for the log, after Commit

  std::atomic<bool> complete_{true};
  mutable std::mutex mutex_;
  Snapshot snapshot_;  // guarded by mutex_
};

// "serving", "refused", …
std::string_view StateName(Reloader::State state);

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_RELOADER_H_
