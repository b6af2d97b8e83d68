// The committed binary of ABI version 1 runs in this host, and against a table
// of services cut to what version 1 had.
#include <callout/plugin.h>
#include <gtest/gtest.h>

#include <string>

#include "host/plugin/loader.h"
#include "host/plugin/services.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

#if !defined(__x86_64__)
#define SKIP_UNLESS_X86_64() GTEST_SKIP() << "the golden plugins are built for x86-64"
#else
#define SKIP_UNLESS_X86_64() static_cast<void>(0)
#endif

class GoldenTest : public StreamTest {
 protected:
  void BeginWithGolden() {
    absl::StatusOr<std::shared_ptr<const Plugin>> plugin = LoadPlugin(CALLOUT_GOLDEN_V1);
    ASSERT_TRUE(plugin.ok()) << plugin.status();
    EXPECT_EQ((*plugin)->abi_version(), 1u);
    EXPECT_EQ((*plugin)->info().name, "golden");
    EXPECT_EQ((*plugin)->hook_names().size(), 12u);
    absl::StatusOr<std::shared_ptr<Instance>> instance =
        Instance::Create(*plugin, "fake0", "golden", {}, {.metrics = &metrics_});
    ASSERT_TRUE(instance.ok()) << instance.status();
    chains_ = std::make_unique<ChainSource>(
        std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>{*instance}));
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
  }
};

TEST_F(GoldenTest, EveryHookAndServiceOfVersion1Works) {
  SKIP_UNLESS_X86_64();
  BeginWithGolden();
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
  EXPECT_NE(metrics_.Text().find("golden_streams_total{plugin=\"fake0\"} 1"), std::string::npos);
  Feed(Body(CALLOUT_RESPONSE_BODY, "c", true));
  ASSERT_TRUE(stream_->end().has_value());
  EXPECT_EQ(*stream_->end(), absl::UnavailableError("golden error"));
  EXPECT_TRUE(stream_->closed());
}

TEST_F(GoldenTest, TheConfigurationReachesIt) {
  SKIP_UNLESS_X86_64();
  absl::StatusOr<std::shared_ptr<const Plugin>> plugin = LoadPlugin(CALLOUT_GOLDEN_V1);
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_FALSE(Instance::Create(*plugin, "fake0", "other", {}, {.metrics = &metrics_}).ok());
}

// Everything up to this member was there in version 1; what comes after it must
// be tested with CALLOUT_HAS by plugins.
TEST(AbiTable, IsNotShorterThanInVersion1) {
  const ServiceTable table(nullptr);
  EXPECT_GE(table.abi.struct_size,
            offsetof(callout_host_t, get_extension) + sizeof(table.abi.get_extension));
  EXPECT_TRUE(CALLOUT_HAS(&table.abi, callout_host_t, get_extension));
  callout_host_t cut = table.abi;
  cut.struct_size = offsetof(callout_host_t, get_extension);
  EXPECT_FALSE(CALLOUT_HAS(&cut, callout_host_t, get_extension));
  EXPECT_TRUE(CALLOUT_HAS(&cut, callout_host_t, metric_record));
}

}  // namespace
}  // namespace callout::host
