#include "imageservice/worker/unpack.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/test_archive.h"

namespace imageservice::worker {
namespace {

using Kind = DeferredOperation::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A layer's folder in a directory with a file beside it that no archive may touch.
class UnpackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    root_ = temp_.path() + "/root";
    ASSERT_EQ(mkdir(root_.c_str(), 0755), 0);
    ASSERT_EQ(mkdir((temp_.path() + "/outside").c_str(), 0755), 0);
    ASSERT_TRUE(base::ReplaceFile(Victim(), "untouched", 0600, base::Durability::kVolatile).ok());
  }

  void TearDown() override {
    if (geteuid() == 0) {
      EXPECT_EQ(base::ReadFile(Victim()).value_or("gone"), "untouched");
      struct stat found = {};
      ASSERT_EQ(lstat(Victim().c_str(), &found), 0);
      EXPECT_EQ(found.st_mode & 07777, 0600u);
      EXPECT_EQ(found.st_nlink, 1u);
      EXPECT_THAT(base::ListDirectory(temp_.path() + "/outside").value(), ElementsAre("victim"));
      EXPECT_THAT(base::ListDirectory(temp_.path()).value(), ElementsAre("outside", "root"));
    }
  }

  std::string Victim() const { return temp_.path() + "/outside/victim"; }
  std::string At(const std::string& path) const { return root_ + "/" + path; }

  absl::StatusOr<LayerTree::Summary> UnpackBytes(const std::string& bytes,
                                                 uint64_t max_entries = 10'000) {
    const base::UniqueFd archive(memfd_create("archive", MFD_CLOEXEC));
    EXPECT_TRUE(base::WriteAll(archive.get(), bytes, "archive").ok());
    lseek(archive.get(), 0, SEEK_SET);
    const base::UniqueFd root(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return UnpackLayer(archive.get(), root.get(), max_entries);
  }
  absl::StatusOr<LayerTree::Summary> Unpack(const std::vector<TarEntry>& entries) {
    return UnpackBytes(Tar(entries));
  }
  // Unpacks what must succeed.
  LayerTree::Summary MustUnpack(const std::vector<TarEntry>& entries) {
    const auto summary = Unpack(entries);
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.value_or(LayerTree::Summary());
  }

  struct stat Stat(const std::string& path) const {
    struct stat found = {};
    EXPECT_EQ(lstat(At(path).c_str(), &found), 0) << path;
    return found;
  }
  bool Exists(const std::string& path) const { return base::Exists(At(path)); }
  std::string Content(const std::string& path) const {
    return base::ReadFile(At(path)).value_or("(unreadable)");
  }
  bool IsWhiteout(const std::string& path) const {
    const struct stat found = Stat(path);
    return S_ISCHR(found.st_mode) && found.st_rdev == 0;
  }
  static std::vector<std::string> Paths(const LayerTree::Summary& summary, Kind kind) {
    std::vector<std::string> paths;
    for (const DeferredOperation& operation : summary.deferred) {
      if (operation.kind == kind) {
        paths.push_back(operation.path + (operation.target.empty() ? "" : " -> ") +
                        operation.target);
      }
    }
    return paths;
  }

  TempDirectory temp_;
  std::string root_;
};

// --- what honest archives hold ------------------------------------------------------------------

TEST_F(UnpackTest, FilesHaveContentOwnerModeAndTime) {
  MustUnpack(
      {{.name = "./", .type = '5', .mode = 0711, .uid = 5},
       {.name = "etc/", .type = '5', .mode = 01777, .mtime = 1000},
       {.name = "etc/f", .content = "hello", .mode = 0640, .uid = 12, .gid = 34, .mtime = 99},
       {.name = "etc/l", .type = '2', .link = "/abs/../x", .uid = 7, .mtime = 5}});
  EXPECT_EQ(Content("etc/f"), "hello");
  const struct stat file = Stat("etc/f");
  EXPECT_EQ(file.st_mode, S_IFREG | 0640u);
  EXPECT_EQ(file.st_uid, 12u);
  EXPECT_EQ(file.st_gid, 34u);
  EXPECT_EQ(file.st_mtim.tv_sec, 99);
  EXPECT_EQ(Stat("etc").st_mode & 07777, 01777u);
  EXPECT_EQ(Stat("etc").st_mtim.tv_sec, 1000) << "set after the entries in it";
  EXPECT_EQ(Stat("").st_mode & 07777, 0711u);
  EXPECT_EQ(Stat("etc/l").st_uid, 7u);
  EXPECT_EQ(Stat("etc/l").st_mtim.tv_sec, 5);
  char target[100] = {};
  ASSERT_GT(readlink(At("etc/l").c_str(), target, sizeof(target) - 1), 0);
  EXPECT_STREQ(target, "/abs/../x");
}

TEST_F(UnpackTest, SetuidSurvivesTheChangeOfOwner) {
  MustUnpack({{.name = "su", .content = "x", .mode = 06755, .uid = 1000}});
  EXPECT_EQ(Stat("su").st_mode & 07777, 06755u);
}

TEST_F(UnpackTest, DevicesAndFifosAreMade) {
  const auto summary = Unpack({{.name = "null", .type = '3', .mode = 0666, .major = 1, .minor = 3},
                               {.name = "fifo", .type = '6', .mode = 0622, .uid = 3}});
  if (!summary.ok() && mknod(At("probe").c_str(), S_IFCHR, makedev(1, 3)) != 0) {
    GTEST_SKIP() << "SKIP: the right to make device nodes";
  }
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(Stat("null").st_mode, S_IFCHR | 0666u);
  EXPECT_EQ(Stat("null").st_rdev, makedev(1, 3));
  EXPECT_EQ(Stat("fifo").st_mode, S_IFIFO | 0622u);
  EXPECT_EQ(Stat("fifo").st_uid, 3u);
}

TEST_F(UnpackTest, CapabilitiesAreKeptAndSteeringXattrsAreNot) {
  // VFS_CAP_REVISION_2 with CAP_NET_RAW, as setcap writes it.
  const std::string capability("\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  MustUnpack({{.name = "ping",
               .content = "x",
               .mode = 0755,
               .uid = 9,
               .pax = {{"SCHILY.xattr.security.capability", capability},
                       {"SCHILY.xattr.user.note", std::string("a\0b", 3)},
                       {"SCHILY.xattr.trusted.overlay.redirect", "/etc"},
                       {"SCHILY.xattr.user.overlay.opaque", "y"},
                       {"SCHILY.xattr.security.selinux", "u:r:t:s0"}}}});
  char value[100];
  EXPECT_EQ(getxattr(At("ping").c_str(), "security.capability", value, sizeof(value)), 20);
  EXPECT_EQ(getxattr(At("ping").c_str(), "user.note", value, sizeof(value)), 3);
  EXPECT_LT(getxattr(At("ping").c_str(), "trusted.overlay.redirect", value, sizeof(value)), 0);
  EXPECT_LT(getxattr(At("ping").c_str(), "user.overlay.opaque", value, sizeof(value)), 0);
  EXPECT_LT(getxattr(At("ping").c_str(), "security.selinux", value, sizeof(value)), 0);
}

