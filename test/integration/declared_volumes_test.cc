// Folders that an image declares as volumes, in the three ways of `image_volumes`.
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kVolumes[] = "crisp-test/volumes:latest";
constexpr char kBroken[] = "crisp-test/broken-volume:latest";

class DeclaredVolumesTest : public IntegrationTest {
 protected:
  explicit DeclaredVolumesTest(std::string way = "") : way_(std::move(way)) {}

  void Prepare() override {
    if (!way_.empty()) {
      ASSERT_OK(environment().EditConfig(
          "[crisp.image]", base::StrCat("[crisp.image]\nimage_volumes = \"", way_, "\"")));
    }
  }
  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kVolumes));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
  }
  cri::CreateContainerRequest Request(std::string_view script) const {
    cri::CreateContainerRequest request = ContainerRequest(pod_, "c", script);
    request.mutable_config()->mutable_image()->set_image(Image(kVolumes));
    return request;
  }
  void Run(const cri::CreateContainerRequest& request) {
    ASSERT_OK_AND_ASSIGN(container_, Create(request));
    ASSERT_OK(Start(container_));
  }
  // What a script in that container prints.
  std::string Say(const std::string& script) const {
    const auto result = Exec(container_, {"sh", "-c", base::StrCat("exec 2>&1; ", script)});
    return result.ok() ? result->stdout() : result.status().ToString();
  }
  std::string Writable() const {
    return base::StrCat(environment().Get("ROOT"), "/containers/", container_);
  }
  void ExpectNothingLeft() const {
    EXPECT_OK(RemovePod(pod_));
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
        << testing::PrintToString(Leftovers());
    EXPECT_FALSE(base::Exists("/climbed"));
  }

  const std::string way_;
  std::string pod_;
  std::string container_;
};

TEST_F(DeclaredVolumesTest, TheyAreFoldersOfTheRootByDefault) {
  Run(Request("exec sleep 4321"));
  EXPECT_EQ(Say("cat /srv/data/file; stat -c '%a %u %g' /srv/data /new/place /climbed/here"),
            "from the image\n2750 1000 5\n755 0 0\n755 0 0\n");
  EXPECT_EQ(Say("grep -c -E ' /(srv/data|new/place) ' /proc/mounts"), "0\n");
  ExpectNothingLeft();
}

class BoundVolumesTest : public DeclaredVolumesTest {
 protected:
  BoundVolumesTest() : DeclaredVolumesTest("bind") {}
};

TEST_F(BoundVolumesTest, EachIsACopyThatTheContainerOwns) {
  Run(Request("exec sleep 4321"));
  EXPECT_EQ(Say("cd /srv/data; stat -c '%n %F %a %u %g' . file pipe sub link; readlink link; "
                "cat alias; test file -ef alias && echo same"),
            ". directory 2750 1000 5\n"
            "file regular file 640 0 0\n"
            "pipe fifo 600 7 8\n"
            "sub directory 711 0 0\n"
            "link symbolic link 777 0 0\n"
            "file\nfrom the image\nsame\n");
  EXPECT_EQ(Say("grep -c -E ' /(srv/data|new/place|climbed/here) ' /proc/mounts"), "3\n");
  EXPECT_EQ(Say("echo mine > /srv/data/file && cat /srv/data/alias"), "mine\n");
  bool found = false;
  for (const char* number : {"0", "1", "2"}) {
    const std::string file = base::StrCat(Writable(), "/volumes/", number, "/file");
    found = found || base::ReadFile(file).value_or("") == "mine\n";
  }
  EXPECT_TRUE(found);
  // Another container gets the image's content.
  cri::CreateContainerRequest other = Request("cat /srv/data/file");
  other.mutable_config()->mutable_metadata()->set_name("other");
  other.mutable_config()->set_log_path("other.log");
  ASSERT_OK_AND_ASSIGN(const std::string second, Create(other));
  ASSERT_OK(Start(second));
  EXPECT_TRUE(LogGets("pod", "other.log", "from the image"));
  ASSERT_OK(CrashAndRestart());
  EXPECT_EQ(Say("cat /srv/data/file"), "mine\n");
  ASSERT_OK(RemoveContainer(container_));
  EXPECT_FALSE(base::Exists(Writable()));
  ExpectNothingLeft();
}

TEST_F(BoundVolumesTest, AMountOfTheRequestTakesThePlaceOfOneAndOfThoseBelow) {
  const std::string folder = environment().Get("RUN") + "/shared";
  ASSERT_OK(base::MakeDirectories(folder));
  cri::CreateContainerRequest request = Request("exec sleep 4321");
  for (const char* path : {"/srv/data/", "/new"}) {
    cri::Mount* mount = request.mutable_config()->add_mounts();
    mount->set_host_path(folder);
    mount->set_container_path(path);
  }
  Run(request);
  EXPECT_EQ(Say("ls /srv/data /new; touch /new/file"), "/new:\n\n/srv/data:\n");
  EXPECT_TRUE(base::Exists(folder + "/file"));
  EXPECT_FALSE(base::Exists(folder + "/place"));
  ExpectNothingLeft();
}

TEST_F(BoundVolumesTest, AVolumeThatIsNoFolderIsRefusedAndLeavesNothing) {
  ASSERT_OK(Pull(kBroken));
  cri::CreateContainerRequest request = Request("true");
  request.mutable_config()->mutable_image()->set_image(Image(kBroken));
  const absl::Status refused = Create(request).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("volume /bin/busybox"));
  ExpectNothingLeft();
}

class IgnoredVolumesTest : public DeclaredVolumesTest {
 protected:
  IgnoredVolumesTest() : DeclaredVolumesTest("ignore") {}
};

TEST_F(IgnoredVolumesTest, NothingIsMade) {
  Run(Request("exec sleep 4321"));
  EXPECT_THAT(Say("cat /srv/data/file; ls /new"),
              AllOf(StartsWith("from the image\n"), HasSubstr("/new: No such file or directory")));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace test
