#include "imageservice/store/disk_usage.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "base/files.h"
#include "base/unique_fd.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

class DiskUsageTest : public ::testing::Test {
 protected:
  DiskUsageTest() { EXPECT_TRUE(base::MakeDirectories(tree_).ok()); }

  DiskUsage Measure() {
    const absl::StatusOr<DiskUsage> usage = MeasureTree(tree_, stop_);
    EXPECT_TRUE(usage.ok()) << usage.status();
    return usage.value_or(DiskUsage());
  }
  void File(const std::string& name, size_t bytes) {
    ASSERT_TRUE(base::ReplaceFile(tree_ + "/" + name, std::string(bytes, 'x'), 0600,
                                  base::Durability::kVolatile)
                    .ok());
  }

  testing::TempDirectory directory_;
  const std::string tree_ = directory_ / "tree";
  std::atomic<bool> stop_ = false;
};

TEST_F(DiskUsageTest, BlocksAndInodesOfAllFilesCount) {
  const DiskUsage empty = Measure();
  EXPECT_EQ(empty.inodes, 1u);
  File("a", 100000);
  ASSERT_TRUE(base::MakeDirectories(tree_ + "/b/c").ok());
  File("b/c/d", 100000);
  ASSERT_EQ(symlink("/", (tree_ + "/root").c_str()), 0);
  const DiskUsage full = Measure();
  EXPECT_EQ(full.inodes, 6u) << "a symlink is not followed";
  EXPECT_GE(full.bytes, empty.bytes + 200000);
  EXPECT_LT(full.bytes, empty.bytes + 300000);
}

TEST_F(DiskUsageTest, AFileWithSeveralNamesCountsOnce) {
  File("a", 100000);
  File("b", 100000);
  const DiskUsage before = Measure();
  for (const char* name : {"/1", "/2", "/3", "/4", "/5", "/6"}) {
    ASSERT_EQ(link((tree_ + "/a").c_str(), (tree_ + name).c_str()), 0);
  }
  EXPECT_EQ(Measure(), before);
}

TEST_F(DiskUsageTest, AHoleTakesNothing) {
  const base::UniqueFd file(open((tree_ + "/hole").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ASSERT_EQ(ftruncate(file.get(), 1 << 30), 0);
  EXPECT_LT(Measure().bytes, 1u << 20);
}

TEST_F(DiskUsageTest, ATreeDeeperThanAnyPathCounts) {
  // 300 levels of 100 characters: a path of 30 KB.
  base::UniqueFd at(open(tree_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string name(100, 'd');
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(mkdirat(at.get(), name.c_str(), 0700), 0);
    at.Reset(openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at.valid());
  }
  EXPECT_EQ(Measure().inodes, 301u);
}

TEST_F(DiskUsageTest, AStopEndsIt) {
  stop_ = true;
  EXPECT_TRUE(absl::IsCancelled(MeasureTree(tree_, stop_).status()));
}

TEST_F(DiskUsageTest, ATreeThatIsNotThereIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(MeasureTree(tree_ + "/none", stop_).status()));
}

}  // namespace
}  // namespace imageservice
