#include "base/subprocess.h"

#include <fcntl.h>
#include <signal.h>

#include <memory>
#include <thread>

#include "base/files.h"
#include "base/launcher.h"
#include "gtest/gtest.h"

namespace base {
namespace {

Command Shell(const std::string& script) {
  return {.argv = {"/bin/sh", "-c", script}, .env = {"PATH=/usr/bin:/bin"}};
}

TEST(SubprocessTest, ReportsCodesAndSignals) {
  auto result = RunCommand(Context(), Shell("echo out; echo err >&2; exit 7"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit.code, 7);
  EXPECT_EQ(result->out, "out\n");
  EXPECT_EQ(result->err, "err\n");
  result = RunCommand(Context(), Shell("kill -9 $$"));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->exit.code, 137);
  EXPECT_EQ(result->exit.signal, SIGKILL);
}

TEST(SubprocessTest, FeedsInputAndCapsOutput) {
  const std::string input(300000, 'x');
  auto result = RunCommand(Context(), Shell("cat"), input, 1 << 20);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->out, input);
  result = RunCommand(Context(), Shell("cat /dev/stdin"), input, 1000);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->out.size(), 1000u);
}

TEST(SubprocessTest, AChildThatDoesNotReadIsNoError) {
  const auto result = RunCommand(Context(), Shell("exec 0<&-; exit 3"), std::string(1 << 20, 'x'));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->exit.code, 3);
}

TEST(SubprocessTest, DeadlineKills) {
  const Context ctx(SteadyTime::Now() + absl::Milliseconds(50), nullptr);
  const absl::Time start = absl::Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(RunCommand(ctx, Shell("sleep 30")).status()));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(SubprocessTest, DeadlineKillsTheWholeGroup) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Command command = {.argv = {"/usr/bin/setsid", "/bin/sh", "-c", "sleep 30 & wait"},
                     .env = {"PATH=/usr/bin:/bin"}};
  command.extra_fds = {{5, writer.get()}};
  {
    auto child = Subprocess::Spawn(command);
    ASSERT_TRUE(child.ok());
    writer.Reset();
    EXPECT_FALSE(child->Wait(Context::Detached(absl::Milliseconds(200))).ok());
  }
  EXPECT_EQ(*ReadFd(reader.get(), "pipe"), "");  // Ends once nobody holds the other end.
}

TEST(SubprocessTest, CancellationKills) {
  const auto cancellation = std::make_shared<Cancellation>();
  const Context ctx(SteadyTime::InfiniteFuture(), cancellation);
  std::thread canceller([&] { cancellation->Cancel(); });
  EXPECT_TRUE(absl::IsCancelled(RunCommand(ctx, Shell("sleep 30")).status()));
  canceller.join();
}

TEST(SubprocessTest, AGrandchildHoldingTheOutputIsNotWaitedFor) {
  const absl::Time start = absl::Now();
  const auto result = RunCommand(Context(), Shell("echo first; (sleep 20) & exit 0"));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->out, "first\n");
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(SubprocessTest, NothingIsInherited) {
  const UniqueFd leak(open("/dev/null", O_RDONLY));  // Deliberately without O_CLOEXEC.
  setenv("CRISP_SECRET", "1", 1);
  const auto result =
      RunCommand(Context(), Shell("ls /proc/self/fd | wc -l; env | grep -c SECRET"));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->out, "4\n0\n");  // 0, 1, 2 and the listing's own.
}

TEST(SubprocessTest, DescriptorsArriveUnderTheirNumbers) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Command command = Shell("echo hello >&5");
  command.extra_fds = {{5, writer.get()}};
  auto child = Subprocess::Spawn(command);
  ASSERT_TRUE(child.ok());
  writer.Reset();
  EXPECT_EQ(child->Wait(Context())->code, 0);
  EXPECT_EQ(*ReadFd(reader.get(), "pipe"), "hello\n");
}

TEST(SubprocessTest, DroppingKills) {
  pid_t pid;
  {
    auto child = Subprocess::Spawn(Shell("sleep 30"));
    ASSERT_TRUE(child.ok());
    pid = child->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(SubprocessTest, AMissingProgramIsNotFound) {
  EXPECT_TRUE(
      absl::IsNotFound(RunCommand(Context(), {.argv = {"/no/such/program"}, .env = {}}).status()));
}

TEST(LauncherTest, PutsCrispInitInFront) {
  const Launcher launcher("/x/crisp-init", "/crisp-work");
  const Command wrapped = launcher.Wrap({.argv = {"/bin/true", "--flag"}, .env = {}},
                                        {.oom_score_adj = 5, .cgroup = "-", .new_session = true});
  ASSERT_GT(wrapped.argv.size(), 6u);
  EXPECT_EQ(wrapped.argv[0], "/x/crisp-init");
  EXPECT_EQ(wrapped.argv[1], "run");
  EXPECT_EQ(wrapped.argv[3], "5");
  EXPECT_EQ(wrapped.argv[wrapped.argv.size() - 3], "--");
  EXPECT_EQ(wrapped.argv.back(), "--flag");
}

}  // namespace
}  // namespace base
