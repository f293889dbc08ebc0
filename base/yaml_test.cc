#include "base/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace base {
namespace {

using ::testing::HasSubstr;

std::string Refusal(std::string_view text) {
  const absl::StatusOr<Json> value = ParseYaml(text);
  EXPECT_TRUE(absl::IsInvalidArgument(value.status())) << text;
  return std::string(value.status().message());
}

TEST(YamlTest, MappingsListsAndScalarsAreTheSameValuesAsInJson) {
  const Json value =
      ParseYaml("---\na: 1\nb:\n  - x\n  - {c: [true, ~]}\nd: \"7\"\n# end\n").value();
  EXPECT_EQ(value, Json::parse(R"({"a": 1, "b": ["x", {"c": [true, null]}], "d": "7"})"));
  EXPECT_EQ(ParseYaml(R"({"a": {"b": [1, "two"]}})").value(),
            Json::parse(R"({"a": {"b": [1, "two"]}})"));
  EXPECT_TRUE(ParseYaml("").value().is_null());
}

TEST(YamlTest, PlainScalarsHaveTheirType) {
  const Json value = ParseYaml(
                         "[-5, 0x1f, 0o17, 0666, 18446744073709551615, 1.5, -2e3, 0, 1.1.0, "
                         "true, yes, null, inf, '', 0xzz, --1, 99999999999999999999]")
                         .value();
  const Json wanted = Json::array({-5, 31, 15, 438, 18446744073709551615U, 1.5, -2000.0, 0, "1.1.0",
                                   true, "yes", nullptr, "inf", "", "0xzz", "--1", 1e20});
  EXPECT_EQ(value, wanted);
}

TEST(YamlTest, QuotedAndTaggedScalarsAreText) {
  EXPECT_EQ(ParseYaml("['1', \"true\", !!str 5, |\n  a\n  b\n]").status().code(),
            absl::StatusCode::kInvalidArgument);  // No block scalar within brackets.
  EXPECT_EQ(ParseYaml("- '1'\n- \"true\"\n- !!str 5\n- |\n  a\n  b\n").value(),
            Json::array({"1", "true", "5", "a\nb\n"}));
}

TEST(YamlTest, WhatIsNotSettingsIsRefusedWithItsLine) {
  EXPECT_THAT(Refusal("a: 1\nb: *x\n"), HasSubstr("line 2"));
  EXPECT_THAT(Refusal("a: &x 1\n"), HasSubstr("an anchor"));
  EXPECT_THAT(Refusal("a: &x [1]\n"), HasSubstr("an anchor"));
  EXPECT_THAT(Refusal("a: !!binary aGk=\n"), HasSubstr("a tag"));
  EXPECT_THAT(Refusal("a: 1\nb: 2\na: 3\n"), HasSubstr("line 3: \"a\" is there twice"));
  EXPECT_THAT(Refusal("a: 1\n---\nb: 2\n"), HasSubstr("a second document"));
  EXPECT_THAT(Refusal("? [a]\n: 1\n"), HasSubstr("not a scalar"));
  EXPECT_THAT(Refusal("a: [1\n"), HasSubstr("line "));
  EXPECT_THAT(Refusal("a: \xff\n"), HasSubstr("line "));
  EXPECT_THAT(Refusal(std::string(100, '[')), HasSubstr("nested too deeply"));
}

TEST(YamlTest, TooManyValuesAreRefused) {
  std::string text = "[";
  for (int i = 0; i < 500'001; ++i) {
    text += "1,";
  }
  EXPECT_THAT(Refusal(text + "]"), HasSubstr("more than 500000 values"));
}

}  // namespace
}  // namespace base
