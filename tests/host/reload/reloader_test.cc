// SPDX-License-Identifier: Apache-2.0

#include "host/reload/reloader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "sockets.h"
#include "tests/host/base/minisign_signer.h"
#include "tests/host/elf_builder.h"

namespace callout::host {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kMs = 1'000'000;

// Makes generations of any bytes, but for "broken".
class FakeTarget final : public GenerationTarget {
 public:
  absl::StatusOr<GenerationFacts> Prepare(const GenerationSource& source) override {
    if (!source.quarantine.empty()) {
      if (no_stand_ins) return absl::ResourceExhaustedError("no memory for it");
      sources[source.id] = source;
      return GenerationFacts();
    }
    if (Code(source) == "hangs") {
      std::unique_lock<std::mutex> lock(mutex);
      released.wait(lock, [this] { return release; });
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (broken.count(source.name) > 0 || Code(source) == "broken") {
      return absl::InvalidArgumentError("cannot load plugin " + source.path + ": it is broken");
    }
    sources[source.id] = source;
    GenerationFacts facts;
    facts.version = Code(source);
    const auto follows_others = follows.find(Code(source));
    for (const std::string& path :
         follows_others == follows.end() ? followed_files : follows_others->second) {
      facts.followed_files[path] = StampOf(path);
    }
    if (has_read != nullptr) has_read();
    return facts;
  }
  void Commit(const std::vector<GenerationId>& ids) override {
    ++commits;
    chain.clear();
    for (GenerationId id : ids) {
      const GenerationSource& source = sources.at(id);
      chain.push_back(source.name + "=" +
                      (source.quarantine.empty() ? Code(source) + source.config : "stand-in"));
    }
    live.clear();
    for (GenerationId id : ids) live.insert(id);
  }
  std::vector<GenerationId> TakeFailedTrials() override { return std::exchange(failed_trials, {}); }
  bool MayPrepareAside() const override { return aside; }
  void Discard(GenerationId id) override { discarded.push_back(id); }
  void Hold() {
    const std::lock_guard<std::mutex> lock(mutex);
    release = false;
  }
  void Release() {
    const std::lock_guard<std::mutex> lock(mutex);
    release = true;
    released.notify_all();
  }
  Usage GetUsage() const override {
    Usage usage;
    for (GenerationId id : live) usage.streams[id] = 0;
    for (GenerationId id : draining) usage.streams[id] = 1;
    for (const std::string& name : quarantined) usage.quarantined[name] = "it crashed";
    usage.calls = calls;
    usage.crashes = crashes;
    return usage;
  }
  absl::Status EndQuarantine(GenerationId id) override {
    const std::string& name = sources.at(id).name;
    if (broken.contains(name)) return absl::InvalidArgumentError("it is broken");
    quarantined.erase(name);
    return absl::OkStatus();
  }

  static std::string Code(const GenerationSource& source) {
    std::string code;
    std::getline(std::ifstream(source.load_path), code);
    return code;
  }

  std::mutex mutex;
  std::condition_variable released;
  bool release = false;  // those whose code is "hangs"
  bool aside = false;
  bool no_stand_ins = false;
  std::vector<GenerationId> discarded;
  std::set<std::string> broken, quarantined;  // names
  std::vector<std::string> followed_files;
  std::function<void()> has_read;                           // runs at the end of a create
  std::map<std::string, std::vector<std::string>> follows;  // by code; else followed_files
  std::map<GenerationId, GenerationSource> sources;
  std::vector<std::string> chain;
  std::set<GenerationId> live, draining;
  std::map<GenerationId, CallCounts> calls;
  std::map<std::string, uint64_t> crashes;
  std::vector<GenerationId> failed_trials;
  int commits = 0;
};

class ReloaderTest : public ::testing::Test {
 protected:
  ReloaderTest() { fs::create_directory(plugins_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(plugins_ + "/" + name) << text;
  }
  // As a deployment does it.
  void Replace(const std::string& name, const std::string& text) {
    Write("." + name, text);
    fs::rename(plugins_ + "/." + name, plugins_ + "/" + name);
  }
  void Remove(const std::string& name) { fs::remove(plugins_ + "/" + name); }

  absl::Status Start(Reloader::Options options = {}) {
    if (options.sources.directories.empty()) options.sources.directories = {plugins_};
    options.target = &target_;
    options.metrics = &metrics_;
    if (options.copy_places.empty()) options.copy_places = {directory_.Path("")};
    options.create_patience_ns = kMs;
    reloader_.emplace(std::move(options));
    return reloader_->LoadFirst(now_ns_);
  }

  void StartWith(const std::vector<std::string>& names) {
    for (const std::string& name : names) Write(name + ".so", "1");
    const absl::Status status = Start();
    ASSERT_TRUE(status.ok()) << status;
  }

  // Looks now, and as often as it wants to within `ns`.
  void Rescan(uint64_t ns = 0) {
    const uint64_t end_ns = now_ns_ + ns;
    for (;;) {
      reloader_->NoteEnded();
      const uint64_t due_ns = reloader_->Rescan(now_ns_);
      if (due_ns > end_ns) break;
      now_ns_ = due_ns;
    }
    now_ns_ = end_ns;
  }
  void RescanUntilSettled() { Rescan(Reloader::kIncompleteRestNs); }

  Reloader::PluginStatus StatusOf(const std::string& name) {
    for (auto& plugin : reloader_->Status().plugins) {
      if (plugin.name == name) return plugin;
    }
    ADD_FAILURE() << "no status of " << name;
    return {};
  }

  double Reloads(const std::string& plugin, const std::string& outcome) {
    for (const auto& family : metrics_.Collect()) {
      if (family.name != "callout_reloads_total") continue;
      for (const auto& metric : family.metric) {
        std::set<std::string> values;
        for (const auto& label : metric.label) values.insert(label.value);
        if (values == std::set{plugin, outcome}) return metric.counter.value;
      }
    }
    return 0;
  }

  TempDir directory_;
  const std::string plugins_ = directory_.Path("plugins");
  Metrics metrics_;
  FakeTarget target_;
  std::optional<Reloader> reloader_;
  uint64_t now_ns_ = 1000 * kMs;
};

TEST_F(ReloaderTest, LoadsWhatIsThereAtTheStartWithoutWaiting) {
  StartWith({"20-b", "10-a"});
  EXPECT_THAT(target_.chain, ElementsAre("10-a=1", "20-b=1"));
  EXPECT_EQ(target_.commits, 1);
  EXPECT_EQ(StatusOf("10-a").state, Reloader::State::kServing);
}

TEST_F(ReloaderTest, AReplacedFileIsANewGenerationOnceItRests) {
  StartWith({"a"});
  Replace("a.so", "2");
  EXPECT_EQ(reloader_->Rescan(now_ns_), now_ns_ + Reloader::kDebounceNs);
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  EXPECT_EQ(StatusOf("a").generations.front().number, 2u);
  EXPECT_TRUE(target_.sources.rbegin()->second.on_trial);
  EXPECT_EQ(Reloads("a", "loaded"), 2);
}

TEST_F(ReloaderTest, AFileThatGoesOnChangingIsNotTouched) {
  StartWith({"a"});
  for (int i = 0; i < 20; ++i) {
    Write("a.so", "part" + std::string(static_cast<size_t>(i), 'x'));
    Rescan(Reloader::kDebounceNs - kMs);
    EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  }
}

TEST_F(ReloaderTest, AFileThatIsNoWholeElfFileIsGivenMoreTime) {
  StartWith({"a"});
  Write("a.so", "broken");
  Rescan(Reloader::kIncompleteRestNs - kMs);
  EXPECT_EQ(StatusOf("a").last_error, "");
  Rescan(kMs);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("it is broken"));
}

TEST_F(ReloaderTest, TheSameBytesAreNoNewGeneration) {
  StartWith({"a"});
  Replace("a.so", "1");
  RescanUntilSettled();
  EXPECT_EQ(target_.sources.size(), 1u);
  EXPECT_EQ(target_.commits, 1);
}

TEST_F(ReloaderTest, AConfigurationAloneIsANewGenerationOfTheSameCode) {
  StartWith({"a"});
  Write("a.config", "(x)");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1(x)"));
  const GenerationSource& first = target_.sources.begin()->second;
  const GenerationSource& second = target_.sources.rbegin()->second;
  EXPECT_EQ(first.sha256, second.sha256);
  EXPECT_EQ(first.copy, second.copy);
  Remove("a.config");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(ReloaderTest, AChangeOfAFileThatAPluginFollowsIsANewGenerationOfTheSameCode) {
  const std::string keys = directory_.Path("keys.json");
  std::ofstream(keys) << "old";
  target_.followed_files = {keys};
  StartWith({"a"});
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 1u) << "following alone changes nothing";
  EXPECT_THAT(reloader_->watched_paths(), ::testing::Contains(keys));
  std::ofstream(keys + ".new") << "new";
  fs::rename(keys + ".new", keys);
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 2u);
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 2u);
  fs::remove(keys);
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 3u) << "that it goes is a change, too";
  // Followed no more.
  target_.followed_files.clear();
  Replace("a.so", "2");
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 4u);
  std::ofstream(keys) << "again";
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 4u);
}

