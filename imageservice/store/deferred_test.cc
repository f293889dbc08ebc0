#include "imageservice/store/deferred.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using worker::DeferredOperation;
using Kind = DeferredOperation::Kind;

constexpr char kOpaque[] = "trusted.overlay.opaque";

DeferredOperation Opaque(const std::string& path) { return {.kind = Kind::kOpaque, .path = path}; }
DeferredOperation Inherit(const std::string& path) {
  return {.kind = Kind::kCopyMetadata, .path = path};
}
DeferredOperation Link(const std::string& path, const std::string& target) {
  return {.kind = Kind::kHardLink, .path = path, .target = target};
}

DeferredOperation Device(const std::string& path, const DeferredOperation::Node& node) {
  return {.kind = Kind::kNode, .path = path, .node = node};
}

// Layers "0" (bottom), "1" and "2"; operations are applied to "2".
class DeferredTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const std::string layer : {"0", "1", "2"}) {
      Directory(layer);
    }
    if (setxattr((directory_ / "2").c_str(), "trusted.crisp-test", "x", 1, 0) != 0) {
      GTEST_SKIP() << "SKIP: trusted attributes on /var/tmp";
    }
  }

  void Directory(const std::string& path, mode_t mode = 0755) {
    ASSERT_TRUE(base::MakeDirectories(directory_ / path).ok());
    ASSERT_EQ(chmod((directory_ / path).c_str(), mode), 0);
  }
  void File(const std::string& path, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(directory_ / path, text, 0644, base::Durability::kVolatile).ok());
  }
  void Whiteout(const std::string& path) {
    ASSERT_EQ(mknod((directory_ / path).c_str(), S_IFCHR, 0), 0);
  }
  void SetTime(const std::string& path, time_t seconds) {
    const timespec times[] = {{.tv_sec = seconds, .tv_nsec = 7}, {.tv_sec = seconds, .tv_nsec = 7}};
    ASSERT_EQ(utimensat(AT_FDCWD, (directory_ / path).c_str(), times, 0), 0);
  }
  struct stat Stat(const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(lstat((directory_ / path).c_str(), &info), 0) << path;
    return info;
  }
  mode_t Mode(const std::string& path) { return Stat(path).st_mode & 07777; }
  std::string Attribute(const std::string& path, const char* name) {
    char value[64];
    const ssize_t size = getxattr((directory_ / path).c_str(), name, value, sizeof(value));
    return size < 0 ? "absent" : std::string(value, static_cast<size_t>(size));
  }
  absl::Status Apply(const std::vector<DeferredOperation>& operations) {
    return Apply(base::Context(), operations);
  }
  absl::Status Apply(const base::Context& ctx, const std::vector<DeferredOperation>& operations) {
    return ApplyDeferred(ctx, directory_ / "2", {directory_ / "1", directory_ / "0"}, operations);
  }

  // The layers on which the last of many is done: `count`, the topmost first, each with `path`.
  std::vector<std::string> ManyLayers(int count, const std::string& path) {
    std::vector<std::string> lower;
    for (int i = count; i > 0; --i) {
      Directory(base::StrCat("many/", i, "/", path));
      lower.push_back(directory_ / base::StrCat("many/", i));
    }
    return lower;
  }

  testing::TempDirectory directory_;
};

TEST_F(DeferredTest, OpaqueDirectoriesGetTheAttribute) {
  Directory("2/etc");
  ASSERT_TRUE(Apply({Opaque("etc"), Opaque(".")}).ok());
  EXPECT_EQ(Attribute("2/etc", kOpaque), "y");
  EXPECT_EQ(Attribute("2", kOpaque), "y");
}

