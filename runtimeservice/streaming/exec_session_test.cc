// Commands of the test's own in the place of an OCI runtime.
#include "runtimeservice/streaming/exec_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/process_stat.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "runtimeservice/streaming/test_command_client.h"

namespace streaming {
namespace {

using ::base::StrCat;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class ExecSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    std::string pattern = ::testing::TempDir() + "/exec-session-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    session_.set_container_id("c1");
    session_.set_folder(directory_ + "/session");
    session_.set_process("{\"args\":[]}");
    session_.add_environment("PATH=/usr/bin:/bin");
    session_.set_stdout(true);
    session_.set_stderr(true);
  }
  void TearDown() override { base::RemoveTree(directory_).IgnoreError(); }

  void UseScript(const std::string& script) {
    for (const std::string& argument : {std::string("/bin/sh"), std::string("-c"), script}) {
      session_.add_argv(argument);
    }
  }
  // `script` gets a terminal.
  void UseTerminalScript(const std::string& script) {
    session_.set_tty(true);
    session_.set_stdin(true);
    session_.set_stderr(false);
    session_.add_argv(std::filesystem::read_symlink("/proc/self/exe").parent_path() /
                      "streaming_test_runtime");
    session_.add_argv(session_.folder() + "/console");
    UseScript(script);
  }
  // Runs the session, and `test` beside it, to the end of both.
  void Run(Task<> test = Task<>()) {
    auto exec = std::make_unique<ExecSession>(loop_, session_, client_, absl::Milliseconds(50));
    bool ended = false;
    Spawn(loop_, exec->Run(), [&] { ended = true; });
    if (test.valid()) {
      Spawn(loop_, std::move(test));
    }
    loop_.run_for(std::chrono::seconds(60));
    ASSERT_TRUE(ended) << "the session does not end";
    exec.reset();
    EXPECT_FALSE(base::Exists(session_.folder())) << "its folder is left";
  }
  int ExitCode() const {
    EXPECT_TRUE(client_.result.has_value()) << "the client was told nothing";
    EXPECT_TRUE(!client_.result.has_value() || client_.result->status.ok())
        << client_.result->status;
    return client_.result.has_value() ? client_.result->exit_code : -1;
  }

  asio::io_context loop_;
  std::string directory_;
  stream::ExecSession session_;
  TestCommandClient client_{loop_};
};

TEST_F(ExecSessionTest, OutputAndExitCodeReachTheClient) {
  UseScript("echo out; echo err >&2; exit 3");
  Run();
  EXPECT_EQ(ExitCode(), 3);
  EXPECT_EQ(client_.out, "out\n");
  EXPECT_EQ(client_.err, "err\n");
  EXPECT_EQ(client_.result->remark, "");
}

TEST_F(ExecSessionTest, AnEndBySignalIs128AndTheSignal) {
  UseScript("kill -9 $$");
  Run();
  EXPECT_EQ(ExitCode(), 137);
}

TEST_F(ExecSessionTest, WithoutInputItReadsTheEnd) {
  UseScript("cat; echo end");
  Run();
  EXPECT_EQ(client_.out, "end\n");
}

TEST_F(ExecSessionTest, AnotherUsersCommandMayOpenItsStreamsByTheirPaths) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "SKIP: the right to be another user";
  }
  session_.set_stdin(true);
  for (const char* argument : {"/usr/bin/setpriv", "--reuid=65534", "--clear-groups"}) {
    session_.add_argv(argument);
  }
  UseScript("cat /dev/stdin > /dev/stdout; echo err > /dev/stderr");
  client_.SendStdin("in");
  client_.EndStdin();
  Run();
  EXPECT_EQ(ExitCode(), 0) << client_.err;
  EXPECT_EQ(client_.out, "in");
  EXPECT_EQ(client_.err, "err\n");
}

TEST_F(ExecSessionTest, OutputThatNobodyWantsIsDropped) {
  session_.set_stdout(false);
  UseScript("dd if=/dev/zero bs=65536 count=64 2>/dev/null; echo err >&2");
  Run();
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_EQ(client_.out, "");
  EXPECT_EQ(client_.err, "err\n");
}

