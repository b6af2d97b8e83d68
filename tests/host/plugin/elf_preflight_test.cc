// SPDX-License-Identifier: Apache-2.0

// What real files are refused for is in tests/broken; here are the finer points.

#include "host/plugin/elf_preflight.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/host/elf_builder.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

absl::StatusOr<PreflightResult> Check(const ElfBuilder& builder, const AlreadyLoaded& loaded = {}) {
  const std::string bytes = builder.Bytes();
  const absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  EXPECT_TRUE(image.ok()) << image.status();
  return Preflight(*image, loaded);
}

std::string RefusalOf(const ElfBuilder& builder, const AlreadyLoaded& loaded = {}) {
  const auto result = Check(builder, loaded);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(result.status().message());
}

std::vector<std::string> Warnings(const ElfBuilder& builder) {
  const auto result = Check(builder);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? result->warnings : std::vector<std::string>();
}

TEST(ElfPreflight, AcceptsTheSmallestPlugin) {
  const auto result = Check(ElfBuilder::Plugin());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->abi_version, 1U);
  EXPECT_FALSE(result->has_go_runtime);
  EXPECT_THAT(result->warnings, IsEmpty());
}

TEST(ElfPreflight, EachMessageHookIsEnough) {
  for (const char* hook :
       {"callout_on_process", "callout_on_request_headers", "callout_on_response_headers",
        "callout_on_request_body", "callout_on_response_body", "callout_on_request_trailers",
        "callout_on_response_trailers"}) {
    EXPECT_TRUE(Check(ElfBuilder().Data("callout_abi_version", 1).Function(hook)).ok()) << hook;
  }
  for (const char* hook :
       {"callout_on_stream_open", "callout_on_stream_close", "callout_on_stream_cancel"}) {
    EXPECT_THAT(RefusalOf(ElfBuilder().Data("callout_abi_version", 1).Function(hook)),
                HasSubstr(std::string(hook) + " but no hook that gets a message"));
  }
}

TEST(ElfPreflight, SymbolsOfAnUnknownTypeAreTakenAtTheirWord) {
  // Assemblers write no type unless told to.
  EXPECT_TRUE(Check(ElfBuilder()
                        .Data("callout_abi_version", 1)
                        .Symbol("callout_on_process", STT_NOTYPE, STB_GLOBAL, 1, 0))
                  .ok());
}

TEST(ElfPreflight, ImportsAndLocalsAreNoExports) {
  EXPECT_THAT(RefusalOf(ElfBuilder().Import("callout_abi_version").Function("callout_on_process")),
              StartsWith("it exports no callout_abi_version"));
  EXPECT_THAT(RefusalOf(ElfBuilder().Data("callout_abi_version", 1).Import("callout_on_process")),
              StartsWith("it exports no callout_on_* hook"));
  EXPECT_THAT(
      RefusalOf(
          ElfBuilder().Data("callout_abi_version", 1).Function("callout_on_process", STB_LOCAL)),
      StartsWith("it exports no callout_on_* hook"));
}

TEST(ElfPreflight, TheVersionMustBeReadable) {
  EXPECT_THAT(RefusalOf(ElfBuilder()
                            .Symbol("callout_abi_version", STT_OBJECT, STB_GLOBAL, 2, 1 << 30)
                            .Function("callout_on_process")),
              HasSubstr("lies outside the file's segments"));
  EXPECT_THAT(RefusalOf(ElfBuilder()
                            .Symbol("callout_abi_version", STT_TLS, STB_GLOBAL, 2, 0)
                            .Function("callout_on_process")),
              HasSubstr("is not plain data"));
}

TEST(ElfPreflight, TheInfoMustBeData) {
  EXPECT_THAT(RefusalOf(ElfBuilder::Plugin().Function("callout_plugin_info")),
              HasSubstr("its callout_plugin_info is not plain data"));
}

