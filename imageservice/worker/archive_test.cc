// Archives of images, read and written: the index, the source, and whole conversations with the
// real worker.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/archive_index.h"
#include "imageservice/worker/archive_source.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/test_image_archive.h"

namespace imageservice::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const Platform kPlatform = {"linux", "amd64", ""};

absl::StatusOr<ArchiveIndex> Index(const std::string& bytes) {
  return ArchiveIndex::Read(
      [&](uint64_t offset, char* buffer, size_t size) -> absl::StatusOr<size_t> {
        return offset > bytes.size() ? 0 : bytes.copy(buffer, size, offset);
      },
      bytes.size());
}

std::string IndexError(const std::string& bytes) {
  const absl::StatusOr<ArchiveIndex> index = Index(bytes);
  return index.ok() ? "" : std::string(base::ToStd(index.status().message()));
}

TEST(ArchiveIndexTest, FindsFilesWhereTheyLie) {
  const std::string bytes =
      Tar({{.name = "./a", .content = "first"},
           {.name = "dir/", .type = '5'},
           {.name = "dir/b", .content = std::string(1000, 'b')},
           {.name = "x", .content = "long", .pax = {{"path", std::string(300, 'n') + "/x"}}}});
  const absl::StatusOr<ArchiveIndex> index = Index(bytes);
  ASSERT_TRUE(index.ok()) << index.status();
  for (const auto& [path, content] :
       std::map<std::string, std::string>{{"a", "first"},
                                          {"dir/b", std::string(1000, 'b')},
                                          {std::string(300, 'n') + "/x", "long"}}) {
    const absl::StatusOr<ArchiveExtent> found = index->Find(path);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(bytes.substr(found->offset, found->size), content);
  }
  EXPECT_TRUE(absl::IsNotFound(index->Find("dir").status()));
  EXPECT_TRUE(absl::IsNotFound(index->Find("c").status()));
}

TEST(ArchiveIndexTest, TheLaterOfTwoEntriesCounts) {
  const std::string bytes =
      Tar({{.name = "a", .content = "old"}, {.name = "./a", .content = "newer"}});
  const absl::StatusOr<ArchiveIndex> index = Index(bytes);
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(index->Find("a")->size, 5u);
}

TEST(ArchiveIndexTest, FollowsLinksWithinTheArchiveOnly) {
  const absl::StatusOr<ArchiveIndex> index =
      Index(Tar({{.name = "one/layer.tar", .content = "layer"},
                 {.name = "two/layer.tar", .type = '2', .link = "../one/layer.tar"},
                 {.name = "three", .type = '1', .link = "two/layer.tar"},
                 {.name = "loop", .type = '2', .link = "pool"},
                 {.name = "pool", .type = '2', .link = "loop"}}));
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->Find("two/layer.tar")->size, 5u);
  EXPECT_EQ(index->Find("three")->size, 5u);
  EXPECT_THAT(std::string(index->Find("loop").status().message()), HasSubstr("in circles"));
  for (const std::string target : {"../../etc/passwd", "/etc/passwd", ""}) {
    EXPECT_THAT(IndexError(Tar({{.name = "a/l", .type = '2', .link = target}})),
                HasSubstr("leads out of the archive"));
  }
}

TEST(ArchiveIndexTest, RefusesWhatIsNoArchiveOrHostile) {
  EXPECT_THAT(IndexError(""), HasSubstr("no tar archive"));
  EXPECT_THAT(IndexError(std::string(2000, 'x')), HasSubstr("no tar archive"));
  EXPECT_THAT(IndexError(Tar({{.name = "../a", .content = "x"}})), HasSubstr("leads out"));
  EXPECT_THAT(IndexError(Tar({{.name = "/a", .content = "x"}})), HasSubstr("leads out"));
  EXPECT_THAT(IndexError(Tar({{.name = "a", .content = "x", .pax = {{"path", "b/../../a"}}}})),
              HasSubstr("leads out"));
  EXPECT_THAT(IndexError(Tar({{.name = "a", .content = "x", .size = 1 << 30}})),
              HasSubstr("cut off"));
  EXPECT_THAT(IndexError(Tar({{.name = "a", .pax = {{"size", "18446744073709551615"}}}})),
              HasSubstr("size"));
  EXPECT_THAT(IndexError(Tar({{.name = "a", .pax = {{"size", "-1"}}}})), HasSubstr("size"));
  EXPECT_THAT(IndexError(Tar({{.name = "pax", .type = 'x', .content = "99 path=a\n"}})),
              HasSubstr("wrong length"));
  EXPECT_THAT(IndexError(TarBytes({.name = "a"}) + std::string(100, 'x')), HasSubstr("cut off"));
  EXPECT_THAT(IndexError(TarBytes({.name = "a"}) + std::string(512, 'x')), HasSubstr("damaged"));
  EXPECT_THAT(IndexError(Tar({{.name = "a", .type = 'S'}})), HasSubstr("sparse"));
}

TEST(ArchiveIndexTest, HasLimits) {
  std::string many;
  const std::string entry = TarBytes({.name = "a"});
  for (int i = 0; i < 100'002; ++i) {
    many += entry;
  }
  EXPECT_THAT(IndexError(many), HasSubstr("more than 100000 entries"));
  EXPECT_THAT(
      IndexError(Tar({{.name = "long", .type = 'L', .content = std::string(2 << 20, 'a')}})),
      HasSubstr("extended header of"));
}

