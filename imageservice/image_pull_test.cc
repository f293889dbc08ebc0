// Whole pulls: the image service, the real crisp-pull and a real registry on loopback.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/sha.h"
#include "base/strings.h"
#include "imageservice/image_service.h"
#include "imageservice/pull_plan.h"
#include "imageservice/rootfs.h"
#include "imageservice/testing/temp_directory.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/test_registry.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;
using worker::TarEntry;
using worker::TestLayout;
using worker::TestRegistry;

constexpr char kPassword[] = "open-sesame";

class ImagePullTest : public ::testing::Test {
 protected:
  ImagePullTest() : launcher_("", "") {}

  void SetUp() override {
    if (!base::Exists("/usr/bin/docker-registry") || !base::Exists("/usr/bin/skopeo")) {
      GTEST_SKIP() << "SKIP: docker-registry and skopeo";
    }
    Start("");
  }
  void TearDown() override {
    if (rootfs_ != nullptr) {
      rootfs_->Remove(base::Context(), container_).IgnoreError();
    }
  }

  void Start(const std::string& password) {
    auto registry = TestRegistry::Start(password);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    OpenService();
  }
  void OpenService() {
    service_.reset();
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_PULL_BINARY;
    config.registries.files.paths = {directory_ / "registries.conf"};
    config.registries.insecure_registries = {registry_->host()};
    config.registries.auth.global_file = directory_ / "auth.json";
    config.registries.auth.namespaced_directory = directory_.path();
    config.registries.hosts_directories = {directory_ / "hosts"};
    config.registries.helpers.directories = {directory_.path()};
    auto service = ImageService::Open(config, &launcher_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    service_->ReleaseUnused();
    rootfs_ = Rootfs::Open(config.root, config.run_root).value();
  }

  void Push(const std::vector<TestLayout::Layer>& layers, const std::string& name) {
    const std::string path = base::StrCat(directory_.path(), "/layout-", ++layouts_);
    TestLayout layout(path);
    layout.Finish(layout.AddImage(layers, "linux", HostPlatform().architecture));
    const absl::Status pushed = registry_->Push(path, name);
    ASSERT_TRUE(pushed.ok()) << pushed;
  }

  void Write(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = directory_ / name;
    ASSERT_TRUE(base::MakeDirectories(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(base::ReplaceFile(path, text, mode, base::Durability::kVolatile).ok());
  }
  absl::StatusOr<std::string> Pull(const std::string& name, const cri::AuthConfig& auth = {}) {
    return PullWhole(registry_->host() + "/" + name, auth);
  }
  absl::StatusOr<std::string> PullWhole(const std::string& image, const cri::AuthConfig& auth = {},
                                        const std::string& pod_namespace = "") {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(image);
    *request.mutable_auth() = auth;
    request.mutable_sandbox_config()->mutable_metadata()->set_namespace_(pod_namespace);
    const auto response =
        service_->PullImage(base::Context().WithTimeout(absl::Seconds(60)), request);
    if (!response.ok()) {
      return response.status();
    }
    return response->image_ref();
  }
  // The mounted root file system of a pulled image.
  std::string Mount(const std::string& id) {
    const auto image = service_->Acquire(id, container_.str());
    EXPECT_TRUE(image.ok()) << image.status();
    const auto target = rootfs_->Prepare(base::Context(), container_, image->chain_ids);
    EXPECT_TRUE(target.ok()) << target.status();
    return target.value_or("");
  }
  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / ("root/" + folder)).value();
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  base::ContainerId container_ = base::ContainerId::Random();
  std::unique_ptr<TestRegistry> registry_;
  std::unique_ptr<ImageService> service_;
  std::unique_ptr<Rootfs> rootfs_;
  int layouts_ = 0;
};

TestLayout::Layer Base() {
  return worker::GzipLayer({{.name = "etc/", .type = '5', .mode = 0750, .uid = 3, .mtime = 500},
                            {.name = "etc/hosts", .content = "base"},
                            {.name = "etc/old", .content = "old"},
                            {.name = "tmp/", .type = '5', .mode = 01777, .mtime = 600},
                            {.name = "bin/", .type = '5', .mode = 0755},
                            {.name = "bin/tool", .content = "tool", .mode = 04755},
                            {.name = "opt/", .type = '5', .mode = 0755},
                            {.name = "opt/a", .content = "a"}});
}

TEST_F(ImagePullTest, AContainerSeesTheImageAsItsArchivesDescribeIt) {
  Push({Base(), worker::ZstdLayer({{.name = "etc/.wh.old"},
                                   {.name = "etc/new", .content = "new"},
                                   {.name = "opt/", .type = '5', .mode = 0711},
                                   {.name = "opt/.wh..wh..opq"},
                                   {.name = "opt/b", .content = "b"},
                                   {.name = "tmp/x", .content = "x"},
                                   {.name = "alias", .type = '1', .link = "bin/tool"}})},
       "app:1");
  const absl::StatusOr<std::string> id = Pull("app:1");
  ASSERT_TRUE(id.ok()) << id.status();
  const std::string root = Mount(*id);
  EXPECT_EQ(base::ReadFile(root + "/etc/hosts").value(), "base");
  EXPECT_EQ(base::ReadFile(root + "/etc/new").value(), "new");
  EXPECT_FALSE(base::Exists(root + "/etc/old"));
  EXPECT_THAT(base::ListDirectory(root + "/opt").value(), ElementsAre("b"));
  EXPECT_EQ(base::ReadFile(root + "/alias").value(), "tool");
  struct stat info = {};
  ASSERT_EQ(stat((root + "/tmp").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 01777u) << "the upper layer only implies it";
  EXPECT_EQ(info.st_mtim.tv_sec, 600);
  ASSERT_EQ(stat((root + "/etc").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0750u);
  EXPECT_EQ(info.st_uid, 3u);
  EXPECT_EQ(info.st_mtim.tv_sec, 500);
  ASSERT_EQ(stat((root + "/alias").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 04755u);
  EXPECT_THAT(Names("staging"), IsEmpty());
}

TEST_F(ImagePullTest, SharedLayersArePulledOnceAndGoWithTheLastImage) {
  Push({Base()}, "one:1");
  Push({Base(), worker::GzipLayer({{.name = "two", .content = "2"}})}, "two:1");
  ASSERT_TRUE(Pull("one:1").ok());
  ASSERT_TRUE(Pull("two:1").ok());
  EXPECT_THAT(Names("layers"), SizeIs(2));
  cri::RemoveImageRequest request;
  request.mutable_image()->set_image(registry_->host() + "/one:1");
  ASSERT_TRUE(service_->RemoveImage(base::Context(), request).ok());
  EXPECT_THAT(Names("layers"), SizeIs(2));
  request.mutable_image()->set_image(registry_->host() + "/two:1");
  ASSERT_TRUE(service_->RemoveImage(base::Context(), request).ok());
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("trash"), IsEmpty());
}

TEST_F(ImagePullTest, PullsByTagWithoutTagAndByDigestAreTheSameImage) {
  Push({Base()}, "app:latest");
  const absl::StatusOr<std::string> id = Pull("app");
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*Pull("app:latest"), *id);
  const cri::Image image =
      service_->ListImages(base::Context(), cri::ListImagesRequest())->images(0);
  ASSERT_EQ(image.repo_digests_size(), 1);
  const std::string& digest = image.repo_digests(0);
  EXPECT_EQ(*Pull(digest.substr(digest.find('/') + 1)), *id);
  EXPECT_THAT(image.repo_tags(), ElementsAre(registry_->host() + "/app:latest"));
}

TEST_F(ImagePullTest, ManyPullsAtOnceFetchEachLayerOnce) {
  Push({Base(), worker::GzipLayer({{.name = "one", .content = "1"}})}, "one:1");
  Push({Base(), worker::GzipLayer({{.name = "two", .content = "2"}})}, "two:1");
  Push({Base(), worker::GzipLayer({{.name = "three", .content = "3"}})}, "three:1");
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    for (const char* name : {"one:1", "two:1", "three:1"}) {
      threads.emplace_back([&, name] {
        const absl::StatusOr<std::string> id = Pull(name);
        EXPECT_TRUE(id.ok()) << id.status();
      });
    }
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(Names("layers"), SizeIs(4));
  EXPECT_THAT(Names("staging"), IsEmpty());
}

TEST_F(ImagePullTest, CredentialsOfEveryKindOpenAProtectedRegistry) {
  Start(kPassword);
  Push({Base()}, "secret:1");
  cri::AuthConfig pair;
  pair.set_username("crisp");
  pair.set_password(kPassword);
  EXPECT_TRUE(Pull("secret:1", pair).ok());
  cri::AuthConfig encoded;
  encoded.set_auth(absl::Base64Escape(base::StrCat("crisp:", kPassword)));
  EXPECT_TRUE(Pull("secret:1", encoded).ok());
  ASSERT_TRUE(base::ReplaceFile(directory_ / "auth.json",
                                base::StrCat("{\"auths\":{\"", registry_->host(), "\":{\"auth\":\"",
                                             encoded.auth(), "\"}}}"),
                                0600, base::Durability::kVolatile)
                  .ok());
  EXPECT_TRUE(Pull("secret:1").ok());
}

TEST_F(ImagePullTest, RefusedCredentialsAreNoUnreachableRegistry) {
  Start(kPassword);
  Push({Base()}, "secret:1");
  cri::AuthConfig wrong;
  wrong.set_username("crisp");
  wrong.set_password("wrong-word");
  for (const cri::AuthConfig& auth : {cri::AuthConfig(), wrong}) {
    const absl::Status status = Pull("secret:1", auth).status();
    EXPECT_TRUE(absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status)) << status;
    EXPECT_THAT(std::string(status.message()), StartsWith("pull " + registry_->host()));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("wrong-word")));
  }
  EXPECT_THAT(Names("layers"), IsEmpty());
}

