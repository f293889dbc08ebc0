#include "imageservice/worker/unpack.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/strings.h"
#include "imageservice/worker/test_unpack.h"

namespace imageservice::worker {
namespace {

using Kind = DeferredOperation::Kind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class UnpackTest : public UnpackFixture {};

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

TEST_F(UnpackTest, FifosAreMadeAndDevicesAreDeferred) {
  const auto summary =
      MustUnpack({{.name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3},
                  {.name = "sda",
                   .type = '4',
                   .mode = 0660,
                   .uid = 1,
                   .gid = 6,
                   .major = 8,
                   .pax = {{"mtime", "-5"}}},
                  {.name = "fifo", .type = '6', .mode = 0622, .uid = 3, .mtime = 9}});
  EXPECT_EQ(Stat("fifo").st_mode, S_IFIFO | 0622u);
  EXPECT_EQ(Stat("fifo").st_uid, 3u);
  EXPECT_EQ(Stat("fifo").st_mtim.tv_sec, 9);
  EXPECT_FALSE(Exists("dev/null"));
  EXPECT_THAT(Paths(summary, Kind::kNode), ElementsAre("dev/null", "sda"));
  const DeferredOperation::Node& null = summary.deferred[0].node;
  EXPECT_FALSE(null.is_block);
  EXPECT_EQ(null.major, 1u);
  EXPECT_EQ(null.minor, 3u);
  EXPECT_EQ(null.mode, 0666u);
  const DeferredOperation::Node& disk = summary.deferred[1].node;
  EXPECT_TRUE(disk.is_block);
  EXPECT_EQ(disk.uid, 1u);
  EXPECT_EQ(disk.gid, 6u);
  EXPECT_EQ(disk.mtime.tv_sec, -5);
  EXPECT_EQ(summary.inodes, 5u) << "root, dev and three nodes";
}

TEST_F(UnpackTest, TheLastEntryForADeferredDevicesNameCounts) {
  const auto summary = MustUnpack({{.name = "a", .type = '3', .major = 1, .minor = 3},
                                   {.name = "a", .content = "a file"},
                                   {.name = "b", .content = "a file"},
                                   {.name = "b", .type = '3', .major = 1, .minor = 5},
                                   {.name = "c", .type = '4', .major = 8},
                                   {.name = "c/", .type = '5'},
                                   {.name = "d", .type = '3', .major = 1},
                                   {.name = "d", .type = '3', .major = 2},
                                   {.name = "d", .type = '1', .link = "d"},
                                   {.name = "e", .type = '1', .link = "b"},
                                   {.name = ".wh.b"}});
  EXPECT_EQ(Content("a"), "a file");
  EXPECT_FALSE(Exists("b"));
  EXPECT_TRUE(S_ISDIR(Stat("c").st_mode));
  EXPECT_THAT(Paths(summary, Kind::kNode), ElementsAre("b", "d"));
  EXPECT_THAT(Paths(summary, Kind::kHardLink), ElementsAre("e -> b"));
  EXPECT_THAT(Paths(summary, Kind::kOpaque), ElementsAre("c")) << "a device hid the lower folder";
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

TEST_F(UnpackTest, AFileOfHolesAloneTakesNoSpace) {
  const auto summary = MustUnpack({{.name = "sparse",
                                    .pax = {{"GNU.sparse.map", "104857600,0"},
                                            {"GNU.sparse.numblocks", "1"},
                                            {"GNU.sparse.size", "104857600"}}}});
  EXPECT_EQ(Stat("sparse").st_size, 100 << 20);
  EXPECT_EQ(Stat("sparse").st_blocks, 0);
  EXPECT_LT(summary.bytes, 64u << 10);
}

TEST_F(UnpackTest, TimesHaveFractionsAndMayBeBeforeTheEpoch) {
  MustUnpack({{.name = "f", .pax = {{"mtime", "1700000000.123456789"}, {"atime", "5.5"}}},
              {.name = "old", .pax = {{"mtime", "-1.25"}}},
              {.name = "d/", .type = '5', .pax = {{"mtime", "77.000000001"}}},
              {.name = "d/l", .type = '2', .link = "x", .pax = {{"mtime", "1.5"}}}});
  EXPECT_EQ(Stat("f").st_mtim.tv_sec, 1700000000);
  EXPECT_EQ(Stat("f").st_mtim.tv_nsec, 123456789);
  EXPECT_EQ(Stat("f").st_atim.tv_nsec, 500000000);
  EXPECT_EQ(Stat("old").st_mtim.tv_sec, -2);
  EXPECT_EQ(Stat("old").st_mtim.tv_nsec, 750000000);
  EXPECT_EQ(Stat("d").st_mtim.tv_nsec, 1);
  EXPECT_EQ(Stat("d/l").st_mtim.tv_nsec, 500000000);
}

TEST_F(UnpackTest, DirectoriesDoNotHandDownTheirGroupOrTheirRights) {
  // A setgid folder would give its group to what is made in it, one without rights let nobody in.
  MustUnpack({{.name = "g/", .type = '5', .mode = 02770, .gid = 77},
              {.name = "g/f", .content = "x", .mode = 0640},
              {.name = "g/sub/", .type = '5', .mode = 0700},
              {.name = "closed/", .type = '5', .mode = 0, .uid = 5},
              {.name = "closed/sub/", .type = '5', .mode = 0, .uid = 6},
              {.name = "closed/sub/f", .content = "x", .mode = 0}});
  EXPECT_EQ(Stat("g").st_mode & 07777, 02770u);
  EXPECT_EQ(Stat("g").st_gid, 77u);
  EXPECT_EQ(Stat("g/f").st_gid, 0u);
  EXPECT_EQ(Stat("g/f").st_mode & 07777, 0640u);
  EXPECT_EQ(Stat("g/sub").st_gid, 0u);
  EXPECT_EQ(Stat("g/sub").st_mode & 07777, 0700u);
  EXPECT_EQ(Stat("closed/sub").st_uid, 6u);
  EXPECT_EQ(Stat("closed/sub/f").st_mode & 07777, 0u);
}

TEST_F(UnpackTest, DirectoriesKeepTheirXattrs) {
  MustUnpack({{.name = "d/",
               .type = '5',
               .pax = {{"SCHILY.xattr.user.note", "on a folder"},
                       {"SCHILY.xattr.trusted.overlay.opaque", "y"}}}});
  char value[100];
  EXPECT_EQ(getxattr(At("d").c_str(), "user.note", value, sizeof(value)), 11);
  EXPECT_LT(getxattr(At("d").c_str(), "trusted.overlay.opaque", value, sizeof(value)), 0);
}

TEST_F(UnpackTest, LongNamesAndTargetsOfBothKinds) {
  const std::string name(255, 'n');
  const std::string target(4000, 't');
  MustUnpack({{.type = 'L', .content = name + '\0'},
              {.type = 'K', .content = target + '\0'},
              {.name = "short", .type = '2', .link = "short"},
              {.name = "p", .type = '2', .link = "p", .pax = {{"linkpath", target}}}});
  EXPECT_EQ(Target(name), target);
  EXPECT_EQ(Target("p"), target);
}

TEST_F(UnpackTest, TargetsNeedNotBeText) {
  // Go's archiver leaves the old header's field empty when a target has no ASCII letter.
  for (const std::string target :
       {"\xe6\x97\xa5\xe6\x9c\xac", "caf\xe9", "\xff", "two\nlines", "\x01"}) {
    MustUnpack({{.name = "s", .type = '2', .pax = {{"linkpath", target}}},
                {.name = "x", .content = "content", .pax = {{"path", target}}},
                {.name = "h", .type = '1', .pax = {{"linkpath", target}}}});
    EXPECT_EQ(Target("s"), target);
    EXPECT_EQ(Content("h"), "content");
    EXPECT_EQ(Stat("h").st_ino, Stat(target).st_ino);
  }
}

// --- parents that are symlinks of the same layer ------------------------------------------------

TEST_F(UnpackTest, AnEntryBelowASymlinkLandsWhereItPoints) {
  const auto summary = MustUnpack({{.name = "usr/lib/", .type = '5', .mode = 0711},
                                   {.name = "lib", .type = '2', .link = "usr/lib"},
                                   {.name = "absolute", .type = '2', .link = "/usr/lib"},
                                   {.name = "usr/up", .type = '2', .link = "../lib"},
                                   {.name = "lib/a", .content = "1"},
                                   {.name = "absolute/b", .content = "2"},
                                   {.name = "usr/up/sub/c", .content = "3"},
                                   {.name = "lib/d/", .type = '5', .mode = 0700},
                                   {.name = "lib/e", .type = '1', .link = "usr/up/a"},
                                   {.name = "lib/.wh.gone"},
                                   {.name = "absolute/sub/.wh..wh..opq"}});
  EXPECT_EQ(Target("lib"), "usr/lib") << "it stays a symlink";
  EXPECT_EQ(Content("usr/lib/a"), "1");
  EXPECT_EQ(Content("usr/lib/b"), "2");
  EXPECT_EQ(Content("usr/lib/sub/c"), "3");
  EXPECT_EQ(Stat("usr/lib/d").st_mode & 07777, 0700u);
  EXPECT_EQ(Stat("usr/lib").st_mode & 07777, 0711u);
  EXPECT_EQ(Stat("usr/lib/e").st_ino, Stat("usr/lib/a").st_ino);
  EXPECT_TRUE(IsWhiteout("usr/lib/gone"));
  EXPECT_THAT(Paths(summary, Kind::kOpaque), ElementsAre("usr/lib/sub"));
  EXPECT_THAT(Paths(summary, Kind::kCopyMetadata), ElementsAre(".", "usr", "usr/lib/sub"));
}

TEST_F(UnpackTest, ASymlinksTargetThatOnlyLowerLayersHaveIsImplied) {
  const auto summary = MustUnpack({{.name = "lib", .type = '2', .link = "usr/lib"},
                                   {.name = "lib/x", .content = "x"},
                                   {.name = "h", .type = '1', .link = "lib/lower"}});
  EXPECT_EQ(Content("usr/lib/x"), "x");
  EXPECT_THAT(Paths(summary, Kind::kCopyMetadata), ElementsAre(".", "usr", "usr/lib"));
  EXPECT_THAT(Paths(summary, Kind::kHardLink), ElementsAre("h -> usr/lib/lower"));
}

TEST_F(UnpackTest, ASymlinkThatIsReplacedIsNotFollowedAnyMore) {
  MustUnpack({{.name = "real/", .type = '5'},
              {.name = "other/", .type = '5'},
              {.name = "door", .type = '2', .link = "real"},
              {.name = "door/1", .content = "1"},
              {.name = "door", .type = '2', .link = "other"},
              {.name = "door/2", .content = "2"},
              {.name = "door/", .type = '5'},
              {.name = "door/3", .content = "3"}});
  EXPECT_EQ(Content("real/1"), "1");
  EXPECT_EQ(Content("other/2"), "2");
  EXPECT_TRUE(S_ISDIR(Stat("door").st_mode));
  EXPECT_EQ(Content("door/3"), "3");
}

TEST_F(UnpackTest, ASymlinkToTheRootIsFollowed) {
  MustUnpack({{.name = "a/rootfs", .type = '2', .link = "/"},
              {.name = "a/b", .type = '2', .link = "../.."},
              {.name = "a/rootfs/x", .content = "1"},
              {.name = "a/b/y", .content = "2"}});
  EXPECT_EQ(Content("x"), "1");
  EXPECT_EQ(Content("y"), "2");
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

}  // namespace
}  // namespace imageservice::worker
