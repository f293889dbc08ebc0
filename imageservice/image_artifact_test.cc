// OCI artifacts through the image service, the real worker and a real registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/sha.h"
#include "base/strings.h"
#include "imageservice/image_service.h"
#include "imageservice/testing/temp_directory.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/test_registry.h"

namespace imageservice {
namespace {

using base::Json;
using crisp::v1::SaveRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using worker::TestLayout;
using worker::TestRegistry;

constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kType[] = "application/vnd.example.model";

using File = TestLayout::File;

Json DescriptorOf(const TestLayout::Blob& blob) {
  return {{"mediaType", blob.media_type}, {"digest", blob.digest}, {"size", blob.size}};
}

class ImageArtifactTest : public ::testing::Test {
 protected:
  ImageArtifactTest() : launcher_("", "") {}

  void SetUp() override {
    if (!base::Exists("/usr/bin/docker-registry") || !base::Exists("/usr/bin/skopeo")) {
      GTEST_SKIP() << "SKIP: docker-registry and skopeo";
    }
    auto registry = TestRegistry::Start();
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    Open();
  }
  void Open() {
    service_.reset();
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_PULL_BINARY;
    config.registries.insecure_registries = {registry_->host()};
    config.pinned_images = {"*/pinned*"};
    auto service = ImageService::Open(config, &launcher_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    service_->ReleaseUnused();
  }

  // Pushes an artifact; its id.
  std::string Push(const std::vector<File>& files, const std::string& name,
                   const Json& patch = Json::object()) {
    TestLayout layout(base::StrCat(directory_.path(), "/layout-", ++layouts_));
    const TestLayout::Blob manifest = layout.AddArtifact(files, patch);
    layout.Finish(manifest);
    const absl::Status pushed = registry_->Push(layout.path(), name);
    EXPECT_TRUE(pushed.ok()) << pushed;
    return manifest.digest.substr(7);
  }
  std::string NameOf(const std::string& name) const { return registry_->host() + "/" + name; }
  absl::StatusOr<std::string> Pull(const std::string& name) {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(NameOf(name));
    const auto response =
        service_->PullImage(base::Context().WithTimeout(absl::Seconds(60)), request);
    return response.ok() ? response->image_ref() : absl::StatusOr<std::string>(response.status());
  }
  // The files of an artifact that is here: "path=content".
  std::vector<std::string> Content(const std::string& name) {
    const auto image = service_->Acquire(NameOf(name), "owner");
    EXPECT_TRUE(image.ok()) << image.status();
    std::vector<std::string> found;
    for (size_t i = 0; image.ok() && i < image->chain_ids.size(); ++i) {
      Walk(directory_ / ("root/layers/" + image->chain_ids[i]), "", &found);
    }
    service_->Release("owner");
    return found;
  }
  static std::string Short(const std::string& content) {
    return content.size() < 100 ? content : base::Sha256Hex(content);
  }
  static void Walk(const std::string& root, const std::string& at,
                   std::vector<std::string>* found) {
    const std::vector<std::string> names = base::ListDirectory(root + at).value();
    for (const std::string& name : names) {
      const std::string path = base::StrCat(at, "/", name);
      struct stat info = {};
      ASSERT_EQ(lstat((root + path).c_str(), &info), 0);
      if (S_ISDIR(info.st_mode)) {
        Walk(root, path, found);
      } else {
        const std::string content = base::ReadFile(root + path).value_or("?");
        found->push_back(base::StrCat(path.substr(1), "=", Short(content)));
      }
    }
  }
  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / ("root/" + folder)).value();
  }
  std::vector<cri::Image> List() {
    const auto list = service_->ListImages(base::Context(), cri::ListImagesRequest()).value();
    return {list.images().begin(), list.images().end()};
  }
  void Remove(const std::string& name) {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(NameOf(name));
    ASSERT_TRUE(service_->RemoveImage(base::Context(), request).ok());
  }
  absl::Status Save(const std::string& name, const std::string& path,
                    SaveRequest::Format format = SaveRequest::OCI_ARCHIVE) {
    SaveRequest request;
    request.add_images(name);
    request.set_path(path);
    request.set_format(format);
    request.set_compression(format == SaveRequest::OCI_ARCHIVE ? SaveRequest::GZIP
                                                               : SaveRequest::NONE);
    return service_->Save(base::Context(), request, [](const crisp::v1::Event&) {});
  }
  crisp::v1::Image Load(const std::string& path) {
    crisp::v1::LoadRequest request;
    request.set_path(path);
    crisp::v1::Image loaded;
    const absl::Status status =
        service_->Load(base::Context(), request, [&](const crisp::v1::Event& event) {
          if (event.has_image()) loaded = event.image();
        });
    EXPECT_TRUE(status.ok()) << status;
    return loaded;
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  std::unique_ptr<TestRegistry> registry_;
  std::unique_ptr<ImageService> service_;
  int layouts_ = 0;
};

TEST_F(ImageArtifactTest, EachBlobIsAFileOfItsBytes) {
  const std::string big = worker::BigText();
  const std::string archive = worker::Gzip(worker::Tar({{.name = "x", .content = "y"}}));
  const std::string id = Push({{"model.bin", big},
                               {"docs/a/read.me", "text"},
                               {"docs/empty", ""},
                               {"layer.tar.gz", archive},
                               {"", "untitled"}},
                              "model:1");
  const absl::StatusOr<std::string> pulled = Pull("model:1");
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(*pulled, id) << "the manifest's digest";
  EXPECT_THAT(
      Content("model:1"),
      UnorderedElementsAre("model.bin=" + Short(big), "docs/a/read.me=text",
                           "docs/empty=", "layer.tar.gz=" + Short(archive),
                           base::StrCat("sha256-", base::Sha256Hex("untitled"), "=untitled")));
  EXPECT_THAT(Names("staging"), IsEmpty());
  EXPECT_EQ(*Pull("model@sha256:" + id), id);
}

TEST_F(ImageArtifactTest, ItIsListedAsAnImageByItsManifestsDigest) {
  const std::string big = worker::BigText();
  const std::string id = Push({{"model.bin", big}, {"card", "text"}}, "model:1");
  ASSERT_TRUE(Pull("model:1").ok());
  ASSERT_THAT(List(), SizeIs(1));
  const cri::Image image = List()[0];
  EXPECT_EQ(image.id(), id);
  EXPECT_THAT(image.repo_tags(), ElementsAre(NameOf("model:1")));
  EXPECT_THAT(image.repo_digests(), ElementsAre(NameOf("model@sha256:" + id)));
  EXPECT_GT(image.size(), big.size());
  EXPECT_LT(image.size(), big.size() + (200 << 10));
  EXPECT_FALSE(image.pinned());
  const auto acquired = service_->Acquire(id, "owner");
  ASSERT_TRUE(acquired.ok()) << acquired.status();
  EXPECT_EQ(acquired->id, id);
  EXPECT_EQ(acquired->ref, NameOf("model@sha256:" + id));
  EXPECT_EQ(acquired->artifact_type, kType);
  service_->Release("owner");
  cri::ImageStatusRequest request;
  request.mutable_image()->set_image(id.substr(0, 12));
  request.set_verbose(true);
  const auto status = service_->ImageStatus(base::Context(), request);
  ASSERT_TRUE(status.ok()) << status.status();
  const auto info = base::ParseJson(status->info().at("info"));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ((*info)["artifactManifest"]["artifactType"], kType);
}

TEST_F(ImageArtifactTest, FilesAreSharedWhereverTheyStand) {
  Push({{"weights", "w"}, {"card", "1"}}, "model:1");
  Push({{"card", "2"}, {"new", "n"}, {"weights", "w"}}, "model:2");
  Push({{"renamed", "w"}}, "model:3");
  for (const char* name : {"model:1", "model:2", "model:3"}) {
    ASSERT_TRUE(Pull(name).ok()) << name;
  }
  EXPECT_THAT(Names("layers"), SizeIs(5));
  EXPECT_THAT(Content("model:3"), ElementsAre("renamed=w"));
  Remove("model:1");
  EXPECT_THAT(Names("layers"), SizeIs(4));
  Remove("model:2");
  Remove("model:3");
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("trash"), IsEmpty());
}

TEST_F(ImageArtifactTest, ItOutlivesTheDaemonAndIsRepaired) {
  const std::string id = Push({{"a", "1"}, {"b", "2"}}, "pinned:1");
  ASSERT_TRUE(Pull("pinned:1").ok());
  Open();
  ASSERT_THAT(List(), SizeIs(1));
  EXPECT_EQ(List()[0].id(), id);
  EXPECT_TRUE(List()[0].pinned());
  EXPECT_EQ(service_->Acquire(id, "owner")->artifact_type, kType);
  service_->Release("owner");
  EXPECT_THAT(Content("pinned:1"), UnorderedElementsAre("a=1", "b=2"));
  const std::string layer = directory_ / ("root/layers/" + Names("layers")[0]);
  ASSERT_EQ(rename(layer.c_str(), (directory_ / "stolen").c_str()), 0);
  EXPECT_TRUE(absl::IsNotFound(service_->Acquire(NameOf("pinned:1"), "owner").status()));
  EXPECT_FALSE(service_->problems().empty());
  ASSERT_TRUE(Pull("pinned:1").ok());
  EXPECT_THAT(service_->problems(), IsEmpty());
  EXPECT_THAT(Content("pinned:1"), UnorderedElementsAre("a=1", "b=2"));
}

TEST_F(ImageArtifactTest, OneWithoutFilesIsHereToo) {
  const Json empty = {{"mediaType", "application/vnd.oci.empty.v1+json"},
                      {"digest", "sha256:" + base::Sha256Hex("{}")},
                      {"size", 2}};
  const std::string id = Push({}, "nothing:1", {{"layers", Json::array({empty})}});
  EXPECT_EQ(Pull("nothing:1").value_or("?"), id);
  EXPECT_THAT(Content("nothing:1"), IsEmpty());
}

TEST_F(ImageArtifactTest, NamesThatAreNoneFailThePullAndLeaveNothing) {
  int number = 0;
  for (const char* title : {"../climb", "/absolute", "a/../../b", "same"}) {
    const std::string name = base::StrCat("evil:", ++number);
    Push({{"same", "1"}, {title, "2"}}, name);
    const absl::Status status = Pull(name).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << title << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(title));
  }
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("staging"), IsEmpty());
  EXPECT_THAT(List(), IsEmpty());
}