TEST_F(DeferredTest, ImpliedFoldersTakeOverEverythingFromTheTopmostLayerThatShowsThem) {
  Directory("0/tmp", 01777);
  Directory("0/root/a", 0700);
  Directory("1/root/a", 0750);
  ASSERT_EQ(chown((directory_ / "1/root/a").c_str(), 12, 34), 0);
  ASSERT_EQ(setxattr((directory_ / "1/root/a").c_str(), "user.note", "hi", 2, 0), 0);
  ASSERT_EQ(setxattr((directory_ / "1/root/a").c_str(), kOpaque, "y", 1, 0), 0);
  SetTime("1/root/a", 1000);
  Directory("2/root/a");
  Directory("2/tmp");
  ASSERT_TRUE(Apply({Inherit("tmp"), Inherit("root/a")}).ok());
  EXPECT_EQ(Mode("2/tmp"), 01777u);
  EXPECT_EQ(Mode("2/root/a"), 0750u);
  EXPECT_EQ(Stat("2/root/a").st_uid, 12u);
  EXPECT_EQ(Stat("2/root/a").st_gid, 34u);
  EXPECT_EQ(Stat("2/root/a").st_mtim.tv_sec, 1000);
  EXPECT_EQ(Stat("2/root/a").st_mtim.tv_nsec, 7);
  EXPECT_EQ(Attribute("2/root/a", "user.note"), "hi");
  EXPECT_EQ(Attribute("2/root/a", kOpaque), "absent") << "it would hide what lies below";
}

TEST_F(DeferredTest, TheRootItselfCanBeImplied) {
  ASSERT_EQ(chmod((directory_ / "1").c_str(), 0711), 0);
  ASSERT_TRUE(Apply({Inherit(".")}).ok());
  EXPECT_EQ(Mode("2"), 0711u);
}

TEST_F(DeferredTest, WhatIsHiddenBelowIsNotTakenOver) {
  for (const std::string name : {"gone", "file", "dir/under"}) {
    Directory("0/" + name, 0700);
    Directory("2/" + name);
  }
  Whiteout("1/gone");
  File("1/file", "now a file");
  Directory("1/dir");
  ASSERT_EQ(setxattr((directory_ / "1/dir").c_str(), kOpaque, "y", 1, 0), 0);
  ASSERT_TRUE(Apply({Inherit("gone"), Inherit("file"), Inherit("dir/under")}).ok());
  EXPECT_EQ(Mode("2/gone"), 0755u);
  EXPECT_EQ(Mode("2/file"), 0755u);
  EXPECT_EQ(Mode("2/dir/under"), 0755u);
}

TEST_F(DeferredTest, AnOpaqueFolderOfTheLayerItselfHidesToo) {
  Directory("0/a/b", 0700);
  Directory("2/a/b");
  ASSERT_TRUE(Apply({Inherit("a/b"), Opaque("a")}).ok());
  EXPECT_EQ(Mode("2/a/b"), 0755u);
}

TEST_F(DeferredTest, AFolderThatIsNewEverywhereStays) {
  Directory("2/new");
  ASSERT_TRUE(Apply({Inherit("new")}).ok());
  EXPECT_EQ(Mode("2/new"), 0755u);
}

TEST_F(DeferredTest, HardLinksReachLowerLayersAndKeepTheFoldersTime) {
  Directory("0/bin");
  File("0/bin/tool", "old");
  Directory("2/bin");
  SetTime("2/bin", 2000);
  ASSERT_TRUE(Apply({Link("bin/alias", "bin/tool")}).ok());
  EXPECT_EQ(base::ReadFile(directory_ / "2/bin/alias").value(), "old");
  EXPECT_EQ(Stat("2/bin/alias").st_ino, Stat("0/bin/tool").st_ino);
  EXPECT_EQ(Stat("2/bin").st_mtim.tv_sec, 2000);
}

TEST_F(DeferredTest, HardLinksPreferTheLayerItself) {
  File("0/tool", "old");
  File("2/tool", "new");
  ASSERT_TRUE(Apply({Link("alias", "tool")}).ok());
  EXPECT_EQ(base::ReadFile(directory_ / "2/alias").value(), "new");
}

TEST_F(DeferredTest, HardLinksToWhatIsNotThereFail) {
  File("0/deleted", "x");
  Whiteout("1/deleted");
  File("0/deleted-here", "x");
  Whiteout("2/deleted-here");
  EXPECT_TRUE(absl::IsNotFound(Apply({Link("a", "none")})));
  EXPECT_TRUE(absl::IsNotFound(Apply({Link("a", "deleted")})));
  EXPECT_TRUE(absl::IsNotFound(Apply({Link("a", "deleted-here")})));
  Directory("0/folder");
  EXPECT_FALSE(Apply({Link("a", "folder")}).ok());
  File("2/there", "x");
  File("0/source", "x");
  EXPECT_FALSE(Apply({Link("there", "source")}).ok());
}

