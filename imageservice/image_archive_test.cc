// Archives of images through the image service and the real worker: what is loaded, what is saved,
// and what hostile archives get.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/image_service.h"
#include "imageservice/pull_plan.h"
#include "imageservice/testing/temp_directory.h"
#include "imageservice/worker/test_image_archive.h"

namespace imageservice {
namespace {

using crisp::v1::SaveRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using worker::ImageArchive;
using worker::TarEntry;

class ImageArchiveTest : public ::testing::Test {
 protected:
  ImageArchiveTest() : launcher_("", "") {}

  void SetUp() override {
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_PULL_BINARY;
    auto service = ImageService::Open(config, &launcher_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    service_->ReleaseUnused();
  }

  std::string Write(const std::string& name, const std::string& bytes) const {
    const std::string path = directory_ / name;
    EXPECT_TRUE(base::ReplaceFile(path, bytes, 0600, base::Durability::kVolatile).ok());
    return path;
  }

  // The images of the archive, as the service says of them.
  absl::StatusOr<std::vector<crisp::v1::Image>> Load(const std::string& path,
                                                     const std::string& name = "") {
    crisp::v1::LoadRequest request;
    request.set_path(path);
    request.set_name(name);
    std::vector<crisp::v1::Image> images;
    RETURN_IF_ERROR(service_->Load(base::Context().WithTimeout(absl::Seconds(60)), request,
                                   [&](const crisp::v1::Event& event) {
                                     if (event.has_image()) images.push_back(event.image());
                                   }));
    return images;
  }
  // Why the archive's only image, or the archive, is not loaded.
  std::string LoadError(const std::string& path) {
    const auto images = Load(path);
    if (!images.ok()) return std::string(images.status().message());
    return images->empty() ? "nothing" : images->front().error();
  }

  absl::Status Save(const std::vector<std::string>& names, const std::string& path,
                    SaveRequest::Format format = SaveRequest::OCI_ARCHIVE,
                    SaveRequest::Compression compression = SaveRequest::NONE) {
    SaveRequest request;
    *request.mutable_images() = {names.begin(), names.end()};
    request.set_path(path);
    request.set_format(format);
    request.set_compression(compression);
    if (format == SaveRequest::OCI_LAYOUT) {
      EXPECT_EQ(mkdir(path.c_str(), 0700), 0);
    } else {
      EXPECT_TRUE(base::ReplaceFile(path, "", 0600, base::Durability::kVolatile).ok());
    }
    return service_->Save(base::Context().WithTimeout(absl::Seconds(60)), request,
                          [](const crisp::v1::Event&) {});
  }

  cri::Image Status(const std::string& name) {
    cri::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    const auto status = service_->ImageStatus(base::Context(), request);
    EXPECT_TRUE(status.ok() && status->has_image()) << name;
    return status.ok() ? status->image() : cri::Image();
  }
  size_t CountImages() {
    const auto images = service_->ListImages(base::Context(), cri::ListImagesRequest());
    return images.ok() ? static_cast<size_t>(images->images_size()) : 999;
  }
  void Remove(const std::string& name) {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(name);
    EXPECT_TRUE(service_->RemoveImage(base::Context(), request).ok());
  }
  void ExpectNothingLeft() {
    EXPECT_EQ(CountImages(), 0u);
    EXPECT_THAT(base::ListDirectory(directory_ / "root/staging").value(), IsEmpty());
    EXPECT_THAT(base::ListDirectory(directory_ / "root/layers").value(), IsEmpty());
  }

  // One line for each file below the layers of an image: all that an archive has to keep.
  std::string Trees(const std::string& name) {
    const auto image = service_->Acquire(name, "test");
    EXPECT_TRUE(image.ok()) << image.status();
    std::string text;
    for (const std::string& chain_id : image->chain_ids) {
      text += "layer\n" + Tree(directory_ / ("root/layers/" + chain_id));
    }
    service_->Release("test");
    return text;
  }
  static std::string Tree(const std::string& path, const std::string& name = ".") {
    struct stat found = {};
    EXPECT_EQ(lstat(path.c_str(), &found), 0) << path;
    std::string text =
        base::StrCat(name, " ", found.st_mode, " ", found.st_uid, ":", found.st_gid, " ",
                     S_ISDIR(found.st_mode) ? 0 : found.st_size, " ", found.st_rdev, " ",
                     S_ISDIR(found.st_mode) ? 0 : found.st_nlink);
    // A whiteout's time means nothing.
    if (found.st_rdev != 0 || !S_ISCHR(found.st_mode)) {
      text += base::StrCat(" ", found.st_mtim.tv_sec, ".", found.st_mtim.tv_nsec);
    }
    for (const char* xattr : {"user.note", "trusted.overlay.opaque", "security.capability"}) {
      char value[100];
      const ssize_t size = lgetxattr(path.c_str(), xattr, value, sizeof(value));
      if (size >= 0)
        text += base::StrCat(" ", xattr, "=", std::string(value, static_cast<size_t>(size)));
    }
    if (S_ISLNK(found.st_mode)) {
      char target[4096];
      const ssize_t size = readlink(path.c_str(), target, sizeof(target));
      text += " -> " + std::string(target, static_cast<size_t>(size));
    }
    if (S_ISREG(found.st_mode)) text += " " + base::ReadFile(path).value();
    text += "\n";
    if (S_ISDIR(found.st_mode)) {
      const std::vector<std::string> entries = base::ListDirectory(path).value();
      for (const std::string& entry : entries) {
        text += Tree(path + "/" + entry, name + "/" + entry);
      }
    }
    return text;
  }

  // Of everything a layer can have.
  static std::vector<TarEntry> Everything() {
    const std::string long_name = std::string(120, 'l') + "/" + std::string(120, 'n');
    return {{.name = "./", .type = '5', .mode = 0755, .mtime = 1000},
            {.name = "bin/", .type = '5', .mode = 01777, .uid = 5, .gid = 6, .mtime = 1001},
            {.name = "bin/tool",
             .content = "tool",
             .mode = 04755,
             .uid = 7,
             .gid = 8,
             .mtime = 1700000000,
             .pax = {{"mtime", "1700000000.123456789"}}},
            {.name = "bin/link", .type = '1', .link = "bin/tool"},
            {.name = "bin/soft", .type = '2', .link = "../" + std::string(150, 's')},
            {.name = "noted",
             .content = std::string(70000, 'x'),
             .pax = {{"SCHILY.xattr.user.note", "one"}, {"uid", "3000000"}, {"gid", "4000000"}}},
            {.name = "old", .content = "old", .mtime = 1, .pax = {{"mtime", "-5.5"}}},
            {.name = "long", .content = "long", .pax = {{"path", long_name}}},
            {.name = "latin-\xe4", .content = "bytes"},
            {.name = "pipe", .type = '6', .mode = 0600},
            {.name = "null", .type = '3', .mode = 0666, .major = 1, .minor = 3},
            {.name = "disk", .type = '4', .mode = 0660, .major = 250, .minor = 100000 % 256},
            {.name = "gone/", .type = '5'},
            {.name = "gone/.wh.file"},
            {.name = "hidden/", .type = '5', .mode = 0700},
            {.name = "hidden/.wh..wh..opq"},
            {.name = "hidden/new", .content = "new"}};
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  std::unique_ptr<ImageService> service_;
  const std::string architecture_ = HostPlatform().architecture;
};

TEST_F(ImageArchiveTest, EveryFormatIsLoadedAsThatWhichItHolds) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"hello", "world"}}, architecture_), "quay.io/app/web:1");
  const std::string layout = directory_ / "layout";
  ASSERT_TRUE(archive.WriteLayout(layout).ok());
  std::string id;
  for (const std::string& path :
       {Write("oci.tar", archive.Oci()), Write("docker.tar", archive.Docker()), layout}) {
    const auto images = Load(path);
    ASSERT_TRUE(images.ok()) << images.status();
    ASSERT_THAT(*images, SizeIs(1));
    EXPECT_EQ(images->front().error(), "");
    EXPECT_THAT(images->front().names(), ElementsAre("quay.io/app/web:1"));
    const cri::Image status = Status("quay.io/app/web:1");
    EXPECT_EQ(status.id(), images->front().id());
    EXPECT_TRUE(id.empty() || id == status.id());
    id = status.id();
    EXPECT_THAT(Trees(id), HasSubstr("./hello"));
    Remove(id);
  }
}