TEST_F(ImagePullTest, AnUnknownTagIsNotFound) {
  Push({Base()}, "app:1");
  const absl::Status status = Pull("app:2").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_F(ImagePullTest, AnUnreachableRegistryIsReportedAsSuch) {
  cri::PullImageRequest request;
  request.mutable_image()->set_image("127.0.0.1:1/app:1");
  const absl::Status status = service_->PullImage(base::Context(), request).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), StartsWith("RegistryUnavailable"));
}

TEST_F(ImagePullTest, AMirrorServesWhatTheRegistryCannot) {
  Push({Base()}, "cache/library/app:1");
  ASSERT_TRUE(base::ReplaceFile(directory_ / "registries.conf",
                                base::StrCat("[[registry]]\nlocation = \"127.0.0.1:1\"\n"
                                             "[[registry.mirror]]\nlocation = \"",
                                             registry_->host(), "/cache\"\ninsecure = true\n"),
                                0600, base::Durability::kVolatile)
                  .ok());
  cri::PullImageRequest request;
  request.mutable_image()->set_image("127.0.0.1:1/library/app:1");
  const auto response = service_->PullImage(base::Context(), request);
  ASSERT_TRUE(response.ok()) << response.status();
  cri::ImageStatusRequest status;
  status.mutable_image()->set_image("127.0.0.1:1/library/app:1");
  EXPECT_EQ(service_->ImageStatus(base::Context(), status)->image().id(), response->image_ref());
}