TEST_F(UnpackTest, HardLinksShareOneInode) {
  const auto summary = MustUnpack({{.name = "a/f", .content = "x"},
                                   {.name = "b/g", .type = '1', .link = "./a/f"},
                                   {.name = "l", .type = '2', .link = "nowhere"},
                                   {.name = "m", .type = '1', .link = "l"}});
  EXPECT_EQ(Stat("a/f").st_ino, Stat("b/g").st_ino);
  EXPECT_EQ(Stat("l").st_ino, Stat("m").st_ino) << "a link to a symlink links the symlink";
  EXPECT_EQ(summary.inodes, 5u) << "root, a, f, b, l";
}

TEST_F(UnpackTest, NamesAreKeptByteForByte) {
  // Decomposed and composed letters are different names, and names need not be text.
  const std::string decomposed = "e\xcc\x81";
  const std::string composed = "\xc3\xa9";
  const std::string bytes = "bad\xff";
  MustUnpack({{.name = "x", .content = "1", .pax = {{"path", decomposed}}},
              {.name = "x", .content = "2", .pax = {{"path", composed}}},
              {.name = "x", .content = "3", .pax = {{"path", bytes}}},
              {.name = "s", .type = '2', .link = "ascii", .pax = {{"linkpath", decomposed}}},
              {.name = "h", .type = '1', .pax = {{"linkpath", decomposed}}}});
  EXPECT_EQ(Content(decomposed), "1");
  EXPECT_EQ(Content(composed), "2");
  EXPECT_EQ(Content(bytes), "3");
  EXPECT_EQ(Content("h"), "1");
  char target[10] = {};
  ASSERT_GT(readlink(At("s").c_str(), target, sizeof(target) - 1), 0);
  EXPECT_EQ(target, decomposed);
}