TEST_F(ImageArchiveTest, OnlyAManifestOfTheArchiveGivesADigest) {
  ImageArchive archive;
  const std::string digest = archive.AddImage({{"a", "b"}}, architecture_);
  archive.Name(digest, "quay.io/app/web:1");
  ASSERT_TRUE(Load(Write("docker.tar", archive.Docker())).ok());
  EXPECT_THAT(Status("quay.io/app/web:1").repo_digests(), IsEmpty());
  ASSERT_TRUE(Load(Write("oci.tar", archive.Oci())).ok());
  EXPECT_THAT(Status("quay.io/app/web:1").repo_digests(), ElementsAre("quay.io/app/web@" + digest));
}

TEST_F(ImageArchiveTest, NamesAreTheUsersOrTheArchivesOrNone) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"a", "b"}}, architecture_), "");
  const std::string path = Write("oci.tar", archive.Oci());
  auto images = Load(path);
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_THAT(images->front().note(), HasSubstr("--name"));
  EXPECT_THAT(Status(images->front().id()).repo_tags(), IsEmpty());
  images = Load(path, "busybox:1");
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_THAT(Status(images->front().id()).repo_tags(), ElementsAre("docker.io/library/busybox:1"));
  EXPECT_FALSE(Load(path, "app:1:2").ok());
  archive.Name(archive.AddImage({{"c", "d"}}, architecture_), "");
  EXPECT_THAT(std::string(Load(Write("two.tar", archive.Oci()), "busybox:1").status().message()),
              HasSubstr("one name for the 2 images"));
}

