#include "runtimeservice/spec/resources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::HasSubstr;

class ResourcesTest : public ::testing::Test {
 protected:
  ResourcesTest() {
    host_.swap_accounting = true;
    host_.hugepage_sizes = {"2MB"};
  }
  absl::StatusOr<OrderedJson> Result() const { return LinuxResources(resources_, host_, 4096); }
  void ExpectRefused(absl::StatusCode code, const std::string& field) const {
    const absl::Status status = Result().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("linux.resources." + field));
  }

  cri::LinuxContainerResources resources_;
  HostFacts host_;
};

TEST_F(ResourcesTest, NothingGivenIsNothingSet) { EXPECT_EQ(*Result(), OrderedJson::object()); }

TEST_F(ResourcesTest, EverythingGivenIsSet) {
  resources_.set_cpu_period(100000);
  resources_.set_cpu_quota(-1);
  resources_.set_cpu_shares(512);
  resources_.set_memory_limit_in_bytes(8192);
  resources_.set_memory_swap_limit_in_bytes(16384);
  resources_.set_cpuset_cpus("0-3,5");
  resources_.set_cpuset_mems("0");
  (*resources_.mutable_unified())["memory.oom.group"] = "1";
  EXPECT_EQ(*Result(), OrderedJson::parse(R"({
    "memory": {"limit": 8192, "swap": 16384},
    "cpu": {"shares": 512, "quota": -1, "period": 100000, "cpus": "0-3,5", "mems": "0"},
    "unified": {"memory.oom.group": "1"}})"));
}

TEST_F(ResourcesTest, MemoryLimitAloneMeansNoSwap) {
  resources_.set_memory_limit_in_bytes(8192);
  EXPECT_EQ(*Result(), OrderedJson::parse(R"({"memory": {"limit": 8192, "swap": 8192}})"));
  host_.swap_accounting = false;
  EXPECT_EQ(*Result(), OrderedJson::parse(R"({"memory": {"limit": 8192}})"));
}

TEST_F(ResourcesTest, UnlimitedSwapBesideALimitIsKept) {
  resources_.set_memory_limit_in_bytes(8192);
  resources_.set_memory_swap_limit_in_bytes(-1);
  EXPECT_EQ(*Result(), OrderedJson::parse(R"({"memory": {"limit": 8192, "swap": -1}})"));
}

TEST_F(ResourcesTest, ContradictoryMemoryIsRefused) {
  resources_.set_memory_swap_limit_in_bytes(8192);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "memory_swap_limit_in_bytes");
  resources_.set_memory_limit_in_bytes(16384);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "memory_swap_limit_in_bytes");
  resources_.clear_memory_swap_limit_in_bytes();
  resources_.set_memory_limit_in_bytes(-2);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "memory_limit_in_bytes");
  resources_.set_memory_limit_in_bytes(4095);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "memory_limit_in_bytes");
}

TEST_F(ResourcesTest, SenselessCpuIsRefused) {
  resources_.set_cpu_shares(262145);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "cpu_shares");
  resources_.set_cpu_shares(0);
  resources_.set_cpu_quota(-2);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "cpu_quota");
  resources_.set_cpu_quota(0);
  resources_.set_cpuset_cpus("0\n1");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "cpuset_cpus");
}

TEST_F(ResourcesTest, HugepagesNobodyCanLimitMatterOnlyWhenAskedFor) {
  cri::HugepageLimit* known = resources_.add_hugepage_limits();
  known->set_page_size("2MB");
  cri::HugepageLimit* unknown = resources_.add_hugepage_limits();
  unknown->set_page_size("1GB");
  EXPECT_EQ(*Result(),
            OrderedJson::parse(R"({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]})"));
  unknown->set_limit(1);
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "hugepage_limits[1]");
}

TEST_F(ResourcesTest, UnifiedIsForControllersFilesOnV2) {
  for (const char* file : {"memory", "../memory.max", "cgroup.procs", ".max"}) {
    resources_.clear_unified();
    (*resources_.mutable_unified())[file] = "1";
    ExpectRefused(absl::StatusCode::kInvalidArgument, "unified");
  }
  resources_.clear_unified();
  (*resources_.mutable_unified())["memory.high"] = "1";
  host_.cgroup_mode = base::CgroupMode::kV1;
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "unified");
}

TEST_F(ResourcesTest, OomScoreIsRaisedToWhatTheDaemonMayGive) {
  resources_.set_oom_score_adj(-997);
  EXPECT_EQ(*OomScoreAdj(resources_, host_), -997);
  host_.min_oom_score_adj = 10;
  EXPECT_EQ(*OomScoreAdj(resources_, host_), 10);
  resources_.set_oom_score_adj(500);
  EXPECT_EQ(*OomScoreAdj(resources_, host_), 500);
  resources_.set_oom_score_adj(1001);
  EXPECT_TRUE(absl::IsInvalidArgument(OomScoreAdj(resources_, host_).status()));
}

TEST_F(ResourcesTest, NoQuotaIsSaidOnV2Only) {
  resources_.set_cpu_quota(-1);
  EXPECT_EQ(*Result(), OrderedJson::parse(R"({"cpu": {"quota": -1}})"));
  host_.cgroup_mode = base::CgroupMode::kV1;
  EXPECT_EQ(*Result(), OrderedJson::object());
}

TEST_F(ResourcesTest, BandwidthTheKernelDoesNotTakeIsRefused) {
  for (const int64_t quota : {-2, 1, 999}) {
    resources_.set_cpu_quota(quota);
    ExpectRefused(absl::StatusCode::kInvalidArgument, "cpu_quota");
  }
  resources_.set_cpu_quota(1000);
  for (const int64_t period : {-1, 999, 1'000'001}) {
    resources_.set_cpu_period(period);
    ExpectRefused(absl::StatusCode::kInvalidArgument, "cpu_period");
  }
}

TEST_F(ResourcesTest, ErrorsNameTheFieldOfTheRequestTheyCameIn) {
  resources_.set_cpu_quota(-2);
  const absl::Status status = LinuxResources(resources_, host_, 0, "linux.").status();
  EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("linux.cpu_quota: "));
}

}  // namespace
}  // namespace runtimeservice
