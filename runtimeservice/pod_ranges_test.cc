#include "runtimeservice/pod_ranges.h"

#include <stdlib.h>

#include "base/files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PodRangesTest : public testing::Test {
 protected:
  PodRangesTest() {
    char pattern[] = "/tmp/pod-ranges-test-XXXXXX";
    directory_ = mkdtemp(pattern);
    path_ = directory_ + "/ranges";
  }
  ~PodRangesTest() override { base::RemoveTree(directory_).IgnoreError(); }

  std::string directory_;
  std::string path_;
};

TEST_F(PodRangesTest, RangesSurviveTheDaemon) {
  PodRanges ranges(path_);
  EXPECT_THAT(ranges.Get(), IsEmpty());
  ASSERT_TRUE(ranges.Set("10.1.0.0/24,fd00:1::/64").ok());
  EXPECT_THAT(ranges.Get(), ElementsAre("10.1.0.0/24", "fd00:1::/64"));
  EXPECT_THAT(PodRanges(path_).Get(), ElementsAre("10.1.0.0/24", "fd00:1::/64"));
  // The kubelet says so before it knows.
  ASSERT_TRUE(ranges.Set("").ok());
  EXPECT_THAT(PodRanges(path_).Get(), ElementsAre("10.1.0.0/24", "fd00:1::/64"));
}

TEST_F(PodRangesTest, WhatIsNoRangeIsRefusedAndChangesNothing) {
  PodRanges ranges(path_);
  for (const char* text : {"10.1.0.0", "10.1.0.0/33", "fd00::/129", "10.1.0.0/-1", "10.1.0.0/24,",
                           ",", "x/8", "10.1.0.0/24 ", "10.1.0.0/24\n"}) {
    const absl::Status status = ranges.Set(text);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("runtime_config.network_config.pod_cidr"));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ranges.Set(std::string(5000, '1'))));
  EXPECT_THAT(ranges.Get(), IsEmpty());
  EXPECT_FALSE(base::Exists(path_));
}

TEST_F(PodRangesTest, DamagedFileIsForgotten) {
  ASSERT_TRUE(base::ReplaceFile(path_, "half a ra", 0600, base::Durability::kVolatile).ok());
  EXPECT_THAT(PodRanges(path_).Get(), IsEmpty());
}

}  // namespace
}  // namespace runtimeservice
