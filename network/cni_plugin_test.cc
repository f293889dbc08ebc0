#include "network/cni_plugin.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class CniPluginTest : public testing::Test {
 protected:
  void Plugin(const std::string& name, const std::string& script) {
    WriteTestFile(dir_ / "bin/" + name, "#!/bin/sh\n" + script + "\n", 0755);
  }
  absl::StatusOr<CniPlugins::Answer> Run(const std::string& name,
                                         CniCommand command = CniCommand::kAdd) {
    return plugins_.Run(ctx_, command, name, parameters_, base::Json{{"name", "pods"}});
  }

  TempDir dir_;
  const base::Launcher launcher_{"", ""};
  const CniPlugins plugins_{{dir_ / "first", dir_ / "bin"}, launcher_};
  base::Context ctx_ = base::Context::Detached(absl::Seconds(30));
  CniParameters parameters_ = {
      .container_id = "c1", .netns = "/run/netns/x", .ifname = "eth0", .args = "A=1;B=2"};
};

TEST_F(CniPluginTest, PluginGetsItsParametersAndInput) {
  Plugin("p", "env | sort > " + (dir_ / "env") + "; cat > " + (dir_ / "in") + "; pwd >&2; echo {}");
  const auto answer = Run("p");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->error.code, 0);
  EXPECT_EQ(answer->out, "{}\n");
  EXPECT_EQ(ReadTestFile(dir_ / "in"), R"({"name":"pods"})");
  const std::string env = ReadTestFile(dir_ / "env");
  EXPECT_THAT(env, AllOf(HasSubstr("CNI_COMMAND=ADD\n"), HasSubstr("CNI_CONTAINERID=c1\n"),
                         HasSubstr("CNI_NETNS=/run/netns/x\n"), HasSubstr("CNI_IFNAME=eth0\n"),
                         HasSubstr("CNI_ARGS=A=1;B=2\n"),
                         HasSubstr("CNI_PATH=" + (dir_ / "first") + ":" + (dir_ / "bin") + "\n"),
                         HasSubstr("PATH=")));
}

TEST_F(CniPluginTest, NothingElseOfOurEnvironmentIsPassedOn) {
  ASSERT_EQ(setenv("SECRET_OF_THE_DAEMON", "x", 1), 0);
  Plugin("p", "env > " + (dir_ / "env"));
  ASSERT_TRUE(Run("p", CniCommand::kDel).ok());
  EXPECT_THAT(ReadTestFile(dir_ / "env"), HasSubstr("CNI_COMMAND=DEL"));
  EXPECT_THAT(ReadTestFile(dir_ / "env"), ::testing::Not(HasSubstr("SECRET")));
}

TEST_F(CniPluginTest, ScriptMayOpenItsInputAsAFile) {
  Plugin("p", "cat /dev/stdin");
  const auto answer = Run("p");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->out, R"({"name":"pods"})");
}

TEST_F(CniPluginTest, FirstDirectoryWithTheBinaryWins) {
  Plugin("p", "echo second");
  EXPECT_EQ(*plugins_.Find("p"), dir_ / "bin/p");
  WriteTestFile(dir_ / "first/p", "#!/bin/sh\n", 0644);  // Not executable.
  EXPECT_EQ(*plugins_.Find("p"), dir_ / "bin/p");
  ASSERT_EQ(chmod((dir_ / "first/p").c_str(), 0755), 0);
  EXPECT_EQ(*plugins_.Find("p"), dir_ / "first/p");
}

TEST_F(CniPluginTest, MissingBinaryIsNamedWithItsDirectories) {
  const absl::Status status = Run("gone").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(status.message(),
            "no CNI plugin binary gone in " + (dir_ / "first") + ", " + (dir_ / "bin"));
}

TEST_F(CniPluginTest, NameThatLeadsElsewhereIsNotRun) {
  Plugin("p", "touch " + (dir_ / "ran"));
  for (const char* name : {"../bin/p", "/bin/sh", "..", ""}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Run(name).status())) << name;
  }
  EXPECT_FALSE(base::Exists(dir_ / "ran"));
}

TEST_F(CniPluginTest, ErrorObjectIsRead) {
  Plugin("p", R"(echo '{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"later"}'; exit 1)");
  const auto answer = Run("p");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->error.code, kCniTryLater);
  EXPECT_EQ(answer->error.text, "busy: later");
}

TEST_F(CniPluginTest, OutputThatIsNoErrorIsShownWithStderr) {
  Plugin("p", "echo 'panic: nil map'; echo 'goroutine 1' >&2; exit 2");
  const auto answer = Run("p");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_NE(answer->error.code, 0);
  EXPECT_EQ(answer->error.text, "exit code 2: panic: nil map: goroutine 1");
}

TEST_F(CniPluginTest, LongOutputIsCutToItsEnd) {
  Plugin("p", "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1");
  const auto answer = Run("p");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_LT(answer->error.text.size(), 3000u);
}

TEST_F(CniPluginTest, DeathBySignalIsNamed) {
  Plugin("p", "kill -SEGV $$");
  const auto answer = Run("p");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->error.text, "killed by signal 11");
}

TEST_F(CniPluginTest, HangingPluginIsKilledAtTheDeadline) {
  Plugin("p", "echo $$ > " + (dir_ / "pid") + "; exec sleep 1000");
  ctx_ = base::Context::Detached(absl::Milliseconds(300));
  const absl::Status status = Run("p").status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no answer after "));
  const std::vector<std::string> pid = ReadLines(dir_ / "pid");
  ASSERT_THAT(pid, SizeIs(1));
  EXPECT_TRUE(Eventually([&] { return !base::Exists("/proc/" + pid[0]); }));
}

TEST_F(CniPluginTest, CancellationKillsThePlugin) {
  Plugin("p", "touch " + (dir_ / "runs") + "; exec sleep 1000");
  const auto cancellation = std::make_shared<base::Cancellation>();
  ctx_ = base::Context(base::SteadyTime::InfiniteFuture(), cancellation);
  std::thread canceller([&] {
    EXPECT_TRUE(Eventually([&] { return base::Exists(dir_ / "runs"); }));
    cancellation->Cancel();
  });
  EXPECT_TRUE(absl::IsCancelled(Run("p").status()));
  canceller.join();
}

TEST_F(CniPluginTest, BinaryThatIsBeingReplacedIsTriedAgain) {
  // As crisp-init does: goes on to what follows "--", and ends with 126 when that cannot be
  // started.
  WriteTestFile(dir_ / "init",
                "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift\necho try >> " +
                    (dir_ / "tries") + "\nexec \"$@\"\n",
                0755);
  const base::Launcher launcher(dir_ / "init", "");
  const CniPlugins plugins({dir_ / "bin"}, launcher);
  Plugin("p", "echo done");
  base::UniqueFd writer(open((dir_ / "bin/p").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(writer.valid());
  std::thread replacer([&] {
    EXPECT_TRUE(Eventually([&] { return ReadLines(dir_ / "tries").size() >= 2; }));
    writer.Reset();
  });
  const auto answer = plugins.Run(ctx_, CniCommand::kAdd, "p", parameters_, base::Json::object());
  replacer.join();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->out, "done\n");
}

TEST_F(CniPluginTest, BusyBinaryIsTriedUntilTheDeadlineWithoutALauncherToo) {
  Plugin("p", "echo done");
  const base::UniqueFd writer(open((dir_ / "bin/p").c_str(), O_WRONLY | O_CLOEXEC));
  ctx_ = base::Context::Detached(absl::Milliseconds(200));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Run("p").status()));
}

}  // namespace
}  // namespace network
