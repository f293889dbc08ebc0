#include "base/json.h"

#include "gtest/gtest.h"

namespace base {
namespace {

TEST(JsonTest, BadTextIsAStatus) {
  for (const char* text : {"", "{", "nul", "{\"a\":1,}", "\"\xff\"", "[1] x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseJson(text).status())) << text;
  }
}

TEST(JsonTest, NestingHasALimit) {
  EXPECT_TRUE(ParseJson(std::string(100, '[') + std::string(100, ']')).ok());
  EXPECT_FALSE(ParseJson(std::string(100000, '[') + std::string(100000, ']')).ok());
}

TEST(JsonTest, MembersHaveTypesAndFallbacks) {
  const Json object = *ParseJson(R"({"s":"x","n":7,"b":true,"l":["a"],"m":{"k":"v"},"z":null})");
  EXPECT_EQ(*JsonString(object, "s"), "x");
  EXPECT_EQ(*JsonString(object, "absent", "d"), "d");
  EXPECT_EQ(*JsonString(object, "z", "d"), "d");
  EXPECT_EQ(*JsonInt(object, "n"), 7);
  EXPECT_TRUE(*JsonBool(object, "b"));
  EXPECT_EQ(JsonStrings(object, "l")->size(), 1u);
  EXPECT_EQ(JsonStringMap(object, "m")->at("k"), "v");
  EXPECT_FALSE(JsonString(object, "n").ok());
  EXPECT_FALSE(JsonInt(object, "s").ok());
  EXPECT_FALSE(JsonBool(object, "n").ok());
  EXPECT_FALSE(JsonStrings(object, "m").ok());
  EXPECT_FALSE(JsonStringMap(object, "l").ok());
  EXPECT_FALSE(JsonString(Json::array(), "s").ok());
  EXPECT_TRUE(JsonMember(Json(3), "s").is_null());
}

TEST(JsonTest, DumpNeverThrowsOnForeignBytes) {
  EXPECT_EQ(DumpJson(Json("\xff")), "\"\xef\xbf\xbd\"");
}

TEST(JsonTest, ValuesAreLimited) {
  std::string text = "[";
  for (int i = 0; i < 1'999'999; ++i) text += "0,";  // With the array itself two million.
  text.back() = ']';
  EXPECT_TRUE(ParseJson(text).ok());
  text.back() = ',';
  for (const std::string last : {"0]", "[]]", "{}]"}) {
    const absl::Status status = ParseJson(text + last).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << last;
    EXPECT_EQ(status.message(), "JSON of more than 2000000 values");
  }
}

TEST(JsonTest, DuplicateMembersCanBeRefused) {
  const std::string_view twice = R"([{"a": {"b": 1}}, {"a": 1, "b": {"a": 2}, "a": 3}])";
  EXPECT_TRUE(ParseJson(twice).ok());
  const absl::Status refused = ParseJson(twice, DuplicateMembers::kRefuse).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_EQ(refused.message(), "\"a\" is there twice");
  EXPECT_TRUE(ParseJson(R"([{"a": {"a": 1}}, {"a": 1}])", DuplicateMembers::kRefuse).ok());
}

}  // namespace
}  // namespace base
