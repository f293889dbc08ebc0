// Terminals of execs and attaches with the runtimes that crisp knows.
#include <memory>
#include <string>
#include <vector>

#include "base/strings.h"
#include "test/client/stream_client.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using base::StrCat;
using testing::HasSubstr;

const CommandOptions kTerminal{.in = true, .err = false, .tty = true};

class TerminalTest : public IntegrationTest {
 protected:
  explicit TerminalTest(std::string runtime) : IntegrationTest(std::move(runtime)) {}

  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod(Pod()));
    ASSERT_OK_AND_ASSIGN(container_, RunContainer(pod_, "main", "exec sleep 4321"));
  }
  virtual cri::RunPodSandboxRequest Pod() const { return PodRequest("pod"); }

  absl::StatusOr<std::unique_ptr<CommandSession>> OpenExec(const std::vector<std::string>& command,
                                                           const CommandOptions& options) const {
    cri::ExecRequest request;
    request.set_container_id(container_);
    for (const std::string& argument : command) {
      request.add_cmd(argument);
    }
    request.set_stdin(options.in);
    request.set_stdout(options.out);
    request.set_stderr(options.err && !options.tty);
    request.set_tty(options.tty);
    ASSIGN_OR_RETURN(const cri::ExecResponse response, client().Call(&RuntimeStub::Exec, request));
    return CommandSession::Open(response.url(), options);
  }
  bool Runs(const std::string& argument) const {
    const auto listed = Exec(container_, {"ps"});
    return listed.ok() && listed->stdout().find(argument) != std::string::npos;
  }

  std::string pod_;
  std::string container_;
};

class RuntimeTerminalTest : public TerminalTest, public testing::WithParamInterface<const char*> {
 protected:
  RuntimeTerminalTest() : TerminalTest(GetParam()) {}
};

TEST_P(RuntimeTerminalTest, AShellHasItsSizeFromTheStartItsJobsAndItsExitCode) {
  ASSERT_OK_AND_ASSIGN(const auto session, OpenExec({"sh"}, kTerminal));
  EXPECT_OK(session->Resize(132, 43));
  EXPECT_OK(session->Send(Channel::kStdin, "stty size; tty\n"));
  EXPECT_OK(session->ReadUntil("43 132\r\n"));
  EXPECT_OK(session->ReadUntil("/dev/pts/"));
  EXPECT_OK(session->Send(Channel::kStdin, "echo it is an $TERM\n"));
  EXPECT_OK(session->ReadUntil("it is an xterm\r\n"));
  // The interrupt reaches the program in front and not the shell.
  EXPECT_OK(session->Send(Channel::kStdin, "echo be''gin; sleep 1234\n"));
  EXPECT_OK(session->ReadUntil("begin\r\n"));
  EXPECT_TRUE(Eventually([&] { return Runs("sleep 1234"); }));
  EXPECT_OK(session->Send(Channel::kStdin, "\003"));
  EXPECT_TRUE(Eventually([&] { return !Runs("sleep 1234"); }));
  EXPECT_OK(session->Resize(99, 11));
  EXPECT_OK(session->Send(Channel::kStdin, "stty size\n"));
  EXPECT_OK(session->ReadUntil("11 99\r\n"));
  EXPECT_OK(session->Send(Channel::kStdin, "sleep 5678 &\n"));
  EXPECT_TRUE(Eventually([&] { return Runs("sleep 5678"); }));
  EXPECT_OK(session->Send(Channel::kStdin, "kill %1; exit 7\n"));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.exit_code(), 7) << outcome.status;
  EXPECT_TRUE(outcome.complete);
  EXPECT_TRUE(Eventually([&] { return !Runs("sleep 5678"); }));
}

