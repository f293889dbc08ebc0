// Archives made to do harm: nothing happens outside the layer's folder (the fixture looks after
// each test), and each ends in a clear error or in what is documented.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/strings.h"
#include "imageservice/worker/test_unpack.h"

namespace imageservice::worker {
namespace {

using Kind = DeferredOperation::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HostileArchiveTest : public UnpackFixture {
 protected:
  // The error that unpacking `entries` must end in.
  std::string Error(const std::vector<TarEntry>& entries) {
    const auto summary = Unpack(entries);
    EXPECT_FALSE(summary.ok());
    return summary.status().ToString();
  }
};

TEST_F(HostileArchiveTest, PathsCannotClimbOut) {
  for (const char* name : {"../outside/victim", "a/../../outside/victim", "..", "/../x"}) {
    const auto summary = Unpack({{.name = name, .content = "evil"}});
    EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST_F(HostileArchiveTest, AbsolutePathsAreTakenRelativeToTheRoot) {
  MustUnpack({{.name = "/etc/passwd-of-crisp-test", .content = "x"},
              {.name = "//a/./b/../c", .content = "y"}});
  EXPECT_EQ(Content("etc/passwd-of-crisp-test"), "x");
  EXPECT_EQ(Content("a/c"), "y");
}

TEST_F(HostileArchiveTest, SymlinksLeadNowhereElse) {
  // As chroot(2) would see them: "/" is the layer's root, and so is what is above it.
  const std::string outside = temp_.path() + "/outside";
  MustUnpack({{.name = "absolute", .type = '2', .link = outside},
              {.name = "absolute/victim", .content = "evil"},
              {.name = "climbing", .type = '2', .link = "../outside"},
              {.name = "climbing/victim", .content = "evil"},
              {.name = "magic", .type = '2', .link = "/proc/self/root/../cwd"},
              {.name = "magic/x", .content = "evil"},
              {.name = "high", .type = '2', .link = "../../../../../../../.."},
              {.name = "high/y", .content = "evil"}});
  EXPECT_EQ(Content(outside.substr(1) + "/victim"), "evil");
  EXPECT_EQ(Content("outside/victim"), "evil");
  EXPECT_EQ(Content("proc/self/cwd/x"), "evil");
  EXPECT_EQ(Content("y"), "evil");
}

TEST_F(HostileArchiveTest, SymlinksThatLeadInCirclesAreRefused) {
  EXPECT_EQ(Error({{.name = "a", .type = '2', .link = "a"}, {.name = "a/x"}}),
            "INVALID_ARGUMENT: entry \"a/x\": the path has too many symlinks");
  std::vector<TarEntry> chain;
  for (int i = 0; i < 50; ++i) {
    chain.push_back({.name = base::StrCat("l", i), .type = '2', .link = base::StrCat("l", i + 1)});
  }
  chain.push_back({.name = "l0/x"});
  EXPECT_THAT(Error(chain), HasSubstr("too many symlinks"));
  chain.back().name = "l20/x";
  MustUnpack(chain);
  EXPECT_TRUE(Exists("l50/x"));
}

TEST_F(HostileArchiveTest, SymlinksCannotMakeAPathTooLong) {
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += "d/";
  EXPECT_THAT(Error({{.name = "s", .type = '2', .link = deep, .pax = {{"linkpath", deep}}},
                     {.name = "x", .pax = {{"path", base::StrCat("s/", deep, "f")}}}}),
              HasSubstr("too long"));
}

TEST_F(HostileArchiveTest, AFileReplacesASymlinkAndNotItsTarget) {
  MustUnpack({{.name = "f", .type = '2', .link = "../outside/victim"},
              {.name = "f", .content = "mine", .mode = 0777}});
  EXPECT_TRUE(S_ISREG(Stat("f").st_mode));
}

TEST_F(HostileArchiveTest, ADirectoryReplacesASymlinkAndNotItsTarget) {
  MustUnpack({{.name = "d", .type = '2', .link = "../outside"},
              {.name = "d/", .type = '5', .mode = 0777},
              {.name = "d/x", .content = "mine"}});
  EXPECT_TRUE(S_ISDIR(Stat("d").st_mode));
}

TEST_F(HostileArchiveTest, HardLinksCannotReachOutside) {
  EXPECT_THAT(Error({{.name = "h", .type = '1', .link = "../outside/victim"}}),
              HasSubstr("the target of the hard link: the path leads out of the layer"));
  // A symlink leads to the layer's own "outside"; the daemon looks into lower layers the same way.
  const auto summary = MustUnpack({{.name = "door", .type = '2', .link = "../outside"},
                                   {.name = "h", .type = '1', .link = "door/victim"},
                                   {.name = "i", .type = '1', .link = "/etc/shadow"}});
  EXPECT_THAT(Paths(summary, Kind::kHardLink),
              ElementsAre("h -> outside/victim", "i -> etc/shadow"));
}

TEST_F(HostileArchiveTest, AFileReplacesAHardLinkAndNotItsInode) {
  MustUnpack({{.name = "one", .content = "first"},
              {.name = "two", .type = '1', .link = "one"},
              {.name = "two", .content = "second"}});
  EXPECT_EQ(Content("one"), "first");
  EXPECT_EQ(Content("two"), "second");
}

TEST_F(HostileArchiveTest, HardLinksToDirectoriesAndWhiteoutsAreRejected) {
  EXPECT_FALSE(Unpack({{.name = "d/", .type = '5'}, {.name = "h", .type = '1', .link = "d"}}).ok());
  EXPECT_FALSE(Unpack({{.name = ".wh.w"}, {.name = "h", .type = '1', .link = "w"}}).ok());
  EXPECT_FALSE(Unpack({{.name = "h", .type = '1', .link = "."}}).ok());
  EXPECT_FALSE(Unpack({{.name = ".wh.gone"}, {.name = "h", .type = '1', .link = "gone/x"}}).ok());
}

TEST_F(HostileArchiveTest, ALinkToItselfChangesNothing) {
  MustUnpack({{.name = "f", .content = "x"}, {.name = "f", .type = '1', .link = "f"}});
  EXPECT_EQ(Content("f"), "x");
}

TEST_F(HostileArchiveTest, DuplicatesTheLastOneWins) {
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

TEST_F(HostileArchiveTest, AFileReplacesADirectoryThatHoldsLinksOutside) {
  MustUnpack({{.name = "d/sub/door", .type = '2', .link = "../../../outside"},
              {.name = "d/sub/f", .content = "x"},
              {.name = "d", .content = "file"},
              {.name = "e", .content = "x"}});
  EXPECT_EQ(Content("d"), "file");
}

TEST_F(HostileArchiveTest, NothingIsWrittenThroughADeviceOfTheArchive) {
  const auto summary = Unpack({{.name = "n", .type = '6'}, {.name = "n", .content = "data"}});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(Content("n"), "data");
}

TEST_F(HostileArchiveTest, AFileIsNoParent) {
  EXPECT_FALSE(Unpack({{.name = "f", .content = "x"}, {.name = "f/g", .content = "y"}}).ok());
}

TEST_F(HostileArchiveTest, TheRootIsOnlyADirectory) {
  EXPECT_FALSE(Unpack({{.name = ".", .content = "x"}}).ok());
  EXPECT_FALSE(Unpack({{.name = "./", .type = '2', .link = "/etc"}}).ok());
}

TEST_F(HostileArchiveTest, SizesThatLieAreDamage) {
  std::string cut = TarBytes({.name = "f", .content = "short", .size = 1 << 20});
  EXPECT_EQ(UnpackBytes(cut).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(UnpackBytes(TarBytes({.name = "f", .content = "x"}).substr(0, 100)).ok());
  EXPECT_FALSE(UnpackBytes("this is no archive, but it is long enough to look at").ok());
}

TEST_F(HostileArchiveTest, ADamagedHeaderIsDamage) {
  std::string bytes = Tar({{.name = "a", .content = "x"}, {.name = "b", .content = "y"}});
  bytes[1024] = '!';  // The second header, whose checksum is now wrong.
  EXPECT_EQ(UnpackBytes(bytes).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HostileArchiveTest, EntriesAreLimited) {
  const std::string bytes = Tar({{.name = "a"}, {.name = "b"}, {.name = "c"}});
  EXPECT_EQ(UnpackBytes(bytes, 2).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(HostileArchiveTest, PathsAreLimitedInLengthAndDepth) {
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "d/";
  std::string path;
  for (int i = 0; i < 30; ++i) path += std::string(200, 'x') + "/";
  EXPECT_FALSE(Unpack({{.name = "x", .pax = {{"path", deep + "f"}}}}).ok());
  EXPECT_FALSE(Unpack({{.name = "x", .pax = {{"path", path + "f"}}}}).ok());
  EXPECT_FALSE(Unpack({{.name = "x", .pax = {{"path", std::string(300, 'n')}}}}).ok());
}

TEST_F(HostileArchiveTest, ImpossibleOwnersAreRejected) {
  EXPECT_FALSE(Unpack({{.name = "f", .pax = {{"uid", "4294967295"}}}}).ok());
  EXPECT_FALSE(Unpack({{.name = "f", .pax = {{"uid", "-2"}}}}).ok());
}

TEST_F(HostileArchiveTest, ASymlinkWithoutATargetIsRejected) {
  const auto summary = Unpack({{.name = "s", .type = '2'}});
  EXPECT_EQ(summary.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HostileArchiveTest, ErrorsNameTheEntry) {
  const auto summary = Unpack({{.name = "ok"}, {.name = "../evil\n"}});
  EXPECT_THAT(std::string(base::ToStd(summary.status().message())),
              HasSubstr("entry \"../evil\\n\""));
}

TEST_F(HostileArchiveTest, HardLinksForwardAndToNothingAreLeftToTheDaemon) {
  // What comes later is there when the daemon makes the link.
  const auto summary = MustUnpack({{.name = "h", .type = '1', .link = "later"},
                                   {.name = "self", .type = '1', .link = "self"},
                                   {.name = "later", .content = "x"}});
  EXPECT_THAT(Paths(summary, Kind::kHardLink), ElementsAre("h -> later", "self -> self"));
  EXPECT_FALSE(Exists("h"));
}

TEST_F(HostileArchiveTest, AHardLinkToASymlinkIsNotItsTarget) {
  MustUnpack({{.name = "s", .type = '2', .link = "../outside/victim"},
              {.name = "h", .type = '1', .link = "s"},
              {.name = "h", .content = "mine"}});
  EXPECT_EQ(Content("h"), "mine");
  EXPECT_EQ(Target("s"), "../outside/victim");
}

TEST_F(HostileArchiveTest, AHardLinkIntoTheFolderItReplacesIsRefused) {
  EXPECT_FALSE(
      Unpack({{.name = "d/f", .content = "x"}, {.name = "d", .type = '1', .link = "d/f"}}).ok());
}

TEST_F(HostileArchiveTest, AWhiteoutAsADeviceIsRefused) {
  EXPECT_THAT(Error({{.name = "c", .type = '3'}}), HasSubstr("0:0"));
  EXPECT_THAT(Error({{.name = "c", .type = '3', .patch = {{329, "7777777 "}}}}),
              HasSubstr("impossible"));
}

TEST_F(HostileArchiveTest, NothingIsBelowADeviceOrAFile) {
  for (const char type : {'3', '4', '6', '0'}) {
    EXPECT_THAT(Error({{.name = "n", .type = type, .major = 1, .minor = 3}, {.name = "n/x"}}),
                HasSubstr("\"n\" is no directory in this layer"))
        << type;
    std::filesystem::remove(At("n"));
  }
}

TEST_F(HostileArchiveTest, TypesMayChangeAgainAndAgain) {
  std::vector<TarEntry> entries;
  for (int i = 0; i < 5; ++i) {
    entries.push_back({.name = "x", .type = '2', .link = "../outside"});
    entries.push_back({.name = "x", .content = "file"});
    entries.push_back({.name = "x/", .type = '5', .mode = 0700});
    entries.push_back({.name = "x/sub/f", .content = "deep"});
    entries.push_back({.name = "x", .type = '6'});
    entries.push_back({.name = "x", .type = '3', .major = 1, .minor = 3});
    entries.push_back({.name = ".wh.x"});
    entries.push_back({.name = "x", .type = '1', .link = "nowhere"});
  }
  const auto summary = MustUnpack(entries);
  EXPECT_FALSE(Exists("x"));
  EXPECT_THAT(Paths(summary, Kind::kHardLink), ElementsAre("x -> nowhere"));
  EXPECT_THAT(Paths(summary, Kind::kNode), IsEmpty());
  EXPECT_EQ(summary.inodes, 1u);
}

TEST_F(HostileArchiveTest, NamesWithControlCharactersAreOnlyNames) {
  MustUnpack({{.name = "a\nb", .content = "1"}, {.name = "\x1b[31m", .content = "2"}});
  EXPECT_EQ(Content("a\nb"), "1");
  EXPECT_EQ(Content("\x1b[31m"), "2");
  // In a header a name ends at its NUL; in a PAX record a NUL is damage.
  MustUnpack({{.name = std::string("c\0d", 3), .content = "3"}});
  EXPECT_EQ(Content("c"), "3");
  EXPECT_THAT(Error({{.name = "f", .pax = {{"path", std::string("a\0../../x", 9)}}}}),
              HasSubstr("NUL"));
}

TEST_F(HostileArchiveTest, ExtendedHeadersAreLimited) {
  EXPECT_THAT(Error({{.type = 'x', .content = std::string(2 << 20, ' ')}, {.name = "f"}}),
              HasSubstr("extended header"));
  EXPECT_THAT(Error({{.type = 'L', .size = int64_t{1} << 32}}), HasSubstr("extended header"));
  std::map<std::string, std::string> many;
  for (int i = 0; i < 1001; ++i) many[base::StrCat("SCHILY.xattr.user.", i)] = "x";
  EXPECT_THAT(Error({{.name = "f", .pax = many}}), HasSubstr("too many xattrs"));
}

TEST_F(HostileArchiveTest, SizesThatNoFileSystemHasAreErrors) {
  EXPECT_THAT(Error({{.name = "f",
                      .pax = {{"GNU.sparse.map", "9223372036854775807,0"},
                              {"GNU.sparse.numblocks", "1"},
                              {"GNU.sparse.size", "9223372036854775807"}}}}),
              HasSubstr("entry \"f\""));
  EXPECT_THAT(Error({{.name = "f", .pax = {{"size", "9223372036854775807"}}}}),
              HasSubstr("ends too early"));
  EXPECT_THAT(Error({{.name = "f", .pax = {{"size", "-1"}}}}), HasSubstr("negative"));
  EXPECT_THAT(Error({{.name = "f", .patch = {{124, std::string(12, '\xff')}}}}),
              HasSubstr("negative"));
}

TEST_F(HostileArchiveTest, AnArchiveCutAnywhereIsAnError) {
  const std::string whole = Tar({{.name = "d/", .type = '5'},
                                 {.name = "d/f", .content = std::string(700, 'x')},
                                 {.name = "x", .pax = {{"path", "d/long"}}}});
  const size_t entries = whole.size() - 1024;
  for (size_t size = 1; size < entries; size += 61) {
    const bool is_between = size % 512 == 0;
    if (is_between) continue;
    const auto summary = UnpackBytes(whole.substr(0, size));
    // Only the filler after a file's content is not missed.
    const bool is_filler = size > 1024 + 700 && size < 2048;
    EXPECT_EQ(summary.ok(), is_filler) << size;
  }
}

TEST_F(HostileArchiveTest, OneFolderMayHoldAHundredThousandEntries) {
  std::string bytes;
  for (int i = 0; i < 100'000; ++i) {
    bytes += TarBytes({.name = base::StrCat("d/", i), .type = '2', .link = "x"});
  }
  const auto summary = UnpackBytes(bytes, 200'000);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->inodes, 100'002u);
}

TEST_F(HostileArchiveTest, TheDeepestTreeIsMadeAndReplaced) {
  std::string deep;
  for (int i = 0; i < 255; ++i) deep += "d/";
  const auto summary = MustUnpack({{.name = "x", .content = "x", .pax = {{"path", deep + "f"}}},
                                   {.name = "d", .content = "now a file"}});
  EXPECT_EQ(Content("d"), "now a file");
  EXPECT_EQ(summary.inodes, 2u);
}

TEST_F(HostileArchiveTest, DeferredWorkIsLimited) {
  std::string bytes;
  const std::string long_name(200, 'n');
  for (int i = 0; i < 20'000; ++i) {
    bytes += TarBytes({.name = "h",
                       .type = '1',
                       .pax = {{"path", base::StrCat(long_name, i)}, {"linkpath", long_name}}});
  }
  EXPECT_EQ(UnpackBytes(bytes, 200'000).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(HostileArchiveTest, WhatFollowsTheEndMarkIsNotUnpacked) {
  std::string bytes = Tar({{.name = "a"}});
  bytes += TarBytes({.name = "hidden", .content = "evil"});
  EXPECT_TRUE(UnpackBytes(bytes).ok());
  EXPECT_FALSE(Exists("hidden"));
}

}  // namespace
}  // namespace imageservice::worker