TEST_F(UnpackTest, SparseFilesHaveHoles) {
  // PAX format 1.0: the map stands before the data. 1 MiB with 5 bytes in the middle.
  std::string map = "1\n524288\n5\n";
  map.resize(512);
  MustUnpack({{.name = "GNUSparseFile.0/sparse",
               .content = map + "hello",
               .pax = {{"GNU.sparse.major", "1"},
                       {"GNU.sparse.minor", "0"},
                       {"GNU.sparse.name", "sparse"},
                       {"GNU.sparse.realsize", "1048576"}}}});
  const struct stat found = Stat("sparse");
  EXPECT_EQ(found.st_size, 1 << 20);
  EXPECT_LT(found.st_blocks * 512, 64 << 10);
  EXPECT_EQ(Content("sparse").substr(524286, 9), std::string("\0\0hello\0\0", 9));
}

TEST_F(UnpackTest, EmptyStreamsAndEmptyArchivesAreEmptyLayers) {
  EXPECT_TRUE(UnpackBytes("").ok());
  EXPECT_TRUE(UnpackBytes(std::string(1024, '\0')).ok());
}

TEST_F(UnpackTest, CountsInodesAndSpaceAlsoOfWhatIsReplaced) {
  const auto summary = MustUnpack({{.name = "d/", .type = '5'},
                                   {.name = "d/big", .content = std::string(1 << 20, 'x')},
                                   {.name = "d", .content = "now a file"}});
  EXPECT_EQ(summary.inodes, 2u);
  EXPECT_LT(summary.bytes, 64u << 10);
}

// --- what only this layer's neighbours know -----------------------------------------------------

TEST_F(UnpackTest, ParentsThatAreOnlyImpliedAreDeferred) {
  const auto summary = MustUnpack({{.name = "usr/share/doc/x", .content = "x"},
                                   {.name = "usr/share/", .type = '5', .mode = 0700}});
  EXPECT_THAT(Paths(summary, Kind::kCopyMetadata), ElementsAre(".", "usr", "usr/share/doc"));
  EXPECT_EQ(Stat("usr").st_mode & 07777, 0755u);
}

TEST_F(UnpackTest, HardLinksToLowerLayersAreDeferredInOrder) {
  const auto summary = MustUnpack({{.name = "z", .type = '1', .link = "/usr/bin/lower"},
                                   {.name = "a", .type = '1', .link = "z"}});
  EXPECT_THAT(Paths(summary, Kind::kHardLink), ElementsAre("z -> usr/bin/lower", "a -> z"));
  EXPECT_FALSE(Exists("z"));
}

TEST_F(UnpackTest, ALaterEntryReplacesADeferredLink) {
  const auto summary =
      MustUnpack({{.name = "z", .type = '1', .link = "lower"}, {.name = "z", .content = "file"}});
  EXPECT_THAT(Paths(summary, Kind::kHardLink), IsEmpty());
}

// --- whiteouts ----------------------------------------------------------------------------------

TEST_F(UnpackTest, WhiteoutsBecomeDevicesZeroZero) {
  const auto summary = MustUnpack({{.name = "etc/.wh.gone"}, {.name = ".wh.top"}});
  EXPECT_TRUE(IsWhiteout("etc/gone"));
  EXPECT_TRUE(IsWhiteout("top"));
  EXPECT_FALSE(Exists("etc/.wh.gone"));
  EXPECT_THAT(Paths(summary, Kind::kOpaque), IsEmpty());
}

TEST_F(UnpackTest, WhiteoutsSpareWhatThisLayerHas) {
  const auto summary = MustUnpack({{.name = "before", .content = "1"},
                                   {.name = ".wh.before"},
                                   {.name = ".wh.after"},
                                   {.name = "after", .content = "2"}});
  EXPECT_EQ(Content("before"), "1");
  EXPECT_EQ(Content("after"), "2");
  EXPECT_THAT(Paths(summary, Kind::kOpaque), IsEmpty());
}

