// Images: pulls by tag and digest, what the daemon says of them, removal.
#include <algorithm>
#include <thread>

#include "base/files.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "proto/state.pb.h"
#include "test/integration/image_checks.h"

namespace test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using ImagesTest = ImageStoreTest;

TEST_F(ImagesTest, PulledImageIsKnownByAllItsNames) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull("crisp-test/busybox"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> images, Images());
  ASSERT_EQ(images.size(), 1u);
  EXPECT_EQ(images[0].id(), id);
  EXPECT_THAT(images[0].repo_tags(), ElementsAre(Image("crisp-test/busybox:latest")));
  ASSERT_EQ(images[0].repo_digests_size(), 1);
  EXPECT_THAT(images[0].repo_digests(0), HasSubstr(Image("crisp-test/busybox@sha256:")));
  EXPECT_GT(images[0].size(), 0u);
  for (const std::string& name :
       {id, Image("crisp-test/busybox"), images[0].repo_tags(0), images[0].repo_digests(0)}) {
    ASSERT_OK_AND_ASSIGN(const cri::ImageStatusResponse status, ImageStatus(name));
    EXPECT_EQ(status.image().id(), id) << name;
  }
}

TEST_F(ImagesTest, UnknownImageHasNoStatusAndItsRemovalSucceeds) {
  ASSERT_OK_AND_ASSIGN(const cri::ImageStatusResponse status, ImageStatus(Image("no/such:image")));
  EXPECT_FALSE(status.has_image());
  EXPECT_OK(RemoveImage(Image("no/such:image")));
}

TEST_F(ImagesTest, PullByDigestHasNoTag) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull("crisp-test/busybox"));
  ASSERT_OK_AND_ASSIGN(std::vector<cri::Image> images, Images());
  const std::string digest = images[0].repo_digests(0);
  ASSERT_OK(RemoveImage(id));
  ASSERT_OK_AND_ASSIGN(images, Images());
  ASSERT_EQ(images.size(), 0u);

  ASSERT_OK_AND_ASSIGN(const std::string again, Pull(digest.substr(Image("").size())));
  EXPECT_EQ(again, id);
  ASSERT_OK_AND_ASSIGN(images, Images());
  ASSERT_EQ(images.size(), 1u);
  EXPECT_THAT(images[0].repo_tags(), IsEmpty());
  EXPECT_THAT(images[0].repo_digests(), ElementsAre(digest));
}

TEST_F(ImagesTest, TagsOfOneImageAreOneImage) {
  ASSERT_OK_AND_ASSIGN(const std::string first, Pull("crisp-test/busybox:1"));
  ASSERT_OK_AND_ASSIGN(const std::string second, Pull("crisp-test/busybox:latest"));
  EXPECT_EQ(first, second);
  ASSERT_OK_AND_ASSIGN(std::vector<cri::Image> images, Images());
  ASSERT_EQ(images.size(), 1u);
  EXPECT_EQ(images[0].repo_tags_size(), 2);
  ASSERT_OK(RemoveImage(first));
  ASSERT_OK_AND_ASSIGN(images, Images());
  EXPECT_EQ(images.size(), 0u);
}

TEST_F(ImagesTest, IndexAndDockerManifestsArePulled) {
  EXPECT_OK(Pull("crisp-test/index"));
  EXPECT_OK(Pull("crisp-test/docker"));
  EXPECT_OK(Pull("crisp-test/layers"));
}

TEST_F(ImagesTest, RemovalGivesTheDiskSpaceBack) {
  const std::string layers = base::StrCat(environment().Get("ROOT"), "/layers");
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull("crisp-test/layers"));
  ASSERT_OK_AND_ASSIGN(std::vector<std::string> names, base::ListDirectory(layers));
  EXPECT_GE(names.size(), 3u);
  ASSERT_OK(RemoveImage(id));
  EXPECT_TRUE(Eventually([&] {
    const auto left = base::ListDirectory(layers);
    return left.ok() && left->empty();
  }));
  ASSERT_OK(Pull("crisp-test/layers"));
}

