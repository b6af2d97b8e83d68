// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/base/file.h"
#include "host/base/sha256.h"
#include "host/plugin/loader.h"
#include "tests/host/samples.h"

namespace callout::host {
namespace {

using Json = nlohmann::json;

TEST(Manifest, SaysWhatEachFileIs) {
  const std::string path = SamplePath("sample.so");
  const auto manifests = ManifestsJson({path, path});
  ASSERT_TRUE(manifests.ok()) << manifests.status();
  const Json json = Json::parse(*manifests);
  ASSERT_EQ(json.size(), 2u);
  const auto plugin = LoadPlugin(path);
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  const Json& manifest = json[0];
  EXPECT_EQ(manifest.at("format"), 1);
  EXPECT_EQ(manifest.at("name"), (*plugin)->info().name);
  EXPECT_EQ(manifest.at("version"), (*plugin)->info().version);
  EXPECT_EQ(manifest.at("file"), "sample.so");
  EXPECT_EQ(manifest.at("sha256"), Sha256(*ReadFile(path, kPluginBytesMax)));
  EXPECT_EQ(manifest.at("abi"), 1);
  EXPECT_EQ(manifest.at("hooks"), Json((*plugin)->hook_names()));
  const std::string& schema = (*plugin)->config_schema();
  EXPECT_EQ(manifest.at("config_schema"), schema.empty() ? Json() : Json::parse(schema));
}

TEST(Manifest, AFileThatIsNoPluginIsNamed) {
  for (const char* path : {"/nowhere/a.so", "/dev/null"}) {
    const auto manifests = ManifestsJson({SamplePath("sample.so"), path});
    EXPECT_FALSE(manifests.ok());
    EXPECT_THAT(std::string(manifests.status().message()),
                ::testing::StartsWith(std::string("cannot load plugin ") + path + ": "));
  }
}

}  // namespace
}  // namespace callout::host