// A config can be a manifest of files, too: one document, two trees.
TEST_F(ImageArtifactTest, OneIdIsNeverAnImageAndAnArtifact) {
  TestLayout layout(directory_ / "both");
  const TestLayout::Blob artifact = layout.AddArtifact(
      {{"f", "x"}},
      {{"os", "linux"}, {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array()}}}});
  layout.Finish(artifact);
  ASSERT_TRUE(registry_->Push(layout.path(), "both:artifact").ok());
  Json config = DescriptorOf(artifact);
  config["mediaType"] = "application/vnd.oci.image.config.v1+json";
  const Json manifest = {{"schemaVersion", 2},
                         {"mediaType", kManifestType},
                         {"config", config},
                         {"layers", Json::array()}};
  layout.Finish(layout.AddBlob(base::DumpJson(manifest), kManifestType));
  ASSERT_TRUE(registry_->Push(layout.path(), "both:image").ok());
  ASSERT_TRUE(Pull("both:artifact").ok());
  const absl::Status refused = Pull("both:image").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(Content("both:artifact"), ElementsAre("f=x"));
  Remove("both:artifact");
  EXPECT_TRUE(Pull("both:image").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Pull("both:artifact").status()));
}

// The config's bytes are of any kind.
TEST_F(ImageArtifactTest, ASavedOneIsTheSameAfterItsLoad) {
  TestLayout layout(directory_ / "binary");
  const TestLayout::Blob config =
      layout.AddBlob(std::string("\xff\x00%\x80 config", 11), "application/x-binary");
  layout.Finish(layout.AddArtifact({{"a/b", "1"}, {"c", worker::BigText()}},
                                   {{"config", DescriptorOf(config)}}));
  ASSERT_TRUE(registry_->Push(layout.path(), "binary:1").ok());
  const absl::StatusOr<std::string> id = Pull("binary:1");
  ASSERT_TRUE(id.ok()) << id.status();
  const std::vector<std::string> content = Content("binary:1");
  EXPECT_THAT(content, SizeIs(2));
  const std::string archive = directory_ / "saved.tar";
  const std::string folder = directory_ / "saved";
  ASSERT_TRUE(base::ReplaceFile(archive, "", 0600, base::Durability::kVolatile).ok());
  ASSERT_TRUE(base::MakeDirectories(folder).ok());
  EXPECT_EQ(Save(*id, archive), absl::OkStatus());
  EXPECT_EQ(Save(*id, folder, SaveRequest::OCI_LAYOUT), absl::OkStatus());
  EXPECT_TRUE(absl::IsInvalidArgument(Save(*id, archive, SaveRequest::DOCKER_ARCHIVE)));
  for (const std::string& path : {archive, folder}) {
    Remove("binary:1");
    ASSERT_THAT(List(), IsEmpty());
    const crisp::v1::Image loaded = Load(path);
    EXPECT_EQ(loaded.id(), *id) << loaded.error();
    EXPECT_THAT(loaded.names(), ElementsAre(NameOf("binary:1")));
    EXPECT_EQ(Content("binary:1"), content);
  }
  // What was changed on disk is not saved as if it were the artifact.
  const std::string layer = directory_ / ("root/layers/" + Names("layers")[0]);
  const std::string file = layer + (base::Exists(layer + "/c") ? "/c" : "/a/b");
  ASSERT_TRUE(base::ReplaceFile(file, "changed", 0644, base::Durability::kVolatile).ok());
  ASSERT_TRUE(base::ReplaceFile(archive, "", 0600, base::Durability::kVolatile).ok());
  EXPECT_TRUE(absl::IsDataLoss(Save(*id, archive)));
}

}  // namespace
}  // namespace imageservice