TEST_P(RuntimeTerminalTest, TheClientsEndOfInputLeavesATerminalOpen) {
  ASSERT_OK_AND_ASSIGN(
      const auto session,
      OpenExec({"sh", "-c", "read a; echo got $a; sleep 0.2; echo end"}, kTerminal));
  EXPECT_OK(session->Send(Channel::kStdin, "word\n"));
  EXPECT_OK(session->FinishInput());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_THAT(outcome.out, HasSubstr("got word\r\nend\r\n"));
  EXPECT_EQ(outcome.exit_code(), 0);
}

TEST_P(RuntimeTerminalTest, AClientThatVanishesHangsItsTerminalUp) {
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec({"sh"}, kTerminal));
  EXPECT_OK(session->Send(Channel::kStdin, "sleep 1357\n"));
  EXPECT_TRUE(Eventually([&] { return Runs("sleep 1357"); }));
  session = nullptr;
  EXPECT_TRUE(Eventually([&] { return !Runs("sleep 1357"); }));
}

TEST_P(RuntimeTerminalTest, AProgramThatIsNotThereSaysSo) {
  ASSERT_OK_AND_ASSIGN(const auto session, OpenExec({"no-such-program"}, kTerminal));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_THAT(outcome.status, HasSubstr("InternalError"));
  EXPECT_THAT(outcome.status, HasSubstr("no-such-program"));
}

TEST_P(RuntimeTerminalTest, AVanishedClientsCommandGoesOnWithoutReaders) {
  const CommandOptions streams{.in = true};
  ASSERT_OK_AND_ASSIGN(
      auto session,
      OpenExec({"sh", "-c", "echo up; cat >/dev/null; touch /tmp/ended; sleep 2468"}, streams));
  EXPECT_OK(session->ReadUntil("up\n"));
  session = nullptr;
  EXPECT_TRUE(
      Eventually([&] { return Exec(container_, {"test", "-e", "/tmp/ended"})->exit_code() == 0; }));
  EXPECT_TRUE(Runs("sleep 2468"));
}

INSTANTIATE_TEST_SUITE_P(Runtimes, RuntimeTerminalTest, testing::Values("crun", "runc"),
                         [](const auto& name) { return std::string(name.param); });

class GvisorTerminalTest : public TerminalTest {
 protected:
  GvisorTerminalTest() : TerminalTest("crun") {}
  void SetUp() override {
    if (!RunProgram({"which", "runsc"}).ok()) GTEST_SKIP() << "SKIP: runsc";
    TerminalTest::SetUp();
  }
  void Prepare() override {
    ASSERT_OK(environment().EditConfig("[crisp.image]",
                                       "[crisp.runtime.runtimes.gvisor]\n"
                                       "runtime_path = \"/usr/bin/runsc\"\n"
                                       "runtime_arguments = [\"--network=none\"]\n\n"
                                       "[crisp.image]"));
  }
  cri::RunPodSandboxRequest Pod() const override {
    cri::RunPodSandboxRequest request = PodRequest("pod");
    request.set_runtime_handler("gvisor");
    return request;
  }
};

TEST_F(GvisorTerminalTest, CommandsHaveTheirStreamsAndTheirExitCode) {
  const CommandOptions streams{.in = true};
  ASSERT_OK_AND_ASSIGN(const auto session,
                       OpenExec({"sh", "-c", "cat; echo err >&2; exit 9"}, streams));
  EXPECT_OK(session->Send(Channel::kStdin, "text"));
  EXPECT_OK(session->FinishInput());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "text");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.exit_code(), 9) << outcome.status;
}

TEST_F(GvisorTerminalTest, AShellHasATerminal) {
  ASSERT_OK_AND_ASSIGN(const auto session, OpenExec({"sh"}, kTerminal));
  EXPECT_OK(session->Resize(132, 43));
  EXPECT_OK(session->Send(Channel::kStdin, "stty size\n"));
  EXPECT_OK(session->ReadUntil("43 132\r\n"));
  EXPECT_OK(session->Send(Channel::kStdin, "exit 7\n"));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.exit_code(), 7) << outcome.status;
}

}  // namespace
}  // namespace test
