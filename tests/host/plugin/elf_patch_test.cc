// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/elf_patch.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "elf_builder.h"
#include "host/plugin/elf_image.h"
#include "host/plugin/loader.h"
#include "samples.h"
#include "sockets.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;

TEST(ElfPatch, LeavesAloneWhatNeedsNoChange) {
  const std::string plain = ElfBuilder::Plugin().RunPath("/opt/lib").Bytes();
  EXPECT_EQ(PatchForPrivateCopy(plain, "/plugins"), plain);
  for (const std::string bytes : {"", "text",
                                  "\x7f"
                                  "ELF"}) {
    EXPECT_EQ(PatchForPrivateCopy(bytes, "/plugins"), bytes);
  }
  const std::string whole = ElfBuilder::Plugin().RunPath("$ORIGIN").Bytes();
  const std::string cut = whole.substr(0, whole.size() - 1);
  EXPECT_EQ(PatchForPrivateCopy(cut, "/plugins"), cut);
}

TEST(ElfPatch, UniqueSymbolsBecomeWeak) {
  const std::string bytes = ElfBuilder::Plugin()
                                .Function("one", STB_GNU_UNIQUE)
                                .Function("two", STB_GLOBAL)
                                .Function("three", STB_GNU_UNIQUE)
                                .Bytes();
  const std::string patched = PatchForPrivateCopy(bytes, "/plugins");
  EXPECT_EQ(patched.size(), bytes.size());
  const auto before = ElfImage::Parse(bytes), after = ElfImage::Parse(patched);
  ASSERT_TRUE(after.ok()) << after.status();
  ASSERT_EQ(after->symbols().size(), before->symbols().size());
  for (size_t i = 0; i < after->symbols().size(); ++i) {
    const ElfSymbol &old = before->symbols()[i], &now = after->symbols()[i];
    EXPECT_EQ(now.name, old.name);
    EXPECT_EQ(now.type, old.type);
    EXPECT_EQ(now.binding, old.binding == STB_GNU_UNIQUE ? STB_WEAK : old.binding) << now.name;
  }
}

TEST(ElfPatch, OriginIsWhereTheOperatorPutTheFile) {
  const std::string bytes =
      ElfBuilder::Plugin().RunPath("$ORIGIN/lib:${ORIGIN}:/opt").Function("one").Bytes();
  const std::string patched = PatchForPrivateCopy(bytes, "/srv/plugins");
  const auto image = ElfImage::Parse(patched);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_THAT(image->run_paths(), ElementsAre("/srv/plugins/lib:/srv/plugins:/opt"));
  EXPECT_EQ(image->symbols().size(), ElfImage::Parse(bytes)->symbols().size());
  EXPECT_EQ(PatchForPrivateCopy(patched, "/elsewhere"), patched) << "once is enough";
}

// The new segment is aligned to pages, and not to all that the others ask for.
TEST(ElfPatch, AnAlignmentOfAGigabyteTakesNoGigabyte) {
  std::string bytes = ElfBuilder::Plugin().RunPath("$ORIGIN/lib").Bytes();
  const uint64_t alignment = uint64_t{1} << 30;
  bytes.replace(sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_align), sizeof(alignment),
                reinterpret_cast<const char*>(&alignment), sizeof(alignment));
  const std::string patched = PatchForPrivateCopy(bytes, "/srv");
  EXPECT_LT(patched.size(), 1u << 20);
  const auto image = ElfImage::Parse(patched);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_THAT(image->run_paths(), ElementsAre("/srv/lib"));
}

// Real ones, as a compiler makes them and the dynamic linker takes them.
TEST(ElfPatch, ThePatchedFileIsLoaded) {
  const TempDir directory;
  for (const char* sample : {"origin.so", "origin_unique.so"}) {
    const std::string patched = PatchForPrivateCopy(
        ReadSample(sample), "/srv/plugins with a long name/" + std::string(200, 'x'));
    const std::string path = directory.Path(sample);
    std::ofstream(path, std::ios::binary) << patched;
    const auto plugin = LoadPlugin(path);
    ASSERT_TRUE(plugin.ok()) << plugin.status();
    EXPECT_THAT((*plugin)->warnings(), ::testing::IsEmpty());
  }
}

// The bytes may be anybody's.
TEST(ElfPatch, DamagedFilesAreNoDanger) {
  const unsigned seed = static_cast<unsigned>(::testing::UnitTest::GetInstance()->random_seed());
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const std::string good =
      ElfBuilder::Plugin().RunPath("$ORIGIN/lib").Function("one", STB_GNU_UNIQUE).Bytes();
  size_t patched = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = good;
    for (unsigned i = 0, count = 1 + random() % 4; i < count; ++i) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % 3 == 0 ? 0xff : random());
    }
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    if (PatchForPrivateCopy(bytes, "/plugins") != bytes) ++patched;
  }
  EXPECT_GT(patched, 1000u) << "or nothing was tried";
}

}  // namespace
}  // namespace callout::host
