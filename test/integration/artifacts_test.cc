// OCI artifacts: pulled as images are, mounted as volumes, and never containers themselves.
#include <string>
#include <vector>

#include "base/files.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kArtifact[] = "crisp-test/artifact:latest";

class ArtifactsTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  ArtifactsTest() : IntegrationTest(GetParam()) {}

  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
    ASSERT_OK_AND_ASSIGN(artifact_, Pull(kArtifact));
  }

  // A container whose /volume is the artifact.
  cri::CreateContainerRequest Request(const std::string& name, const std::string& script,
                                      const std::string& sub_path = "") const {
    cri::CreateContainerRequest request = ContainerRequest(pod_, name, script);
    cri::Mount* mount = request.mutable_config()->add_mounts();
    mount->mutable_image()->set_image(Image(kArtifact));
    mount->set_container_path("/volume");
    mount->set_image_sub_path(sub_path);
    mount->set_readonly(true);
    return request;
  }
  std::string Run(const std::string& container, const std::string& script) const {
    const auto response = Exec(container, {"sh", "-c", script});
    return response.ok() ? response->stdout() : response.status().ToString();
  }
  size_t Layers() const {
    return base::ListDirectory(environment().Get("ROOT") + "/layers")
        .value_or(std::vector<std::string>())
        .size();
  }
  void ExpectNothingLeft() const {
    EXPECT_OK(RemovePod(pod_));
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
        << testing::PrintToString(Leftovers());
  }

  std::string pod_;
  std::string artifact_;
};

INSTANTIATE_TEST_SUITE_P(Runtimes, ArtifactsTest, testing::Values("crun", "runc"),
                         [](const auto& test) { return test.param; });

TEST_P(ArtifactsTest, ItsFilesAreAVolumeThatOutlivesTheArtifactAndTheDaemon) {
  ASSERT_OK_AND_ASSIGN(const std::string whole, Create(Request("whole", "exec sleep 4321")));
  ASSERT_OK(Start(whole));
  ASSERT_OK_AND_ASSIGN(const std::string part, Create(Request("part", "exec sleep 4321", "docs")));
  ASSERT_OK(Start(part));
  const size_t layers = Layers();
  cri::RemoveImageRequest request;
  request.mutable_image()->set_image(artifact_);
  ASSERT_OK(client().Call(&ImageStub::RemoveImage, request).status());
  ASSERT_OK(CrashAndRestart());
  EXPECT_EQ(Layers(), layers);
  EXPECT_EQ(Run(whole, "cd /volume && find . | sort && cat model.bin docs/card.md"),
            ".\n./docs\n./docs/card.md\n./docs/empty\n./model.bin\nweights\ncard\n");
  EXPECT_EQ(Run(whole, "stat -c '%a %u:%g %Y' /volume/model.bin"), "644 0:0 0\n");
  EXPECT_EQ(Run(part, "ls /volume"), "card.md\nempty\n");
  EXPECT_THAT(Run(whole, "touch /volume/model.bin 2>&1"), HasSubstr("Read-only file system"));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(whole));
  EXPECT_EQ(status.mounts(0).image().image_ref(), artifact_);
  ASSERT_OK(RemoveContainer(whole));
  ASSERT_OK(RemoveContainer(part));
  EXPECT_EQ(Layers(), layers - 3);
  ExpectNothingLeft();
}

TEST_P(ArtifactsTest, NoContainerIsMadeFromOne) {
  cri::CreateContainerRequest request = ContainerRequest(pod_, "c", "true");
  request.mutable_config()->mutable_image()->set_image(Image(kArtifact));
  const auto refused = Create(request);
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(refused.status().message()), StartsWith("config.image: "));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("OCI artifact"));
  const size_t layers = Layers();
  cri::RemoveImageRequest remove;
  remove.mutable_image()->set_image(artifact_);
  ASSERT_OK(client().Call(&ImageStub::RemoveImage, remove).status());
  EXPECT_EQ(Layers(), layers - 3) << "who was refused keeps nothing";
  ExpectNothingLeft();
}

}  // namespace
}  // namespace test
