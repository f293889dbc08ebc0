#include "imageservice/worker/registry/response_fields.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/time/time.h"

namespace imageservice::worker {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(784111777);  // Sun, 06 Nov 1994 08:49:37 GMT.

TEST(RetryAfterTest, TakesSecondsAndAllThreeFormsOfDates) {
  EXPECT_EQ(ParseRetryAfter("120", kNow), absl::Seconds(120));
  EXPECT_EQ(ParseRetryAfter(" 0 ", kNow), absl::ZeroDuration());
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:49:47 GMT", kNow), absl::Seconds(10));
  EXPECT_EQ(ParseRetryAfter("Sunday, 06-Nov-94 08:50:37 GMT", kNow), absl::Seconds(60));
  EXPECT_EQ(ParseRetryAfter("Sun Nov  6 08:49:38 1994", kNow), absl::Seconds(1));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:00:00 GMT", kNow), absl::ZeroDuration())
      << "a moment that has passed";
}

TEST(RetryAfterTest, LeavesOutWhatIsNeither) {
  for (const std::string value : {"", "soon", "-1", "+1", "1.5", "1 second", "Sun, 06 Nov", "0x10",
                                  "06 Nov 1994 08:49:37", "99999999999999999999999999"}) {
    EXPECT_FALSE(ParseRetryAfter(value, kNow).has_value()) << value;
  }
  EXPECT_FALSE(ParseRetryAfter(std::string(100'000, 'S'), kNow).has_value());
}

TEST(ContentRangeTest, TakesWhatRfc9110Says) {
  const auto range = ParseContentRange("bytes 5-99/100");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->first, 5u);
  EXPECT_EQ(range->last, 99u);
  EXPECT_EQ(range->size, 100u);
  const auto unknown = ParseContentRange("Bytes 0-0/*");
  ASSERT_TRUE(unknown.has_value());
  EXPECT_FALSE(unknown->size.has_value());
}

TEST(ContentRangeTest, RefusesWhatCannotBe) {
  for (const char* value :
       {"", "bytes", "bytes */100", "bytes 5-4/100", "bytes 0-100/100", "bytes 0-1", "bytes -1/5",
        "items 0-1/2", "bytes 0-1/2/3", "bytes 0x0-1/2", "bytes 0-99999999999999999999999/*",
        "bytes 1/2-3", "bytes 0-1/"}) {
    EXPECT_FALSE(ParseContentRange(value).has_value()) << value;
  }
}

}  // namespace
}  // namespace imageservice::worker