TEST_F(DeferredTest, ALinkToASymlinkLinksTheSymlink) {
  ASSERT_EQ(symlink("/etc/passwd", (directory_ / "0/s").c_str()), 0);
  ASSERT_TRUE(Apply({Link("alias", "s")}).ok());
  EXPECT_TRUE(S_ISLNK(Stat("2/alias").st_mode));
}

TEST_F(DeferredTest, DevicesAreMadeAsTheArchiveHasThem) {
  ASSERT_EQ(mknod((directory_ / "probe").c_str(), S_IFCHR, 0), 0);
  if (mknod((directory_ / "device").c_str(), S_IFCHR, makedev(1, 3)) != 0) {
    GTEST_SKIP() << "SKIP: the right to make device nodes";
  }
  Directory("2/dev");
  SetTime("2/dev", 2000);
  ASSERT_TRUE(
      Apply({Device("dev/null", {.major = 1, .minor = 3, .mode = 0666, .mtime = {77, 5}}),
             Device("dev/sda", {.is_block = true, .major = 8, .mode = 04660, .uid = 3, .gid = 6}),
             Link("dev/alias", "dev/null")})
          .ok());
  EXPECT_EQ(Stat("2/dev/null").st_mode, S_IFCHR | 0666u);
  EXPECT_EQ(Stat("2/dev/null").st_rdev, makedev(1, 3));
  EXPECT_EQ(Stat("2/dev/null").st_mtim.tv_sec, 77);
  EXPECT_EQ(Stat("2/dev/null").st_mtim.tv_nsec, 5);
  EXPECT_EQ(Stat("2/dev/alias").st_ino, Stat("2/dev/null").st_ino);
  EXPECT_EQ(Stat("2/dev/sda").st_mode, S_IFBLK | 04660u);
  EXPECT_EQ(Stat("2/dev/sda").st_uid, 3u);
  EXPECT_EQ(Stat("2/dev/sda").st_gid, 6u);
  EXPECT_EQ(Stat("2/dev").st_mtim.tv_sec, 2000);
}

TEST_F(DeferredTest, DevicesReplaceNothingAndLeadNowhere) {
  Directory("outside");
  const std::string outside = directory_ / "outside";
  ASSERT_EQ(symlink(outside.c_str(), (directory_ / "2/out").c_str()), 0);
  File("2/file", "x");
  const DeferredOperation::Node null = {.major = 1, .minor = 3, .mode = 0666};
  EXPECT_FALSE(Apply({Device("out/null", null)}).ok());
  EXPECT_FALSE(Apply({Device("out", null)}).ok());
  EXPECT_FALSE(Apply({Device("file", null)}).ok());
  EXPECT_FALSE(Apply({Device("missing/null", null)}).ok());
  EXPECT_EQ(base::ReadFile(directory_ / "2/file").value(), "x");
  EXPECT_EQ(base::ListDirectory(outside)->size(), 0u);
}

TEST_F(DeferredTest, SymlinksLeadNowhere) {
  Directory("outside", 0700);
  File("outside/secret", "x");
  const std::string outside = directory_ / "outside";
  ASSERT_EQ(symlink(outside.c_str(), (directory_ / "2/out").c_str()), 0);
  ASSERT_EQ(symlink(outside.c_str(), (directory_ / "0/low").c_str()), 0);
  Directory("0/out", 0700);
  EXPECT_FALSE(Apply({Opaque("out")}).ok());
  EXPECT_FALSE(Apply({Inherit("out")}).ok());
  EXPECT_FALSE(Apply({Link("out/new", "out/secret")}).ok());
  EXPECT_FALSE(Apply({Link("new", "low/secret")}).ok());
  EXPECT_FALSE(base::Exists(directory_ / "2/new"));
  EXPECT_FALSE(Apply({Link("new", "out/secret")}).ok());
  EXPECT_EQ(Attribute("outside", kOpaque), "absent");
  EXPECT_EQ(base::ListDirectory(outside)->size(), 1u);
}

