// SPDX-License-Identifier: Apache-2.0

#include "host/workers/quarantine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kNow = 1000 * kSecondNs;

TEST(CrashCountTest, SoManyCrashesInSoMuchTimeAreTooMany) {
  CrashCount crashes({.crashes = 3, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1 * kSecondNs));
  EXPECT_FALSE(crashes.Add("p", 2 * kSecondNs));
  EXPECT_TRUE(crashes.Add("p", 61 * kSecondNs));
}

TEST(CrashCountTest, OldCrashesAreForgotten) {
  CrashCount crashes({.crashes = 3, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1 * kSecondNs));
  EXPECT_FALSE(crashes.Add("p", 2 * kSecondNs));
  EXPECT_FALSE(crashes.Add("p", 61 * kSecondNs + 1));
  EXPECT_TRUE(crashes.Add("p", 62 * kSecondNs));
}

TEST(CrashCountTest, EachPluginHasItsOwn) {
  CrashCount crashes({.crashes = 2, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1));
  EXPECT_FALSE(crashes.Add("q", 2));
  EXPECT_TRUE(crashes.Add("p", 3));
  EXPECT_THAT(crashes.totals(), ElementsAre(Pair("p", 2), Pair("q", 1)));
}

TEST(CrashCountTest, AnotherVersionBeginsAnewButTheTotalStays) {
  CrashCount crashes({.crashes = 2, .seconds = 60});
  EXPECT_FALSE(crashes.Add("p", 1));
  crashes.BeginAnew("p");
  EXPECT_FALSE(crashes.Add("p", 2));
  EXPECT_THAT(crashes.totals(), ElementsAre(Pair("p", 2)));
}

TEST(CrashCountTest, NoneIsTooManyWithoutALimit) {
  CrashCount crashes({.crashes = 0, .seconds = 60});
  for (uint64_t i = 0; i < 100; ++i) EXPECT_FALSE(crashes.Add("p", i));
}

class QuarantineTest : public ::testing::Test {
 protected:
  static GenerationSource Source(GenerationId id, const std::string& name) {
    GenerationSource source;
    source.id = id;
    source.name = name;
    source.path = "/plugins/" + name + ".so";
    source.on_trial = true;
    return source;
  }
  bool Crash(const std::string& plugin, bool of_a_trial = false) {
    return quarantine_.CountCrash({.text = "SIGSEGV in " + plugin, .plugin = plugin}, of_a_trial);
  }
  GenerationTarget::Usage Described() const {
    GenerationTarget::Usage usage;
    quarantine_.Describe(&usage);
    return usage;
  }

  Metrics metrics_;
  Quarantine quarantine_{{.crashes = 2, .seconds = 3600}, &metrics_};
};

TEST_F(QuarantineTest, WhatIsLeftOutHasAStandInOfItsOwnId) {
  const GenerationSource source = Source(7, "p");
  EXPECT_FALSE(Crash("p"));
  EXPECT_EQ(quarantine_.InPlaceOf(source).id, source.id);
  ASSERT_TRUE(Crash("p"));
  quarantine_.Disable(source, "SIGSEGV in p", kNow);
  const GenerationSource stand_in = quarantine_.InPlaceOf(source);
  EXPECT_NE(stand_in.id, source.id);
  EXPECT_EQ(Quarantine::IdOf(stand_in.id), source.id);
  EXPECT_EQ(Quarantine::IdOf(source.id), source.id);
  EXPECT_EQ(stand_in.name, "p");
  EXPECT_EQ(stand_in.quarantine,
            "plugin p is in quarantine after 2 crashes, the last one: SIGSEGV in p");
  EXPECT_FALSE(stand_in.on_trial) << "it would be taken back";
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_quarantined{plugin=\"p\"} 1\n"));
}