TEST_F(ReloaderTest, AFollowedFileThatChangesBeforeItsPluginIsCreatedIsReadAgain) {
  const std::string keys = directory_.Path("keys");
  std::ofstream(keys) << "1";
  target_.followed_files = {keys};
  target_.has_read = [&] { std::ofstream(keys) << "22"; };
  StartWith({"a"});
  target_.has_read = nullptr;
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 2u);
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").generations.front().number, 2u) << "and that is all";
}

TEST_F(ReloaderTest, ChangesThatRestTogetherAreSwitchedTogether) {
  StartWith({"a", "b", "c"});
  Replace("a.so", "2");
  Replace("c.so", "2");
  Write("bb.so", "1");
  Write("b.config", "(x)");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=1(x)", "bb=1", "c=2"));
  EXPECT_EQ(target_.commits, 2);
}

TEST_F(ReloaderTest, AFileThatDoesNotDoChangesNothing) {
  StartWith({"a", "b"});
  Replace("a.so", "broken");
  Replace("b.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=2"));
  const auto status = StatusOf("a");
  EXPECT_EQ(status.state, Reloader::State::kServing);
  EXPECT_EQ(status.last_error, "cannot load plugin " + plugins_ + "/a.so: it is broken");
  EXPECT_GT(status.last_error_at_ms, 0);
  EXPECT_EQ(Reloads("a", "failed"), 1);
  RescanUntilSettled();
  EXPECT_EQ(Reloads("a", "failed"), 1) << "once for each version of the file";
}

TEST_F(ReloaderTest, RestoringTheServingFileClearsTheError) {
  StartWith({"a"});
  Replace("a.so", "broken");
  RescanUntilSettled();
  Replace("a.so", "1");
  RescanUntilSettled();
  EXPECT_EQ(StatusOf("a").last_error, "");
  EXPECT_EQ(target_.sources.size(), 1u);
}

TEST_F(ReloaderTest, SettingsThatDoNotDoChangeNothing) {
  StartWith({"a"});
  Write("a.settings", "{\"polices\": \"fail\"}");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("reading " + plugins_ + "/a.settings: "));
}

// A file that was cut off is not one that is absent: its plugin must not serve with its defaults.
TEST_F(ReloaderTest, EmptySettingsChangeNothing) {
  Write("a.settings", R"({"mode": "shadow"})");
  Write("b.settings", R"({"disabled": true})");
  StartWith({"a", "b"});
  for (const char* name : {"a.settings", "b.settings"}) Write(name, "");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_EQ(target_.sources.size(), 1u) << "the version with its settings stays";
  for (const char* name : {"a", "b"}) {
    EXPECT_THAT(StatusOf(name).last_error,
                HasSubstr("reading " + plugins_ + "/" + name + ".settings: the file is empty"));
  }
  EXPECT_EQ(reloader_->Status().problems.size(), 2u);
  Remove("b.settings");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1")) << "no settings are the defaults";
}

TEST_F(ReloaderTest, EmptySettingsAtTheStartHaveAStandIn) {
  Write("a.so", "1");
  Write("a.settings", "");
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
}

// Files are copied one after the other, the settings perhaps first.
TEST_F(ReloaderTest, SettingsThatArriveBeforeTheirPluginAreAProblemUntilItIsThere) {
  StartWith({"a"});
  Write("b.settings", R"({"policy": "deny:503"})");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_TRUE(reloader_->complete());
  EXPECT_THAT(reloader_->Status().problems, ElementsAre(HasSubstr("there is no b.so beside it")));
  Write("b.so", "1");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_THAT(reloader_->Status().problems, IsEmpty());
}

// Nor do they stop a start that requires every plugin.
TEST_F(ReloaderTest, SettingsOfNoPluginStopNoStart) {
  Write("b.settings", "{}");
  Reloader::Options options;
  options.require_plugins = RequirePlugins::kAll;
  ASSERT_TRUE(Start(std::move(options)).ok());
  EXPECT_THAT(reloader_->Status().problems, ElementsAre(HasSubstr("there is no b.so beside it")));
}

TEST_F(ReloaderTest, SettingsDisableAPluginAndEnableItAgain) {
  StartWith({"a"});
  Write("a.settings", "{\"disabled\": true}");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, IsEmpty());
  EXPECT_EQ(StatusOf("a").state, Reloader::State::kDisabled);
  Remove("a.settings");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(ReloaderTest, ARemovedFileEndsItsPluginOnceItIsMissedForAWhile) {
  StartWith({"a", "b"});
  const GenerationId id = *target_.live.begin();
  Remove("a.so");
  Rescan(Reloader::kDebounceNs - kMs);
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  target_.draining = {id};
  Rescan(kMs);
  EXPECT_THAT(target_.chain, ElementsAre("b=1"));
  EXPECT_EQ(StatusOf("a").state, Reloader::State::kRemoved);
  EXPECT_EQ(Reloads("a", "removed"), 1);
  target_.draining.clear();
  Rescan();
  EXPECT_EQ(reloader_->Status().plugins.size(), 1u) << "and it is forgotten with its last stream";
  Write("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=1"));
}

TEST_F(ReloaderTest, AFileRemovedAndWrittenAgainIsNeverOutOfService) {
  StartWith({"a"});
  Remove("a.so");
  Rescan(Reloader::kDebounceNs / 2);
  Write("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  EXPECT_EQ(Reloads("a", "removed"), 0);
}

TEST_F(ReloaderTest, ADirectoryThatIsGoneTakesNothingOutOfService) {
  StartWith({"a"});
  fs::rename(plugins_, directory_.Path("away"));
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(reloader_->Status().problems, ElementsAre(HasSubstr("waiting for it")));
  fs::rename(directory_.Path("away"), plugins_);
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(reloader_->Status().problems, IsEmpty());
  EXPECT_EQ(target_.commits, 1);
}

TEST_F(ReloaderTest, ADirectoryMissingAtTheStartIsAnErrorUnlessNothingIsRequired) {
  fs::remove_all(plugins_);
  EXPECT_EQ(Start().message(),
            "cannot read the plugins' directory " + plugins_ +
                ": No such file or directory; check --plugins_dir, or give --require_plugins=none "
                "to wait for it");
  Reloader::Options options;
  options.require_plugins = RequirePlugins::kNone;
  ASSERT_TRUE(Start(std::move(options)).ok());
  EXPECT_THAT(reloader_->Status().problems, ElementsAre(HasSubstr("waiting for it")));
  fs::create_directory(plugins_);
  Write("a.so", "1");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(ReloaderTest, ASwitchedSymlinkReplacesAllAtOnce) {
  fs::create_directories(directory_.Path("1"));
  fs::create_directories(directory_.Path("2"));
  for (const char* version : {"1", "2"}) {
    for (const char* name : {"a", "b"}) {
      std::ofstream(directory_.Path(version) + "/" + name + ".so") << version;
    }
  }
  fs::create_symlink("1", directory_.Path("current"));
  Reloader::Options options;
  options.sources.directories = {directory_.Path("current")};
  ASSERT_TRUE(Start(options).ok());
  fs::create_symlink("2", directory_.Path("next"));
  fs::rename(directory_.Path("next"), directory_.Path("current"));
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=2"));
  EXPECT_EQ(target_.commits, 2);
}

TEST_F(ReloaderTest, AWithdrawnGenerationGivesWayToTheOneBeforeAndIsNotTakenAgain) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  target_.failed_trials = {*target_.live.begin()};
  reloader_->WithdrawFailed();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_EQ(StatusOf("a").generations.front().number, 1u);
  EXPECT_FALSE(target_.sources.rbegin()->second.on_trial);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 2 of " + plugins_ + "/a.so was"));
  EXPECT_EQ(Reloads("a", "withdrawn"), 1);
  reloader_->Retry();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  Replace("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  Replace("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
  EXPECT_EQ(StatusOf("a").generations.front().number, 3u);
}

// Version 1 follows one file, version 2 another.
class FollowedReloaderTest : public ReloaderTest {
 protected:
  FollowedReloaderTest() {
    target_.follows = {{"1", {old_keys_}}, {"2", {new_keys_}}};
    Change(old_keys_);
    Change(new_keys_);
  }
  void Change(const std::string& path) {
    std::ofstream(path + ".new") << ++changes_;
    fs::rename(path + ".new", path);
  }
  void StartAndReplace() {
    StartWith({"a"});
    Replace("a.so", "2");
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=2"));
    RescanUntilSettled();  // now with the files that it follows
  }
  // Of the version in service.
  GenerationId Current() const { return *target_.live.begin(); }

  const std::string old_keys_ = directory_.Path("old_keys"),
                    new_keys_ = directory_.Path("new_keys");
  int changes_ = 0;
};

TEST_F(FollowedReloaderTest, AVersionThatTheOperatorWentBackFromStaysOutOfService) {
  StartAndReplace();
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  const GenerationId back = Current();
  for (int i = 0; i < 3; ++i) RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_EQ(Current(), back) << "nothing has changed";
  EXPECT_TRUE(StatusOf("a").withdrawn);
  // Nobody has touched the file.
  reloader_->Retry();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  // What only it follows does not concern the version in service.
  Change(new_keys_);
  RescanUntilSettled();
  EXPECT_EQ(Current(), back);
}

TEST_F(FollowedReloaderTest, AVersionThatFailedItsTrialStaysOutOfService) {
  StartAndReplace();
  target_.failed_trials = {Current()};
  reloader_->WithdrawFailed();
  for (int i = 0; i < 3; ++i) RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_EQ(Reloads("a", "withdrawn"), 1);
}

TEST_F(FollowedReloaderTest, TheVersionThatServesAgainReadsWhatItFollows) {
  StartAndReplace();
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  for (int change = 0; change < 2; ++change) {
    const GenerationId before = Current();
    RescanUntilSettled();
    EXPECT_THAT(reloader_->watched_paths(), ::testing::Contains(old_keys_));
    ASSERT_EQ(Current(), before);
    Change(old_keys_);
    RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre("a=1"));
    EXPECT_GT(Current(), before);
  }
  // The withdrawn version is what it was.
  EXPECT_TRUE(StatusOf("a").withdrawn);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("by the operator"));
  EXPECT_EQ(StatusOf("a").generations.front().number, 1u);
  ASSERT_TRUE(reloader_->Release("a").ok());
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(FollowedReloaderTest, TheVersionThatServesReadsWhatItFollowsWhereTheFileIsRefused) {
  StartWith({"a"});
  Replace("a.so", "broken");
  RescanUntilSettled();
  const GenerationId before = Current();
  Change(old_keys_);
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_GT(Current(), before);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("it is broken"));
}

