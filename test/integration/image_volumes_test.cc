// Images as volumes of containers.
#include <poll.h>

#include <algorithm>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kFiles[] = "crisp-test/files:latest";
constexpr char kOneLayer[] = "crisp-test/one-layer:latest";

class ImageVolumesTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  ImageVolumesTest() : IntegrationTest(GetParam()) {}

  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
  }

  // A container whose /volume is the image.
  cri::CreateContainerRequest Request(std::string_view name, std::string_view image,
                                      std::string_view script,
                                      std::string_view sub_path = "") const {
    cri::CreateContainerRequest request = ContainerRequest(pod_, name, script);
    AddVolume(image, "/volume", &request)->set_image_sub_path(std::string(sub_path));
    return request;
  }
  cri::Mount* AddVolume(std::string_view image, std::string_view path,
                        cri::CreateContainerRequest* request) const {
    cri::Mount* mount = request->mutable_config()->add_mounts();
    mount->mutable_image()->set_image(std::string(image));
    mount->set_container_path(std::string(path));
    mount->set_readonly(true);
    return mount;
  }
  // What the script of the container prints; or the error.
  std::string Output(const cri::CreateContainerRequest& request) const {
    const auto container = Create(request);
    if (!container.ok()) return container.status().ToString();
    const absl::Status started = Start(*container);
    if (!started.ok()) return started.ToString();
    EXPECT_OK(WaitForExit(*container));
    std::string text;
    for (const auto line : absl::StrSplit(ReadLog("pod", request.config().log_path()), '\n')) {
      const size_t content = line.find(" F ");
      if (content != absl::string_view::npos) text += base::StrCat(line.substr(content + 3), "\n");
    }
    return text;
  }
  void ExpectRefused(const cri::CreateContainerRequest& request, absl::StatusCode code,
                     const std::string& field) const {
    const auto result = Create(request);
    EXPECT_THAT(result, HasCode(code));
    EXPECT_THAT(std::string(result.status().message()),
                AllOf(StartsWith("ImageVolumeMountFailed: "), HasSubstr(field)));
  }
  std::vector<std::string> Layers() const {
    return base::ListDirectory(environment().Get("ROOT") + "/layers")
        .value_or(std::vector<std::string>());
  }
  absl::Status RemoveImage(const std::string& id) const {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(id);
    return client().Call(&ImageStub::RemoveImage, request).status();
  }
  void ExpectNothingLeft() const {
    EXPECT_OK(RemovePod(pod_));
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
        << testing::PrintToString(Leftovers());
  }

  std::string pod_;
};

INSTANTIATE_TEST_SUITE_P(Runtimes, ImageVolumesTest, testing::Values("crun", "runc"),
                         [](const auto& test) { return test.param; });

