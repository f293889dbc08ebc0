#include "runtimeservice/spec/resource_update.h"

#include <gtest/gtest.h>

#include <string>

namespace runtimeservice {
namespace {

using Resources = cri::LinuxContainerResources;

void AddHugepages(Resources* resources, const std::string& size, uint64_t limit) {
  cri::HugepageLimit* entry = resources->add_hugepage_limits();
  entry->set_page_size(size);
  entry->set_limit(limit);
}

TEST(MergeResourcesTest, WhatIsNotGivenStays) {
  Resources before;
  before.set_cpu_period(50000);
  before.set_cpu_quota(25000);
  before.set_cpu_shares(512);
  before.set_cpuset_cpus("0");
  before.set_oom_score_adj(100);
  before.set_memory_limit_in_bytes(1 << 20);
  EXPECT_EQ(MergeResources(before, Resources()).SerializeAsString(), before.SerializeAsString());
}

TEST(MergeResourcesTest, WhatIsGivenWins) {
  Resources before;
  before.set_cpu_quota(25000);
  before.set_cpuset_cpus("0");
  Resources update;
  update.set_cpu_quota(-1);
  update.set_cpu_shares(7);
  update.set_cpuset_cpus("1-2");
  update.set_cpuset_mems("0");
  update.set_oom_score_adj(-5);
  update.set_cpu_period(2000);
  const Resources merged = MergeResources(before, update);
  EXPECT_EQ(merged.SerializeAsString(), update.SerializeAsString());
}

TEST(MergeResourcesTest, HugepagesMergeBySizeAndUnifiedByFile) {
  Resources before;
  AddHugepages(&before, "2MB", 4 << 20);
  AddHugepages(&before, "1GB", 0);
  (*before.mutable_unified())["memory.high"] = "1";
  (*before.mutable_unified())["memory.oom.group"] = "1";
  Resources update;
  AddHugepages(&update, "2MB", 2 << 20);
  (*update.mutable_unified())["memory.high"] = "2";
  const Resources merged = MergeResources(before, update);
  ASSERT_EQ(merged.hugepage_limits_size(), 2);
  EXPECT_EQ(merged.hugepage_limits(0).limit(), 2u << 20);
  EXPECT_EQ(merged.hugepage_limits(1).page_size(), "1GB");
  EXPECT_EQ(merged.unified().at("memory.high"), "2");
  EXPECT_EQ(merged.unified().at("memory.oom.group"), "1");
}

TEST(MergeResourcesTest, NoSwapStaysNoSwapWhenTheMemoryLimitMoves) {
  Resources before;
  before.set_memory_limit_in_bytes(100);
  before.set_memory_swap_limit_in_bytes(100);
  Resources update;
  update.set_memory_limit_in_bytes(300);
  EXPECT_EQ(MergeResources(before, update).memory_swap_limit_in_bytes(), 300);
  before.set_memory_swap_limit_in_bytes(200);
  EXPECT_EQ(MergeResources(before, update).memory_swap_limit_in_bytes(), 200);
  update.set_memory_swap_limit_in_bytes(400);
  EXPECT_EQ(MergeResources(before, update).memory_swap_limit_in_bytes(), 400);
}

TEST(RevertResourcesTest, WhatWasNotLimitedIsUnlimitedAgain) {
  Resources before;
  before.set_cpu_shares(512);
  Resources update;
  update.set_memory_limit_in_bytes(100);
  update.set_cpu_quota(5000);
  update.set_cpu_shares(7);
  const Resources revert = RevertResources(before, update);
  EXPECT_EQ(revert.memory_limit_in_bytes(), -1);
  EXPECT_EQ(revert.cpu_quota(), -1);
  EXPECT_EQ(revert.cpu_shares(), 512);
  EXPECT_EQ(revert.cpu_period(), 0);
}

TEST(EffectiveResourcesTest, DefaultsThatFollowFromALimitAreShown) {
  HostFacts host;
  host.swap_accounting = true;
  host.min_oom_score_adj = -100;
  Resources given;
  given.set_cpu_quota(5000);
  given.set_cpu_shares(1);
  given.set_memory_limit_in_bytes(100);
  given.set_oom_score_adj(-998);
  const Resources shown = EffectiveResources(given, host);
  EXPECT_EQ(shown.cpu_period(), 100000);
  EXPECT_EQ(shown.cpu_shares(), 2);
  EXPECT_EQ(shown.memory_swap_limit_in_bytes(), 100);
  EXPECT_EQ(shown.oom_score_adj(), -100);
  host.swap_accounting = false;
  EXPECT_EQ(EffectiveResources(given, host).memory_swap_limit_in_bytes(), 0);
  EXPECT_EQ(EffectiveResources(Resources(), host).cpu_period(), 0);
}

}  // namespace
}  // namespace runtimeservice
