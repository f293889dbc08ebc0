#include "runtimeservice/spec/cgroup_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

TEST(CgroupPathTest, ContainerIsBelowItsParent) {
  const base::ContainerId id = base::ContainerId::Random();
  EXPECT_EQ(*CgroupPath("/kubepods/burstable/pod1", id),
            "/kubepods/burstable/pod1/crisp-" + id.str());
  EXPECT_EQ(*CgroupPath("", id), "/crisp/crisp-" + id.str());
  EXPECT_EQ(*CgroupPath("/", id), "/crisp-" + id.str());
}

TEST(CgroupPathTest, SuperfluousSlashesGo) { EXPECT_EQ(*CgroupParent("//a///b/"), "/a/b"); }

TEST(CgroupPathTest, OtherFormsAreRefused) {
  for (const char* parent :
       {"kubepods-burstable.slice", "relative/path", "/a/../b", "/..", "/a/./b", "/a\nb"}) {
    const absl::Status status = CgroupParent(parent).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << parent;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("linux.cgroup_parent"));
  }
}

}  // namespace
}  // namespace runtimeservice