TEST_F(FollowedReloaderTest, WhatCannotBeReadIsAnErrorUntilItCan) {
  StartAndReplace();
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  const GenerationId before = Current();
  target_.broken = {"a"};
  Change(old_keys_);
  RescanUntilSettled();
  EXPECT_EQ(Current(), before);
  EXPECT_THAT(reloader_->Status().problems,
              ::testing::Contains(HasSubstr("goes on serving without the change")));
  EXPECT_EQ(Reloads("a", "failed"), 1);
  RescanUntilSettled();
  EXPECT_EQ(Reloads("a", "failed"), 1) << "once for each change";
  target_.broken.clear();
  reloader_->Retry();
  Rescan();
  EXPECT_GT(Current(), before);
  EXPECT_EQ(reloader_->Status().problems.size(), 1u) << "that of the withdrawn version";
}

TEST_F(ReloaderTest, AWithdrawnVersionIsTakenAgainIfItsFileIsTouchedAndTheOperatorAsks) {
  for (const bool asks_first : {false, true}) {
    SCOPED_TRACE(asks_first);
    StartWith({"a"});
    Replace("a.so", "2");
    RescanUntilSettled();
    ASSERT_TRUE(reloader_->GoBack("a").ok());
    ASSERT_TRUE(StatusOf("a").withdrawn);
    Replace("a.so", "2");
    if (!asks_first) RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre("a=1"));
    reloader_->Retry();
    RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre("a=2"));
    EXPECT_FALSE(StatusOf("a").withdrawn);
  }
}

TEST_F(ReloaderTest, ARollbackThatFailsIsTriedAgain) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  target_.broken = {"a"};
  target_.failed_trials = {*target_.live.begin()};
  reloader_->WithdrawFailed();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 1 cannot be created again"));
  const uint64_t retry_ns = now_ns_ + Reloader::kReturnRetryNs;
  EXPECT_EQ(reloader_->CheckReturns(now_ns_), retry_ns);
  EXPECT_EQ(reloader_->CheckReturns(retry_ns), retry_ns + Reloader::kReturnRetryNs);
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  // The same file, touched, does not hide it.
  Replace("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 1 cannot be created again"));
  target_.broken.clear();
  EXPECT_EQ(reloader_->CheckReturns(retry_ns + Reloader::kReturnRetryNs), Reloader::kNever);
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("was withdrawn"));
  EXPECT_EQ(Reloads("a", "withdrawn"), 1);
  EXPECT_EQ(reloader_->CheckReturns(retry_ns * 2), Reloader::kNever);
}

TEST_F(ReloaderTest, ARollbackThatFailedEndsWithANewVersion) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  target_.broken = {"a"};
  target_.failed_trials = {*target_.live.begin()};
  reloader_->WithdrawFailed();
  target_.broken.clear();
  Replace("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
  EXPECT_EQ(StatusOf("a").last_error, "");
  EXPECT_EQ(reloader_->CheckReturns(now_ns_ + Reloader::kReturnRetryNs), Reloader::kNever);
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
}

// Version 2 serves, and was created again.
class RenewedReloaderTest : public ReloaderTest {
 protected:
  void StartAndReplace() {
    std::ofstream(keys_) << "1";
    target_.followed_files = {keys_};
    StartWith({"a"});
    Replace("a.so", "2");
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=2"));
  }
  void Renew() {
    std::ofstream(keys_) << "22";
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=2"));
    ASSERT_EQ(StatusOf("a").generations.front().number, 3u);
  }
  void FailTrial() {
    target_.failed_trials = {*target_.live.begin()};
    reloader_->WithdrawFailed();
  }

  const std::string keys_ = directory_.Path("keys");
};

TEST_F(RenewedReloaderTest, GivesWayToTheVersionBeforeAndNotToItself) {
  StartAndReplace();
  Renew();
  FailTrial();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 3 of "));
}

TEST_F(RenewedReloaderTest, GivesWayWhereTheVersionBeforeCouldNotBeCreatedYet) {
  StartAndReplace();
  target_.broken = {"a"};
  FailTrial();
  target_.broken.clear();
  const uint64_t retry_ns = reloader_->CheckReturns(now_ns_);
  Renew();
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 1 cannot be created again"));
  EXPECT_EQ(reloader_->CheckReturns(retry_ns), Reloader::kNever);
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(ReloaderTest, AVersionThatReadsItsFilesAgainHasNoneBeforeIt) {
  const std::string keys = directory_.Path("keys");
  std::ofstream(keys) << "1";
  target_.followed_files = {keys};
  StartWith({"a"});
  std::ofstream(keys) << "22";
  RescanUntilSettled();
  ASSERT_EQ(StatusOf("a").generations.front().number, 2u);
  EXPECT_FALSE(StatusOf("a").may_go_back) << "it would read the same files";
}

TEST_F(ReloaderTest, AWithdrawnVersionIsTakenAgainWhenItIsReleased) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  EXPECT_TRUE(reloader_->Release("a").ok());
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

// --- Canaries ---

class CanaryReloaderTest : public ReloaderTest {
 protected:
  // Version 2 serves beside version 1.
  void StartCanary(const std::string& settings) {
    Write("a.settings", settings);
    StartWith({"a", "b"});
    EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
    Replace("a.so", "2");
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=1", "a=2", "b=1"));
  }
  // The ids of the two versions.
  GenerationId Old() const { return *target_.live.begin(); }
  GenerationId New() const { return *target_.live.rbegin(); }
  void Count(GenerationId id, uint64_t calls, uint64_t faults = 0) {
    target_.calls[id] = {calls, faults, calls * kMs, {calls}};
  }
  void Check(uint64_t after_ns = 0) {
    now_ns_ += after_ns;
    reloader_->CheckCanaries(now_ns_);
  }
};

TEST_F(CanaryReloaderTest, ServesBesideTheVersionBefore) {
  StartCanary(R"({"canary": {"percent": 7}})");
  EXPECT_TRUE(target_.sources.at(New()).canary);
  EXPECT_FALSE(target_.sources.at(Old()).canary);
  const Reloader::PluginStatus status = StatusOf("a");
  EXPECT_TRUE(status.has_canary);
  EXPECT_TRUE(status.may_go_back);
  EXPECT_EQ(status.generations.front().canary_percent, 7);
  EXPECT_FALSE(status.generations.front().in_service);
  EXPECT_TRUE(status.generations.back().in_service);
}

TEST_F(CanaryReloaderTest, IsLookedAtAsLongAsItServes) {
  StartWith({"a"});
  EXPECT_EQ(reloader_->CheckCanaries(now_ns_), Reloader::kNever);
  Write("a.settings", R"({"canary": {}})");
  RescanUntilSettled();
  EXPECT_LT(reloader_->CheckCanaries(now_ns_), now_ns_ + 1000 * kMs);
  ASSERT_TRUE(reloader_->Promote("a").ok());
  EXPECT_EQ(reloader_->CheckCanaries(now_ns_), Reloader::kNever);
}

TEST_F(CanaryReloaderTest, IsRolledBackByItsFaults) {
  StartCanary(R"({"canary": {"max_fault_percent": 1, "min_calls": 100}})");
  Count(New(), 100, 1);
  Check();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=2", "b=1"));
  Count(New(), 100, 2);
  Check();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("max_fault_percent=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 2 of"));
  EXPECT_TRUE(StatusOf("a").withdrawn);
  EXPECT_EQ(Reloads("a", "withdrawn"), 1);
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
}

TEST_F(CanaryReloaderTest, IsRolledBackAtOnceWhereItsTrialFails) {
  StartCanary(R"({"canary": {}})");
  target_.failed_trials = {New()};
  reloader_->WithdrawFailed();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("max_fault_percent"));
}

TEST_F(CanaryReloaderTest, IsRolledBackByACrash) {
  target_.crashes["a"] = 3;
  StartCanary(R"({"canary": {}})");
  Check();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=2", "b=1"));
  target_.crashes["a"] = 4;
  Check();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("ended a worker"));
}