TEST_F(ImageArchiveTest, AnImageThatFailsDoesNotHinderTheOthers) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"a", "b"}}, "s390x"), "foreign:1");
  archive.Name(archive.AddImage({{"a", "b"}}, architecture_), "ours:1");
  const auto images = Load(Write("oci.tar", archive.Oci()));
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_THAT(*images, SizeIs(2));
  EXPECT_THAT((*images)[0].error(), HasSubstr("s390x"));
  EXPECT_EQ((*images)[1].error_code(), 0);
  EXPECT_EQ(CountImages(), 1u);
}

TEST_F(ImageArchiveTest, WrongContentIsNamedAndLeavesNothing) {
  ImageArchive good;
  good.Name(good.AddImage({{"a", "b"}}, architecture_), "app:1");
  for (const auto& [digest, bytes] : good.blobs) {
    ImageArchive bad = good;
    bad.blobs[digest][bytes.size() / 2] ^= 1;
    EXPECT_THAT(LoadError(Write("bad.tar", bad.Oci())), HasSubstr(digest));
    bad = good;
    std::string index = good.index();
    bad.blobs.erase(digest);
    std::vector<TarEntry> entries = {{.name = "index.json", .content = index}};
    for (const auto& [other, content] : bad.blobs) {
      entries.push_back({.name = "blobs/sha256/" + other.substr(7), .content = content});
    }
    EXPECT_THAT(LoadError(Write("missing.tar", worker::Tar(entries))),
                HasSubstr("has no \"blobs/sha256/" + digest.substr(7)));
  }
  const std::string whole = good.Oci();
  EXPECT_THAT(LoadError(Write("cut.tar", whole.substr(0, whole.size() / 2))), HasSubstr("cut off"));
  ExpectNothingLeft();
}

TEST_F(ImageArchiveTest, HostileLayersOfDockersArchivesAreRefused) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"a", "b"}}, architecture_), "app:1");
  for (auto& [digest, bytes] : archive.blobs) {
    if (!bytes.starts_with("{")) bytes[512] ^= 1;  // The layer: another content of its file.
  }
  EXPECT_THAT(LoadError(Write("docker.tar", archive.Docker())), HasSubstr("digest"));
  ImageArchive outside;
  outside.Name(outside.AddImage(std::vector<TarEntry>{{.name = "../../escaped", .content = "x"}},
                                architecture_),
               "app:1");
  EXPECT_NE(LoadError(Write("outside.tar", outside.Docker())), "");
  EXPECT_FALSE(base::Exists(directory_ / "escaped"));
  EXPECT_FALSE(Load("relative.tar").ok());
  EXPECT_FALSE(Load(directory_ / "nothing").ok());
  EXPECT_FALSE(Load("/dev/zero").ok());
  ExpectNothingLeft();
}