TEST_F(QuarantineTest, TheOperatorEndsItAndWhatComesBackHasAnIdOfItsOwn) {
  const GenerationSource source = Source(7, "p");
  EXPECT_FALSE(quarantine_.Release(7, /*by_operator=*/true, kNow)) << "it is not in quarantine";
  Crash("p");
  Crash("p");
  quarantine_.Disable(source, "SIGSEGV in p", kNow);
  const GenerationId stand_in = quarantine_.InPlaceOf(source).id;
  EXPECT_TRUE(quarantine_.Release(7, /*by_operator=*/true, kNow));
  const GenerationSource again = quarantine_.InPlaceOf(source);
  EXPECT_NE(again.id, source.id) << "the one before may still have streams";
  EXPECT_NE(again.id, stand_in);
  EXPECT_EQ(Quarantine::IdOf(again.id), source.id);
  EXPECT_EQ(again.quarantine, "");
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_quarantined{plugin=\"p\"} 0\n"));
  EXPECT_THAT(Described().problems, IsEmpty());
  EXPECT_FALSE(Crash("p")) << "crashes are counted anew";
  EXPECT_TRUE(Crash("p"));
  quarantine_.Disable(source, "SIGSEGV in p", kNow);
  EXPECT_NE(quarantine_.InPlaceOf(source).id, stand_in);
}

TEST_F(QuarantineTest, WhatIsToComeBackIsKnownBeforeAndAfterATrialHasBegun) {
  const GenerationSource source = Source(7, "p");
  EXPECT_FALSE(quarantine_.ReturnOf(source).has_value()) << "it is not in quarantine";
  Crash("p");
  Crash("p");
  quarantine_.Disable(source, "SIGSEGV in p", kNow);
  const GenerationId again = quarantine_.ReturnOf(source)->id;
  EXPECT_EQ(quarantine_.ReturnOf(source)->quarantine, "");
  EXPECT_FALSE(quarantine_.ReturnOf(source)->on_trial);
  quarantine_.BeginTrial(7, kNow);
  EXPECT_TRUE(quarantine_.IsTried(7));
  EXPECT_FALSE(quarantine_.IsTried(0));
  EXPECT_EQ(quarantine_.ReturnOf(source)->id, again);
  EXPECT_EQ(quarantine_.InPlaceOf(source, /*in_trial_worker=*/true).id, again);
  quarantine_.RefuseReturn(7, "it cannot be created", kNow);
  EXPECT_FALSE(quarantine_.IsTried(7));
  EXPECT_NE(quarantine_.InPlaceOf(source).quarantine, "");
  const GenerationId next = quarantine_.ReturnOf(source)->id;
  EXPECT_NE(next, again);
  quarantine_.RefuseReturn(7, "it cannot be created", kNow);
  EXPECT_TRUE(quarantine_.Release(7, /*by_operator=*/true, kNow));
  EXPECT_EQ(quarantine_.InPlaceOf(source).id, next);
}

TEST_F(QuarantineTest, ATrialIsForOneWorkerAndComesWithBackOff) {
  const GenerationSource source = Source(7, "p");
  Crash("p");
  Crash("p");
  quarantine_.Disable(source, "SIGSEGV in p", kNow);
  uint64_t now = kNow;
  uint64_t delay = 60;
  for (int trial = 0; trial < 10; ++trial) {
    EXPECT_FALSE(quarantine_.FindDueTrial(now + delay * kSecondNs - 1).has_value()) << delay;
    now += delay * kSecondNs;
    ASSERT_EQ(quarantine_.FindDueTrial(now), 7u);
    quarantine_.BeginTrial(7, now);
    EXPECT_FALSE(quarantine_.FindDueTrial(now).has_value()) << "one at a time";
    EXPECT_EQ(quarantine_.InPlaceOf(source, /*in_trial_worker=*/true).quarantine, "");
    EXPECT_NE(quarantine_.InPlaceOf(source).quarantine, "") << "in the other workers";
    EXPECT_FALSE(quarantine_.FindPassedTrial(now + Quarantine::kTrialNs - 1).has_value());
    quarantine_.FailTrial("SIGSEGV again", now);
    EXPECT_NE(quarantine_.InPlaceOf(source, /*in_trial_worker=*/true).quarantine, "");
    delay = std::min<uint64_t>(delay * 2, 3600);
  }
}