// A canary that follows another file than the version beside it.
class FollowedCanary : public CanaryReloaderTest {
 protected:
  FollowedCanary() {
    target_.follows = {{"1", {old_keys_}}, {"2", {new_keys_}}};
    std::ofstream(old_keys_) << "1";
    std::ofstream(new_keys_) << "1";
    StartCanary(R"({"canary": {"min_calls": 10}})");
    RescanUntilSettled();
  }
  void Change(const std::string& path) {
    std::ofstream(path + ".new") << "2";
    fs::rename(path + ".new", path);
    RescanUntilSettled();
  }
  // Of the plugin.
  GenerationId IdOf(const std::string& code) const {
    for (const GenerationId id : target_.live) {
      const GenerationSource& source = target_.sources.at(id);
      if (source.name == "a" && FakeTarget::Code(source) == code) return id;
    }
    return 0;
  }

  const std::string old_keys_ = directory_.Path("old_keys"),
                    new_keys_ = directory_.Path("new_keys");
};

TEST_F(FollowedCanary, LetsTheVersionBesideItReadWhatThatFollows) {
  const GenerationId before = IdOf("1"), canary = IdOf("2");
  EXPECT_THAT(reloader_->watched_paths(), ::testing::IsSupersetOf({old_keys_, new_keys_}));
  Change(old_keys_);
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=2", "b=1"));
  EXPECT_GT(IdOf("1"), before);
  EXPECT_EQ(IdOf("2"), canary);
  EXPECT_TRUE(StatusOf("a").has_canary);
}

TEST_F(FollowedCanary, ReadsWhatItFollowsItself) {
  const GenerationId before = IdOf("1"), canary = IdOf("2");
  Change(new_keys_);
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=2", "b=1"));
  EXPECT_EQ(IdOf("1"), before);
  EXPECT_GT(IdOf("2"), canary);
}

TEST_F(FollowedCanary, OnceRolledBackStaysOutOfService) {
  Count(IdOf("2"), 10, 10);
  Check();
  const GenerationId before = IdOf("1");
  for (int i = 0; i < 3; ++i) RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  Change(new_keys_);
  EXPECT_EQ(IdOf("1"), before);
  Change(old_keys_);
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_GT(IdOf("1"), before);
  EXPECT_TRUE(StatusOf("a").withdrawn);
}

// Its code is that of the version in service, but not what it has read.
TEST_F(CanaryReloaderTest, OfAChangeOfAFollowedFileIsTriedAgainWithTheNextChange) {
  const std::string keys = directory_.Path("keys");
  std::ofstream(keys) << "1";
  target_.followed_files = {keys};
  Write("a.settings", R"({"canary": {"min_calls": 10}})");
  StartWith({"a"});
  for (const char* text : {"22", "333"}) {
    std::ofstream(keys) << text;
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=1", "a=1"));
    Count(New(), 10, 10);
    Check();
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=1"));
    ASSERT_TRUE(StatusOf("a").withdrawn);
  }
}

TEST_F(CanaryReloaderTest, IsPromotedByTheOperator) {
  StartCanary(R"({"canary": {}})");
  EXPECT_EQ(reloader_->Promote("b").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(reloader_->Promote("c").code(), absl::StatusCode::kNotFound);
  const GenerationId promoted = New();
  ASSERT_TRUE(reloader_->Promote("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=1"));
  EXPECT_TRUE(target_.live.contains(promoted)) << "it was created anew";
  EXPECT_EQ(Reloads("a", "promoted"), 1);
  EXPECT_TRUE(StatusOf("a").generations.front().in_service);
  // And back to the one before.
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
}

TEST_F(CanaryReloaderTest, PromotesItselfAfterItsTime) {
  StartCanary(R"({"canary": {"promote": "auto", "for_seconds": 60, "min_calls": 10}})");
  Count(New(), 10);
  Check(50'000 * kMs);
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=2", "b=1"));
  Check(10'000 * kMs);
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=1"));
}

TEST_F(CanaryReloaderTest, GoesBackWhenTheOperatorAsks) {
  StartCanary(R"({"canary": {}})");
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("the operator"));
}

TEST_F(CanaryReloaderTest, EndsWithTheOldFile) {
  StartCanary(R"({"canary": {}})");
  Replace("a.so", "1");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_EQ(StatusOf("a").last_error, "");
}

TEST_F(CanaryReloaderTest, GivesWayToANewerOne) {
  StartCanary(R"({"canary": {}})");
  Replace("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=3", "b=1"));
}

TEST_F(CanaryReloaderTest, TheFirstVersionServesAlone) {
  Write("a.settings", R"({"canary": {}})");
  StartWith({"a"});
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_FALSE(StatusOf("a").has_canary);
}

TEST_F(CanaryReloaderTest, GoesOnBesideTheVersionBeforeIfTheOneBesideItIsWithdrawn) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  const GenerationId failing = New();
  Write("a.settings", R"({"canary": {}})");
  Replace("a.so", "3");
  RescanUntilSettled();
  ASSERT_THAT(target_.chain, ElementsAre("a=2", "a=3"));
  const GenerationId canary = New();
  target_.failed_trials = {failing};
  reloader_->WithdrawFailed();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=3"));
  EXPECT_TRUE(target_.live.contains(canary)) << "it was created anew";
  EXPECT_TRUE(StatusOf("a").has_canary);
  EXPECT_FALSE(StatusOf("a").withdrawn) << "of another version than its file's";
  EXPECT_EQ(StatusOf("a").last_error, "");
  EXPECT_EQ(Reloads("a", "withdrawn"), 1);
}

TEST_F(CanaryReloaderTest, LeavesWithItsFile) {
  StartCanary(R"({"canary": {}})");
  Remove("a.so");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("b=1"));
}

// --- Over a restart ---

class StateReloaderTest : public CanaryReloaderTest {
 protected:
  absl::Status Restart(RequirePlugins require = RequirePlugins::kAuto) {
    Reloader::Options options;
    options.state_dir = directory_.Path("");
    options.require_plugins = require;
    target_.quarantined.clear();
    target_.crashes.clear();
    return Start(std::move(options));
  }
  // Version 2 was withdrawn, and is still in the file.
  void Withdraw() {
    Write("a.so", "1");
    ASSERT_TRUE(Restart().ok());
    Replace("a.so", "2");
    RescanUntilSettled();
    ASSERT_TRUE(reloader_->GoBack("a").ok());
    reloader_->NoteEnded();
  }
};

TEST_F(StateReloaderTest, AWithdrawnVersionStaysSo) {
  Withdraw();
  for (const RequirePlugins require :
       {RequirePlugins::kAuto, RequirePlugins::kAll, RequirePlugins::kNone}) {
    ASSERT_TRUE(Restart(require).ok());
    EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
    EXPECT_FALSE(reloader_->complete());
    EXPECT_THAT(StatusOf("a").last_error, HasSubstr("withdrawn before this start"));
    RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
  }
}