TEST_F(ImagesTest, PullsOfOneImageAtOnceAgree) {
  std::vector<std::thread> callers;
  std::vector<std::string> ids(8);
  for (std::string& id : ids) {
    callers.emplace_back([&] {
      const auto pulled = Pull("crisp-test/layers");
      id = pulled.ok() ? *pulled : pulled.status().ToString();
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(ids, testing::Each(ids[0]));
  EXPECT_THAT(ids[0], testing::Not(HasSubstr(" ")));
}

TEST_F(ImagesTest, AnImageInUseMayGoAndItsContainerNoticesNothing) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> images, Images());
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus before, Status(container));
  EXPECT_EQ(before.image_ref(), images[0].repo_digests(0));
  EXPECT_EQ(before.image_id(), id);
  ASSERT_OK(RemoveImage(id));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> none, Images());
  EXPECT_THAT(none, IsEmpty());
  EXPECT_THAT(Names("layers"), testing::SizeIs(1));
  ASSERT_OK(CrashAndRestart());
  EXPECT_THAT(Names("layers"), testing::SizeIs(1)) << "the container's record keeps it";
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus after, Status(container));
  EXPECT_EQ(after.image_ref(), before.image_ref());
  EXPECT_EQ(after.image_id(), before.image_id());
  EXPECT_EQ(after.image().image(), before.image().image());
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse said, Exec(container, {"cat", "/etc/group"}));
  EXPECT_EQ(said.exit_code(), 0);
  ASSERT_OK(StopContainer(container, 0));
  ASSERT_OK(RemoveContainer(container));
  EXPECT_TRUE(Eventually([&] { return Names("layers").empty(); }));
}

TEST_F(ImagesTest, ALayerThatVanishesIsNamedAndTheNextPullRepairsIt) {
  ASSERT_OK(Pull("crisp-test/layers"));
  ASSERT_OK(Pull("crisp-test/web"));
  RememberLayers();
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  cri::CreateContainerRequest request = ContainerRequest(pod, "c", "true");
  request.mutable_config()->mutable_image()->set_image(Image("crisp-test/layers"));
  crisp::state::ImageRecord record;
  ASSERT_OK_AND_ASSIGN(const cri::ImageStatusResponse status,
                       ImageStatus(Image("crisp-test/layers")));
  ASSERT_OK_AND_ASSIGN(
      const std::string bytes,
      base::RecordStore::Existing(Root("records/images"), base::Durability::kVolatile)
          .Get(status.image().id()));
  ASSERT_TRUE(record.ParseFromString(bytes));
  for (const std::string& layer : record.chain_ids()) {  // The first is web's too.
    ASSERT_OK(base::RemoveTree(Root("layers/" + layer)));
    const auto created = Create(request);
    EXPECT_THAT(created, HasCode(absl::StatusCode::kNotFound));
    EXPECT_THAT(std::string(created.status().message()), HasSubstr(layer));
    cri::StatusRequest verbose;
    verbose.set_verbose(true);
    ASSERT_OK_AND_ASSIGN(const cri::StatusResponse daemon_status,
                         client().Call(&RuntimeStub::Status, verbose));
    EXPECT_THAT(daemon_status.info().at("imageProblems"), HasSubstr(layer));
    ASSERT_OK(Pull("crisp-test/layers"));
    ASSERT_OK(Pull("crisp-test/web"));
    EXPECT_THAT(StoreFaults(), IsEmpty());
    ASSERT_OK_AND_ASSIGN(const cri::StatusResponse repaired,
                         client().Call(&RuntimeStub::Status, verbose));
    EXPECT_EQ(repaired.info().at("imageProblems"), "[]");
  }
  EXPECT_OK(Create(request));
}

TEST_F(ImagesTest, DamageDuringTheDaemonsAbsenceIsNamedAndTheNextPullRepairsIt) {
  ASSERT_OK_AND_ASSIGN(const std::string layers, Pull("crisp-test/layers"));
  ASSERT_OK_AND_ASSIGN(const std::string web, Pull("crisp-test/web"));
  RememberLayers();
  const auto damages = {base::StrCat("records/images/", layers),
                        base::StrCat("records/images/", web),
                        base::StrCat("records/layers/", Names("layers")[0]),
                        base::StrCat("records/layers/", Names("layers")[1])};
  for (const std::string& damaged : damages) {
    ASSERT_OK(daemon().Crash());
    ASSERT_OK(base::ReplaceFile(Root(damaged), "rubbish", 0600, base::Durability::kVolatile));
    ASSERT_OK(daemon().Start());
    const std::string id = damaged.substr(damaged.rfind('/') + 1);
    EXPECT_THAT(daemon().Log(), HasSubstr(id + ": its record is damaged"));
    EXPECT_OK(Images());
    ASSERT_OK(Pull("crisp-test/layers"));
    ASSERT_OK(Pull("crisp-test/web"));
    EXPECT_THAT(StoreFaults(), IsEmpty()) << damaged;
    ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> images, Images());
    EXPECT_THAT(images, testing::SizeIs(2));
  }
}