TEST_F(ExecSessionTest, TenMebibytesGoInAndOutWithoutLoss) {
  session_.set_stdin(true);
  UseScript("cat");
  std::string bytes(10 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  client_.SendStdin(bytes);
  client_.EndStdin();
  Run();
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_TRUE(client_.out == bytes);
}

TEST_F(ExecSessionTest, InputThatTheCommandDoesNotTakeIsDropped) {
  session_.set_stdin(true);
  UseScript("exec <&-; echo closed");
  client_.SendStdin(std::string(4 << 20, 'x'));
  Run();
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_EQ(client_.out, "closed\n");
}

TEST_F(ExecSessionTest, ABackgroundChildDoesNotHoldTheEnd) {
  UseScript("sleep 1000 & echo $!");
  Run();
  EXPECT_EQ(ExitCode(), 0);
  const int child = std::atoi(client_.out.c_str());
  ASSERT_GT(child, 1);
  EXPECT_EQ(kill(child, SIGKILL), 0);
}

TEST_F(ExecSessionTest, ABackgroundChildThatWritesOnAndOnDoesNotHoldTheEndEither) {
  UseScript("yes & echo $! >&2");
  Run();
  EXPECT_EQ(ExitCode(), 0);
  const int child = std::atoi(client_.err.c_str());
  ASSERT_GT(child, 1);
  // It writes to a pipe that nobody reads any more, if it has not noticed yet.
  kill(child, SIGKILL);
}

TEST_F(ExecSessionTest, TheRecordIsThereWhileTheCommandRuns) {
  UseScript(StrCat("cat ", session_.folder(), "/container ", session_.folder(), "/process.json"));
  Run();
  EXPECT_EQ(client_.out, "c1{\"args\":[]}");
}

TEST_F(ExecSessionTest, TheRecordGoesWithTheCommandHoweverLongItsClientTakes) {
  client_.Stall(true);
  UseScript("echo out; exit 3");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.writes_waiting > 0; });
    Signal never(loop_);
    while (base::Exists(session_.folder())) {
      co_await never.WaitFor(absl::Milliseconds(5));
    }
    client_.Stall(false);
  };
  Run(test());
  EXPECT_EQ(ExitCode(), 3);
  EXPECT_EQ(client_.out, "out\n");
}

TEST_F(ExecSessionTest, ARuntimeThatFailsSaysWhy) {
  UseScript(StrCat("echo '{\"level\":\"error\",\"msg\":\"no such program\"}' > ", session_.folder(),
                   "/log; exit 1"));
  Run();
  ASSERT_TRUE(client_.result.has_value());
  EXPECT_EQ(client_.result->status.message(), "exec in container c1: no such program");
}

TEST_F(ExecSessionTest, AProgramThatIsNotThereIsAnError) {
  session_.add_argv("/does/not/exist");
  Run();
  ASSERT_TRUE(client_.result.has_value());
  EXPECT_THAT(client_.result->status.ToString(), HasSubstr("/does/not/exist"));
}

TEST_F(ExecSessionTest, AClientThatDoesNotOpenItsStreamsStartsNothing) {
  UseScript("touch " + directory_ + "/started");
  client_.open_status = absl::DeadlineExceededError("streams");
  Run();
  EXPECT_FALSE(base::Exists(directory_ + "/started"));
  EXPECT_TRUE(client_.gone());
}

TEST_F(ExecSessionTest, AVanishedClientEndsTheInputAndNotTheCommand) {
  session_.set_stdin(true);
  UseScript("echo ready; cat >/dev/null; echo done > " + directory_ + "/done");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out == "ready\n"; });
    EXPECT_TRUE(base::Exists(session_.folder()));
    client_.Vanish();
  };
  Run(test());
  EXPECT_TRUE(base::Exists(directory_ + "/done"));
  EXPECT_FALSE(client_.result.has_value());
}

TEST_F(ExecSessionTest, AVanishedClientIsABrokenPipeForTheNextWrite) {
  UseScript("trap '' HUP; yes; echo $? > " + directory_ + "/code");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out.size() > 1000; });
    client_.Vanish();
  };
  Run(test());
  const absl::StatusOr<std::string> code = base::ReadFile(directory_ + "/code");
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, StrCat(128 + SIGPIPE, "\n"));
}