TEST_P(ImageVolumesTest, TheImagesFilesAreThereAndCannotBeChanged) {
  ASSERT_OK_AND_ASSIGN(const std::string image, Pull(kFiles));
  cri::CreateContainerRequest request =
      Request("c", image,
              "cat /volume/data/file; ls /volume/data; /volume/tool; cat /one/file; "
              "touch /volume/new 2>&1; echo x 2>&1 > /volume/data/file");
  ASSERT_OK(Pull(kOneLayer));
  AddVolume(Image(kOneLayer), "/one", &request);
  const std::string output = Output(request);
  EXPECT_THAT(output, StartsWith("high\nfile\nsub\ntool\none\n"));
  EXPECT_THAT(output, HasSubstr("/volume/new: Read-only file system"));
  EXPECT_THAT(output, HasSubstr("/volume/data/file: Read-only file system"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(containers.at(0).id()));
  ASSERT_EQ(status.mounts_size(), 2);
  EXPECT_EQ(status.mounts(0).image().image(), image);
  EXPECT_EQ(status.mounts(0).image().image_ref(), image);
  EXPECT_EQ(status.mounts(0).container_path(), "/volume");
  EXPECT_TRUE(status.mounts(0).readonly());
  EXPECT_EQ(status.mounts(1).image().image(), Image(kOneLayer));
  EXPECT_NE(status.mounts(1).image().image_ref(), "");
  ExpectNothingLeft();
}

TEST_P(ImageVolumesTest, ASubPathShowsThatFolderOrFile) {
  ASSERT_OK_AND_ASSIGN(const std::string image, Pull(kFiles));
  EXPECT_EQ(Output(Request("folder", image, "ls /volume", "data/sub")), "inner\n");
  EXPECT_EQ(Output(Request("slash", image, "ls /volume", "./data//sub/")), "inner\n");
  EXPECT_EQ(Output(Request("file", image, "cat /volume", "data/file")), "high\n");
  // Symlinks mean what they mean to a process in the image.
  EXPECT_EQ(Output(Request("symlink", image, "ls /volume", "inside")), "inner\n");
  EXPECT_EQ(Output(Request("climbing", image, "ls /volume", "outside")), "file\nsub\n");
  ExpectNothingLeft();
}

TEST_P(ImageVolumesTest, WhatCannotBeMountedIsRefusedAndLeavesNothing) {
  ASSERT_OK_AND_ASSIGN(const std::string image, Pull(kFiles));
  const auto refused = [&](std::string_view sub_path) {
    ExpectRefused(Request("c", image, "true", sub_path), absl::StatusCode::kInvalidArgument,
                  "mounts[0].image_sub_path: ");
  };
  refused("/data");
  refused("data/../../etc");
  refused("..");
  refused("not/there");
  refused("nowhere");
  refused("pipe");
  refused(std::string("data\0x", 6));
  cri::CreateContainerRequest request = Request("c", image, "true");
  request.mutable_config()->mutable_mounts(0)->set_readonly(false);
  ExpectRefused(request, absl::StatusCode::kInvalidArgument, "mounts[0].readonly: ");
  request = Request("c", image, "true");
  request.mutable_config()->mutable_mounts(0)->set_host_path("/etc");
  ExpectRefused(request, absl::StatusCode::kInvalidArgument, "mounts[0].host_path: ");
  request = Request("c", image, "true");
  request.mutable_config()->mutable_mounts(0)->set_propagation(cri::PROPAGATION_HOST_TO_CONTAINER);
  ExpectRefused(request, absl::StatusCode::kInvalidArgument, "mounts[0].propagation: ");
  request = Request("c", image, "true");
  AddVolume(Image("crisp-test/never-pulled:1"), "/other", &request);
  ExpectRefused(request, absl::StatusCode::kNotFound, "mounts[1].image: ");
  request = ContainerRequest(pod_, "c", "true");
  cri::Mount* mount = request.mutable_config()->add_mounts();
  mount->set_host_path("/tmp");
  mount->set_container_path("/tmp");
  mount->set_image_sub_path("data");
  EXPECT_THAT(Create(request), HasCode(absl::StatusCode::kInvalidArgument));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_THAT(containers, IsEmpty());
  // Nobody keeps the layers of what was refused.
  const size_t before = Layers().size();
  ASSERT_OK(RemoveImage(image));
  EXPECT_EQ(Layers().size(), before - 2);
  ExpectNothingLeft();
}

TEST_P(ImageVolumesTest, ARemovedImageStaysReadableUntilItsLastVolumeGoes) {
  ASSERT_OK_AND_ASSIGN(const std::string image, Pull(kFiles));
  const size_t before = Layers().size();
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(Request("c", image, "exec sleep 4321")));
  ASSERT_OK(Start(container));
  ASSERT_OK(RemoveImage(image));
  ASSERT_OK(CrashAndRestart());
  EXPECT_EQ(Layers().size(), before);
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse seen,
                       Exec(container, {"cat", "/volume/data/sub/inner", "/volume/data/file"}));
  EXPECT_EQ(seen.stdout(), "inner\nhigh\n");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.mounts(0).image().image_ref(), image);
  ASSERT_OK(StopContainer(container, 0));
  EXPECT_EQ(Layers().size(), before);
  ASSERT_OK(RemoveContainer(container));
  EXPECT_EQ(Layers().size(), before - 2);
  ExpectNothingLeft();
}

// kill -9 while containers with image volumes come and go.
TEST_P(ImageVolumesTest, ACrashLeavesNoMountAndNoLayerBehind) {
  ASSERT_OK_AND_ASSIGN(const std::string image, Pull(kFiles));
  const size_t without_image = Layers().size() - 2;
  const unsigned seed = EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()());
  std::mt19937 random(seed);
  for (unsigned round = 0; round < EnvironmentNumber("CRISP_CRASH_ROUNDS", 4); ++round) {
    SCOPED_TRACE(base::StrCat("round ", round, ", CRISP_CRASH_SEED=", seed));
    std::thread life([&] {
      for (int i = 0;; ++i) {
        cri::CreateContainerRequest request =
            Request(base::StrCat("c", round, "-", i), image, "exec sleep 4321", "data/sub");
        AddVolume(image, "/whole", &request);
        const auto container = Create(request);
        if (!container.ok() || !Start(*container).ok()) return;
        if (i % 2 == 0 && !RemoveContainer(*container).ok()) return;
      }
    });
    // The moment of the crash is the point of the test: nothing is waited for.
    poll(nullptr, 0, static_cast<int>(random() % 500));
    EXPECT_OK(daemon().Crash());
    life.join();
    ASSERT_OK(daemon().Start());
    ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
    for (const cri::Container& container : containers) {
      EXPECT_OK(RemoveContainer(container.id()));
    }
    const auto has_volume = [](const std::string& left) {
      return absl::StrContains(left, "/volumes") || absl::StrContains(left, "/containers/");
    };
    EXPECT_TRUE(Eventually([&] {
      const std::vector<std::string> left = Leftovers();
      return std::none_of(left.begin(), left.end(), has_volume);
    })) << testing::PrintToString(Leftovers());
  }
  ASSERT_OK(RemoveImage(image));
  EXPECT_TRUE(Eventually([&] { return Layers().size() == without_image; }))
      << Layers().size() << " instead of " << without_image;
  ExpectNothingLeft();
}

}  // namespace
}  // namespace test
