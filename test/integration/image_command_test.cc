// `crisp image` against a running daemon: what people and scripts see, and images without a
// registry.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "test/integration/image_checks.h"

namespace test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

class ImageCommandTest : public ImageStoreTest {
 protected:
  // `crisp image ARGUMENTS` with this standard input; how it ended and what it said.
  absl::StatusOr<base::CommandResult> Crisp(const std::vector<std::string>& arguments,
                                            std::string_view input = "") const {
    base::Command command;
    command.argv = {ProgramPath("crisp"), "image", "--socket", environment().Get("SOCKET")};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    return base::RunCommand(base::Context().WithTimeout(absl::Seconds(60)), command, input,
                            64 << 20);
  }
  // Its output, when it succeeds.
  absl::StatusOr<std::string> Output(const std::vector<std::string>& arguments,
                                     std::string_view input = "") const {
    ASSIGN_OR_RETURN(const base::CommandResult result, Crisp(arguments, input));
    return result.exit.code == 0
               ? absl::StatusOr<std::string>(result.out)
               : absl::UnknownError(base::StrCat("exit ", result.exit.code, ": ", result.err));
  }
  std::string Scratch(std::string_view name) const { return Root(base::StrCat("../", name)); }
  // Copies an image of the test's registry by skopeo.
  absl::Status Skopeo(std::string_view image, const std::string& to) const {
    return RunProgram({"skopeo", "copy", "-q", "--src-tls-verify=false",
                       base::StrCat("docker://", Image(image)), to})
        .status();
  }
};

TEST_F(ImageCommandTest, PullsListsAndRemovesSeveralAndNamesWhatFails) {
  const std::string good = Image("crisp-test/busybox:1");
  const std::string bad = Image("crisp-test/nothing:1");
  ASSERT_OK_AND_ASSIGN(const base::CommandResult pulled, Crisp({"pull", bad, good}));
  EXPECT_EQ(pulled.exit.code, 1);
  EXPECT_THAT(pulled.out, StartsWith("pulled " + good));
  EXPECT_THAT(pulled.err, HasSubstr(bad));
  EXPECT_THAT(pulled.err + pulled.out, Not(HasSubstr("\x1b")));
  ASSERT_OK_AND_ASSIGN(const std::string list, Output({"list"}));
  EXPECT_THAT(list, HasSubstr(Image("crisp-test/busybox") + "   1"));
  ASSERT_OK_AND_ASSIGN(const std::string text, Output({"list", "--json"}));
  ASSERT_OK_AND_ASSIGN(const base::Json json, base::ParseJson(text));
  EXPECT_EQ(json["images"][0]["repoTags"][0], good);
  ASSERT_OK_AND_ASSIGN(const base::CommandResult removed, Crisp({"remove", good, bad}));
  EXPECT_EQ(removed.exit.code, 1);
  EXPECT_THAT(removed.err, HasSubstr("image " + bad + " is not here"));
  ASSERT_OK_AND_ASSIGN(const std::string left, Output({"list", "-q"}));
  EXPECT_THAT(left, IsEmpty());
}

TEST_F(ImageCommandTest, SaysWhenNoDaemonRunsAndWhenItIsUsedWrongly) {
  ASSERT_OK(daemon().Stop());
  ASSERT_OK_AND_ASSIGN(const base::CommandResult list, Crisp({"list"}));
  EXPECT_EQ(list.exit.code, 1);
  EXPECT_THAT(list.err, HasSubstr("crisp is not running on"));
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{},
                                                {"pull"},
                                                {"save", "x"},
                                                {"lost"},
                                                {"pull", "x", "--creds", "y"}}) {
    ASSERT_OK_AND_ASSIGN(const base::CommandResult result, Crisp(wrong));
    EXPECT_NE(result.exit.code, 0);
    EXPECT_THAT(result.err, Not(IsEmpty()));
  }
}

TEST_F(ImageCommandTest, ALoadedImageIsListedToTheKubeletAndRunsWithoutARegistry) {
  const std::string archive = Scratch("busybox.tar");
  ASSERT_OK(
      Skopeo("crisp-test/busybox:1", "docker-archive:" + archive + ":registry.invalid/busybox:1"));
  ASSERT_OK_AND_ASSIGN(const std::string loaded, Output({"load", archive}));
  EXPECT_THAT(loaded, StartsWith("loaded registry.invalid/busybox:1 "));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> images, Images());
  ASSERT_EQ(images.size(), 1u);
  EXPECT_THAT(images[0].repo_tags(), ElementsAre("registry.invalid/busybox:1"));
  EXPECT_GT(images[0].size(), 1'000'000u);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("loaded"));
  cri::CreateContainerRequest request = ContainerRequest(pod, "main", "echo from an archive");
  request.mutable_config()->mutable_image()->set_image("registry.invalid/busybox:1");
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  EXPECT_TRUE(LogGets("loaded", "main.log", "from an archive"));
  ASSERT_OK(RemovePod(pod));
}