TEST_F(DeferredTest, WhatIsBelowALowerSymlinkLandsWhereItLeads) {
  Directory("0/usr/lib", 0711);
  Directory("0/usr/lib/sub", 0700);
  ASSERT_EQ(symlink("usr/lib", (directory_ / "0/lib").c_str()), 0);
  ASSERT_EQ(symlink("/lib", (directory_ / "1/also").c_str()), 0);
  Directory("2/also/sub/deep");
  File("2/also/x", "x");
  File("2/also/sub/y", "y");
  SetTime("2", 3000);
  ASSERT_TRUE(Apply({Inherit("also"), Inherit("also/sub"), Inherit("also/sub/deep")}).ok());
  EXPECT_EQ(base::ListDirectory(directory_ / "2").value(), std::vector<std::string>{"usr"});
  EXPECT_EQ(base::ReadFile(directory_ / "2/usr/lib/x").value(), "x");
  EXPECT_EQ(base::ReadFile(directory_ / "2/usr/lib/sub/y").value(), "y");
  EXPECT_EQ(Mode("2/usr/lib"), 0711u);
  EXPECT_EQ(Mode("2/usr/lib/sub"), 0700u);
  EXPECT_EQ(Mode("2/usr/lib/sub/deep"), 0755u);
  EXPECT_EQ(Stat("2").st_mtim.tv_sec, 3000);
}

TEST_F(DeferredTest, WhatIsMovedThroughALowerSymlinkIsMerged) {
  Directory("0/usr/lib");
  ASSERT_EQ(symlink("usr/lib", (directory_ / "0/lib").c_str()), 0);
  Directory("0/usr/lib/a", 0711);
  Directory("2/lib/a");
  Directory("2/usr/lib/a", 0700);
  File("2/lib/a/1", "1");
  File("2/usr/lib/a/2", "2");
  SetTime("2/usr/lib/a", 1000);
  Whiteout("2/lib/w");
  File("2/usr/lib/w", "stays");
  ASSERT_TRUE(Apply({Inherit("lib"), Inherit("lib/a"), Inherit("usr")}).ok());
  EXPECT_EQ(Mode("2/usr/lib/a"), 0700u) << "it has an entry of its own";
  EXPECT_EQ(base::ReadFile(directory_ / "2/usr/lib/w").value(), "stays");
  EXPECT_FALSE(base::Exists(directory_ / "2/lib"));
  EXPECT_EQ(base::ReadFile(directory_ / "2/usr/lib/a/1").value(), "1");
  EXPECT_EQ(base::ReadFile(directory_ / "2/usr/lib/a/2").value(), "2");
  EXPECT_EQ(Stat("2/usr/lib/a").st_mtim.tv_sec, 1000);
}

