#include "base/toml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Refusal(std::string_view text) {
  const absl::StatusOr<TomlValue> value = ParseToml(text, "file.toml");
  EXPECT_TRUE(absl::IsInvalidArgument(value.status())) << text;
  return std::string(value.status().message());
}

TEST(TomlTest, ValuesRememberTheirLines) {
  const TomlValue root = ParseToml("a = 1\n\n[t]\nb = \"x\"\nc = [true]\n", "f").value();
  EXPECT_EQ(root.Find("a")->integer, 1);
  EXPECT_EQ(root.Find("a")->line, 1);
  EXPECT_EQ(root.Find("t")->line, 3);
  EXPECT_EQ(root.Find("t")->Find("b")->text, "x");
  EXPECT_EQ(root.Find("t")->Find("c")->line, 5);
  EXPECT_TRUE(root.Find("t")->Find("c")->elements.at(0).boolean);
  EXPECT_EQ(root.Find("none"), nullptr);
}

TEST(TomlTest, MembersStandInTheFilesOrder) {
  const TomlValue root = ParseToml(
                             "[host.\"z\"]\nx = 1\n[host.\"b\".header]\ny = 1\n[host.\"a\"]\n"
                             "[host.\"b\"]\n[inline]\nk = { q = 1, c = 2, p = 3 }\n",
                             "f")
                             .value();
  const auto names = [](const TomlValue* table) {
    std::vector<std::string> out;
    for (const auto& [name, value] : table->members) {
      out.push_back(name);
    }
    return out;
  };
  EXPECT_THAT(names(root.Find("host")), ElementsAre("z", "b", "a"));
  EXPECT_THAT(names(root.Find("inline")->Find("k")), ElementsAre("q", "c", "p"));
}

TEST(TomlTest, LettersOutsideAsciiStayWhatTheyAre) {
  const TomlValue root = ParseToml(
                             "# \xef\xbb\x82 \xc3\xbc~\n\"k\xc3\xa9y\" = \"/srv/\xe2\x82\xac~1\"\n"
                             "lit = '\xf0\x9f\x98\x80'\nesc = \"\\u00fc~c3\"\n",
                             "f")
                             .value();
  EXPECT_EQ(root.Find("k\xc3\xa9y")->text, "/srv/\xe2\x82\xac~1");
  EXPECT_EQ(root.Find("lit")->text, "\xf0\x9f\x98\x80");
  EXPECT_EQ(root.Find("esc")->text, "\xc3\xbc~c3");
  // The mark may not come from an escape either.
  EXPECT_EQ(ParseToml("a = \"\xc3\xbc\\u007ec3\"", "f")->Find("a")->text, "\xc3\xbc~c3");
  EXPECT_THAT(Refusal("\xef\xbb\x82 = 1"), StartsWith("file.toml:1: "));
  EXPECT_THAT(Refusal("a = 1\n\xc3\xbc = 1"), StartsWith("file.toml:2: "));
  EXPECT_THAT(Refusal("# ~`^|!?;&\n# \xc3\xbc"), HasSubstr("escapes"));
}

TEST(TomlTest, WhatIsNoTomlOrNoUtf8IsRefusedWithItsLine) {
  EXPECT_THAT(Refusal("a = 1\n[[b]\n"), StartsWith("file.toml:2: "));
  EXPECT_THAT(Refusal("a = 1\n# \xff\n"), StartsWith("file.toml:2: the text is not UTF-8"));
  EXPECT_THAT(Refusal("a = \"\xed\xa0\x80\""), HasSubstr("not UTF-8"));
  EXPECT_THAT(Refusal("a = \"\xc0\x80\""), HasSubstr("not UTF-8"));
  EXPECT_THAT(Refusal("a = \"\xe2\x82"), HasSubstr("not UTF-8"));
}

TEST(TomlReaderTest, ReadsTypesAndNamesTheLineOfWrongOnes) {
  const TomlValue root =
      ParseToml("b = true\ns = \"x\"\nl = [\"x\", \"y\"]\nm = [1]\n[t]\n[[a]]\n[[a]]\n", "f")
          .value();
  TomlReader reader(root, "f");
  bool boolean = false;
  std::string text = "old";
  std::vector<std::string> list;
  EXPECT_TRUE(reader.Boolean("b", &boolean).ok());
  EXPECT_TRUE(boolean);
  EXPECT_TRUE(reader.String("absent", &text).ok());
  EXPECT_EQ(text, "old");
  EXPECT_TRUE(reader.String("s", &text).ok());
  EXPECT_EQ(text, "x");
  EXPECT_TRUE(reader.StringOrStrings("s", &list).ok());
  EXPECT_THAT(list, ElementsAre("x"));
  EXPECT_TRUE(reader.StringOrStrings("l", &list).ok());
  EXPECT_THAT(list, ElementsAre("x", "y"));
  EXPECT_EQ(reader.Boolean("s", &boolean).message(), "f:2: s is a string, want true or false");
  EXPECT_EQ(reader.String("b", &text).message(), "f:1: b is a boolean, want a string");
  EXPECT_EQ(reader.Strings("m", &list).message(),
            "f:4: m holds an integer, want a list of strings");
  EXPECT_EQ(reader.Tables("a")->size(), 2u);
  EXPECT_EQ((*reader.Table("t"))->line, 5);
  EXPECT_EQ(*reader.Table("absent"), nullptr);
  EXPECT_EQ(reader.Table("s").status().message(), "f:2: s is a string, want a table");
  EXPECT_EQ(reader.Tables("t").status().message(),
            "f:5: t is a table, want a list of tables ([[t]])");
}

TEST(TomlReaderTest, NamesTheKeysNobodyAskedFor) {
  const TomlValue root = ParseToml("a = 1\nb = 2\nc = 3\n", "f").value();
  TomlReader reader(root, "f");
  reader.Any("b");
  EXPECT_THAT(reader.UnknownKeys(),
              ElementsAre("f:1: unknown key \"a\"", "f:3: unknown key \"c\""));
}

}  // namespace
}  // namespace base
