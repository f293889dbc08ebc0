#include "imageservice/declared_volumes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>
#include <string>

#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DeclaredVolumesTest : public ::testing::Test {
 protected:
  DeclaredVolumesTest() {
    EXPECT_TRUE(base::MakeDirectories(root_).ok());
    EXPECT_TRUE(base::MakeDirectories(directory_ / "outside").ok());
  }
  void Link(const std::string& target, const std::string& name) const {
    ASSERT_EQ(symlink(target.c_str(), (root_ + name).c_str()), 0);
  }
  void Write(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(base::ReplaceFile(root_ + name, text, 0644, base::Durability::kVolatile).ok());
  }
  static struct stat Stat(const std::string& path) {
    struct stat status = {};
    EXPECT_EQ(lstat(path.c_str(), &status), 0) << path;
    return status;
  }

  testing::TempDirectory directory_;
  const std::string root_ = directory_ / "root";
  const std::string copy_ = directory_ / "copy";
};

TEST_F(DeclaredVolumesTest, AFolderIsMadeWithItsParents) {
  EXPECT_EQ(*MakeFolderBeneath(root_, "/a//b/./c/"), "a/b/c");
  EXPECT_EQ(Stat(root_ + "/a/b/c").st_mode, S_IFDIR | 0755u);
  EXPECT_EQ(*MakeFolderBeneath(root_, "/a/b/c"), "a/b/c");
}

TEST_F(DeclaredVolumesTest, SymlinksStayBeneathTheRoot) {
  Link("/srv/data", "/absolute");
  Link("../../../../../../../../outside", "/climber");
  EXPECT_EQ(*MakeFolderBeneath(root_, "/absolute/x"), "srv/data/x");
  EXPECT_EQ(*MakeFolderBeneath(root_, "/climber/x"), "outside/x");
  EXPECT_TRUE(base::Exists(root_ + "/outside/x"));
  EXPECT_FALSE(base::Exists(directory_ / "outside/x"));
  Link("loop", "/loop");
  EXPECT_FALSE(MakeFolderBeneath(root_, "/loop/x").ok());
}

TEST_F(DeclaredVolumesTest, AFileInTheWayIsAnError) {
  Write("/file", "text");
  for (const char* path : {"/file", "/file/below"}) {
    const absl::Status status = MakeFolderBeneath(root_, path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
  }
}

TEST_F(DeclaredVolumesTest, ACopyHasEverything) {
  ASSERT_TRUE(base::MakeDirectories(root_ + "/sub/empty").ok());
  Write("/file", std::string(200000, 'x'));
  ASSERT_EQ(chown((root_ + "/file").c_str(), 5, 6), 0);
  ASSERT_EQ(chmod((root_ + "/file").c_str(), 06751), 0);
  ASSERT_EQ(setxattr((root_ + "/file").c_str(), "user.note", "text", 4, 0), 0);
  ASSERT_EQ(setxattr((root_ + "/sub").c_str(), "user.note", "folder", 6, 0), 0);
  ASSERT_EQ(link((root_ + "/file").c_str(), (root_ + "/sub/same").c_str()), 0);
  Link("/etc/passwd", "/sub/link");
  ASSERT_EQ(lchown((root_ + "/sub/link").c_str(), 7, 8), 0);
  ASSERT_EQ(mkfifo((root_ + "/pipe").c_str(), 0600), 0);
  ASSERT_EQ(mknod((root_ + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(chown(root_.c_str(), 9, 10), 0);
  ASSERT_EQ(chmod(root_.c_str(), 03770), 0);
  const timespec times[2] = {{1, 0}, {1000000000, 5}};
  ASSERT_EQ(utimensat(AT_FDCWD, (root_ + "/sub").c_str(), times, 0), 0);

  ASSERT_TRUE(CopyFolder(base::Context(), root_, copy_).ok());
  EXPECT_THAT(*base::ListDirectory(copy_), ElementsAre("file", "null", "pipe", "sub"));
  EXPECT_THAT(*base::ListDirectory(copy_ + "/sub"), ElementsAre("empty", "link", "same"));
  EXPECT_EQ(*base::ReadFile(copy_ + "/file"), std::string(200000, 'x'));
  for (const char* name : {"", "/file", "/sub", "/sub/empty", "/sub/link", "/pipe", "/null"}) {
    const struct stat before = Stat(root_ + name);
    const struct stat after = Stat(copy_ + name);
    EXPECT_EQ(after.st_mode, before.st_mode) << name;
    EXPECT_EQ(after.st_uid, before.st_uid) << name;
    EXPECT_EQ(after.st_gid, before.st_gid) << name;
    EXPECT_EQ(after.st_rdev, before.st_rdev) << name;
    EXPECT_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec) << name;
    EXPECT_EQ(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec) << name;
  }
  EXPECT_EQ(Stat(copy_ + "/file").st_ino, Stat(copy_ + "/sub/same").st_ino);
  EXPECT_NE(Stat(copy_ + "/file").st_ino, Stat(root_ + "/file").st_ino);
  char value[16];
  ASSERT_EQ(getxattr((copy_ + "/file").c_str(), "user.note", value, sizeof(value)), 4);
  EXPECT_EQ(std::string(value, 4), "text");
  ASSERT_EQ(getxattr((copy_ + "/sub").c_str(), "user.note", value, sizeof(value)), 6);
  char target[PATH_MAX];
  ASSERT_EQ(readlink((copy_ + "/sub/link").c_str(), target, sizeof(target)), 11);
}

TEST_F(DeclaredVolumesTest, ACopyEndsWithItsContextAndHasALimitOfDepth) {
  std::string path = root_;
  for (int i = 0; i < 101; ++i) {
    path += "/d";
  }
  ASSERT_TRUE(base::MakeDirectories(path).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(CopyFolder(base::Context(), root_, copy_)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      CopyFolder(base::Context::Detached(absl::ZeroDuration()), root_, directory_ / "late")));
}

}  // namespace
}  // namespace imageservice