TEST_F(ImageArchiveTest, WhatIsSavedAndLoadedIsTheSameAndSavedAgainTheSameBytes) {
  ImageArchive archive;
  archive.Name(archive.AddImage(Everything(), architecture_), "quay.io/app/all:1");
  archive.Name(archive.AddImage(Everything(), architecture_), "quay.io/app/all:2");
  const auto loaded = Load(Write("first.tar", archive.Oci()));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->front().error(), "");
  const std::string tree = Trees("quay.io/app/all:1");
  EXPECT_THAT(tree, HasSubstr("latin-\xe4"));
  EXPECT_THAT(tree, HasSubstr("trusted.overlay.opaque=y"));
  for (const auto compression : {SaveRequest::NONE, SaveRequest::GZIP, SaveRequest::ZSTD}) {
    const std::string first = directory_ / base::StrCat("saved-", int{compression});
    ASSERT_TRUE(Save({"quay.io/app/all:1"}, first, SaveRequest::OCI_ARCHIVE, compression).ok());
    Remove("quay.io/app/all:1");
    const auto again = Load(first);
    ASSERT_TRUE(again.ok()) << again.status();
    ASSERT_EQ(again->front().error(), "");
    EXPECT_THAT(Status(again->front().id()).repo_tags(),
                ElementsAre("quay.io/app/all:1", "quay.io/app/all:2"));
    EXPECT_EQ(Trees("quay.io/app/all:1"), tree);
    const std::string second = first + "-again";
    ASSERT_TRUE(Save({"quay.io/app/all:2"}, second, SaveRequest::OCI_ARCHIVE, compression).ok());
    EXPECT_EQ(base::ReadFile(first).value(), base::ReadFile(second).value());
  }
}

TEST_F(ImageArchiveTest, DockersFormatAndLayoutsAreReadBack) {
  ImageArchive archive;
  archive.Name(archive.AddImage(Everything(), architecture_), "quay.io/app/all:1");
  ASSERT_TRUE(Load(Write("first.tar", archive.Oci())).ok());
  const std::string tree = Trees("quay.io/app/all:1");
  for (const auto format : {SaveRequest::DOCKER_ARCHIVE, SaveRequest::OCI_LAYOUT}) {
    const std::string path = directory_ / base::StrCat("saved-", int{format});
    const absl::Status saved = Save({"quay.io/app/all:1"}, path, format);
    ASSERT_TRUE(saved.ok()) << saved;
    Remove("quay.io/app/all:1");
    const auto again = Load(path);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->front().error(), "");
    EXPECT_EQ(Trees("quay.io/app/all:1"), tree);
  }
}

TEST_F(ImageArchiveTest, SavingRefusesWhatWouldDestroy) {
  ImageArchive archive;
  archive.Name(archive.AddImage({{"a", "b"}}, architecture_), "app:1");
  ASSERT_TRUE(Load(Write("first.tar", archive.Oci())).ok());
  EXPECT_TRUE(absl::IsNotFound(Save({"nothing:1"}, directory_ / "x")));
  SaveRequest request;
  request.add_images("app:1");
  request.set_path(Write("full", "precious"));
  const auto ignore = [](const crisp::v1::Event&) {};
  EXPECT_FALSE(service_->Save(base::Context(), request, ignore).ok());
  EXPECT_EQ(base::ReadFile(directory_ / "full").value(), "precious");
  ASSERT_EQ(symlink((directory_ / "full").c_str(), (directory_ / "link").c_str()), 0);
  request.set_path(directory_ / "link");
  EXPECT_FALSE(service_->Save(base::Context(), request, ignore).ok());
  EXPECT_THAT(
      std::string(Save({"app:1"}, directory_ / "y", SaveRequest::DOCKER_ARCHIVE, SaveRequest::GZIP)
                      .message()),
      HasSubstr("not compressed"));
}

}  // namespace
}  // namespace imageservice
