// SPDX-License-Identifier: Apache-2.0

// Growth, proven: the committed binaries of each revision run in this host, in one whose
// tables are cut to what that revision had, and in one whose tables are longer; and plugins
// of a later revision run in this one, or are refused.
#include <callout/plugin.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

#include "host/plugin/elf_image.h"
#include "host/plugin/elf_preflight.h"
#include "host/plugin/loader.h"
#include "host/plugin/services.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Key;

#if defined(__x86_64__)
constexpr char kMachine[] = "";
#else
constexpr char kMachine[] = "_aarch64";
#endif

std::string GoldenPath(const std::string& name) {
  return std::string(CALLOUT_GOLDEN_DIR "/") + name + kMachine + ".so";
}

std::string LaterPath(const std::string& name) {
  return std::string(CALLOUT_LATER_DIR "/") + name + ".so";
}

// What a host of revision 1 shows to a plugin, in bytes.
constexpr AbiShape kRevision1 = {.host_bytes = 144, .call_bytes = 152, .create_bytes = 88};
// A host of a revision to come: its structs go on.
constexpr AbiShape kLonger = {.host_bytes = sizeof(callout_host_t) + 64,
                              .call_bytes = sizeof(callout_call_t) + 32,
                              .create_bytes = sizeof(callout_create_args_t) + 64};

class GrowthTest : public StreamTest, public testing::WithParamInterface<AbiShape> {
 protected:
  absl::Status Serve(const std::string& path, const std::string& config, const AbiShape& abi) {
    absl::StatusOr<std::shared_ptr<const Plugin>> plugin = LoadPlugin(path);
    if (!plugin.ok()) return plugin.status();
    plugin_ = *plugin;
    InstanceContext context;
    context.metrics = &metrics_;
    context.abi = abi;
    absl::StatusOr<std::shared_ptr<Instance>> instance =
        Instance::Create(*plugin, "fake0", config, {}, context);
    if (!instance.ok()) return instance.status();
    chains_ = std::make_unique<ChainSource>(
        std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>{*instance}));
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
    instance_ = instance->get();
    return absl::OkStatus();
  }

  std::shared_ptr<const Plugin> plugin_;
  Instance* instance_ = nullptr;
};