TEST_F(QuarantineTest, ATrialThatGoesWellEndsItButTheNextOneIsLonger) {
  const GenerationSource source = Source(7, "p");
  Crash("p");
  Crash("p");
  quarantine_.Disable(source, "SIGSEGV in p", kNow);
  uint64_t now = kNow + 60 * kSecondNs;
  quarantine_.BeginTrial(7, now);
  const GenerationId tried = quarantine_.InPlaceOf(source, /*in_trial_worker=*/true).id;
  now += Quarantine::kTrialNs;
  ASSERT_EQ(quarantine_.FindPassedTrial(now), 7u);
  EXPECT_TRUE(quarantine_.Release(7, /*by_operator=*/false, now));
  EXPECT_FALSE(quarantine_.trying());
  EXPECT_EQ(quarantine_.InPlaceOf(source).id, tried) << "the worker that tried it has it already";
  Crash("p");
  Crash("p");
  quarantine_.Disable(source, "SIGSEGV in p", now);
  EXPECT_FALSE(quarantine_.FindDueTrial(now + 119 * kSecondNs).has_value());
  EXPECT_TRUE(quarantine_.FindDueTrial(now + 120 * kSecondNs).has_value());
}

TEST_F(QuarantineTest, WithoutARetryTimeThereAreNoTrials) {
  Quarantine quarantine({.crashes = 1, .seconds = 60, .retry_ms = 0}, &metrics_);
  quarantine.CountCrash({.text = "SIGSEGV", .plugin = "r"}, false);
  quarantine.Disable(Source(9, "r"), "SIGSEGV", kNow);
  EXPECT_FALSE(quarantine.FindDueTrial(UINT64_MAX).has_value());
}

TEST_F(QuarantineTest, ThoseThatLeaveTheChainAreForgotten) {
  const GenerationSource left = Source(7, "p"), kept = Source(8, "q");
  for (const GenerationSource* source : {&left, &kept}) {
    Crash(source->name);
    quarantine_.Disable(*source, "", kNow);
  }
  quarantine_.KeepOnly({9, 8});
  EXPECT_EQ(quarantine_.InPlaceOf(left).id, left.id);
  EXPECT_NE(quarantine_.InPlaceOf(kept).id, kept.id);
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_quarantined{plugin=\"p\"} 0\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_quarantined{plugin=\"q\"} 1\n"));
}

TEST_F(QuarantineTest, CrashesOfTrialsAndOfOlderGenerationsDoNotCountTowardsTheLimit) {
  EXPECT_FALSE(Crash("p"));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(Crash("p", /*of_a_trial=*/true));
  quarantine_.BeginAnew("p");
  EXPECT_FALSE(Crash("p"));
  EXPECT_TRUE(Crash("p"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_crashes_total{plugin=\"p\"} 8\n"));
}

TEST_F(QuarantineTest, DescribesEveryCrashAndWhoIsLeftOut) {
  Crash("p", /*of_a_trial=*/true);
  Crash("q");
  quarantine_.Disable(Source(8, "q"), "it fell", kNow);
  const GenerationTarget::Usage usage = Described();
  EXPECT_THAT(usage.crashes, ElementsAre(Pair("p", 1), Pair("q", 1)));
  EXPECT_THAT(usage.last_crash, ElementsAre(Pair("p", "SIGSEGV in p"), Pair("q", "SIGSEGV in q")));
  EXPECT_THAT(usage.quarantined, ElementsAre(Pair("q", HasSubstr("it fell"))));
  EXPECT_THAT(usage.problems,
              ElementsAre(AllOf(HasSubstr("it fell"),
                                HasSubstr("it is disabled until its file changes or is touched or "
                                          "SIGHUP comes; meanwhile its error policy answers, by "
                                          "default 503"))));
  quarantine_.KeepOnly({});
  EXPECT_THAT(Described().quarantined, IsEmpty());
}

}  // namespace
}  // namespace callout::host
