#include "daemon/progress_bar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace crispd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr uint64_t kMib = 1 << 20;
const absl::Time kBegin = absl::FromUnixSeconds(1000);

TEST(ByteTextTest, HasOneDigitAfterThePoint) {
  EXPECT_EQ(ByteText(0), "0 B");
  EXPECT_EQ(ByteText(1023), "1023 B");
  EXPECT_EQ(ByteText(1536), "1.5 KiB");
  EXPECT_EQ(ByteText(27 * kMib), "27.0 MiB");
}

TEST(ProgressBarTest, ATerminalSeesBarShareLayersRateAndTimeLeft) {
  ProgressBar bar("quay.io/app/web:1", 120, kBegin);
  bar.Update({.bytes_done = 0, .bytes_total = 100 * kMib}, kBegin);
  const std::string text = bar.Update(
      {.bytes_done = 25 * kMib, .bytes_total = 100 * kMib, .layers_done = 1, .layers_total = 4},
      kBegin + absl::Seconds(5));
  EXPECT_THAT(text, StartsWith("\rquay.io/app/web:1 [=====>"));
  EXPECT_THAT(text, HasSubstr("25% 25.0 MiB of 100.0 MiB, 1 of 4 layers, 5.0 MiB/s, 15s left"));
  EXPECT_EQ(bar.Clear(), "\r\x1b[K");
}

TEST(ProgressBarTest, ATerminalIsRedrawnAtMostTenTimesASecond) {
  ProgressBar bar("image", 80, kBegin);
  int drawn = 0;
  for (int i = 0; i < 1000; ++i) {
    drawn += bar.Update({.bytes_done = 1}, kBegin + absl::Milliseconds(i)).empty() ? 0 : 1;
  }
  EXPECT_EQ(drawn, 10);
}

TEST(ProgressBarTest, ALineNeverWraps) {
  for (const int width : {21, 40, 60, 80}) {
    ProgressBar bar(std::string(200, 'n'), width, kBegin);
    const std::string text =
        bar.Update({.bytes_done = kMib, .bytes_total = 1000 * kMib, .layers_total = 9}, kBegin);
    EXPECT_LT(text.size(), static_cast<size_t>(width) + sizeof("\r\x1b[K")) << width;
  }
}

TEST(ProgressBarTest, ALogGetsPlainLinesNowAndThen) {
  ProgressBar bar("image", 0, kBegin);
  std::string text;
  for (int i = 0; i <= 120; ++i) {
    text += bar.Update({.bytes_done = kMib, .bytes_total = 2 * kMib, .stalled = i > 60},
                       kBegin + absl::Milliseconds(100 * i));
  }
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr("image:  50% 1.0 MiB of 2.0 MiB"));
  EXPECT_THAT(text, HasSubstr("stands still"));
  EXPECT_EQ(bar.Clear(), "");
}

}  // namespace
}  // namespace crispd
