#include "host/reload/reloader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "sockets.h"

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
    if (broken.count(source.name) > 0 || Code(source) == "broken") {
      return absl::InvalidArgumentError("cannot load plugin " + source.path + ": it is broken");
    }
    sources[source.id] = source;
    GenerationFacts facts;
    facts.version = Code(source);
    facts.followed_files = followed_files;
    return facts;
  }
  void Commit(const std::vector<GenerationId>& ids) override {
    ++commits;
    chain.clear();
    for (GenerationId id : ids) {
      const GenerationSource& source = sources.at(id);
      chain.push_back(source.name + "=" + Code(source) + source.config);
    }
    live.clear();
    for (GenerationId id : ids) live.insert(id);
  }
  std::vector<GenerationId> TakeFailedTrials() override { return std::exchange(failed_trials, {}); }
  Usage GetUsage() const override {
    Usage usage;
    for (GenerationId id : live) usage.streams[id] = 0;
    for (GenerationId id : draining) usage.streams[id] = 1;
    return usage;
  }

  static std::string Code(const GenerationSource& source) {
    std::string code;
    std::getline(std::ifstream(source.load_path), code);
    return code;
  }

  std::set<std::string> broken;  // names
  std::vector<std::string> followed_files;
  std::map<GenerationId, GenerationSource> sources;
  std::vector<std::string> chain;
  std::set<GenerationId> live, draining;
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
    options.copy_places = {directory_.Path("")};
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

TEST_F(ReloaderTest, ADirectoryMissingAtTheStartIsWaitedFor) {
  fs::remove_all(plugins_);
  ASSERT_TRUE(Start().ok());
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
  Replace("a.so", "2");
  reloader_->Retry();
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=1"));
  Replace("a.so", "3");
  RescanUntilSettled();
  EXPECT_THAT(target_.chain, ElementsAre("a=3"));
  EXPECT_EQ(StatusOf("a").generations.front().number, 3u);
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
  EXPECT_THAT(target_.chain, ElementsAre("cmd=1"));
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
