#include "runtimeservice/spec/cgroup_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

namespace state = crisp::state;

void ExpectRefused(CgroupDriver driver, const std::string& parent) {
  const absl::Status status = CgroupParent(driver, parent).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << parent << ": " << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("linux.cgroup_parent"));
}

TEST(CgroupPathTest, ContainerIsBelowItsParent) {
  const base::ContainerId id = base::ContainerId::Random();
  for (const auto& [parent, path] :
       {std::pair("/kubepods/burstable/pod1", "/kubepods/burstable/pod1/crisp-"),
        std::pair("/", "/crisp-"), std::pair("//a///b/", "/a/b/crisp-")}) {
    const std::string cgroup =
        ContainerCgroup(state::CGROUPFS, *CgroupParent(state::CGROUPFS, parent), id);
    EXPECT_EQ(cgroup, path + id.str());
    EXPECT_EQ(OciCgroupsPath(state::CGROUPFS, cgroup), cgroup);
  }
}

TEST(CgroupPathTest, OtherFormsAreRefused) {
  for (const char* parent :
       {"kubepods-burstable.slice", "relative/path", "/a/../b", "/..", "/a/./b", "/a\nb"}) {
    ExpectRefused(state::CGROUPFS, parent);
  }
}

TEST(SlicePathTest, EachDashOfASliceIsALevel) {
  const std::string path =
      "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podA_b.slice";
  EXPECT_EQ(*CgroupParent(state::SYSTEMD, "kubepods-burstable-podA_b.slice"), path);
  EXPECT_EQ(*CgroupParent(state::SYSTEMD, path), path);
  EXPECT_EQ(*CgroupParent(state::SYSTEMD, "test.slice"), "/test.slice");
}

TEST(SlicePathTest, ContainerIsAScopeOfThePodsSlice) {
  const base::ContainerId id = base::ContainerId::Random();
  const std::string cgroup =
      ContainerCgroup(state::SYSTEMD, *CgroupParent(state::SYSTEMD, "a-b.slice"), id);
  EXPECT_EQ(cgroup, "/a.slice/a-b.slice/crisp-" + id.str() + ".scope");
  EXPECT_EQ(OciCgroupsPath(state::SYSTEMD, cgroup), "a-b.slice:crisp:" + id.str());
}

TEST(SlicePathTest, APodWithoutAParentHasASliceOfItsOwn) {
  const base::PodId pod = base::PodId::Random();
  const std::string slice = "crisp-" + pod.str() + ".slice";
  EXPECT_EQ(OwnPodCgroup(state::SYSTEMD, pod), *CgroupParent(state::SYSTEMD, slice));
  EXPECT_EQ(LastName(OwnPodCgroup(state::SYSTEMD, pod)), slice);
  EXPECT_EQ(OwnPodCgroup(state::CGROUPFS, pod), "/crisp/" + pod.str());
}

TEST(SlicePathTest, WhatIsNoSliceIsRefused) {
  for (const char* parent : {"/kubepods/burstable",
                             "/",
                             "a",
                             "a.scope",
                             ".slice",
                             "-.slice",
                             "-a.slice",
                             "a-.slice",
                             "a--b.slice",
                             "a b.slice",
                             "a:b.slice",
                             "a@b.slice",
                             "a\nb.slice",
                             "_a.slice",
                             "..slice",
                             "memory.slice",
                             "cgroup.slice",
                             "/a-b.slice",
                             "/x/a.slice",
                             "a/b.slice",
                             "../a.slice",
                             "/a.slice/../a.slice",
                             "/a.slice/"}) {
    ExpectRefused(state::SYSTEMD, parent);
  }
  ExpectRefused(state::SYSTEMD, std::string(300, 'a') + ".slice");
}

}  // namespace
}  // namespace runtimeservice
