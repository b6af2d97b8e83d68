// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/elf_image.h"

#include <callout/plugin.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "host/plugin/elf_preflight.h"
#include "tests/host/elf_builder.h"
#include "tests/host/samples.h"

namespace callout::host {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ElfImage Parsed(const std::string& bytes) {
  absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  EXPECT_TRUE(image.ok()) << image.status();
  return *std::move(image);
}

std::string RefusalOf(const std::string& bytes) {
  const absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(image.status().message());
}

const ElfSymbol* Find(const ElfImage& image, std::string_view name) {
  const auto found = std::find_if(image.symbols().begin(), image.symbols().end(),
                                  [&](const ElfSymbol& symbol) { return symbol.name == name; });
  return found == image.symbols().end() ? nullptr : &*found;
}

// The same source, linked with either kind of hash table, and stripped.
class ElfImageOfALinkedFile : public ::testing::TestWithParam<const char*> {};

TEST_P(ElfImageOfALinkedFile, TellsWhatTheLinkerWrote) {
  const std::string bytes = ReadSample(GetParam());
  const ElfImage image = Parsed(bytes);
  for (const char* name :
       {"callout_on_process", "callout_on_response_trailers", "callout_abi_version",
        "callout_plugin_info", "sample_zero", "sample_number", "sample_weak"}) {
    const ElfSymbol* symbol = Find(image, name);
    ASSERT_NE(symbol, nullptr) << name;
    EXPECT_TRUE(symbol->exported()) << name;
  }
  EXPECT_EQ(Find(image, "callout_on_process")->type, STT_FUNC);
  EXPECT_EQ(Find(image, "callout_abi_version")->type, STT_OBJECT);
  EXPECT_EQ(Find(image, "sample_thread_local")->type, STT_TLS);
  EXPECT_EQ(Find(image, "sample_weak")->binding, STB_WEAK);
  EXPECT_EQ(Find(image, "callout_plugin_info")->size, sizeof(callout_plugin_info_t));
  EXPECT_EQ(Find(image, "sample_hidden"), nullptr);
  const ElfSymbol* import = Find(image, "puts");
  ASSERT_NE(import, nullptr);
  EXPECT_FALSE(import->defined());
  EXPECT_FALSE(import->exported());
  EXPECT_THAT(image.needed(), AllOf(Contains("libm.so.6"), Contains("libc.so.6")));
  EXPECT_THAT(image.run_paths(), ElementsAre("/opt/sample/lib"));
  EXPECT_FALSE(image.has_executable_stack());
  EXPECT_FALSE(image.has_text_relocations());
}

TEST_P(ElfImageOfALinkedFile, ReadsNumbersWhereTheyWillBeLoaded) {
  const std::string bytes = ReadSample(GetParam());
  const ElfImage image = Parsed(bytes);
  EXPECT_EQ(image.ReadUint32(Find(image, "callout_abi_version")->value), CALLOUT_ABI_VERSION);
  EXPECT_EQ(image.ReadUint32(Find(image, "sample_number")->value), 0xcafef00dU);
  EXPECT_EQ(image.ReadUint32(Find(image, "sample_zero")->value), 0U) << "not in the file";
  EXPECT_EQ(image.ReadUint32(uint64_t{1} << 40), std::nullopt);
  EXPECT_EQ(image.ReadUint32(UINT64_MAX), std::nullopt);
}

TEST_P(ElfImageOfALinkedFile, FindsTheBuildIdAmongTheNotes) {
  const std::string bytes = ReadSample(GetParam());
  const ElfImage image = Parsed(bytes);
  EXPECT_TRUE(image.HasNote("GNU", NT_GNU_BUILD_ID));
  EXPECT_FALSE(image.HasNote("GNU", 12345));
  EXPECT_FALSE(image.HasNote("GN", NT_GNU_BUILD_ID));
  EXPECT_FALSE(image.HasNote("Go", 4));
}

INSTANTIATE_TEST_SUITE_P(All, ElfImageOfALinkedFile,
                         ::testing::Values("sample.so", "sample_sysv_hash.so",
                                           "sample_stripped.so"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name.resize(name.size() - 3);
                           return name;
                         });

TEST(ElfImage, TellsStackAndRelocations) {
  const std::string plain_bytes = ElfBuilder::Plugin().Bytes();
  const ElfImage plain = Parsed(plain_bytes);
  EXPECT_FALSE(plain.has_executable_stack());
  EXPECT_FALSE(plain.has_text_relocations());
  const std::string bytes =
      ElfBuilder::Plugin().ExecutableStack().Entry(DT_FLAGS, DF_TEXTREL).Bytes();
  const ElfImage all = Parsed(bytes);
  EXPECT_TRUE(all.has_executable_stack());
  EXPECT_TRUE(all.has_text_relocations());
  const std::string old_bytes = ElfBuilder::Plugin().Entry(DT_TEXTREL, 0).Bytes();
  EXPECT_TRUE(Parsed(old_bytes).has_text_relocations());
}

TEST(ElfImage, WithoutAStackSegmentTheStackIsExecutable) {
  std::string bytes = ElfBuilder::Plugin().Bytes();
  const size_t stack = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
  const uint32_t type = PT_NULL;
  std::memcpy(&bytes[stack], &type, sizeof(type));
  EXPECT_TRUE(Parsed(bytes).has_executable_stack());
}

TEST(ElfImage, TellsLibrariesThatTheLinkerLoadsAsFilters) {
  const std::string bytes = ElfBuilder::Plugin()
                                .Needs("libc.so.6")
                                .Filters(DT_AUXILIARY, "a.so")
                                .Filters(DT_FILTER, "/x/b.so")
                                .Bytes();
  const ElfImage image = Parsed(bytes);
  EXPECT_THAT(image.filters(), ElementsAre("a.so", "/x/b.so"));
  EXPECT_THAT(image.needed(), ElementsAre("libc.so.6"));
}

TEST(ElfImage, LocalAndHiddenSymbolsAreNotExported) {
  const std::string bytes = ElfBuilder()
                                .Function("local", STB_LOCAL)
                                .Symbol("hidden", STT_FUNC, STB_GLOBAL, 1, 0, STV_HIDDEN)
                                .Symbol("internal", STT_FUNC, STB_GLOBAL, 1, 0, STV_INTERNAL)
                                .Symbol("protected", STT_FUNC, STB_GLOBAL, 1, 0, STV_PROTECTED)
                                .Function("weak", STB_WEAK)
                                .Function("unique", STB_GNU_UNIQUE)
                                .Bytes();
  const ElfImage image = Parsed(bytes);
  std::vector<std::string> exported;
  for (const ElfSymbol& symbol : image.symbols()) {
    if (symbol.exported()) exported.emplace_back(symbol.name);
  }
  EXPECT_THAT(exported, ElementsAre("protected", "weak", "unique"));
}

TEST(ElfImage, LongNamesAreCut) {
  const std::string bytes = ElfBuilder().Function(std::string(5000, 'n')).Bytes();
  const ElfImage image = Parsed(bytes);
  EXPECT_EQ(image.symbols().at(0).name, std::string(ElfSymbol::kNameBytesMax, 'n'));
}

TEST(ElfImage, NotesAreFoundWhereverTheyStand) {
  const std::string bytes = ElfBuilder().Note("A", 1).Note("abc", 7).Note("Go", 4).Bytes();
  const ElfImage image = Parsed(bytes);
  EXPECT_TRUE(image.HasNote("A", 1));
  EXPECT_TRUE(image.HasNote("abc", 7));
  EXPECT_TRUE(image.HasNote("Go", 4));
  EXPECT_FALSE(image.HasNote("Go", 3));
}

// What the reader must see is wrong, each a change of one number.
TEST(ElfImage, ReferencesOutOfTheFileAreCorrupt) {
  const auto with = [](int64_t tag, uint64_t value) {
    return ElfBuilder::Plugin().Entry(tag, value).Bytes();
  };
  EXPECT_THAT(RefusalOf(with(DT_STRTAB, uint64_t{1} << 40)), HasSubstr("its dynamic string table"));
  EXPECT_THAT(RefusalOf(with(DT_STRSZ, UINT64_MAX)), HasSubstr("its dynamic string table"));
  EXPECT_THAT(RefusalOf(with(DT_SYMTAB, UINT64_MAX - 4)), HasSubstr("its dynamic symbol table"));
  EXPECT_THAT(RefusalOf(with(DT_HASH, UINT64_MAX - 4)), HasSubstr("its symbol hash table"));
  EXPECT_THAT(RefusalOf(with(DT_GNU_HASH, uint64_t{1} << 40)), HasSubstr("its symbol hash table"));
  EXPECT_THAT(RefusalOf(with(DT_NEEDED, uint64_t{1} << 40)),
              HasSubstr("its list of needed libraries"));
  EXPECT_THAT(RefusalOf(with(DT_RUNPATH, uint64_t{1} << 40)), HasSubstr("its run path"));
  for (const int64_t tag : {DT_AUXILIARY, DT_FILTER}) {
    EXPECT_THAT(RefusalOf(with(tag, uint64_t{1} << 40)),
                HasSubstr("its list of filtered libraries"));
  }
}

TEST(ElfImage, ProgramHeadersOfAnotherSizeAreCorrupt) {
  std::string bytes = ElfBuilder::Plugin().Bytes();
  bytes[offsetof(Elf64_Ehdr, e_phentsize)] = 32;
  EXPECT_EQ(RefusalOf(bytes),
            "is corrupt: its program headers have 32 bytes each, not 56; build or copy it again");
}

TEST(ElfImage, AnObjectWithoutADynamicPartIsRefused) {
  std::string bytes = ElfBuilder::Plugin().Bytes();
  const size_t dynamic = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
  bytes[dynamic] = PT_NULL;
  EXPECT_EQ(RefusalOf(bytes), "has no dynamic section; link it with -shared -fPIC");
}

// ---- Hostile bytes ----

// Reads `bytes` in every way there is. Under AddressSanitizer a copy of exactly their
// size shows reads beyond the end.
void ReadAll(std::string_view bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  const absl::StatusOr<ElfImage> image = ElfImage::Parse({exact.data(), exact.size()});
  if (!image.ok()) {
    ASSERT_THAT(image.status().message(), AllOf(HasSubstr("; "), ::testing::Not(HasSubstr("\n"))));
    return;
  }
  size_t sum = 0;
  for (const ElfSymbol& symbol : image->symbols()) {
    sum += symbol.name.size() + image->ReadUint32(symbol.value).value_or(0);
  }
  for (const std::string_view text : image->needed()) sum += text.size();
  for (const std::string_view text : image->run_paths()) sum += text.size();
  for (const std::string_view text : image->filters()) sum += text.size();
  sum += image->HasNote("GNU", NT_GNU_BUILD_ID) ? 1 : 0;
  const auto result = Preflight(*image, {.libraries = {"libprotobuf.so.32"}, .go_plugin = "x"});
  sum += result.ok() ? result->warnings.size() : result.status().message().size();
  EXPECT_GE(sum, 0U);
}

TEST(ElfImage, EveryTruncationIsRefused) {
  for (const std::string& bytes : {ElfBuilder::Plugin().Bytes(), ReadSample("sample.so")}) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      const std::vector<char> exact(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
      ASSERT_FALSE(ElfImage::Parse({exact.data(), size}).ok()) << size;
    }
    EXPECT_TRUE(ElfImage::Parse(bytes).ok());
  }
}

TEST(ElfImage, SurvivesRandomChanges) {
  const uint32_t seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::string samples[] = {
      ElfBuilder::Plugin().Needs("a.so").RunPath("/b").Filters(DT_FILTER, "c").Bytes(),
      ReadSample("sample.so"), ReadSample("sample_sysv_hash.so")};
  const auto any = [&](size_t below) {
    return std::uniform_int_distribution<size_t>(0, below - 1)(random);
  };
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = samples[any(std::size(samples))];
    for (size_t change = any(8) + 1; change > 0; --change) {
      // Half of them in the headers, where they matter most.
      const size_t at = any(any(2) == 0 ? std::min<size_t>(1024, bytes.size()) : bytes.size());
      switch (any(3)) {
        case 0:
          bytes[at] = static_cast<char>(any(256));
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << any(8)));
          break;
        default: {
          const uint64_t values[] = {
              0,          1,         UINT64_MAX, UINT64_MAX - 7, bytes.size(), uint64_t{1} << 63,
              0x7fffffff, 0xffffffff};
          const uint64_t value = values[any(std::size(values))];
          bytes.replace(at, sizeof(value), reinterpret_cast<const char*>(&value), sizeof(value));
        }
      }
    }
    ReadAll(bytes);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace callout::host
