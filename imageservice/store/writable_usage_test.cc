#include "imageservice/store/writable_usage.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <functional>
#include <string>

#include "absl/time/clock.h"
#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    poll(nullptr, 0, 2);
  }
  return true;
}

class WritableUsageTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& file) {
    ASSERT_TRUE(base::MakeDirectories(directory_ / name).ok());
    ASSERT_TRUE(base::ReplaceFile(directory_ / (name + "/" + file), std::string(50000, 'x'), 0600,
                                  base::Durability::kVolatile)
                    .ok());
  }
  DiskUsage Truth(const std::string& name) {
    const std::atomic<bool> stop = false;
    return MeasureTree(directory_ / name, stop).value_or(DiskUsage());
  }

  testing::TempDirectory directory_;
};

TEST_F(WritableUsageTest, WhatIsAskedForIsMeasuredInTheBackground) {
  Write("c", "1");
  WritableUsage usage(directory_.path());
  if (usage.counted_by_quota()) {
    GTEST_SKIP() << "SKIP: a file system without project quota";
  }
  const absl::Time begin = absl::Now();
  EXPECT_FALSE(usage.Of("c").has_value()) << "the first question is answered without a walk";
  ASSERT_TRUE(Eventually([&] { return usage.Of("c").has_value(); }));
  const WritableUsage::Sample sample = *usage.Of("c");
  EXPECT_EQ(sample.used, Truth("c"));
  EXPECT_GE(sample.measured, begin);
  EXPECT_LE(sample.measured, absl::Now());
  Write("c", "2");
  EXPECT_EQ(usage.Of("c")->used, sample.used) << "within the interval the answer stands";
  EXPECT_EQ(usage.Of("c")->measured, sample.measured);
}

TEST_F(WritableUsageTest, AnOldAnswerIsRenewed) {
  Write("c", "1");
  WritableUsage usage(directory_.path(), absl::ZeroDuration());
  ASSERT_TRUE(Eventually([&] { return usage.Of("c").has_value(); }));
  Write("c", "2");
  EXPECT_TRUE(Eventually([&] { return usage.Of("c")->used == Truth("c"); }));
}

TEST_F(WritableUsageTest, TheEndReturnsWhatIsKnownAndForgetsIt) {
  Write("c", "1");
  WritableUsage usage(directory_.path());
  if (usage.counted_by_quota()) {
    GTEST_SKIP() << "SKIP: a file system without project quota";
  }
  EXPECT_EQ(usage.End("c"), DiskUsage());
  ASSERT_TRUE(Eventually([&] { return usage.Of("c").has_value(); }));
  EXPECT_EQ(usage.End("c"), Truth("c"));
  EXPECT_FALSE(usage.Of("c").has_value());
}

TEST_F(WritableUsageTest, WhatIsNotThereHasNoUsage) {
  WritableUsage usage(directory_.path(), absl::ZeroDuration());
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(usage.Of("none").has_value());
  }
}

TEST_F(WritableUsageTest, ManyDirectoriesAreAllMeasured) {
  WritableUsage usage(directory_.path());
  for (int i = 0; i < 50; ++i) {
    Write(std::to_string(i), "1");
  }
  const bool all = Eventually([&] {
    int measured = 0;
    for (int i = 0; i < 50; ++i) {
      measured += usage.Of(std::to_string(i)).has_value() ? 1 : 0;
    }
    return measured == 50;
  });
  EXPECT_TRUE(all);
  EXPECT_EQ(usage.Of("7")->used, Truth("7"));
}

// Neither the end of a directory nor a new one of its name gets the figures of the other.
TEST_F(WritableUsageTest, ANewDirectoryOfTheSameNameIsMeasuredAnew) {
  WritableUsage usage(directory_.path());
  if (usage.counted_by_quota()) {
    GTEST_SKIP() << "SKIP: a file system without project quota";
  }
  Write("c", "1");
  usage.Of("c");
  usage.End("c");  // Its walk may be waiting, running or done.
  ASSERT_TRUE(base::RemoveTree(directory_ / "c").ok());
  Write("c", "1");
  Write("c", "2");
  ASSERT_TRUE(Eventually([&] { return usage.Of("c").has_value(); }));
  EXPECT_EQ(usage.Of("c")->used, Truth("c"));
}

TEST_F(WritableUsageTest, ItEndsWithWalksWaiting) {
  for (int i = 0; i < 50; ++i) {
    Write(std::to_string(i), "1");
  }
  WritableUsage usage(directory_.path());
  for (int i = 0; i < 50; ++i) {
    usage.Of(std::to_string(i));
  }
}

}  // namespace
}  // namespace imageservice