TEST_F(DeferredTest, TheSameNameOnBothWaysOfALowerSymlinkIsAnError) {
  Directory("0/usr/lib");
  ASSERT_EQ(symlink("usr/lib", (directory_ / "0/lib").c_str()), 0);
  Directory("2/lib");
  Directory("2/usr/lib");
  File("2/lib/f", "1");
  File("2/usr/lib/f", "2");
  const absl::Status status = Apply({Inherit("lib")});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST_F(DeferredTest, LowerSymlinksLeadNowhereElse) {
  Directory("outside");
  const std::string outside = directory_ / "outside";
  ASSERT_EQ(symlink(outside.c_str(), (directory_ / "0/absolute").c_str()), 0);
  ASSERT_EQ(symlink("../../../outside", (directory_ / "0/climbing").c_str()), 0);
  ASSERT_EQ(symlink("circle", (directory_ / "0/circle").c_str()), 0);
  Directory("2/absolute");
  File("2/absolute/f", "1");
  Directory("2/climbing");
  File("2/climbing/g", "2");
  ASSERT_TRUE(Apply({Inherit("absolute"), Inherit("climbing")}).ok());
  EXPECT_EQ(base::ListDirectory(outside)->size(), 0u);
  EXPECT_EQ(base::ReadFile((directory_ / "2") + outside + "/f").value_or("none"), "1");
  EXPECT_EQ(base::ReadFile(directory_ / "2/outside/g").value_or("none"), "2");
  Directory("2/circle");
  EXPECT_EQ(Apply({Inherit("circle")}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(DeferredTest, HardLinksFindTheirTargetThroughLowerSymlinks) {
  Directory("0/usr/bin");
  File("0/usr/bin/tool", "old");
  ASSERT_EQ(symlink("usr/bin", (directory_ / "1/bin").c_str()), 0);
  ASSERT_TRUE(Apply({Link("alias", "bin/tool")}).ok());
  EXPECT_EQ(Stat("2/alias").st_ino, Stat("0/usr/bin/tool").st_ino);
}

TEST_F(DeferredTest, TheContextsEndEndsTheWork) {
  File("2/x", "x");
  const auto cancellation = std::make_shared<base::Cancellation>();
  const base::Context ctx(base::SteadyTime::InfiniteFuture(), cancellation);
  ASSERT_TRUE(Apply(ctx, {Link("a", "x")}).ok());
  cancellation->Cancel();
  EXPECT_TRUE(absl::IsCancelled(Apply(ctx, {Link("b", "x")})));
  EXPECT_FALSE(base::Exists(directory_ / "2/b"));
}

TEST_F(DeferredTest, TheLookupsOfALayerAreLimited) {
  std::string deep = "d";
  for (int i = 1; i < 200; ++i) {
    deep += "/d";
  }
  Directory("2/" + deep);
  File("2/" + deep + "/x", "x");
  std::vector<DeferredOperation> operations;
  for (int i = 0; i < 100; ++i) {
    operations.push_back(Link(base::StrCat("link", i), deep + "/x"));
  }
  const absl::Status status =
      ApplyDeferred(base::Context(), directory_ / "2", {directory_ / "1"}, operations, 200'000);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("200000 lookups"), absl::string_view::npos) << status;
  EXPECT_TRUE(base::Exists(directory_ / "2/link0"));
  EXPECT_FALSE(base::Exists(directory_ / "2/link99"));
}

TEST_F(DeferredTest, AHardLinkBelowManyLayersAsksEachOfThemOnce) {
  const std::vector<std::string> lower = ManyLayers(60, "usr/share/doc/some/thing");
  std::vector<DeferredOperation> operations = {Inherit("new")};
  Directory("2/new");
  for (int i = 0; i < 200; ++i) {
    const std::string name = base::StrCat("usr/share/doc/some/thing/", i);
    File("many/1/" + name, "x");
    operations.push_back(Link(base::StrCat("new/", i), name));
  }
  // 200 × 60 for the files themselves, and a few more each for what is above them.
  const absl::Status status =
      ApplyDeferred(base::Context(), directory_ / "2", lower, operations, 200 * (60 + 60));
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(Stat("2/new/199").st_nlink, 2u);
}

TEST_F(DeferredTest, WhatHidesInAMiddleLayerHidesOnlyWhatIsBelowIt) {
  const std::vector<std::string> lower = ManyLayers(4, "a/b");
  for (const int layer : {1, 2, 3, 4}) {
    File(base::StrCat("many/", layer, "/a/b/of", layer), "x");
  }
  ASSERT_EQ(setxattr((directory_ / "many/3/a").c_str(), kOpaque, "y", 1, 0), 0);
  const auto link = [&](const std::string& target) {
    return ApplyDeferred(base::Context(), directory_ / "2", lower, {Link("to-" + target, target)});
  };
  Directory("2/to-a/b");
  EXPECT_TRUE(link("a/b/of4").ok());
  EXPECT_TRUE(link("a/b/of3").ok());
  EXPECT_TRUE(absl::IsNotFound(link("a/b/of2")));
  EXPECT_TRUE(absl::IsNotFound(link("a/b/of1")));
}

TEST_F(DeferredTest, ParentsOutsideAreRefused) {
  File("2/x", "x");
  EXPECT_FALSE(Apply({Link("../escaped", "x")}).ok());
  EXPECT_FALSE(base::Exists(directory_ / "escaped"));
  EXPECT_FALSE(Apply({Opaque("../0")}).ok());
}

}  // namespace
}  // namespace imageservice
