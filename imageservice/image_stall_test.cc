// A registry that goes away in the middle of a pull, with the image service and the real
// crisp-pull.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/image_service.h"
#include "imageservice/pull_plan.h"
#include "imageservice/rootfs.h"
#include "imageservice/testing/temp_directory.h"
#include "imageservice/worker/test_registry.h"
#include "imageservice/worker/test_server.h"

namespace imageservice {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;
using worker::TestLayout;
using worker::TestRequest;
using worker::TestResponse;
using worker::TestServer;

constexpr int64_t kCut = 1'200'000;

class ImageStallTest : public ::testing::Test {
 protected:
  ImageStallTest()
      : launcher_("", ""),
        layout_(directory_ / "layout"),
        root_(worker::AddSampleImage(&layout_, HostPlatform().architecture)),
        server_([this](const TestRequest& request) { return Answer(request); }) {
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_PULL_BINARY;
    config.limits.max_parallel_layers = 1;
    config.registries.insecure_registries = {server_.host()};
    rootfs_ = Rootfs::Open(config.root, config.run_root).value();
    service_ = ImageService::Open(config, &launcher_, rootfs_.get()).value();
  }

  // Once armed: cuts the layer with "big" in its middle and is away from then on.
  TestResponse Answer(const TestRequest& request) {
    if (is_away_) {
      return {.status = 503, .headers = {"Retry-After: 0"}};
    }
    TestResponse response =
        worker::ServeLayout(layout_, root_, request).value_or(TestResponse{.status = 404});
    if (request.target.find("/blobs/") != std::string::npos && !request.headers.contains("range") &&
        response.body.size() > kCut) {
      response.cut_after = kCut;
      is_away_ = true;
    }
    return response;
  }

  absl::StatusOr<std::string> Pull() {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(server_.host() + "/app:1");
    const auto response =
        service_->PullImage(base::Context().WithTimeout(absl::Seconds(60)), request);
    if (!response.ok()) return response.status();
    return response->image_ref();
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  TestLayout layout_;
  const TestLayout::Blob root_;
  std::atomic<bool> is_away_ = false;
  TestServer server_;
  std::unique_ptr<Rootfs> rootfs_;
  std::unique_ptr<ImageService> service_;
};

TEST_F(ImageStallTest, TheNextPullGoesOnWhereTheLastOneStopped) {
  const absl::Status away = Pull().status();
  EXPECT_TRUE(absl::IsUnavailable(away)) << away;
  EXPECT_THAT(std::string(away.message()), StartsWith("RegistryUnavailable: pull "));
  EXPECT_THAT(std::string(away.message()), HasSubstr("HTTP 503"));
  ASSERT_THAT(service_->Progress(), SizeIs(1));
  EXPECT_TRUE(service_->Progress()[0].stalled);
  EXPECT_THAT(service_->ListImages(base::Context(), {})->images(), IsEmpty());

  is_away_ = false;
  ASSERT_TRUE(Pull().ok());
  EXPECT_THAT(service_->ListImages(base::Context(), {})->images(), SizeIs(1));
  std::vector<std::string> ranges;
  for (const TestRequest& request : server_.requests()) {
    ranges.push_back(request.header("range"));
  }
  EXPECT_THAT(ranges, Contains(base::StrCat("bytes=", kCut, "-")));
  EXPECT_THAT(base::ListDirectory(directory_ / "root/staging").value(), IsEmpty());
}

TEST_F(ImageStallTest, TheEndOfTheDaemonLeavesNothingOfAPullThatStandsStill) {
  ASSERT_FALSE(Pull().ok());
  service_.reset();
  EXPECT_THAT(base::ListDirectory(directory_ / "root/staging").value(), IsEmpty());
  EXPECT_THAT(base::ListDirectory(directory_ / "root/layers").value(), IsEmpty());
}

}  // namespace
}  // namespace imageservice
