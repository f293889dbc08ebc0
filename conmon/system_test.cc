#include "conmon/system.h"

#include <errno.h>
#include <fcntl.h>

#include <string>

#include "gtest/gtest.h"

namespace conmon {
namespace {

TEST(TextTest, KeepsWhatFitsAndRemembersTheRest) {
  Text<8> text;
  text.Add("abcde");
  EXPECT_FALSE(text.truncated());
  text.Add("fghij");
  EXPECT_TRUE(text.truncated());
  EXPECT_STREQ(text.data(), "abcdefg");
  EXPECT_EQ(text.size(), 7u);
  text.clear();
  EXPECT_STREQ(text.data(), "");
}

TEST(TextTest, NumbersAreDecimalWithLeadingZerosOnDemand) {
  const auto number = [](int64_t value, size_t width) {
    Text<64> text;
    text.AddNumber(value, width);
    return std::string(text.data());
  };
  EXPECT_EQ(number(0, 1), "0");
  EXPECT_EQ(number(7, 9), "000000007");
  EXPECT_EQ(number(-42, 1), "-42");
  EXPECT_EQ(number(INT64_MAX, 1), "9223372036854775807");
  EXPECT_EQ(number(INT64_MIN, 1), "-9223372036854775808");
}

TEST(ParseNumberTest, TakesDecimalDigitsUpToTheLimit) {
  EXPECT_EQ(ParseNumber("0", 10), 0);
  EXPECT_EQ(ParseNumber("10", 10), 10);
  EXPECT_EQ(ParseNumber("9223372036854775807", INT64_MAX), INT64_MAX);
  for (const char* text : {"", "11", "-1", "+1", " 1", "1 ", "0x1", "9223372036854775808"}) {
    EXPECT_EQ(ParseNumber(text, 10), -1) << text;
  }
  EXPECT_EQ(ParseNumber("9223372036854775808", INT64_MAX), -1);
}

TEST(SmallFileTest, MissingFileIsAnErrorAndNothingIsMade) {
  char buffer[8];
  EXPECT_EQ(ReadSmallFile(AT_FDCWD, "/nonexistent/file", buffer, sizeof(buffer)), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(WriteSmallFile(AT_FDCWD, "/tmp/crisp-no-such-file", "x", 1), ENOENT);
  EXPECT_EQ(JoinCgroup("/nonexistent"), ENOENT);
}

TEST(SmallFileTest, ContentIsCutToTheBuffer) {
  char buffer[6];
  ASSERT_EQ(ReadSmallFile(AT_FDCWD, "/proc/version", buffer, sizeof(buffer)), 5);
  EXPECT_STREQ(buffer, "Linux");
}

}  // namespace
}  // namespace conmon