TEST_F(ImagePullTest, AHostOfHostsTomlServesWhatTheRegistryCannot) {
  Push({Base()}, "cache/library/app:1");
  Write("hosts/127.0.0.1_1_/hosts.toml",
        base::StrCat("server = \"http://127.0.0.1:1\"\n[host.\"http://", registry_->host(),
                     "/v2/cache\"]\noverride_path = true\n"));
  const auto pulled = PullWhole("127.0.0.1:1/library/app:1");
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  cri::ImageStatusRequest status;
  status.mutable_image()->set_image("127.0.0.1:1/library/app:1");
  EXPECT_EQ(service_->ImageStatus(base::Context(), status)->image().id(), *pulled);
}

TEST_F(ImagePullTest, AHelperOpensAProtectedRegistry) {
  Start(kPassword);
  Push({Base()}, "secret:1");
  Write("docker-credential-vault",
        base::StrCat("#!/bin/sh\nread -r server\necho '{\"Username\": \"crisp\", \"Secret\": \"",
                     kPassword, "\"}'\n"),
        0755);
  EXPECT_FALSE(Pull("secret:1").ok());
  Write("registries.conf", "credential-helpers = [\"vault\"]\n");
  const auto pulled = Pull("secret:1");
  EXPECT_TRUE(pulled.ok()) << pulled.status();
}

TEST_F(ImagePullTest, ANamespacesFileOpensAProtectedRegistryOnce) {
  Start(kPassword);
  Push({Base()}, "secret:1");
  const std::string name = registry_->host() + "/secret";
  Write("team-" + base::Sha256Hex(name) + ".json",
        base::StrCat("{\"auths\":{\"", registry_->host(), "\":{\"auth\":\"",
                     absl::Base64Escape(base::StrCat("crisp:", kPassword)), "\"}}}"));
  EXPECT_FALSE(PullWhole(name + ":1", {}, "other").ok());
  const auto pulled = PullWhole(name + ":1", {}, "team");
  EXPECT_TRUE(pulled.ok()) << pulled.status();
}

TEST_F(ImagePullTest, AProtectedMirrorOpensOnlyByPassCredentials) {
  Start(kPassword);
  Push({Base()}, "cache/app:1");
  cri::AuthConfig auth;
  auth.set_username("crisp");
  auth.set_password(kPassword);
  const std::string mirror =
      base::StrCat("[[registry]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"",
                   registry_->host(), "/cache\"\ninsecure = true\n");
  Write("registries.conf", mirror);
  EXPECT_FALSE(PullWhole("127.0.0.1:1/app:1", auth).ok());
  Write("registries.conf", mirror + "pass_credentials = true\n");
  const auto pulled = PullWhole("127.0.0.1:1/app:1", auth);
  EXPECT_TRUE(pulled.ok()) << pulled.status();
}

TEST_F(ImagePullTest, ADeadlineOfAMillisecondIsADeadline) {
  Push({Base()}, "app:1");
  cri::PullImageRequest request;
  request.mutable_image()->set_image(registry_->host() + "/app:1");
  const absl::Status status =
      service_->PullImage(base::Context().WithTimeout(absl::Milliseconds(1)), request).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

TEST_F(ImagePullTest, AHardLinkToNothingFailsAndLeavesNothing) {
  Push({Base(), worker::GzipLayer({{.name = "alias", .type = '1', .link = "none"}})}, "bad:1");
  const absl::Status status = Pull("bad:1").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  service_.reset();  // Ends when the deletions have.
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("staging"), IsEmpty());
  EXPECT_THAT(Names("records/layers"), IsEmpty());
}

}  // namespace
}  // namespace imageservice