TEST_P(GrowthTest, EveryHookAndServiceOfRevision1Works) {
  ASSERT_TRUE(Serve(GoldenPath("golden_v1"), "golden", GetParam()).ok());
  EXPECT_EQ(plugin_->abi_version(), 1u);
  EXPECT_EQ(plugin_->abi_revision(), 1u);
  EXPECT_EQ(plugin_->info().name, "golden");
  EXPECT_EQ(plugin_->hook_names().size(), 12u);
  EXPECT_EQ(plugin_->config_schema(), "{\"type\": \"string\"}");
  EXPECT_THAT(instance_->followed_files(), ElementsAre(Key("/etc/golden")));
  EXPECT_TRUE(instance_->wants(CALLOUT_WANT_REAL_END));
  constexpr int kDuplex = CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  const auto headers = Exchange(WithModes(Headers(CALLOUT_REQUEST_HEADERS), kDuplex, 0));
  EXPECT_TRUE(headers.request_headers().response().clear_route_cache());
  EXPECT_EQ(headers.dynamic_metadata().fields().count("golden"), 1u);
  Feed(Body(CALLOUT_REQUEST_BODY, "c", false));
  const auto chunks = Take();
  ASSERT_EQ(chunks.size(), 2u);
  const auto body = [](const ProcessingResponse& response) {
    return response.request_body().response().body_mutation().streamed_response().body();
  };
  EXPECT_EQ(body(chunks[0]), "s");
  EXPECT_EQ(body(chunks[1]), "c");
  EXPECT_TRUE(Exchange(Trailers(CALLOUT_REQUEST_TRAILERS)).has_request_trailers());
  EXPECT_TRUE(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).has_response_headers());
  Feed(Body(CALLOUT_RESPONSE_BODY, "c", true));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(*stream_->end(), absl::UnavailableError("golden error"));
  EXPECT_TRUE(stream_->closed());
  const std::string metrics = metrics_.Text();
  EXPECT_THAT(metrics, HasSubstr("golden_streams_total{plugin=\"fake0\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("golden_level{plugin=\"fake0\"} 7"));
  EXPECT_THAT(metrics,
              HasSubstr("golden_time_seconds_bucket{kind=\"gold\",plugin=\"fake0\",le=\"1\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("golden_closed{plugin=\"fake0\"} 1")) << "call->end is told";
}

TEST_P(GrowthTest, TheClassLayerOfRevision1Works) {
  ASSERT_TRUE(Serve(GoldenPath("golden_v1_class"), "golden", GetParam()).ok());
  const auto headers = Exchange(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_THAT(Mutations(headers.request_headers().response().header_mutation()),
              ElementsAre(testing::StartsWith("set x-golden=")));
  EXPECT_TRUE(Exchange(Headers(CALLOUT_RESPONSE_HEADERS)).has_response_headers());
  EXPECT_THAT(metrics_.Text(), HasSubstr("golden_headers_total{plugin=\"fake0\"} 1"));
}

TEST_P(GrowthTest, TheConfigurationReachesIt) {
  EXPECT_FALSE(Serve(GoldenPath("golden_v1"), "other", GetParam()).ok());
  EXPECT_FALSE(Serve(GoldenPath("golden_v1_class"), "other", GetParam()).ok());
}

std::string HostName(const testing::TestParamInfo<AbiShape>& info) {
  constexpr const char* kNames[] = {"Today", "Revision1", "Later"};
  return kNames[info.index];
}

INSTANTIATE_TEST_SUITE_P(Hosts, GrowthTest, testing::Values(AbiShape(), kRevision1, kLonger),
                         HostName);

// --- Plugins of a later revision, on this host ---

using LaterTest = GrowthTest;

constexpr uint32_t kLater = CALLOUT_ABI_REVISION + 1;

std::string RefusalOf(const std::string& name) {
  const auto plugin = LoadPlugin(LaterPath(name));
  EXPECT_FALSE(plugin.ok()) << name;
  return std::string(plugin.status().message());
}

TEST_F(LaterTest, OneWithALaterHookIsRefused) {
  EXPECT_THAT(RefusalOf("later_hook"),
              EndsWith(fmt::format("it exports callout_on_later and was built for revision {} of "
                                   "the ABI, and this host has revision {}; use a newer host or, "
                                   "if it can do without, add CALLOUT_PLUGIN_NEEDS({});",
                                   kLater, CALLOUT_ABI_REVISION, CALLOUT_ABI_REVISION)));
}

TEST_F(LaterTest, OneThatNeedsTheLaterRevisionIsRefused) {
  EXPECT_THAT(RefusalOf("later_needs"),
              EndsWith(fmt::format("it needs revision {} of ABI version 1 and this host has "
                                   "revision {}; use a newer host",
                                   kLater, CALLOUT_ABI_REVISION)));
}

TEST_F(LaterTest, OneThatCanDoWithoutItsLaterHookServesWithAWarning) {
  ASSERT_TRUE(Serve(LaterPath("later_without"), "", {}).ok());
  EXPECT_EQ(plugin_->abi_revision(), kLater);
  EXPECT_THAT(plugin_->warnings(),
              ElementsAre(fmt::format("it was built for revision {} of the ABI and this host has "
                                      "revision {}: callout_on_later is not called",
                                      kLater, CALLOUT_ABI_REVISION)));
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(*stream_->end(), absl::PermissionDeniedError("without"));
}

TEST_F(LaterTest, OneThatAsksForLaterFieldsServes) {
  ASSERT_TRUE(Serve(LaterPath("later_fields"), "", {}).ok());
  EXPECT_THAT(plugin_->warnings(), ElementsAre());
  Feed(Headers(CALLOUT_REQUEST_HEADERS));
  EXPECT_EQ(*stream_->end(), absl::PermissionDeniedError("without"));
}

TEST_F(LaterTest, AWriteToALaterFieldWithoutAskingHarmsNobodyAndIsLogged) {
  testing::internal::CaptureStderr();
  EXPECT_TRUE(Serve(LaterPath("later_unasked"), "", {}).ok());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr("plugin fake0: callout_plugin_create wrote behind the "
                        "callout_create_args_t of this host; ask CALLOUT_HAS before writing"));
}

// The slots behind the table are NULL: the crash is where the mistake is.
TEST_F(LaterTest, ACallOfALaterServiceWithoutAskingIsACallOfNull) {
  const auto serve = [this] {
    std::signal(SIGSEGV, SIG_DFL);  // AddressSanitizer has a handler
    Serve(LaterPath("later_unasked_call"), "", {}).IgnoreError();
  };
  EXPECT_EXIT(serve(), testing::KilledBySignal(SIGSEGV), "");
}

// A host of the next revision, on which a plugin says that it is older than its hook.
TEST(LaterHost, RefusesAHookThatIsLaterThanTheRevisionOfItsPlugin) {
  std::vector<AbiSymbol> symbols(HostAbi::Symbols().begin(), HostAbi::Symbols().end());
  for (AbiSymbol& symbol : symbols) {
    if (symbol.name == "callout_on_request_headers") symbol.revision = 2;
  }
  std::ifstream file(GoldenPath("golden_v1"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const absl::StatusOr<ElfImage> image = ElfImage::Parse(bytes);
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(Preflight(*image, {}, {.revision = 2, .symbols = symbols}).status().message(),
            "it exports callout_on_request_headers of revision 2 and says that it was built for "
            "revision 1; build all of it with one <callout/plugin.h>");
  EXPECT_TRUE(Preflight(*image, {}, {.revision = 2, .symbols = HostAbi::Symbols()}).ok());
}

}  // namespace
}  // namespace callout::host