// Without one the requests of the plugin would pass.
TEST_F(StateReloaderTest, WithoutAStandInTheHostDoesNotStart) {
  Withdraw();
  target_.no_stand_ins = true;
  for (const RequirePlugins require :
       {RequirePlugins::kAuto, RequirePlugins::kAll, RequirePlugins::kNone}) {
    const absl::Status status = Restart(require);
    EXPECT_THAT(std::string(status.message()), HasSubstr("plugin a: cannot create a stand-in"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("withdrawn before this start"));
  }
}

TEST_F(StateReloaderTest, AStandInThatCannotBeCreatedLaterIsTriedAgain) {
  Withdraw();
  Remove("a.so");
  Write("b.so", "1");
  ASSERT_TRUE(Restart().ok());
  EXPECT_TRUE(reloader_->complete());
  target_.no_stand_ins = true;
  Write("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("b=1"));
  EXPECT_FALSE(reloader_->complete()) << "its requests pass";
  EXPECT_THAT(reloader_->Status().problems,
              ::testing::Contains(HasSubstr("cannot create a stand-in")));
  target_.no_stand_ins = false;
  Rescan();
  EXPECT_THAT(target_.chain, ElementsAre("a=stand-in", "b=1"));
  EXPECT_FALSE(reloader_->complete());
  Write("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=3", "b=1"));
  EXPECT_TRUE(reloader_->complete());
  EXPECT_THAT(reloader_->Status().problems, IsEmpty());
}

TEST_F(StateReloaderTest, UntilTheFileChanges) {
  Withdraw();
  ASSERT_TRUE(Restart().ok());
  Replace("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
  EXPECT_TRUE(reloader_->complete());
  // Then the old one is another change.
  reloader_->NoteEnded();
  Replace("a.so", "2");
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(StateReloaderTest, UntilTheFileHasChangedMeanwhile) {
  Withdraw();
  Replace("a.so", "3");
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
}

TEST_F(StateReloaderTest, UntilTheOperatorReleasesIt) {
  Withdraw();
  ASSERT_TRUE(Restart().ok());
  ASSERT_TRUE(reloader_->Release("a").ok());
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  reloader_->NoteEnded();
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(StateReloaderTest, UntilItIsTouchedAndTheOperatorAsks) {
  Withdraw();
  ASSERT_TRUE(Restart().ok());
  reloader_->Retry();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
  Replace("a.so", "2");
  reloader_->Retry();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(StateReloaderTest, ACanaryThatWasRolledBackStaysSo) {
  Write("a.so", "1");
  Write("a.settings", R"({"canary": {"min_calls": 10}})");
  ASSERT_TRUE(Restart().ok());
  Replace("a.so", "2");
  RescanUntilSettled();
  Count(New(), 10, 10);
  Check();
  reloader_->NoteEnded();
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("max_fault_percent=1"));
}

TEST_F(StateReloaderTest, AVersionInQuarantineStaysOutOfService) {
  Write("a.so", "1");
  ASSERT_TRUE(Restart().ok());
  target_.quarantined = {"a"};
  reloader_->NoteEnded();
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("it crashed"));
}

TEST_F(StateReloaderTest, AVersionThatLeftItsQuarantineServes) {
  Write("a.so", "1");
  ASSERT_TRUE(Restart().ok());
  target_.quarantined = {"a"};
  reloader_->NoteEnded();
  target_.quarantined.clear();
  reloader_->NoteEnded();
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(StateReloaderTest, AVersionThatAFollowedFileBringsOutOfQuarantineIsNotWithdrawn) {
  const std::string keys = directory_.Path("keys");
  std::ofstream(keys) << "1";
  target_.followed_files = {keys};
  Write("a.so", "1");
  ASSERT_TRUE(Restart().ok());
  target_.quarantined = {"a"};
  reloader_->NoteEnded();
  std::ofstream(keys) << "22";
  RescanUntilSettled();
  EXPECT_FALSE(StatusOf("a").withdrawn);
  EXPECT_EQ(StatusOf("a").last_error, "");
  EXPECT_EQ(StatusOf("a").generations.front().number, 2u);
  target_.quarantined.clear();
  reloader_->NoteEnded();
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

// The version in service differs from it only in what it has read.
TEST_F(StateReloaderTest, ARollbackOfACanaryOfTheSameVersionLeavesThatInService) {
  const std::string keys = directory_.Path("keys");
  std::ofstream(keys) << "1";
  target_.followed_files = {keys};
  Write("a.so", "1");
  Write("a.settings", R"({"canary": {"min_calls": 10}})");
  ASSERT_TRUE(Restart().ok());
  std::ofstream(keys) << "22";
  RescanUntilSettled();
  ASSERT_THAT(target_.chain, ElementsAre("a=1", "a=1"));
  Count(New(), 10, 10);
  Check();
  ASSERT_TRUE(StatusOf("a").withdrawn);
  reloader_->NoteEnded();
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(StateReloaderTest, WithADamagedFileEverythingServes) {
  Withdraw();
  std::ofstream(directory_.Path("withdrawn.json")) << "garbage";
  ASSERT_TRUE(Restart().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(StateReloaderTest, WhatTheFileOfANewerHostSaysHolds) {
  Withdraw();
  std::ifstream file(directory_.Path("withdrawn.json"));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t at = text.find("\"format\": 1");
  ASSERT_NE(at, text.npos) << text;
  text.replace(at, 11, "\"format\": 2");
  std::ofstream(directory_.Path("withdrawn.json")) << text;
  for (int starts = 0; starts < 2; ++starts) {
    ASSERT_TRUE(Restart().ok());
    EXPECT_THAT(target_.chain, ElementsAre("a=stand-in"));
  }
}

TEST_F(StateReloaderTest, ADirectoryThatDoesNotExistIsAnError) {
  Write("a.so", "1");
  Reloader::Options options;
  options.state_dir = directory_.Path("none");
  EXPECT_FALSE(Start(std::move(options)).ok());
}

TEST_F(ReloaderTest, AShadowInsteadOfNobodyIsAWarning) {
  Write("a.so", "1");
  Write("b.so", "1");
  Write("b.settings", R"({"mode": "shadow", "instead_of": "c"})");
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(StatusOf("b").generations[0].facts.warnings, ElementsAre(HasSubstr("names c")));
  Replace("b.settings", R"({"mode": "shadow", "instead_of": "a"})");
  RescanUntilSettled();
  EXPECT_THAT(StatusOf("b").generations[0].facts.warnings, IsEmpty());
}

TEST_F(ReloaderTest, AShadowThatDoesNotLoadLeavesTheHostReady) {
  Write("a.so", "1");
  Write("b.so", "broken");
  Write("b.settings", R"({"mode": "shadow"})");
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_TRUE(reloader_->complete());
  EXPECT_THAT(StatusOf("b").last_error, HasSubstr("it is broken"));
  EXPECT_TRUE(StatusOf("b").shadow);
}

TEST_F(ReloaderTest, AFailedTrialOfAGenerationThatIsNoLongerInServiceChangesNothing) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  const GenerationId second = *target_.live.begin();
  Replace("a.so", "3");
  RescanUntilSettled();
  target_.failed_trials = {second};
  reloader_->WithdrawFailed();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
}

// --- By the operator ---

TEST_F(ReloaderTest, GoesBackOneGenerationWhenAsked) {
  StartWith({"a", "b"});
  EXPECT_EQ(reloader_->GoBack("a").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(StatusOf("a").may_go_back);
  Replace("a.so", "2");
  RescanUntilSettled();
  EXPECT_TRUE(StatusOf("a").may_go_back);
  EXPECT_FALSE(StatusOf("b").may_go_back);
  const absl::Status status = reloader_->GoBack("a");
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  EXPECT_EQ(StatusOf("a").generations.front().number, 1u);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("by the operator"));
  EXPECT_FALSE(StatusOf("a").may_go_back);
  // The file on disk is not taken again, until it is another one.
  reloader_->Retry();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
  Replace("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=3", "b=1"));
}

TEST_F(ReloaderTest, StaysWhereItIsIfTheGenerationBeforeCannotBeCreated) {
  StartWith({"a"});
  Replace("a.so", "2");
  RescanUntilSettled();
  target_.broken = {"a"};
  EXPECT_FALSE(reloader_->GoBack("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  EXPECT_TRUE(StatusOf("a").last_error.empty());
  EXPECT_EQ(reloader_->CheckReturns(now_ns_), Reloader::kNever) << "whoever asked was told";
  target_.broken.clear();
  EXPECT_TRUE(reloader_->GoBack("a").ok());
}

TEST_F(ReloaderTest, AnOperatorsRequestForAnUnknownPluginIsAnError) {
  StartWith({"a"});
  EXPECT_EQ(reloader_->GoBack("b").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(reloader_->Release("b").code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ReloaderTest, ReleasesFromQuarantineWhenAsked) {
  StartWith({"a", "b"});
  EXPECT_EQ(reloader_->Release("a").code(), absl::StatusCode::kFailedPrecondition);
  target_.quarantined = {"a", "b"};
  EXPECT_TRUE(reloader_->Release("a").ok());
  EXPECT_THAT(target_.quarantined, ElementsAre("b"));
  target_.broken = {"b"};
  const absl::Status status = reloader_->Release("b");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "plugin b stays in quarantine: it is broken");
}

TEST_F(ReloaderTest, RetryTriesRefusedFilesAgain) {
  StartWith({"a"});
  target_.broken = {"a"};
  Replace("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  target_.broken.clear();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  reloader_->Retry();
  Rescan();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(ReloaderTest, RetryNeedsNoRestRightAfterTheStart) {
  target_.broken = {"a"};
  StartWith({"a"});
  target_.broken.clear();
  reloader_->Retry();
  Rescan();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

TEST_F(ReloaderTest, ANameGoesToTheLaterDirectoryOnceTheEarlierFileIsGone) {
  fs::create_directory(directory_.Path("more"));
  Write("a.so", "1");
  std::ofstream(directory_.Path("more/a.so")) << "2";
  Reloader::Options options;
  options.sources.directories = {plugins_, directory_.Path("more")};
  ASSERT_TRUE(Start(options).ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(reloader_->Status().problems, ElementsAre(HasSubstr("rename one of the files")));
  Remove("a.so");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  EXPECT_EQ(Reloads("a", "removed"), 0);
}

// --- What is required at the start ---

class RequireTest : public ReloaderTest {
 protected:
  // A broken plugin on the command line and one in the directory.
  absl::Status StartBroken(bool command_line, bool directory, RequirePlugins require) {
    Write("dir.so", directory ? "broken" : "1");
    std::ofstream(directory_.Path("cmd.so")) << (command_line ? "broken" : "1");
    PluginConfig plugin;
    plugin.name = "cmd";
    plugin.path = directory_.Path("cmd.so");
    Reloader::Options options;
    options.sources.plugins = {plugin};
    options.sources.directories = {plugins_};
    options.require_plugins = require;
    return Start(std::move(options));
  }
};

TEST_F(RequireTest, AutoRequiresThoseOfTheCommandLine) {
  EXPECT_TRUE(StartBroken(false, true, RequirePlugins::kAuto).ok());
  EXPECT_THAT(target_.chain, ElementsAre("cmd=1", "dir=stand-in"));
  EXPECT_EQ(StatusOf("dir").state, Reloader::State::kRefused);
  const absl::Status status = StartBroken(true, false, RequirePlugins::kAuto);
  EXPECT_EQ(status.message(), "cannot load plugin " + directory_.Path("cmd.so") + ": it is broken");
}

TEST_F(RequireTest, AllRequiresThoseOfDirectoriesToo) {
  EXPECT_TRUE(StartBroken(false, false, RequirePlugins::kAll).ok());
  const absl::Status status = StartBroken(false, true, RequirePlugins::kAll);
  EXPECT_EQ(status.message(), "cannot load plugin " + plugins_ + "/dir.so: it is broken");
}

TEST_F(RequireTest, AllRequiresNamesToBeGivenOnce) {
  Write("cmd.so", "1");
  const absl::Status status = StartBroken(false, false, RequirePlugins::kAll);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rename one of the files"));
}

TEST_F(RequireTest, NoneServesWithoutThem) {
  EXPECT_TRUE(StartBroken(true, true, RequirePlugins::kNone).ok());
  EXPECT_THAT(target_.chain, IsEmpty());
  EXPECT_TRUE(reloader_->complete());
}

TEST_F(RequireTest, AFileThatIsNotThereIsAnErrorThatNamesIt) {
  PluginConfig plugin;
  plugin.name = "cmd";
  plugin.path = directory_.Path("nowhere.so");
  Reloader::Options options;
  options.sources.plugins = {plugin};
  EXPECT_EQ(Start(std::move(options)).message(), "cannot load plugin " +
                                                     directory_.Path("nowhere.so") +
                                                     ": there is no such file; check the path");
}

TEST_F(ReloaderTest, APluginOfTheCommandLineIsReadOnceUnlessItIsWatched) {
  for (bool watch : {false, true}) {
    PluginConfig plugin;
    plugin.name = "cmd";
    plugin.path = directory_.Path("cmd.so");
    plugin.config_path = directory_.Path("cmd.json");
    std::ofstream(plugin.path) << "1";
    std::ofstream(plugin.config_path) << "(x)";
    Reloader::Options options;
    options.sources.plugins = {plugin};
    options.sources.watch_plugins = watch;
    ASSERT_TRUE(Start(std::move(options)).ok());
    EXPECT_THAT(target_.chain, ElementsAre("cmd=1(x)"));
    std::ofstream(plugin.config_path) << "(y)";
    RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre(watch ? "cmd=1(y)" : "cmd=1(x)"));
  }
}

// --- Stand-ins ---

TEST_F(ReloaderTest, AStandInAnswersUntilAVersionServes) {
  Write("a.so", "broken");
  Write("a.settings", R"({"policy": "deny:503"})");
  Write("b.so", "1");
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=stand-in", "b=1"));
  EXPECT_FALSE(reloader_->complete());
  EXPECT_THAT(reloader_->Status().problems, ElementsAre(HasSubstr("it is broken")));
  const GenerationSource stand_in = target_.sources.at(*target_.live.rbegin());
  EXPECT_THAT(stand_in.quarantine, HasSubstr("no version of the plugin is active"));
  EXPECT_EQ(SettingsOf(stand_in)->policy->http_status, 503);
  Write("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=1"));
  EXPECT_FALSE(target_.sources.at(*target_.live.rbegin()).on_trial) << "nothing to go back to";
  EXPECT_TRUE(reloader_->complete());
  EXPECT_THAT(reloader_->Status().problems, IsEmpty());
}

TEST_F(ReloaderTest, AStandInThatCannotBeCreatedAtTheStartIsAnError) {
  Write("a.so", "broken");
  Write("b.so", "1");
  target_.no_stand_ins = true;
  const absl::Status status = Start();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("plugin a: cannot create a stand-in, which would answer by its error "
                        "policy: no memory for it; it is needed because of: cannot load plugin " +
                        plugins_ + "/a.so: it is broken"));
}

TEST_F(ReloaderTest, TooManyStandInsAreAnError) {
  for (size_t i = 0; i < Reloader::kStandInsMax; ++i) {
    Write("p" + std::to_string(i) + ".so", "broken");
  }
  EXPECT_TRUE(Start().ok());
  EXPECT_EQ(target_.chain.size(), Reloader::kStandInsMax);
  Write("one_more.so", "broken");
  EXPECT_THAT(std::string(Start().message()), HasSubstr("more than 64 plugins of --plugins_dir"));
}

TEST_F(ReloaderTest, ALaterFailureLeavesTheHostReady) {
  StartWith({"a"});
  Write("a.so", "broken");
  Write("b.so", "broken");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_TRUE(reloader_->complete());
  EXPECT_EQ(reloader_->Status().problems.size(), 2u);
}

TEST_F(ReloaderTest, AStandInGoesWithItsFileOrByItsSettings) {
  Write("a.so", "broken");
  Write("b.so", "broken");
  ASSERT_TRUE(Start().ok());
  Remove("a.so");
  Write("b.settings", R"({"disabled": true})");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, IsEmpty());
  EXPECT_TRUE(reloader_->complete());
}

// Whatever is wrong with a file of the directory at the start, it does not let requests pass.
TEST_F(ReloaderTest, EveryKindOfFailureAtTheStartHasAStandIn) {
  Write("0 bad name.so", "1");
  Write("config.so", "1");
  fs::create_symlink("nowhere", plugins_ + "/config.config");
  fs::create_symlink("nowhere", plugins_ + "/dangling.so");
  fs::create_symlink("/dev/zero", plugins_ + "/device.so");
  fs::create_directory(plugins_ + "/directory.so");
  ASSERT_EQ(mkfifo((plugins_ + "/fifo.so").c_str(), 0600), 0);
  Write("huge.so", "");
  fs::resize_file(plugins_ + "/huge.so", uint64_t{2} << 30);
  fs::create_symlink("loop.so", plugins_ + "/loop.so");
  Write("settings.so", "1");
  Write("settings.settings", "{");
  Write("writable.so", "1");
  ASSERT_EQ(chmod((plugins_ + "/writable.so").c_str(), 0666), 0);
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(target_.chain,
              ElementsAre("0_bad_name_2=stand-in", "config=stand-in", "dangling=stand-in",
                          "device=stand-in", "directory=stand-in", "fifo=stand-in", "huge=stand-in",
                          "loop=stand-in", "settings=stand-in", "writable=stand-in"));
  EXPECT_EQ(reloader_->Status().problems.size(), 10u);
}

// --- Files that are there and cannot be read ---

class LostSettings : public ReloaderTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void Break(const std::string& path) {
    fs::remove(path);
    const std::string how = GetParam();
    if (how == "dangling") fs::create_symlink(directory_.Path("nowhere"), path);
    if (how == "directory") fs::create_directory(path);
    if (how == "fifo") {
      ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    }
    if (how == "device") fs::create_symlink("/dev/zero", path);
    if (how == "loop") fs::create_symlink(fs::path(path).filename(), path);
    if (how == "writable") {
      std::ofstream(path) << "{}";
      ASSERT_EQ(chmod(path.c_str(), 0666), 0);
    }
  }
};

TEST_P(LostSettings, ADisabledPluginStaysOutOfService) {
  Write("a.settings", R"({"disabled": true})");
  StartWith({"a"});
  EXPECT_THAT(target_.chain, IsEmpty());
  Break(plugins_ + "/a.settings");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, IsEmpty());
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("cannot read " + plugins_ + "/a.settings: "));
  Remove("a.settings");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1")) << "one that is absent is none";
}

TEST_P(LostSettings, APluginKeepsTheConfigurationItServesWith) {
  Write("a.config", "(x)");
  StartWith({"a"});
  Break(plugins_ + "/a.config");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1(x)"));
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("cannot read " + plugins_ + "/a.config: "));
}

INSTANTIATE_TEST_SUITE_P(Each, LostSettings,
                         ::testing::Values("dangling", "directory", "fifo", "device", "loop",
                                           "writable"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(ReloaderTest, PermissionsMayBeWarnedOfOrIgnored) {
  Write("a.so", "1");
  ASSERT_EQ(chmod((plugins_ + "/a.so").c_str(), 0646), 0);
  for (const auto permissions : {PluginPermissions::kWarn, PluginPermissions::kOff}) {
    Reloader::Options options;
    options.file_rules.permissions = permissions;
    ASSERT_TRUE(Start(std::move(options)).ok());
    EXPECT_THAT(target_.chain, ElementsAre("a=1"));
    EXPECT_EQ(StatusOf("a").generations.at(0).facts.warnings.size(),
              permissions == PluginPermissions::kWarn ? 1u : 0u);
  }
}

// --- Files that have to be signed (--plugin_keys) ---

class SignedPlugins : public ReloaderTest {
 protected:
  Reloader::Options Options(const std::vector<const MinisignSigner*>& trusted) const {
    Reloader::Options options;
    options.sources.signed_files = true;
    for (const MinisignSigner* signer : trusted) {
      options.file_rules.keys.push_back(ParseMinisignKeys(signer->PublicKey())->front());
    }
    return options;
  }
  void WriteSigned(const std::string& name, const std::string& code) {
    Write(name + ".so.minisig", ours_.Sign(code));
    Write(name + ".so", code);
  }
  std::string WhyNot(const std::string& name) { return StatusOf(name).last_error; }

  const MinisignSigner ours_, theirs_;
};

TEST_F(SignedPlugins, AreLoadedAndNoOthers) {
  WriteSigned("a", "1");
  Write("b.so", "1");
  Write("c.so", "1");
  Write("c.so.minisig", theirs_.Sign("1"));
  Write("d.so", "1");
  Write("d.so.minisig", ours_.Sign("2"));
  ASSERT_TRUE(Start(Options({&ours_})).ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=stand-in", "c=stand-in", "d=stand-in"));
  EXPECT_EQ(StatusOf("a").generations.front().signer, ours_.IdText());
  const std::string b = plugins_ + "/b.so";
  EXPECT_EQ(WhyNot("b"), "cannot load plugin " + b + ": its signature " + b +
                             ".minisig does not exist; sign it with minisign -S -m " + b +
                             ", or give the key that has signed it (--plugin_keys)");
  EXPECT_THAT(WhyNot("c"), HasSubstr("is by key " + theirs_.IdText() + ", which is not one of"));
  EXPECT_THAT(WhyNot("d"), HasSubstr("the file was changed after it was signed"));
}

TEST_F(SignedPlugins, MayBeSignedByAnyOfSeveralKeys) {
  WriteSigned("a", "1");
  Write("b.so", "1");
  Write("b.so.minisig", theirs_.Sign("1"));
  ASSERT_TRUE(Start(Options({&theirs_, &ours_})).ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=1"));
}

TEST_F(SignedPlugins, AreReplacedOnceTheNewSignatureIsThere) {
  WriteSigned("a", "1");
  ASSERT_TRUE(Start(Options({&ours_})).ok());
  Replace("a.so", "2");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(WhyNot("a"), HasSubstr("the file was changed after it was signed"));
  Replace("a.so.minisig", ours_.Sign("2"));
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  EXPECT_EQ(WhyNot("a"), "");
}

TEST_F(SignedPlugins, ServeOnWhenTheirSignatureIsTakenAway) {
  WriteSigned("a", "1");
  ASSERT_TRUE(Start(Options({&ours_})).ok());
  Remove("a.so.minisig");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_THAT(WhyNot("a"), HasSubstr("does not exist"));
}

TEST_F(SignedPlugins, AreWatchedWithTheirSignature) {
  WriteSigned("a", "1");
  PluginSources sources(
      {.plugins = {}, .watch_plugins = false, .directories = {plugins_}, .signed_files = true});
  EXPECT_THAT(sources.WatchedPaths(sources.List()),
              ::testing::Contains(plugins_ + "/a.so.minisig"));
}

TEST_F(SignedPlugins, ASignatureThatCannotBeReadIsNone) {
  const std::string signature = plugins_ + "/a.so.minisig";
  for (const std::string how : {"dangling", "directory", "fifo", "large"}) {
    fs::remove_all(signature);
    Write("a.so", "1");
    if (how == "dangling") fs::create_symlink(directory_.Path("nowhere"), signature);
    if (how == "directory") fs::create_directory(signature);
    if (how == "fifo") {
      ASSERT_EQ(mkfifo(signature.c_str(), 0600), 0);
    }
    if (how == "large") {
      Write("a.so.minisig", ours_.Sign("1", std::string(kMinisignSignatureBytesMax, 'x')));
    }
    ASSERT_TRUE(Start(Options({&ours_})).ok());
    EXPECT_THAT(target_.chain, ElementsAre("a=stand-in")) << how;
    EXPECT_THAT(WhyNot("a"), HasSubstr("its signature " + signature + " cannot be read: ")) << how;
  }
}

// What the dynamic linker would load as well has no signature.
TEST_F(SignedPlugins, BringNoLibrariesOfTheirOwn) {
  WriteSigned("a", ElfBuilder::Plugin().RunPath("$ORIGIN/lib").Bytes());
  WriteSigned("b", ElfBuilder::Plugin().Needs("/x/liby.so").Bytes());
  WriteSigned("c", ElfBuilder::Plugin().Needs("libc.so.6").Bytes());
  WriteSigned("d", ElfBuilder::Plugin().Filters(DT_AUXILIARY, "$ORIGIN/d.so").Bytes());
  WriteSigned("e", ElfBuilder::Plugin().Filters(DT_FILTER, "libe.so").Bytes());
  ASSERT_TRUE(Start(Options({&ours_})).ok());
  EXPECT_THAT(WhyNot("a"), HasSubstr("must not load libraries from '$ORIGIN/lib'"));
  EXPECT_THAT(WhyNot("b"), HasSubstr("must not load libraries from '/x/liby.so'"));
  EXPECT_EQ(WhyNot("c"), "");
  EXPECT_THAT(WhyNot("d"), HasSubstr("must not load the library '$ORIGIN/d.so' as a filter"));
  EXPECT_THAT(WhyNot("e"), HasSubstr("must not load the library 'libe.so' as a filter"));
}

TEST_F(ReloaderTest, PluginsThatNeedNotBeSignedMayHaveFilters) {
  Write("a.so", ElfBuilder::Plugin().Filters(DT_FILTER, "libe.so").Bytes());
  ASSERT_TRUE(Start().ok());
  EXPECT_EQ(StatusOf("a").last_error, "");
}

// The file could be another one by the time that the dynamic linker opens it.
TEST_F(SignedPlugins, AreNeverLoadedInPlace) {
  WriteSigned("a", "1");
  for (const bool is_signed : {false, true}) {
    Reloader::Options options = is_signed ? Options({&ours_}) : Reloader::Options();
    options.copy_places = {directory_.Path("nowhere")};
    options.sources.directories = {directory_.Path("")};  // without plugins
    options.sources.plugins.emplace_back();
    options.sources.plugins.back().name = "a";
    options.sources.plugins.back().path = plugins_ + "/a.so";
    const absl::Status status = Start(std::move(options));
    EXPECT_EQ(status.ok(), !is_signed) << status;
    if (is_signed) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("no place for private copies"));
    }
  }
}

TEST_F(ReloaderTest, AFileOverTheLimitIsNotRead) {
  Write("a.so", std::string(4097, 'x'));
  Reloader::Options options;
  options.require_plugins = RequirePlugins::kAll;
  options.file_rules.max_code_bytes = 4096;
  EXPECT_EQ(Start(options).message(),
            "cannot load plugin " + plugins_ +
                "/a.so: it has 4097 bytes, over the limit --max_plugin_file_bytes=4096; strip it, "
                "or give a higher limit");
  Write("a.so", std::string(4096, 'x'));
  EXPECT_TRUE(Start(options).ok());
}

TEST_F(ReloaderTest, ALargeFileThatIsNoPluginIsNotRead) {
  Write("a.so", "");
  fs::resize_file(plugins_ + "/a.so", uint64_t{1} << 40);
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("it is not an ELF file"));
}

TEST_F(ReloaderTest, AFileThatTheSettingsWatchMakesANewGeneration) {
  const std::string keys = directory_.Path("keys");
  Write("a.settings", R"({"watch": [")" + keys + R"("]})");
  StartWith({"a"});
  RescanUntilSettled();
  const int commits = target_.commits;
  for (const char* text : {"1", "2"}) {
    std::ofstream(keys) << text;
    RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  }
  EXPECT_EQ(target_.commits, commits + 2);
  fs::last_write_time(keys, fs::file_time_type::clock::now());
  RescanUntilSettled();
  EXPECT_EQ(target_.commits, commits + 2) << "it holds the same";
  EXPECT_THAT(reloader_->watched_paths(), ::testing::Contains(keys));
  fs::remove(keys);
  fs::create_directory(keys);
  RescanUntilSettled();
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("cannot read " + keys + ": "));
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

// --- Creates that do not return ---

class HangingCreate : public ReloaderTest {
 protected:
  HangingCreate() { target_.aside = true; }
  ~HangingCreate() override {
    target_.Release();
    while (Preparation::running() > 0) std::this_thread::yield();
  }
  // Until nothing but one create that hangs is under way.
  void RescanUntilOneHangs() {
    RescanUntilSettled();
    while (Preparation::running() > 1) std::this_thread::yield();
    RescanUntilSettled();
  }
  // Time passes for the reloader's clock only.
  void RescanUntilReturned() {
    target_.Release();
    while (Preparation::running() > 0) std::this_thread::yield();
    RescanUntilSettled();
  }
};

TEST_F(HangingCreate, HoldsUpNobodyElse) {
  StartWith({"a", "b"});
  Write("a.so", "hangs");
  RescanUntilSettled();
  Write("b.so", "2");
  RescanUntilOneHangs();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=2"));
  EXPECT_EQ(StatusOf("a").last_error, "") << "it may still come";
  Rescan(10'000 * kMs);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("has not returned for 10000 ms"));
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "b=2"));
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=2")) << "late is better than never";
  EXPECT_EQ(StatusOf("a").last_error, "");
}

TEST_F(HangingCreate, GivesWayToTheNextVersion) {
  StartWith({"a"});
  Write("a.so", "hangs");
  RescanUntilSettled();
  Write("a.so", "3");
  RescanUntilOneHangs();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
  EXPECT_TRUE(target_.discarded.empty());
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
  EXPECT_EQ(target_.discarded.size(), 1u);
}

TEST_F(HangingCreate, IsNotWantedOnceItsFilesAreRefused) {
  const std::string code = plugins_ + "/a.so";
  for (const bool by_settings : {true, false}) {
    SCOPED_TRACE(by_settings);
    target_.Hold();
    target_.discarded.clear();
    StartWith({"a"});
    Write("a.so", "hangs");
    RescanUntilSettled();
    ASSERT_EQ(Preparation::running(), 1u);
    if (by_settings) {
      Write("a.settings", "{");
    } else {
      ASSERT_EQ(chmod(code.c_str(), 0666), 0);
    }
    RescanUntilSettled();
    const std::string error = StatusOf("a").last_error;
    EXPECT_THAT(error, HasSubstr(by_settings ? "reading " : "a.so"));
    RescanUntilReturned();
    EXPECT_THAT(target_.chain, ElementsAre("a=1"));
    EXPECT_EQ(StatusOf("a").last_error, error);
    EXPECT_EQ(target_.discarded.size(), 1u);
    Remove("a.settings");
  }
}

TEST_F(HangingCreate, IsBegunOnceHoweverOftenItIsRetried) {
  StartWith({"a"});
  Write("a.so", "hangs");
  RescanUntilSettled();
  for (int i = 0; i < 20; ++i) {
    reloader_->Retry();
    Rescan(1000 * kMs);
  }
  EXPECT_EQ(Preparation::running(), 1u);
}

TEST_F(HangingCreate, AreLimited) {
  StartWith({"a"});
  for (size_t i = 0; i <= Reloader::kCreatesMax; ++i) {
    Write("a.so", "hangs");
    Write("a.config", std::to_string(i));
    RescanUntilSettled();
  }
  EXPECT_EQ(Preparation::running(), Reloader::kCreatesMax);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("creates of plugins have not returned"));
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
}

class HangingCreateAndGoBack : public HangingCreate {
 protected:
  // Version 2 serves, and a version that hangs is being created.
  void StartAndReplace() {
    StartWith({"a"});
    Replace("a.so", "2");
    while (target_.chain.front() != "a=2") RescanUntilSettled();
    Replace("a.so", "hangs");
    RescanUntilSettled();
    ASSERT_EQ(Preparation::running(), 1u);
  }
  // The create of version 1 returns, soon or at once.
  absl::Status GoBack() {
    absl::Status status = reloader_->GoBack("a");
    while (Preparation::running() > 1) std::this_thread::yield();
    EXPECT_EQ(reloader_->CheckReturns(now_ns_), Reloader::kNever);
    return status;
  }
};

TEST_F(HangingCreateAndGoBack, NeverServesIfTheVersionBeforeDoes) {
  StartAndReplace();
  GoBack().IgnoreError();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_EQ(target_.discarded.size(), 1u);
}

TEST_F(HangingCreateAndGoBack, ServesIfTheVersionBeforeCannotBeCreatedAgain) {
  StartAndReplace();
  target_.broken = {"a"};
  EXPECT_FALSE(GoBack().ok());
  target_.broken.clear();
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=hangs"));
  EXPECT_EQ(StatusOf("a").last_error, "");
}

// The version in service is created again, and hangs.
TEST_F(HangingCreate, OfTheVersionInServiceHoldsUpNobodyElse) {
  const std::string keys = directory_.Path("keys");
  std::ofstream(keys) << "1";
  target_.follows = {{"hangs", {keys}}};
  target_.release = true;
  Write("a.so", "hangs");
  Write("b.so", "1");
  ASSERT_TRUE(Start().ok());
  Replace("a.so", "broken");
  RescanUntilReturned();
  ASSERT_THAT(target_.chain, ElementsAre("a=hangs", "b=1"));
  const GenerationId before = *target_.live.begin();
  target_.Hold();
  std::ofstream(keys) << "22";
  Replace("b.so", "2");
  RescanUntilOneHangs();
  EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=2"));
  Rescan(10'000 * kMs);
  EXPECT_THAT(reloader_->Status().problems,
              ::testing::Contains(HasSubstr("its create has not returned for 10000 ms")));
  EXPECT_EQ(Preparation::running(), 1u);
  EXPECT_EQ(*target_.live.begin(), before);
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=2"));
  EXPECT_FALSE(target_.live.contains(before));
}

// The version before is created again, and hangs.
class HangingReturn : public HangingCreate {
 protected:
  void StartAndReplace() {
    target_.release = true;
    Write("a.so", "hangs");
    Write("b.so", "1");
    ASSERT_TRUE(Start().ok());
    Replace("a.so", "2");
    while (target_.chain.front() != "a=2") RescanUntilSettled();
    target_.Hold();
  }
  // Another plugin gets a new version meanwhile.
  void ReplaceTheOther() {
    Replace("b.so", "2");
    RescanUntilOneHangs();
    EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=2"));
    EXPECT_EQ(Preparation::running(), 1u);
  }
  void FinishReturn() {
    target_.Release();
    while (Preparation::running() > 0) std::this_thread::yield();
    EXPECT_EQ(reloader_->CheckReturns(now_ns_), Reloader::kNever);
    EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=2"));
    EXPECT_TRUE(StatusOf("a").withdrawn);
    EXPECT_EQ(Reloads("a", "withdrawn"), 1);
    RescanUntilSettled();
    EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=2"));
  }
};

TEST_F(HangingReturn, ThatTheOperatorAskedForHoldsUpNobodyElse) {
  StartAndReplace();
  for (int times = 0; times < 2; ++times) {
    const absl::Status status = reloader_->GoBack("a");
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("generation 1 is being created again"));
    EXPECT_EQ(Preparation::running(), 1u) << "it was begun twice";
  }
  EXPECT_EQ(reloader_->CheckReturns(now_ns_), now_ns_ + Reloader::kDebounceNs);
  ReplaceTheOther();
  FinishReturn();
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("by the operator"));
}

TEST_F(HangingReturn, ThatTheOperatorAskedForGoesBeforeANewerVersion) {
  StartAndReplace();
  Write("a.config", "x");
  Replace("a.so", "hangs");
  RescanUntilSettled();
  ASSERT_EQ(Preparation::running(), 1u);
  EXPECT_EQ(reloader_->GoBack("a").code(), absl::StatusCode::kDeadlineExceeded);
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "b=1"));
  EXPECT_EQ(reloader_->CheckReturns(now_ns_), Reloader::kNever);
  EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=1"));
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=hangs", "b=1"));
  EXPECT_EQ(target_.discarded.size(), 1u);
}

TEST_F(HangingReturn, OfAFailedTrialHoldsUpNobodyElse) {
  StartAndReplace();
  target_.failed_trials = {*target_.live.rbegin()};
  reloader_->WithdrawFailed();
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("generation 1 is being created again"));
  reloader_->CheckReturns(now_ns_);
  ReplaceTheOther();
  reloader_->CheckReturns(now_ns_ + 10'000 * kMs);
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("has not returned for 10000 ms"));
  EXPECT_EQ(Preparation::running(), 1u);
  FinishReturn();
  EXPECT_THAT(StatusOf("a").last_error, HasSubstr("was withdrawn"));
}