TEST_F(ExecSessionTest, ASlowClientSlowsTheCommandAndLosesNothing) {
  UseScript("seq 1 1000000; touch " + directory_ + "/done; echo end >&2");
  client_.Stall(true);
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.writes_waiting == 1; });
    // More than the pipe and the buffer hold: the command cannot be done.
    EXPECT_FALSE(base::Exists(directory_ + "/done"));
    client_.Stall(false);
  };
  Run(test());
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_EQ(client_.out.size(), 6888896u);
  EXPECT_THAT(client_.out, EndsWith("\n999999\n1000000\n"));
  EXPECT_EQ(client_.err, "end\n");
}

// A process in the place of the container's init.
class ExecInContainerTest : public ExecSessionTest {
 protected:
  void SetUp() override {
    ExecSessionTest::SetUp();
    base::Command command;
    command.argv = {"/bin/sleep", "1000"};
    absl::StatusOr<base::Subprocess> child = base::Subprocess::Spawn(command);
    ASSERT_TRUE(child.ok()) << child.status();
    init_.emplace(*std::move(child));
    const absl::StatusOr<base::ProcessStat> stat = base::ReadProcessStat(init_->pid());
    ASSERT_TRUE(stat.ok());
    session_.set_init_pid(init_->pid());
    session_.set_init_start_time(stat->start_time);
  }

  std::optional<base::Subprocess> init_;
};

TEST_F(ExecInContainerTest, ItsEndIsRemarkedWhenTheCommandEndsByIt) {
  UseScript(StrCat("kill -9 ", init_->pid(), "; kill -9 $$"));
  Run();
  EXPECT_EQ(ExitCode(), 137);
  EXPECT_EQ(client_.result->remark, "its container ended");
}

TEST_F(ExecInContainerTest, ACommandThatIsKilledAloneHasNoRemark) {
  UseScript("kill -9 $$");
  Run();
  EXPECT_EQ(ExitCode(), 137);
  EXPECT_EQ(client_.result->remark, "");
}

TEST_F(ExecInContainerTest, AContainerThatHasEndedGetsNoCommand) {
  session_.set_init_start_time(session_.init_start_time() + 1);
  UseScript("touch " + directory_ + "/started");
  Run();
  ASSERT_TRUE(client_.result.has_value());
  EXPECT_TRUE(absl::IsFailedPrecondition(client_.result->status)) << client_.result->status;
  EXPECT_FALSE(base::Exists(directory_ + "/started"));
}

TEST_F(ExecInContainerTest, WhatTheRuntimeSaysWhileItsContainerGoesIsNotTheWholeReason) {
  UseScript(StrCat("kill -9 ", init_->pid(), "; until grep -q '^State:.Z' /proc/", init_->pid(),
                   "/status; do :; done; echo '{\"level\":\"error\",\"msg\":\"setns\"}' > ",
                   session_.folder(), "/log; exit 255"));
  Run();
  ASSERT_TRUE(client_.result.has_value());
  EXPECT_EQ(client_.result->status.message(), "exec in container c1: it has ended: setns");
}

TEST_F(ExecInContainerTest, AStalledClientIsDroppedAfterTheContainersEnd) {
  client_.Stall(true);
  UseScript(StrCat("echo $$; kill -9 ", init_->pid(), "; kill -9 $$"));
  Run();
  EXPECT_TRUE(client_.gone());
  EXPECT_FALSE(client_.result.has_value());
}

TEST_F(ExecSessionTest, ATerminalBeginsWithTheSizeThatTheClientSent) {
  UseTerminalScript(StrCat("cat ", session_.folder(), "/process.json; stty size; exit 4"));
  client_.Resize(132, 43);
  Run();
  EXPECT_EQ(ExitCode(), 4);
  EXPECT_THAT(client_.out, HasSubstr("\"consoleSize\":{\"height\":43,\"width\":132}"));
}

TEST_F(ExecSessionTest, ATerminalIsResized) {
  UseTerminalScript("stty -echo; trap 'stty size' WINCH; echo ready; read word; exit 5");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out.find("ready") != std::string::npos; });
    client_.Resize(99, 11);
    co_await client_.Until([&] { return client_.out.find("11 99\r\n") != std::string::npos; });
    client_.SendStdin("x\n");
  };
  Run(test());
  EXPECT_EQ(ExitCode(), 5);
}

