// Images: pulls by tag and digest, what the daemon says of them, removal.
#include <algorithm>
#include <thread>

#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ImagesTest : public IntegrationTest {
 protected:
  absl::StatusOr<cri::ImageStatusResponse> ImageStatus(const std::string& name) const {
    cri::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    return client().Call(&ImageStub::ImageStatus, request);
  }
  absl::Status RemoveImage(const std::string& name) const {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(name);
    return client().Call(&ImageStub::RemoveImage, request).status();
  }
  absl::StatusOr<std::vector<cri::Image>> Images() const {
    ASSIGN_OR_RETURN(cri::ListImagesResponse response,
                     client().Call(&ImageStub::ListImages, cri::ListImagesRequest()));
    return std::vector<cri::Image>(response.images().begin(), response.images().end());
  }
};

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