TEST_F(ImagesTest, PullsRemovalsAndCreatesAtOnceLeaveTheStoreWhole) {
  ASSERT_OK(Pull("crisp-test/layers"));
  ASSERT_OK(Pull("crisp-test/web"));
  RememberLayers();
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  std::vector<std::thread> threads;
  for (const char* name : {"crisp-test/layers", "crisp-test/web"}) {
    threads.emplace_back([&, name] {
      for (int i = 0; i < 15; ++i) EXPECT_OK(Pull(name));
    });
    threads.emplace_back([&, name] {
      for (int i = 0; i < 15; ++i) EXPECT_OK(RemoveImage(Image(name)));
    });
    threads.emplace_back([&, name] {
      for (int i = 0; i < 15; ++i) {
        cri::CreateContainerRequest request =
            ContainerRequest(pod, base::StrCat(std::string(name).substr(11), i), "true");
        request.mutable_config()->mutable_image()->set_image(Image(name));
        const auto container = Create(request);
        if (container.ok()) {
          EXPECT_OK(Start(*container));
          EXPECT_OK(RemoveContainer(*container));
        } else {
          EXPECT_THAT(container, HasCode(absl::StatusCode::kNotFound));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(StoreFaults(), IsEmpty());
  ASSERT_OK(Pull("crisp-test/layers"));
  ASSERT_OK(RemoveImage(Image("crisp-test/layers")));
  ASSERT_OK(RemoveImage(Image("crisp-test/web")));
  EXPECT_TRUE(Eventually([&] { return Names("layers").empty(); }));
  EXPECT_THAT(StoreFaults(), IsEmpty());
}

TEST_F(ImagesTest, ErrorsSayWhy) {
  EXPECT_THAT(Pull("crisp-test/absent"), HasCode(absl::StatusCode::kNotFound));
  cri::PullImageRequest request;
  // Nothing listens on port 1.
  request.mutable_image()->set_image("127.0.0.1:1/some/image");
  EXPECT_THAT(client().Call(&ImageStub::PullImage, request),
              HasCode(absl::StatusCode::kUnavailable));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> images, Images());
  EXPECT_EQ(images.size(), 0u);
}

TEST_F(ImagesTest, FileSystemOfImagesIsNamed) {
  ASSERT_OK(Pull("crisp-test/busybox"));
  ASSERT_OK_AND_ASSIGN(const cri::ImageFsInfoResponse info,
                       client().Call(&ImageStub::ImageFsInfo, cri::ImageFsInfoRequest()));
  ASSERT_GE(info.image_filesystems_size(), 1);
  EXPECT_NE(info.image_filesystems(0).fs_id().mountpoint(), "");
  EXPECT_GT(info.image_filesystems(0).used_bytes().value(), 1u << 20);
  EXPECT_GE(info.container_filesystems_size(), 1);
}

TEST_F(ImagesTest, ImagesSurviveACrashAndHalfPulledOnesDoNot) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull("crisp-test/busybox"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> before, Images());
  std::thread caller([&] { static_cast<void>(Pull("crisp-test/layers")); });
  EXPECT_OK(daemon().Crash());
  caller.join();
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> after, Images());
  ASSERT_GE(after.size(), 1u);
  const auto found = std::find_if(after.begin(), after.end(),
                                  [&](const cri::Image& image) { return image.id() == id; });
  ASSERT_NE(found, after.end());
  EXPECT_EQ(found->SerializeAsString(), before[0].SerializeAsString());
  const std::string staging = base::StrCat(environment().Get("ROOT"), "/staging");
  EXPECT_TRUE(Eventually([&] {
    const auto names = base::ListDirectory(staging);
    return !names.ok() || names->empty();
  }));
  EXPECT_OK(Pull("crisp-test/layers"));
}

}  // namespace
}  // namespace test