TEST(ElfPreflight, TellsWhichNameWasMeant) {
  const struct {
    const char* exported;
    const char* meant;
  } kTable[] = {
      {"callout_on_request_header", "callout_on_request_headers"},
      {"callout_on_responce_headers", "callout_on_response_headers"},
      {"callout_on_req_body", "callout_on_request_body"},
      {"callout_request_trailers", "callout_on_request_trailers"},
      {"callout_on_proces", "callout_on_process"},
      {"callout_create", ""},
      {"callout_plugin_creat", "callout_plugin_create"},
      {"callout_plugin_information", ""},
      {"callout_on_stream_opened", "callout_on_stream_open"},
      {"callout_abi_versoin", "callout_abi_version"},
      {"callout_something_quite_different", ""},
  };
  for (const auto& row : kTable) {
    // A misspelt hook is refused, other names get a warning.
    const std::string exported = row.exported;
    const bool is_hook =
        exported.starts_with("callout_on_") || exported.starts_with("callout_plugin_");
    const auto result = Check(ElfBuilder::Plugin().Function(exported));
    ASSERT_EQ(result.ok(), !is_hook) << exported;
    ASSERT_EQ(is_hook ? 1U : result->warnings.size(), 1U) << exported;
    const std::string said = is_hook ? std::string(result.status().message()) : result->warnings[0];
    const std::string meant = row.meant;
    EXPECT_THAT(said, StartsWith("it exports " + exported + ", which this host does not know"));
    EXPECT_THAT(said, HasSubstr(meant.empty() ? "; make it static, or use a newer host"
                                              : "; did you mean " + meant + "?"));
  }
}

TEST(ElfPreflight, NamesOfOthersAreNobodysBusiness) {
  EXPECT_THAT(Warnings(ElfBuilder::Plugin()
                           .Function("main")
                           .Function("calloutx_on_process")
                           .Function("_Z3foov")
                           .Function("_Z99999999999999999999foo")
                           .Function("_Z")
                           .Function("")),
              IsEmpty());
}

TEST(ElfPreflight, StrangeNamesAreEscapedAndCut) {
  const std::vector<std::string> warnings =
      Warnings(ElfBuilder::Plugin().Function("callout_\n" + std::string(3000, 'x')));
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_THAT(warnings[0], StartsWith("it exports callout_\\x0axxx"));
  EXPECT_LT(warnings[0].size(), 400U);
}

// ---- Protobuf ----

TEST(ElfPreflight, RefusesWhateverBelongsToAProtobufClass) {
  for (const char* name : {
           "_ZN5envoy4type2v310HttpStatus5ClearEv",  // member
           "_ZNK5envoy4type2v310HttpStatus12GetTypeNameB5cxx11Ev",
           "_ZTVN5envoy4type2v310HttpStatusE",         // virtual table
           "_ZTIN6google8protobuf6StructE",            // type information
           "_ZGVZN6google8protobuf5ArenaC4EvE3foo",    // guard of a local static
           "_ZZN5envoy4type2v310HttpStatusC4EvE3foo",  // local static
           "_ZN6google8protobuf5Arena18CreateMaybeMessageIN5envoy4type2v310HttpStatusEEEPT_PS1_",
       }) {
    EXPECT_THAT(RefusalOf(ElfBuilder::Plugin().Function(name, STB_WEAK)),
                StartsWith(std::string("it exports protobuf classes (") + name + ")"));
    EXPECT_TRUE(Check(ElfBuilder::Plugin().Import(name)).ok()) << "libprotobuf's own";
  }
  for (const char* name : {"_ZN7envoyer3fooEv", "_ZN3foo5envoyEv", "_ZN6google3logEv", "_Z5envoyv",
                           "_ZN", "_Z", "_ZTV", "_ZZZZ"}) {
    EXPECT_TRUE(Check(ElfBuilder::Plugin().Function(name)).ok()) << name;
  }
}

