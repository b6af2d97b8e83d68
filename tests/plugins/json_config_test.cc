// SPDX-License-Identifier: Apache-2.0

// plugins/support/json_config.hpp.
#include "support/json_config.hpp"

#include <gmock/gmock.h>

#include <functional>

namespace callout::plugins {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string ErrorOf(const std::string& text, const std::function<void(JsonConfig&)>& read) {
  try {
    JsonConfig config(text);
    read(config);
    config.done();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(JsonConfigTest, ReadsWhatIsThere) {
  JsonConfig config(R"({"t": "x", "b": true, "i": -3, "l": ["a", "b"], "o": [{"t": "y"}]})");
  EXPECT_EQ(config.text("t"), "x");
  EXPECT_EQ(config.optional_text("t"), "x");
  EXPECT_TRUE(config.boolean("b", false));
  EXPECT_EQ(config.integer("i", {.min = -3}), -3);
  EXPECT_THAT(config.texts("l"), ElementsAre("a", "b"));
  std::vector<JsonConfig> objects = config.objects("o");
  ASSERT_EQ(objects.size(), 1u);
  EXPECT_EQ(objects[0].text("t"), "y");
  objects[0].done();
  config.done();
}

// Errors end up in the log and on pages.
TEST(JsonConfigTest, ErrorsQuoteNoValue) {
  const auto number = [](JsonConfig& config) { config.integer("a", {}); };
  for (const char* json : {R"({"a": s3cr3t})", R"({"a": "s3cr3t)", R"({"a": "s3cr3t"})",
                           R"({"a" "s3cr3t"})", R"({"a": {"b": "s3cr3t"}})", R"("s3cr3t")"}) {
    EXPECT_EQ(ErrorOf(json, number).find("s3cr3t"), std::string::npos) << ErrorOf(json, number);
    EXPECT_NE(ErrorOf(json, number), "");
  }
}

TEST(JsonConfigTest, LimitsHowDeepItIs) {
  const auto text = [](JsonConfig& config) { config.text("a"); };
  const auto nested = [](size_t depth) {  // the object itself is one
    return R"({"a": )" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(ErrorOf(nested(100), text), "configuration: \"a\" must be a text, not a list");
  for (size_t depth : {101, 1000000}) {
    EXPECT_EQ(ErrorOf(nested(depth), text),
              "configuration: lists and objects are nested more than 100 deep");
  }
}

TEST(JsonConfigTest, RefusesAKeyThatIsThereTwice) {
  const std::string twice = R"(configuration: "a" is there twice)";
  const auto nothing = [](JsonConfig&) {};
  EXPECT_EQ(ErrorOf(R"({"a": 1, "b": 2, "a": 3})", nothing), twice);
  EXPECT_EQ(ErrorOf(R"({"list": [{"b": 1}, {"a": {}, "a": {}}]})", nothing), twice);
  const auto read = [](JsonConfig& config) {
    for (JsonConfig& item : config.objects("list")) item.text("a");
  };
  EXPECT_EQ(ErrorOf(R"({"list": [{"a": "x"}, {"a": "y"}]})", read), "") << "in two objects";
}

TEST(JsonConfigTest, FallsBackWhereAKeyIsNotThere) {
  JsonConfig config("");
  EXPECT_EQ(config.text("t", "x"), "x");
  EXPECT_EQ(config.optional_text("t"), std::nullopt);
  EXPECT_TRUE(config.boolean("b", true));
  EXPECT_EQ(config.integer("i", {.fallback = 7}), 7);
  EXPECT_THAT(config.texts("l", {{"a"}}), ElementsAre("a"));
  EXPECT_THAT(config.objects("o"), IsEmpty());
  config.done();
}

TEST(JsonConfigTest, SaysWhatIsWrong) {
  const auto text = [](JsonConfig& config) { config.text("a"); };
  const auto integer = [](JsonConfig& config) { config.integer("a", {.min = 1, .max = 9}); };
  const auto inner = [](JsonConfig& config) {
    for (JsonConfig& item : config.objects("a")) {
      item.text("t", "");
      item.done();
    }
  };
  const std::string prefix = "configuration: ";
  EXPECT_EQ(ErrorOf("{}", text), prefix + R"("a" is missing)");
  EXPECT_EQ(ErrorOf(R"({"a": 1})", text), prefix + R"("a" must be a text, not a number)");
  EXPECT_EQ(ErrorOf(R"({"a": "x", "b": 1})", text), prefix + R"("b" is not known; there is: a)");
  EXPECT_EQ(ErrorOf(R"({"b": 1})", [](JsonConfig&) {}),
            prefix + R"("b" is not known; there are no keys)");
  for (const char* value : {"0", "10", "1.5", "\"5\"", "18446744073709551615"}) {
    EXPECT_EQ(ErrorOf(std::string("{\"a\": ") + value + "}", integer),
              prefix + "\"a\" must be an integer from 1 to 9, not " +
                  (*value == '"' ? "a text" : "a number"));
  }
  EXPECT_EQ(ErrorOf(R"({"a": [1]})", [](JsonConfig& config) { config.texts("a"); }),
            prefix + R"("a" must be a list of texts, not a list)");
  EXPECT_EQ(ErrorOf(R"({"a": 1})", [](JsonConfig& config) { config.boolean("a", true); }),
            prefix + R"("a" must be true or false, not a number)");
  EXPECT_EQ(ErrorOf(R"({"a": {}})", inner),
            prefix + R"("a" must be a list of objects, not an object)");
  EXPECT_EQ(ErrorOf(R"({"a": [{}, {"x": 1}]})", inner),
            prefix + R"("a[1].x" is not known; there is: t)");
  EXPECT_EQ(ErrorOf("[]", text), prefix + "not a JSON object, which begins with {");
  EXPECT_THAT(ErrorOf("{", text), ::testing::StartsWith(prefix + "not JSON: "));
}

// The key that is missing is the first that is seen to be wrong; the one that stands
// there in its place is what the author has to look for.
TEST(JsonConfigTest, AsksForAMisspeltKeyWhereAKeyIsMissing) {
  const auto pattern = [](JsonConfig& config) {
    config.integer("max", {.fallback = 1});
    config.text("pattern");
    config.text("min", "");
  };
  const std::string missing = "configuration: \"pattern\" is missing";
  for (const char* typed : {"pattrn", "patterns", "patern", "pattren", "Pattern", "pat-tern"}) {
    EXPECT_EQ(ErrorOf(std::string("{\"") + typed + "\": \"x\"}", pattern),
              missing + "; did you mean it by \"" + typed + "\"?");
  }
  EXPECT_EQ(ErrorOf(R"({"max": 2, "min": "x", "pattering ram": ""})", pattern), missing);
  EXPECT_EQ(ErrorOf(R"({"a": [{"tex": 1}]})",
                    [](JsonConfig& config) { config.objects("a")[0].text("text"); }),
            R"(configuration: "a[0].text" is missing; did you mean it by "tex"?)");
}

TEST(JsonConfigTest, NamesTheKnownKeyThatAMisspeltOneIsLike) {
  const auto read = [](JsonConfig& config) {
    config.text("pattern", "");
    config.integer("max", {.fallback = 1});
  };
  EXPECT_EQ(ErrorOf(R"({"pattrn": "x"})", read),
            R"(configuration: "pattrn" is not known; did you mean "pattern"?)");
  EXPECT_EQ(ErrorOf(R"({"min": 1})", read),
            R"(configuration: "min" is not known; there is: pattern, max)");
}

}  // namespace
}  // namespace callout::plugins