TEST(ArchiveIndexTest, AMissingEndMarkIsMentionedWithWhatIsMissing) {
  const absl::StatusOr<ArchiveIndex> index = Index(TarBytes({.name = "a", .content = "x"}));
  ASSERT_TRUE(index.ok());
  EXPECT_TRUE(index->Find("a").ok());
  EXPECT_THAT(std::string(index->Find("b").status().message()), HasSubstr("cut off"));
}

// --- the source ---------------------------------------------------------------------------------

class ArchiveSourceTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<ArchiveSource>> Open(const std::string& bytes) {
    const std::string path = directory_.path() + "/archive";
    EXPECT_TRUE(base::ReplaceFile(path, bytes, 0600, base::Durability::kVolatile).ok());
    absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY);
    return ArchiveSource::Open(*std::move(fd));
  }
  std::vector<ArchivedImage> Images(const std::string& bytes) {
    const auto source = Open(bytes);
    EXPECT_TRUE(source.ok()) << source.status();
    if (!source.ok()) return {};
    auto images = (*source)->Images(kPlatform);
    EXPECT_TRUE(images.ok()) << images.status();
    return images.ok() ? *std::move(images) : std::vector<ArchivedImage>();
  }
  std::string OpenError(const std::string& bytes) {
    const auto source = Open(bytes);
    return source.ok() ? "" : std::string(base::ToStd(source.status().message()));
  }

  TempDirectory directory_;
};

TEST_F(ArchiveSourceTest, NamesComeFromAnnotationsAndAreJoinedByDigest) {
  ImageArchive archive;
  const std::string one = archive.AddImage({{"one", "1"}});
  const std::string two = archive.AddImage({{"two", "2"}});
  archive.Name(one, "docker.io/library/one:1");
  archive.Name(two, "");
  archive.Name(one, "quay.io/app/one:2");
  const std::vector<ArchivedImage> images = Images(archive.Oci());
  ASSERT_THAT(images, SizeIs(2));
  EXPECT_EQ(images[0].selector, one);
  EXPECT_THAT(images[0].names, ElementsAre("docker.io/library/one:1", "quay.io/app/one:2"));
  EXPECT_TRUE(images[0].has_manifest);
  EXPECT_THAT(images[1].names, IsEmpty());
}

TEST_F(ArchiveSourceTest, ABareTagIsNoName) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"one", "1"}}), "latest");
  EXPECT_THAT(Images(archive.Oci())[0].names, IsEmpty());
}

TEST_F(ArchiveSourceTest, OfSeveralPlatformsOursIsChosen) {
  ImageArchive archive;
  const std::string arm = archive.AddImage({{"a", "arm"}}, "arm64");
  const std::string ours = archive.AddImage({{"a", "ours"}});
  archive.Name(arm, "app:1", "arm64");
  archive.Name(ours, "app:1", "amd64");
  const std::vector<ArchivedImage> images = Images(archive.Oci());
  ASSERT_THAT(images, SizeIs(1));
  EXPECT_EQ(images[0].selector, ours);
}

TEST_F(ArchiveSourceTest, DockerArchivesHaveNamesOfRepoTags) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"one", "1"}}), "one:1");
  archive.Name(archive.AddImage({{"two", "2"}}), "");
  const std::vector<ArchivedImage> images = Images(archive.Docker());
  ASSERT_THAT(images, SizeIs(2));
  EXPECT_THAT(images[0].names, ElementsAre("one:1"));
  EXPECT_FALSE(images[0].has_manifest);
  EXPECT_THAT(images[1].names, IsEmpty());
}

TEST_F(ArchiveSourceTest, SaysWhatToDoWithWhatItDoesNotRead) {
  EXPECT_THAT(OpenError(Gzip(Tar({{.name = "a"}}))),
              HasSubstr("gzip -dc FILE | crisp image load -"));
  EXPECT_THAT(OpenError(Zstd(Tar({{.name = "a"}}))), HasSubstr("zstd -dc"));
  EXPECT_THAT(OpenError(Tar({{.name = "etc/passwd", .content = "root"}})),
              HasSubstr("neither an index.json (OCI layout) nor a manifest.json (docker save)"));
  EXPECT_THAT(OpenError(Tar({{.name = "repositories", .content = "{}"}})), HasSubstr("docker 1.9"));
  EXPECT_THAT(OpenError(Tar({{.name = "manifest.json", .content = "{}"}})),
              HasSubstr("no list of images"));
  EXPECT_THAT(OpenError(Tar({{.name = "index.json", .content = "{"}})), HasSubstr("index.json"));
}

TEST_F(ArchiveSourceTest, BlobsOfALayoutAreNotReachedThroughSymlinks) {
  const std::string layout = directory_.path() + "/layout";
  const std::string digest = "sha256:" + Sha256Hex("secret");
  ASSERT_TRUE(base::MakeDirectories(layout + "/blobs/sha256").ok());
  ImageArchive archive;
  archive.Name(archive.AddImage({{"one", "1"}}), "one:1");
  ASSERT_TRUE(archive.WriteLayout(layout).ok());
  ASSERT_EQ(symlink("/etc/passwd", (layout + "/" + "blobs/sha256/" + digest.substr(7)).c_str()), 0);
  auto source = ArchiveSource::Open(*base::Open(layout, O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_FALSE((*source)->GetSmallBlob(digest, 4096).ok());
  EXPECT_FALSE((*source)->OpenBlob("sha256:../../../etc/passwd").ok());
}

}  // namespace
}  // namespace imageservice::worker
