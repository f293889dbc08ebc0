#include "base/files.h"

#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/lane.h"
#include "base/mounts.h"
#include "base/strings.h"
#include "gtest/gtest.h"

namespace base {
namespace {

class FilesTest : public testing::Test {
 protected:
  FilesTest() {
    char name[] = "/tmp/crisp-files-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~FilesTest() override { EXPECT_TRUE(RemoveTree(directory_).ok()); }
  std::string Path(std::string_view name) const { return StrCat(directory_, "/", name); }
  std::string directory_;
};

TEST_F(FilesTest, ReplaceIsWholeAndKeepsTheMode) {
  ASSERT_TRUE(ReplaceFile(Path("f"), "one", 0640, Durability::kDurable).ok());
  ASSERT_TRUE(ReplaceFile(Path("f"), "two", 0640, Durability::kVolatile).ok());
  EXPECT_EQ(*ReadFile(Path("f")), "two");
  struct stat info;
  ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
  EXPECT_EQ(ListDirectory(directory_)->size(), 1u);
}

TEST_F(FilesTest, ReadHasALimit) {
  ASSERT_TRUE(ReplaceFile(Path("f"), std::string(100, 'x'), 0600, Durability::kVolatile).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ReadFile(Path("f"), 99).status()));
  EXPECT_TRUE(ReadFile(Path("f"), 100).ok());
}

TEST_F(FilesTest, OpenBeneathStaysInside) {
  ASSERT_TRUE(MakeDirectories(Path("root/etc")).ok());
  ASSERT_TRUE(ReplaceFile(Path("root/etc/passwd"), "in", 0600, Durability::kVolatile).ok());
  ASSERT_TRUE(ReplaceFile(Path("secret"), "out", 0600, Durability::kVolatile).ok());
  ASSERT_EQ(symlink("../secret", Path("root/up").c_str()), 0);
  ASSERT_EQ(symlink("/etc/passwd", Path("root/absolute").c_str()), 0);
  const UniqueFd root = *Open(Path("root"), O_PATH | O_DIRECTORY);
  EXPECT_TRUE(OpenBeneath(root.get(), "etc/passwd", O_RDONLY).ok());
  EXPECT_FALSE(OpenBeneath(root.get(), "../secret", O_RDONLY).ok());
  EXPECT_FALSE(OpenBeneath(root.get(), "up", O_RDONLY).ok());
  EXPECT_FALSE(OpenBeneath(root.get(), "absolute", O_RDONLY).ok());
  const auto in_root = OpenBeneath(root.get(), "absolute", O_RDONLY, 0, RESOLVE_IN_ROOT);
  ASSERT_TRUE(in_root.ok());
  EXPECT_EQ(*ReadFd(in_root->get(), "absolute"), "in");
}

TEST_F(FilesTest, RemoveTreeNeedsNoStackForDeepTrees) {
  UniqueFd at = Open(directory_, O_RDONLY | O_DIRECTORY).value();
  for (int depth = 0; depth < 600; ++depth) {
    ASSERT_EQ(mkdirat(at.get(), "d", 0700), 0);
    ASSERT_EQ(mkdirat(at.get(), "e", 0700), 0);
    at = OpenAt(at.get(), "d", O_RDONLY | O_DIRECTORY).value();
  }
  absl::Status status = absl::UnknownError("not run");
  {
    Lane lane("small-stack", 1, 1);
    ASSERT_TRUE(lane.Post([&] { status = RemoveTree(Path("d")); }).ok());
  }
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_FALSE(Exists(Path("d")));
}

TEST_F(FilesTest, RemoveTreeFollowsNoSymlinkAndCrossesNoMount) {
  ASSERT_TRUE(MakeDirectories(Path("keep")).ok());
  ASSERT_TRUE(ReplaceFile(Path("keep/file"), "x", 0600, Durability::kVolatile).ok());
  ASSERT_TRUE(MakeDirectories(Path("tree/a/b")).ok());
  ASSERT_EQ(symlink(Path("keep").c_str(), Path("tree/a/link").c_str()), 0);
  ASSERT_TRUE(MountTmpfs(Path("tree/a/b"), 1 << 20, 0755).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(RemoveTree(Path("tree"))));
  EXPECT_TRUE(*IsMountPoint(Path("tree/a/b")));
  ASSERT_TRUE(Unmount(Path("tree/a/b")).ok());
  EXPECT_TRUE(RemoveTree(Path("tree")).ok());
  EXPECT_TRUE(RemoveTree(Path("tree")).ok());
  EXPECT_FALSE(Exists(Path("tree")));
  EXPECT_TRUE(Exists(Path("keep/file")));
}

TEST_F(FilesTest, OverlayShowsLayersAndTakesWrites) {
  for (const char* name : {"low", "high", "upper", "work", "merged"}) {
    ASSERT_TRUE(MakeDirectories(Path(name)).ok());
  }
  ASSERT_TRUE(ReplaceFile(Path("low/a"), "low", 0600, Durability::kVolatile).ok());
  ASSERT_TRUE(ReplaceFile(Path("high/a"), "high", 0600, Durability::kVolatile).ok());
  ASSERT_TRUE(MountOverlay({.lower = {Path("high"), Path("low")},
                            .upper = Path("upper"),
                            .work = Path("work"),
                            .options = {}},
                           Path("merged"))
                  .ok());
  const ScopedMount mounted(Path("merged"));
  EXPECT_EQ(*ReadFile(Path("merged/a")), "high");
  ASSERT_TRUE(ReplaceFile(Path("merged/new"), "n", 0600, Durability::kVolatile).ok());
  EXPECT_TRUE(Exists(Path("upper/new")));
}

TEST_F(FilesTest, MakeDirectoriesNamesAFileInTheWay) {
  ASSERT_TRUE(ReplaceFile(Path("f"), "x", 0600, Durability::kVolatile).ok());
  EXPECT_FALSE(MakeDirectories(Path("f/d")).ok());
  EXPECT_FALSE(MakeDirectories(Path("f")).ok());
  EXPECT_TRUE(MakeDirectories(Path("a/b/c")).ok());
  EXPECT_TRUE(MakeDirectories(Path("a/b/c")).ok());
}

}  // namespace
}  // namespace base