TEST_F(HangingReturn, IsNotWantedOnceANewerVersionServes) {
  StartAndReplace();
  target_.failed_trials = {*target_.live.rbegin()};
  reloader_->WithdrawFailed();
  Replace("a.so", "3");
  RescanUntilOneHangs();
  EXPECT_THAT(target_.chain, ElementsAre("a=3", "b=1"));
  EXPECT_EQ(StatusOf("a").last_error, "");
  RescanUntilReturned();
  EXPECT_EQ(reloader_->CheckReturns(now_ns_), Reloader::kNever);
  EXPECT_THAT(target_.chain, ElementsAre("a=3", "b=1"));
  EXPECT_EQ(target_.discarded.size(), 1u);
}

class HangingCanary : public HangingCreate {
 protected:
  // Version 2 serves beside version 1, and a version that hangs is being created.
  void StartCanary() {
    Write("a.settings", R"({"canary": {"min_calls": 10}})");
    StartWith({"a"});
    Replace("a.so", "2");
    while (target_.chain.size() < 2) RescanUntilSettled();  // on a busy machine it takes a while
    canary_ = *target_.live.rbegin();
    Replace("a.so", "hangs");
    RescanUntilSettled();
    ASSERT_THAT(target_.chain, ElementsAre("a=1", "a=2"));
    ASSERT_EQ(Preparation::running(), 1u);
  }

