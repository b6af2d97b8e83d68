#include "host/workers/quarantine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

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
  EXPECT_EQ(&quarantine_.InPlaceOf(source), &source);
  ASSERT_TRUE(Crash("p"));
  quarantine_.LeaveOut(source, "SIGSEGV in p");
  const GenerationSource& stand_in = quarantine_.InPlaceOf(source);
  EXPECT_NE(stand_in.id, source.id);
  EXPECT_EQ(Quarantine::IdOf(stand_in.id), source.id);
  EXPECT_EQ(Quarantine::IdOf(source.id), source.id);
  EXPECT_EQ(stand_in.name, "p");
  EXPECT_EQ(stand_in.quarantine,
            "plugin p is in quarantine after 2 crashes, the last one: SIGSEGV in p");
  EXPECT_FALSE(stand_in.on_trial) << "it would be taken back";
  EXPECT_THAT(metrics_.Text(), HasSubstr("callout_plugin_quarantined{plugin=\"p\"} 1\n"));
}

TEST_F(QuarantineTest, ThoseThatLeaveTheChainAreForgotten) {
  const GenerationSource left = Source(7, "p"), kept = Source(8, "q");
  for (const GenerationSource* source : {&left, &kept}) {
    Crash(source->name);
    quarantine_.LeaveOut(*source, "");
  }
  quarantine_.KeepOnly({9, 8});
  EXPECT_EQ(&quarantine_.InPlaceOf(left), &left);
  EXPECT_NE(&quarantine_.InPlaceOf(kept), &kept);
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
  quarantine_.LeaveOut(Source(8, "q"), "it fell");
  const GenerationTarget::Usage usage = Described();
  EXPECT_THAT(usage.crashes, ElementsAre(Pair("p", 1), Pair("q", 1)));
  EXPECT_THAT(usage.last_crash, ElementsAre(Pair("p", "SIGSEGV in p"), Pair("q", "SIGSEGV in q")));
  EXPECT_THAT(usage.quarantined, ElementsAre(Pair("q", HasSubstr("it fell"))));
  quarantine_.KeepOnly({});
  EXPECT_THAT(Described().quarantined, IsEmpty());
}

}  // namespace
}  // namespace callout::host