TEST_F(ExecSessionTest, ATerminalsInterruptReachesTheProgramInFront) {
  UseTerminalScript("trap 'echo interrupted; exit 6' INT; echo ready; while :; do read word; done");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out.find("ready") != std::string::npos; });
    client_.SendStdin("\003");
  };
  Run(test());
  EXPECT_EQ(ExitCode(), 6);
  EXPECT_THAT(client_.out, HasSubstr("interrupted\r\n"));
}

TEST_F(ExecSessionTest, AllThatATerminalPrintedIsSent) {
  UseTerminalScript("stty -opost; seq 1 20000; echo end");
  Run();
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_EQ(client_.out.size(), 108894u + 4);
  EXPECT_THAT(client_.out, EndsWith("\n20000\nend\n"));
}

TEST_F(ExecSessionTest, AClosedInputDoesNotEndATerminal) {
  UseTerminalScript("echo ready; read word; echo got $word");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out.find("ready") != std::string::npos; });
    client_.SendStdin("it\n");
    client_.EndStdin();
  };
  Run(test());
  EXPECT_THAT(client_.out, HasSubstr("got it\r\n"));
}

TEST_F(ExecSessionTest, AVanishedClientHangsItsTerminalUp) {
  UseTerminalScript("trap 'echo hung > " + directory_ +
                    "/hung; exit 0' HUP; echo ready; while :; do read word || sleep 0.01; done");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out.find("ready") != std::string::npos; });
    client_.Vanish();
  };
  Run(test());
  EXPECT_TRUE(base::Exists(directory_ + "/hung"));
}

TEST_F(ExecSessionTest, AVanishedClientIsSeenThoughTheProgramTakesNoInput) {
  UseTerminalScript("trap 'exit 0' HUP; stty raw -echo; echo ready; while :; do sleep 0.01; done");
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.out.find("ready") != std::string::npos; });
    client_.SendStdin(std::string(4 << 20, 'x'));
    co_await client_.Until([&] { return client_.delivering(); });
    client_.Vanish();
  };
  Run(test());
}

TEST_F(ExecSessionTest, ARuntimeThatFailsBeforeTheTerminalIsThereSaysWhy) {
  session_.set_tty(true);
  session_.set_stderr(false);
  UseScript("echo 'exec: no terminal' >&2; exit 126");
  Run();
  ASSERT_TRUE(client_.result.has_value());
  EXPECT_EQ(client_.result->status.message(), "exec in container c1: exec: no terminal");
}

// The waiter of a real exec, around a runtime that leaves its process behind.
class ExecWaiterTest : public ExecSessionTest {
 protected:
  void UseDetachingRuntime(const std::string& command) {
    const std::string pid_file = session_.folder() + "/pid";
    session_.add_argv(std::filesystem::read_symlink("/proc/self/exe").parent_path() / "crisp-init");
    for (const std::string& argument : {std::string("exec"), std::string("--pid-file"), pid_file,
                                        std::string("--"), std::string("/bin/sh")}) {
      session_.add_argv(argument);
    }
    session_.add_argv("-c");
    // A shell gives a background command no input of its own accord.
    session_.add_argv(
        StrCat("exec 5<&0; setsid sh -c '", command, "' <&5 5<&- & echo $! > ", pid_file));
  }
};

TEST_F(ExecWaiterTest, TheCommandsCodeAndOutputArriveThoughTheRuntimeIsGone) {
  session_.set_stdin(true);
  UseDetachingRuntime("cat; echo err >&2; exit 7");
  client_.SendStdin("text");
  client_.EndStdin();
  Run();
  EXPECT_EQ(ExitCode(), 7);
  EXPECT_EQ(client_.out, "text");
  EXPECT_EQ(client_.err, "err\n");
}

TEST_F(ExecWaiterTest, InputThatTheCommandHasClosedIsDropped) {
  session_.set_stdin(true);
  UseDetachingRuntime("exec <&-; echo closed; while ! test -e " + directory_ +
                      "/go; do sleep 0.01; done");
  client_.SendStdin(std::string(8 << 20, 'x'));
  const auto test = [&]() -> Task<> {
    co_await client_.Until([&] { return client_.actions_done == 1; });
    EXPECT_TRUE(base::ReplaceFile(directory_ + "/go", "", 0600, base::Durability::kVolatile).ok());
  };
  Run(test());
  EXPECT_EQ(ExitCode(), 0);
}

}  // namespace
}  // namespace streaming