  GenerationId canary_ = 0;
};

TEST_F(HangingCanary, ComesBesideTheVersionThatWasPromotedMeanwhile) {
  StartCanary();
  ASSERT_TRUE(reloader_->Promote("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=2", "a=hangs"));
  EXPECT_TRUE(StatusOf("a").has_canary);
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=2"));
}

TEST_F(HangingCanary, ComesBesideTheVersionBeforeIfTheLastOneWasRolledBackMeanwhile) {
  StartCanary();
  target_.calls[canary_] = {10, 10, 10 * kMs, {10}};
  reloader_->CheckCanaries(now_ns_);
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_TRUE(StatusOf("a").withdrawn);
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=1", "a=hangs"));
  EXPECT_FALSE(StatusOf("a").withdrawn) << "of another version";
}

TEST_F(HangingCanary, NeverServesIfTheOperatorHasGoneBackMeanwhile) {
  StartCanary();
  ASSERT_TRUE(reloader_->GoBack("a").ok());
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  RescanUntilReturned();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  EXPECT_EQ(target_.discarded.size(), 1u);
}

// --- A seeded storm: whatever happens, the chain is that of the files once they rest ---

TEST_F(ReloaderTest, EndsUpWithWhatIsThereHoweverItCame) {
  const unsigned seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(seed);
  std::srand(seed);
  ASSERT_TRUE(Start().ok());
  std::map<std::string, std::string> files;
  for (int round = 0; round < 300; ++round) {
    const std::string name = std::string(1, static_cast<char>('a' + std::rand() % 5));
    const std::string text = std::to_string(std::rand() % 4);
    switch (std::rand() % 4) {
      case 0:
        Write(name + ".so", text);
        files[name] = text;
        break;
      case 1:
        Replace(name + ".so", text);
        files[name] = text;
        break;
      case 2:
        Remove(name + ".so");
        files.erase(name);
        break;
      default:
        break;
    }
    Rescan(static_cast<uint64_t>(std::rand() % 3) * Reloader::kDebounceNs);
    if (round % 10 != 9) continue;
    RescanUntilSettled();
    std::vector<std::string> expected;
    for (const auto& [key, value] : files) expected.push_back(key + "=" + value);
    ASSERT_EQ(target_.chain, expected) << "round " << round << " of seed " << seed;
  }
}

}  // namespace
}  // namespace callout::host