TEST(ElfPreflight, OneVersionOfProtobufInAProcess) {
  const auto needs = [](const char* library) { return ElfBuilder::Plugin().Needs(library); };
  const AlreadyLoaded full = {.libraries = {"libc.so.6", "libprotobuf.so.32"}, .go_plugin = ""};
  EXPECT_TRUE(Check(needs("libprotobuf.so.32"), full).ok());
  EXPECT_TRUE(Check(needs("libprotobuf-lite.so.32"), full).ok());
  EXPECT_TRUE(Check(needs("libprotobuf-c.so.1"), full).ok()) << "another library altogether";
  EXPECT_TRUE(Check(needs("libprotobuf.so.17")).ok()) << "with none loaded";
  EXPECT_THAT(RefusalOf(needs("libprotobuf.so.17"), full),
              StartsWith("it needs libprotobuf.so.17 and the process runs on libprotobuf.so.32"));
  EXPECT_THAT(RefusalOf(needs("libprotobuf-lite.so.23"), full),
              HasSubstr("libprotobuf-lite.so.23"));
}

// ---- Runtimes ----

TEST(ElfPreflight, KnowsAGoRuntimeByItsNoteOrItsSymbols) {
  for (const ElfBuilder& go :
       {ElfBuilder::Plugin().Note("Go", 4), ElfBuilder::Plugin().Function("_cgo_topofstack"),
        ElfBuilder::Plugin().Function("crosscall2")}) {
    const auto first = Check(go);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(first->has_go_runtime);
    EXPECT_EQ(RefusalOf(go, {.libraries = {}, .go_plugin = "/x/first.so"}),
              "it brings a second Go runtime into the process, which has that of /x/first.so "
              "and can have only one; run it in a host of its own or, to replace that plugin, "
              "restart the host by draining it");
  }
  EXPECT_TRUE(Check(ElfBuilder::Plugin(), {.libraries = {}, .go_plugin = "/x/first.so"}).ok());
}

TEST(ElfPreflight, ASanitizersRuntimeMustBeThereFromTheStart) {
  const ElfBuilder sanitized = ElfBuilder::Plugin().Needs("libasan.so.8");
  EXPECT_THAT(RefusalOf(sanitized), StartsWith("it needs libasan.so.8, which ends a process"));
  EXPECT_TRUE(Check(sanitized, {.libraries = {"libasan.so.8"}, .go_plugin = ""}).ok());
  EXPECT_TRUE(Check(ElfBuilder::Plugin().Needs("libubsan.so.1")).ok());
}

// ---- Revisions ----

absl::StatusOr<PreflightResult> CheckOn(const HostAbi& abi, const ElfBuilder& builder) {
  const std::string bytes = builder.Bytes();
  const absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  EXPECT_TRUE(image.ok()) << image.status();
  return Preflight(*image, {}, abi);
}

TEST(ElfPreflight, APluginWithoutARevisionIsOfTheFirst) {
  EXPECT_EQ(Check(ElfBuilder::Plugin())->abi_revision, 1u);
  EXPECT_EQ(Check(ElfBuilder::Plugin().Data("callout_abi_revision", 7))->abi_revision, 7u);
}

TEST(ElfPreflight, AnUnknownHookBesideAGoodOneIsRefusedOfAPluginThatIsNotNewer) {
  for (const char* name : {"callout_on_responce_body", "callout_on_", "callout_plugin_reload"}) {
    EXPECT_THAT(RefusalOf(ElfBuilder::Plugin().Function(name)),
                StartsWith(std::string("it exports ") + name + ", which this host does not know"));
    EXPECT_THAT(RefusalOf(ElfBuilder::Plugin().Data("callout_abi_revision", 1).Function(name)),
                StartsWith(std::string("it exports ") + name + ", which this host does not know"));
  }
  EXPECT_THAT(
      RefusalOf(ElfBuilder::Plugin().Function("_Z24callout_on_request_bodyxP12callout_call")),
      StartsWith("it exports callout_on_request_bodyx as a C++ function"));
  EXPECT_THAT(
      RefusalOf(ElfBuilder::Plugin().Function("_Z23callout_on_request_bodyP12callout_call")),
      StartsWith("it exports callout_on_request_body as a C++ function"));
}