TEST_F(UnpackTest, AWhiteoutAndADirectoryMakeItOpaqueInAnyOrder) {
  const auto summary = MustUnpack({{.name = "a/", .type = '5'},
                                   {.name = ".wh.a"},
                                   {.name = ".wh.b"},
                                   {.name = "b/", .type = '5'},
                                   {.name = ".wh.c"},
                                   {.name = "c/implied", .content = "x"}});
  EXPECT_THAT(Paths(summary, Kind::kOpaque), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(S_ISDIR(Stat("a").st_mode));
  EXPECT_EQ(Content("c/implied"), "x");
}

TEST_F(UnpackTest, OpaqueMarksAreDeferredAndKeepTheLayersOwnContent) {
  const auto summary = MustUnpack({{.name = "d/mine", .content = "x"},
                                   {.name = "d/.wh..wh..opq"},
                                   {.name = "e/f/.wh..wh..opq"},
                                   {.name = ".wh..wh..opq"}});
  EXPECT_THAT(Paths(summary, Kind::kOpaque), ElementsAre(".", "d", "e/f"));
  EXPECT_EQ(Content("d/mine"), "x");
  EXPECT_FALSE(Exists("d/.wh..wh..opq"));
}

TEST_F(UnpackTest, AnOpaqueDirectoryThatIsReplacedIsForgotten) {
  const auto summary = MustUnpack({{.name = "d/sub/.wh..wh..opq"}, {.name = "d", .content = "x"}});
  EXPECT_THAT(Paths(summary, Kind::kOpaque), IsEmpty());
  EXPECT_THAT(Paths(summary, Kind::kCopyMetadata), ElementsAre("."));
}

TEST_F(UnpackTest, NotesOfAufsAreSkipped) {
  MustUnpack({{.name = ".wh..wh.plnk/", .type = '5'},
              {.name = ".wh..wh.plnk/1.2", .content = "x"},
              {.name = ".wh..wh.aufs", .content = "x"}});
  EXPECT_THAT(base::ListDirectory(root_).value(), IsEmpty());
}

TEST_F(UnpackTest, MalformedWhiteoutsAreRejected) {
  for (const char* name : {".wh.", "a/.wh..", ".wh...", ".wh.x/y"}) {
    const auto summary = Unpack({{.name = name}});
    EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

// --- hostile archives ---------------------------------------------------------------------------

TEST_F(UnpackTest, PathsCannotClimbOut) {
  for (const char* name : {"../outside/victim", "a/../../outside/victim", "..", "/../x"}) {
    const auto summary = Unpack({{.name = name, .content = "evil"}});
    EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST_F(UnpackTest, AbsolutePathsAreTakenRelativeToTheRoot) {
  MustUnpack({{.name = "/etc/passwd-of-crisp-test", .content = "x"},
              {.name = "//a/./b/../c", .content = "y"}});
  EXPECT_EQ(Content("etc/passwd-of-crisp-test"), "x");
  EXPECT_EQ(Content("a/c"), "y");
}

TEST_F(UnpackTest, SymlinksAreNeverPassedThrough) {
  const std::string outside = temp_.path() + "/outside";
  for (const std::string& target : {outside, std::string("../outside"), std::string(".")}) {
    const auto summary = Unpack({{.name = "door", .type = '2', .link = target},
                                 {.name = "door/victim", .content = "evil"}});
    ASSERT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument) << target;
    EXPECT_THAT(std::string(base::ToStd(summary.status().message())), HasSubstr("symlink"));
  }
}

TEST_F(UnpackTest, AFileReplacesASymlinkAndNotItsTarget) {
  MustUnpack({{.name = "f", .type = '2', .link = "../outside/victim"},
              {.name = "f", .content = "mine", .mode = 0777}});
  EXPECT_TRUE(S_ISREG(Stat("f").st_mode));
}

TEST_F(UnpackTest, ADirectoryReplacesASymlinkAndNotItsTarget) {
  MustUnpack({{.name = "d", .type = '2', .link = "../outside"},
              {.name = "d/", .type = '5', .mode = 0777},
              {.name = "d/x", .content = "mine"}});
  EXPECT_TRUE(S_ISDIR(Stat("d").st_mode));
}

TEST_F(UnpackTest, HardLinksCannotReachOutside) {
  const auto climbing = Unpack({{.name = "h", .type = '1', .link = "../outside/victim"}});
  EXPECT_EQ(climbing.status().code(), absl::StatusCode::kInvalidArgument);
  // Through a symlink it is not found here; the daemon looks for it in lower layers the same way.
  const auto summary = MustUnpack({{.name = "door", .type = '2', .link = "../outside"},
                                   {.name = "h", .type = '1', .link = "door/victim"}});
  EXPECT_THAT(Paths(summary, Kind::kHardLink), ElementsAre("h -> door/victim"));
}

TEST_F(UnpackTest, AFileReplacesAHardLinkAndNotItsInode) {
  MustUnpack({{.name = "one", .content = "first"},
              {.name = "two", .type = '1', .link = "one"},
              {.name = "two", .content = "second"}});
  EXPECT_EQ(Content("one"), "first");
  EXPECT_EQ(Content("two"), "second");
}

TEST_F(UnpackTest, HardLinksToDirectoriesAndWhiteoutsAreRejected) {
  EXPECT_FALSE(Unpack({{.name = "d/", .type = '5'}, {.name = "h", .type = '1', .link = "d"}}).ok());
  EXPECT_FALSE(Unpack({{.name = ".wh.w"}, {.name = "h", .type = '1', .link = "w"}}).ok());
  MustUnpack({{.name = "h", .type = '1', .link = "."}});
}

TEST_F(UnpackTest, ALinkToItselfChangesNothing) {
  MustUnpack({{.name = "f", .content = "x"}, {.name = "f", .type = '1', .link = "f"}});
  EXPECT_EQ(Content("f"), "x");
}

TEST_F(UnpackTest, DuplicatesTheLastOneWins) {
  MustUnpack({{.name = "f", .content = "1", .mode = 0600},
              {.name = "d/f", .content = "1"},
              {.name = "d/", .type = '5', .mode = 0700},
              {.name = "./f", .content = "22", .mode = 0644},
              {.name = "d/", .type = '5', .mode = 0711}});
  EXPECT_EQ(Content("f"), "22");
  EXPECT_EQ(Stat("f").st_mode & 07777, 0644u);
  EXPECT_EQ(Stat("d").st_mode & 07777, 0711u);
  EXPECT_EQ(Content("d/f"), "1") << "a directory is merged";
}

TEST_F(UnpackTest, AFileReplacesADirectoryThatHoldsLinksOutside) {
  MustUnpack({{.name = "d/sub/door", .type = '2', .link = "../../../outside"},
              {.name = "d/sub/f", .content = "x"},
              {.name = "d", .content = "file"},
              {.name = "e", .content = "x"}});
  EXPECT_EQ(Content("d"), "file");
}

TEST_F(UnpackTest, NothingIsWrittenThroughADeviceOfTheArchive) {
  const auto summary = Unpack({{.name = "n", .type = '6'}, {.name = "n", .content = "data"}});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(Content("n"), "data");
}

TEST_F(UnpackTest, AFileIsNoParent) {
  EXPECT_FALSE(Unpack({{.name = "f", .content = "x"}, {.name = "f/g", .content = "y"}}).ok());
}

TEST_F(UnpackTest, TheRootIsOnlyADirectory) {
  EXPECT_FALSE(Unpack({{.name = ".", .content = "x"}}).ok());
  EXPECT_FALSE(Unpack({{.name = "./", .type = '2', .link = "/etc"}}).ok());
}

TEST_F(UnpackTest, SizesThatLieAreDamage) {
  std::string cut = TarBytes({.name = "f", .content = "short", .size = 1 << 20});
  EXPECT_EQ(UnpackBytes(cut).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(UnpackBytes(TarBytes({.name = "f", .content = "x"}).substr(0, 100)).ok());
  EXPECT_FALSE(UnpackBytes("this is no archive, but it is long enough to look at").ok());
}

TEST_F(UnpackTest, ADamagedHeaderIsDamage) {
  std::string bytes = Tar({{.name = "a", .content = "x"}, {.name = "b", .content = "y"}});
  bytes[1024] = '!';  // The second header, whose checksum is now wrong.
  EXPECT_EQ(UnpackBytes(bytes).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(UnpackTest, EntriesAreLimited) {
  const std::string bytes = Tar({{.name = "a"}, {.name = "b"}, {.name = "c"}});
  EXPECT_EQ(UnpackBytes(bytes, 2).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(UnpackTest, PathsAreLimitedInLengthAndDepth) {
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "d/";
  std::string path;
  for (int i = 0; i < 30; ++i) path += std::string(200, 'x') + "/";
  EXPECT_FALSE(Unpack({{.name = "x", .pax = {{"path", deep + "f"}}}}).ok());
  EXPECT_FALSE(Unpack({{.name = "x", .pax = {{"path", path + "f"}}}}).ok());
  EXPECT_FALSE(Unpack({{.name = "x", .pax = {{"path", std::string(300, 'n')}}}}).ok());
}

TEST_F(UnpackTest, ImpossibleOwnersAreRejected) {
  EXPECT_FALSE(Unpack({{.name = "f", .pax = {{"uid", "4294967295"}}}}).ok());
  EXPECT_FALSE(Unpack({{.name = "f", .pax = {{"uid", "-2"}}}}).ok());
}

TEST_F(UnpackTest, ASymlinkWithoutATargetIsRejected) {
  const auto summary = Unpack({{.name = "s", .type = '2'}});
  EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(UnpackTest, ErrorsNameTheEntry) {
  const auto summary = Unpack({{.name = "ok"}, {.name = "../evil\n"}});
  EXPECT_THAT(std::string(base::ToStd(summary.status().message())),
              HasSubstr("entry \"../evil\\n\""));
}

}  // namespace
}  // namespace imageservice::worker
