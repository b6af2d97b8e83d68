// SPDX-License-Identifier: Apache-2.0

#include "host/deploy/config_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

nlohmann::json Parsed(const std::string& text) {
  auto documents = ParseDocuments(text);
  EXPECT_TRUE(documents.ok()) << documents.status();
  return documents.ok() && !documents->empty() ? documents->front() : nlohmann::json();
}

std::string Refused(const std::string& text) {
  auto documents = ParseDocuments(text);
  EXPECT_FALSE(documents.ok());
  return std::string(documents.status().message());
}

TEST(ConfigDocument, ReadsYamlAndJsonAlike) {
  for (const char* text :
       {R"({"a": {"b": [1, true, "x"]}})", "a:\n  b: [1, true, x]\n", "{a: {b: [1, true, x]}}"}) {
    const nlohmann::json document = Parsed(text);
    const Place list = Place::Root(document).Find("a.b");
    EXPECT_THAT(list.Texts(), ElementsAre("1", "true", "x"));
    EXPECT_EQ(list.Children()[0].Number(), 1u);
    EXPECT_EQ(list.Children()[1].Bool(), true);
    EXPECT_EQ(list.Children()[2].path(), "a.b[2]");
  }
}

TEST(ConfigDocument, ReadsEveryDocumentOfAFileThatHasContent) {
  const auto documents = ParseDocuments("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n");
  ASSERT_TRUE(documents.ok());
  EXPECT_EQ(documents->size(), 2u);
}

TEST(ConfigDocument, AnErrorIsOneLineWhateverTheFileHas) {
  const std::string error = Refused("\"a\\nb\": 1\n\"a\\nb\": 2\n");
  EXPECT_THAT(error, HasSubstr("the key 'a\\x0ab' twice"));
}

TEST(ConfigDocument, AFieldIsFoundBySnakeAndCamelCase) {
  const nlohmann::json document = Parsed("messageTimeout: 1s\nfail_open: false\n");
  const Place root = Place::Root(document);
  EXPECT_EQ(root.Get("message_timeout").path(), "messageTimeout");
  EXPECT_EQ(root.Get("fail_open").Bool(), false);
  const Place missing = root.Find("processing_mode.request");
  EXPECT_FALSE(missing.there());
  EXPECT_EQ(missing.path(), "processing_mode.request");
  EXPECT_EQ(missing.Shown(), "not set");
}

TEST(ConfigDocument, BooleansAsYamlWritesThem) {
  const nlohmann::json document = Parsed(
      "[true, True, TRUE, yes, Yes, YES, on, On, ON, y, Y, false, False, FALSE, no, No, NO, "
      "off, Off, OFF, n, N]");
  int number = 0;
  for (const Place& place : Place::Root(document).Children()) {
    EXPECT_EQ(place.Bool(), number++ < 11) << place.Text();
  }
  EXPECT_EQ(number, 22);
  const nlohmann::json others = Parsed("[tRUE, yES, 1, '', enabled, {true: true}, [true]]");
  for (const Place& place : Place::Root(others).Children()) {
    EXPECT_EQ(place.Bool(), std::nullopt) << place.Shown();
  }
}

TEST(ConfigDocument, DurationsOfProtobufAndKubernetes) {
  const nlohmann::json document =
      Parsed("[0.25s, 250ms, 1m30s, 1.5h, 0s, 5, s, 1x, '', -1s, 99999999999999999999h, {a: 1}]");
  std::vector<std::optional<uint64_t>> read;
  for (const Place& place : Place::Root(document).Children()) read.push_back(place.DurationMs());
  EXPECT_THAT(read,
              ElementsAre(250, 250, 90000, 5400000, 0, std::nullopt, std::nullopt, std::nullopt,
                          std::nullopt, std::nullopt, std::nullopt, std::nullopt));
}

TEST(ConfigDocument, QuantitiesOfKubernetes) {
  const nlohmann::json document = Parsed("['2000000', 32Ki, 1Mi, 2M, 1.5k, Mi, 1Q, 1Mi2, x]");
  std::vector<std::optional<uint64_t>> read;
  for (const Place& place : Place::Root(document).Children()) read.push_back(place.Quantity());
  EXPECT_THAT(read, ElementsAre(2000000, 32768, 1048576, 2000000, 1500, std::nullopt, std::nullopt,
                                std::nullopt, std::nullopt));
}

TEST(ConfigDocument, SaysInWhichLineAFileIsWrong) {
  EXPECT_THAT(Refused("a: 1\nb: [1\n"), StartsWith("line "));
  EXPECT_THAT(Refused("a: 1\na: 2\n"), HasSubstr("line 2: the key 'a' twice"));
  EXPECT_THAT(Refused("a: *x\n"), StartsWith("line 1: "));
  EXPECT_THAT(Refused("? [a]\n: 1\n"), HasSubstr("a key that is not a text"));
}

TEST(ConfigDocument, HasALimitOnDepth) {
  const auto nested = [](int depth) {
    return "a: " + std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(ParseDocuments(nested(kDocumentDepthMax - 1)).ok());
  EXPECT_FALSE(ParseDocuments(nested(kDocumentDepthMax + 1)).ok());
  EXPECT_FALSE(ParseDocuments(nested(100000)).ok());
  EXPECT_FALSE(ParseDocuments(std::string(100000, '{')).ok());
}

TEST(ConfigDocument, AliasesThatMultiplyAreRefused) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int j = 0; j < 9; ++j) text += ", " + last;
    text += "]\n";
  }
  EXPECT_THAT(Refused(text), HasSubstr("more than 2000000 values"));
}

TEST(ConfigDocument, LongTextsThatAreRepeatedAreRefused) {
  std::string text = "a: &a " + std::string(1 << 20, 'x') + "\nb: [*a";
  for (int i = 0; i < 100; ++i) text += ", *a";
  EXPECT_THAT(Refused(text + "]\n"), HasSubstr("line 2: more than 67108864 bytes"));
}

TEST(ConfigDocument, AnAliasThatContainsItselfIsRefused) {
  EXPECT_THAT(Refused("a: &a [*a]\n"), HasSubstr("line 1: an alias (*NAME) stands within"));
}

}  // namespace
}  // namespace callout::host