TEST(ElfPreflight, ANewerPluginsHookIsRefusedUnlessItCanDoWithout) {
  constexpr uint32_t kOwn = CALLOUT_ABI_REVISION;
  const auto newer = [] {
    return ElfBuilder::Plugin().Data("callout_abi_revision", kOwn + 1).Function("callout_on_timer");
  };
  EXPECT_THAT(RefusalOf(newer()), HasSubstr(fmt::format("add CALLOUT_PLUGIN_NEEDS({});", kOwn)));
  EXPECT_THAT(
      RefusalOf(newer().Data("callout_abi_revision_min", kOwn + 1)),
      StartsWith(fmt::format("it needs revision {} of ABI version 1 and this host has revision {}",
                             kOwn + 1, kOwn)));
  EXPECT_THAT(Warnings(newer().Data("callout_abi_revision_min", 1)),
              ElementsAre(HasSubstr("callout_on_timer is not called")));
  EXPECT_THAT(Warnings(ElfBuilder::Plugin().Data("callout_abi_revision", kOwn + 1)), IsEmpty());
}

TEST(ElfPreflight, AHookOfAService) {
  EXPECT_TRUE(Check(ElfBuilder()
                        .Data("callout_abi_version", 1)
                        .Data("callout_abi_revision", 2)
                        .Function("callout_on_check"))
                  .ok());
  EXPECT_THAT(RefusalOf(ElfBuilder().Data("callout_abi_version", 1).Function("callout_on_check")),
              StartsWith("it exports callout_on_check of revision 2 and says that it was built for "
                         "revision 1"));
  EXPECT_THAT(
      RefusalOf(ElfBuilder()
                    .Data("callout_abi_version", 1)
                    .Data("callout_abi_revision", 2)
                    .Function("callout_on_rate_limit")),
      StartsWith("it exports callout_on_rate_limit of revision 3 and says that it was built "
                 "for revision 2"));
}

TEST(ElfPreflight, AHostCallsHooksUpToItsOwnRevision) {
  HostAbi older;
  older.revision = 0;
  EXPECT_FALSE(CheckOn(older, ElfBuilder::Plugin()).ok());
  const AbiSymbol symbols[] = {
      {"callout_abi_version", AbiSymbol::Kind::kData, 1},
      {"callout_abi_revision", AbiSymbol::Kind::kData, 1},
      {"callout_on_process", AbiSymbol::Kind::kMessageHook, 1},
      {"callout_on_timer", AbiSymbol::Kind::kOtherHook, 2},
  };
  const HostAbi newer = {.revision = 2, .symbols = symbols};
  EXPECT_TRUE(
      CheckOn(newer,
              ElfBuilder::Plugin().Data("callout_abi_revision", 2).Function("callout_on_timer"))
          .ok());
  EXPECT_THAT(
      std::string(
          CheckOn(newer, ElfBuilder::Plugin().Function("callout_on_timer")).status().message()),
      StartsWith("it exports callout_on_timer of revision 2 and says that it was built"));
}

// ---- Warnings ----

TEST(ElfPreflight, WarnsOfWhatWorksButBadly) {
  EXPECT_THAT(Warnings(ElfBuilder::Plugin().Entry(DT_TEXTREL, 0)),
              ElementsAre(StartsWith("it has text relocations")));
  EXPECT_THAT(Warnings(ElfBuilder::Plugin().RunPath("/opt/lib:${ORIGIN}/x")), IsEmpty());
  EXPECT_THAT(
      Warnings(
          ElfBuilder::Plugin().Function("one", STB_GNU_UNIQUE).Function("two", STB_GNU_UNIQUE)),
      ElementsAre(StartsWith("it exports 2 GNU_UNIQUE symbols (one)")));
  EXPECT_THAT(Warnings(ElfBuilder::Plugin().Function("callout_plugin_destroy")),
              ElementsAre(StartsWith("it exports callout_plugin_destroy without")));
  EXPECT_THAT(Warnings(ElfBuilder::Plugin().Function("callout_plugin_create")), IsEmpty());
}

}  // namespace
}  // namespace callout::host
