// SPDX-License-Identifier: Apache-2.0

// plugins/jwt_auth/json and python_text: a table of what Python 3.11 prints.
#include <gtest/gtest.h>

#include "jwt_auth/json.h"
#include "jwt_auth/python_text.h"

namespace jwt_auth {
namespace {

std::string Printed(const std::string& text) {
  const std::optional<Json> value = ParseJson(text);
  return value.has_value() ? PythonText(*value) : "not JSON";
}

TEST(JwtAuthTextTest, PrintsValuesAsPythonDoes) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"true", "True"},
      {"false", "False"},
      {"null", "None"},
      {"0", "0"},
      {"-0", "0"},
      {"-7", "-7"},
      {"9223372036854775807", "9223372036854775807"},
      {"18446744073709551615", "18446744073709551615"},
      {"-123456789012345678901234567890", "-123456789012345678901234567890"},
      {"1.5", "1.5"},
      {"1.0", "1.0"},
      {"-0.0", "-0.0"},
      {"0.1", "0.1"},
      {"1e2", "100.0"},
      {"123456.789e3", "123456789.0"},
      {"1e15", "1000000000000000.0"},
      {"1e16", "1e+16"},
      {"1.5e300", "1.5e+300"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"9007199254740993.0", "9007199254740992.0"},
      {"5e-324", "5e-324"},
      {R"("it's \"so\"\n")", "it's \"so\"\n"},
      {"[]", "[]"},
      {"{}", "{}"},
      {R"([1, "a", null, [true]])", "[1, 'a', None, [True]]"},
      {R"({"a": {"b": [1.0]}, "c": "d"})", "{'a': {'b': [1.0]}, 'c': 'd'}"},
      {R"({"z": 1, "a": 2, "z": 3})", "{'z': 3, 'a': 2}"},
      {R"(["it's"])", R"(["it's"])"},
      {R"(["\"so\""])", R"(['"so"'])"},
      {R"(["it's \"so\""])", R"(['it\'s "so"'])"},
      {R"(["\\ \n\r\t\u0000\u001f\u007f"])", R"(['\\ \n\r\t\x00\x1f\x7f'])"},
      {R"(["\u00e9\u20ac\ud83d\ude00"])", "['é€😀']"},
      {R"(["\u0085\u00a0\u00ad\u200b\u2028\ue000\ufeff"])",
       R"(['\x85\xa0\xad\u200b\u2028\ue000\ufeff'])"},
      {R"(["\udbff\udfff"])", R"(['\U0010ffff'])"},
  };
  for (const auto& [text, printed] : rows) EXPECT_EQ(Printed(text), printed) << text;
}

TEST(JwtAuthTextTest, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "[1,]", "{\"a\": 1} x", "NaN", "1e400", "01", "'a'", "\"\xff\"",
                           R"("\ud800")", "// c\n1"}) {
    EXPECT_EQ(Printed(text), "not JSON") << text;
  }
}

std::string Nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(JwtAuthTextTest, LimitsHowDeepValuesAre) {
  EXPECT_EQ(Printed(Nested(kJsonDepthMax)), Nested(kJsonDepthMax));
  EXPECT_EQ(Printed(Nested(kJsonDepthMax + 1)), "not JSON");
  EXPECT_EQ(Printed(std::string(1000000, '[')), "not JSON");
}

TEST(JwtAuthTextTest, LimitsHowManyMembersThereAre) {
  const auto object = [](size_t members) {
    std::string text = R"({"a": 1)";
    for (size_t i = 1; i < members; ++i) text += R"(, "a": 1)";
    return text + "}";
  };
  EXPECT_EQ(Printed(object(kJsonMembersMax)), "{'a': 1}");
  EXPECT_EQ(Printed(object(kJsonMembersMax + 1)), "not JSON");
}

}  // namespace
}  // namespace jwt_auth
