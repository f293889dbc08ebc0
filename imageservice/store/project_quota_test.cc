#include "imageservice/store/project_quota.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/id.h"
#include "imageservice/rootfs.h"
#include "imageservice/store/writable_usage.h"
#include "imageservice/testing/scoped_file_system.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

TEST(ProjectQuotaTest, AFileSystemWithoutItSaysSo) {
  const testing::TempDirectory directory;
  auto plain = testing::ScopedFileSystem::Tmpfs(directory / "m", 1 << 20);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_TRUE(absl::IsFailedPrecondition(ProjectQuota::Open(plain->path()).status()));
}

class MountedQuotaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = testing::ScopedFileSystem::Ext4(
        directory_ / "image", directory_ / "m",
        {"-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"}, "prjquota");
    if (!made.ok()) {
      GTEST_SKIP() << "SKIP: a kernel with project quotas on a loop-mounted ext4";
    }
    mounted_.emplace(*std::move(made));
  }
  std::string Directory(const std::string& name) {
    EXPECT_TRUE(base::MakeDirectories(directory_ / ("m/" + name)).ok());
    return directory_ / ("m/" + name);
  }
  static void Write(const std::string& path, size_t bytes) {
    ASSERT_TRUE(
        base::ReplaceFile(path, std::string(bytes, 'x'), 0600, base::Durability::kDurable).ok());
  }
  static DiskUsage Truth(const std::string& path) {
    const std::atomic<bool> stop = false;
    return MeasureTree(path, stop).value_or(DiskUsage());
  }

  testing::TempDirectory directory_;
  std::optional<testing::ScopedFileSystem> mounted_;
};

TEST_F(MountedQuotaTest, TheKernelCountsWhatAWalkWouldFind) {
  const absl::StatusOr<ProjectQuota> quota = ProjectQuota::Open(mounted_->path());
  ASSERT_TRUE(quota.ok()) << quota.status();
  const std::string directory = Directory("c");
  EXPECT_EQ(quota->ProjectOf(directory).value(), 0u);
  EXPECT_EQ(quota->Usage(77).value(), DiskUsage());
  ASSERT_TRUE(quota->Assign(directory, 77).ok());
  EXPECT_EQ(quota->ProjectOf(directory).value(), 77u);
  Write(Directory("c/upper/a") + "/file", 300000);
  Write(directory_ / "m/outside", 300000);
  EXPECT_EQ(quota->Usage(77).value(), Truth(directory));
  EXPECT_EQ(quota->ProjectOf(directory + "/upper").value(), 77u);
}

TEST_F(MountedQuotaTest, EachDirectoryIsAProjectOfItsOwnAlsoInTheNextLife) {
  std::optional<WritableUsage> usage(std::in_place, mounted_->path());
  ASSERT_TRUE(usage->counted_by_quota());
  Directory("a");
  Directory("b");
  usage->Begin("a");
  usage->Begin("b");
  Write(Directory("a/upper") + "/file", 100000);
  EXPECT_EQ(usage->Of("a")->used, Truth(directory_ / "m/a"));
  EXPECT_EQ(usage->Of("b")->used, Truth(directory_ / "m/b"));
  usage.emplace(mounted_->path());
  Directory("c");
  usage->Begin("c");
  EXPECT_EQ(usage->Of("a")->used, Truth(directory_ / "m/a"));
  EXPECT_EQ(usage->Of("c")->used, Truth(directory_ / "m/c")) << "the number is not used twice";
  EXPECT_EQ(usage->End("a"), Truth(directory_ / "m/a"));
}

TEST_F(MountedQuotaTest, AContainersWritesCountAndItsRemovalWorks) {
  const std::string root = Directory("root");
  Write(Directory("root/layers/low") + "/tool", 200000);
  auto rootfs = Rootfs::Open(root, directory_ / "run");
  ASSERT_TRUE(rootfs.ok()) << rootfs.status();
  const base::ContainerId container = base::ContainerId::Random();
  const auto target = (*rootfs)->Prepare(base::Context(), container, {"low"});
  ASSERT_TRUE(target.ok()) << target.status();
  const DiskUsage fresh = (*rootfs)->Usage(container)->used;
  EXPECT_LT(fresh.bytes, 100000u) << "the image's files are not the container's";
  Write(*target + "/file", 300000);
  Write(*target + "/tool", 200001);  // Copied up and replaced.
  const DiskUsage used = (*rootfs)->Usage(container)->used;
  EXPECT_GE(used.bytes, fresh.bytes + 500000);
  EXPECT_EQ(used, Truth(root + "/containers/" + container.str()));
  EXPECT_EQ((*rootfs)->TotalUsage().used, used);
  ASSERT_TRUE((*rootfs)->Remove(base::Context(), container).ok());
  EXPECT_FALSE((*rootfs)->Usage(container).has_value());
  EXPECT_EQ((*rootfs)->TotalUsage().used, DiskUsage());
}

}  // namespace
}  // namespace imageservice