TEST_F(ImageCommandTest, WhatIsSavedIsValidToOthersAndEqualAndComesBack) {
  const std::string name = Image("crisp-test/layers:latest");
  ASSERT_OK(Pull("crisp-test/layers"));
  const std::string first = Scratch("first");
  const std::string theirs = Scratch("theirs");
  const std::string ours = Scratch("ours");
  ASSERT_OK(Output({"save", name, "-o", first, "--format", "oci-layout", "--compression", "gzip"}));
  ASSERT_OK(Skopeo("crisp-test/layers", "oci:" + Scratch("origin") + ":x"));
  ASSERT_OK(RunProgram({"umoci", "unpack", "--image", Scratch("origin") + ":x", theirs}));
  ASSERT_OK(RunProgram({"umoci", "unpack", "--image", first + ":" + name, ours}));
  // The root's own time aside, which the image does not say.
  const auto content = [](const std::string& bundle) {
    const std::string text = LayerContent(bundle + "/rootfs");
    return text.substr(text.find('\n') + 1);
  };
  EXPECT_EQ(content(ours), content(theirs));

  // By way of standard output and input, and into docker's format.
  ASSERT_OK_AND_ASSIGN(const std::string archive,
                       Output({"save", name, "-o", "-", "--format", "docker-archive"}));
  ASSERT_OK(Output({"remove", name}));
  ASSERT_OK(Output({"load", "-"}, archive));
  ASSERT_OK_AND_ASSIGN(const std::string again,
                       Output({"save", name, "-o", "-", "--format", "docker-archive"}));
  EXPECT_EQ(archive, again);
  EXPECT_THAT(StoreFaults(), IsEmpty());
}

TEST_F(ImageCommandTest, OneLayerIsNeverTwiceInAnArchiveAndTheKubeletsNamesStay) {
  ASSERT_OK(Pull("crisp-test/busybox:1"));
  ASSERT_OK(Pull("crisp-test/layers"));
  const std::string both = Scratch("both.tar");
  ASSERT_OK(
      Output({"save", Image("crisp-test/busybox:1"), Image("crisp-test/layers"), "-o", both}));
  EXPECT_FALSE(Output({"save", Image("crisp-test/layers"), "-o", both}).ok());
  ASSERT_OK(Output({"save", Image("crisp-test/layers"), "-o", Scratch("one.tar")}));
  struct stat two = {};
  struct stat one = {};
  ASSERT_EQ(stat(both.c_str(), &two), 0);
  ASSERT_EQ(stat(Scratch("one.tar").c_str(), &one), 0);
  EXPECT_LT(two.st_size, one.st_size + one.st_size / 2);
}

TEST_F(ImageCommandTest, ACancelledSaveLeavesNothing) {
  ASSERT_OK(Pull("crisp-test/busybox:1"));
  const std::string folder = Scratch("out");
  ASSERT_OK(base::MakeDirectories(folder));
  base::Command command;
  command.argv = {ProgramPath("crisp"),
                  "image",
                  "--socket",
                  environment().Get("SOCKET"),
                  "save",
                  Image("crisp-test/busybox:1"),
                  "-o",
                  folder + "/out.tar"};
  ASSERT_OK_AND_ASSIGN(base::Subprocess process, base::Subprocess::Spawn(command));
  // The moment that it has begun, or is even done.
  ASSERT_TRUE(Eventually([&] { return !base::ListDirectory(folder).value().empty(); }));
  ASSERT_OK(process.Kill(SIGINT));
  ASSERT_OK_AND_ASSIGN(const base::ExitState end,
                       process.Wait(base::Context().WithTimeout(absl::Seconds(30))));
  if (end.code == 130) {
    EXPECT_THAT(base::ListDirectory(folder).value(), IsEmpty());
  } else {
    EXPECT_THAT(base::ListDirectory(folder).value(), ElementsAre("out.tar"));
  }
  EXPECT_THAT(StoreFaults(), IsEmpty());
}

}  // namespace
}  // namespace test
