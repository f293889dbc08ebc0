#include "runtimeservice/oci/monitor.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "gmock/gmock.h"
#include "runtimeservice/oci/container_fixture.h"

namespace runtimeservice {
namespace {

using ::base::StrCat;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class MonitorTest : public ContainerFixture {};

// The life of a container, under each runtime.
class MonitorRuntimeTest : public ContainerFixture,
                           public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ContainerFixture::SetUp();
    UseRuntime(GetParam());
    if (const std::string missing = Missing(); !missing.empty()) {
      GTEST_SKIP() << "SKIP: " << missing;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Runtimes, MonitorRuntimeTest, ::testing::Values("crun", "runc"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST_P(MonitorRuntimeTest, OutputAndExitCodeAreRecorded) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("echo out; echo err >&2; exit 7")));
  const ExitRecord exit = WaitForExit();
  EXPECT_EQ(exit.code, 7);
  EXPECT_EQ(exit.signal, 0);
  EXPECT_EQ(exit.oom_kills, 0);
  EXPECT_LT(absl::AbsDuration(absl::Now() - exit.time), absl::Minutes(1));
  EXPECT_THAT(LogRecords(), ::testing::UnorderedElementsAre("stdout F out", "stderr F err"));
  EXPECT_THAT(ReadLog(),
              MatchesRegex("(20[0-9-]+T[0-9:]+\\.[0-9]{9}Z std(out|err) F [a-z]+\n){2}"));
}

TEST_P(MonitorRuntimeTest, KilledContainerHas128PlusSignal) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("echo up; sleep 1000")));
  ASSERT_TRUE(Eventually([&] { return LogHas("stdout F up"); }));
  ASSERT_TRUE(runtime().Kill(Patience(), id(), SIGKILL, KillScope::kAll).ok());
  const ExitRecord exit = WaitForExit();
  EXPECT_EQ(exit.code, 137);
  EXPECT_EQ(exit.signal, SIGKILL);
}

TEST_P(MonitorRuntimeTest, FailedCreateHasTheRuntimesWordsAndLeavesNothing) {
  BundleOptions options;
  options.args = {"/bin/no-such-program"};
  auto monitor = NewMonitor::Launch(Patience(), launcher(), Prepare(options));
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Patience());
  EXPECT_EQ(pid.status().code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(pid.status().message()), HasSubstr("no-such-program"));
  EXPECT_TRUE(absl::IsNotFound(runtime().State(Patience(), id()).status()));
  EXPECT_TRUE(TakeMonitorLock(Patience(), state_dir()).ok());
}

TEST_P(MonitorRuntimeTest, HangingUpBeforeAcknowledgeLeavesNoContainer) {
  auto monitor = NewMonitor::Launch(Patience(), launcher(), PrepareScript("sleep 1000"));
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Patience());
  ASSERT_TRUE(pid.ok()) << pid.status();
  ASSERT_TRUE(runtime().State(Patience(), id()).ok());
  EXPECT_TRUE(monitor->Abandon(Patience()).ok());
  EXPECT_TRUE(absl::IsNotFound(runtime().State(Patience(), id()).status()));
  EXPECT_TRUE(base::CgroupProcesses(cgroup()).empty());
  EXPECT_EQ(kill(*pid, 0), -1);
  EXPECT_TRUE(absl::IsNotFound(MonitorConnection::Connect(Patience(), state_dir()).status()));
}

TEST_P(MonitorRuntimeTest, OomKillIsRecorded) {
  BundleOptions options;
  options.args = {"/bin/tail", "/dev/zero"};
  options.memory_limit = 16 << 20;
  ASSERT_NO_FATAL_FAILURE(Run(Prepare(options)));
  const ExitRecord exit = WaitForExit();
  EXPECT_EQ(exit.code, 137);
  EXPECT_GE(exit.oom_kills, 1);
}

TEST_P(MonitorRuntimeTest, TerminalOutputIsStdoutWithCarriageReturns) {
  BundleOptions options;
  options.args = {"/bin/sh", "-c", "echo one; echo two >&2; test -t 0 && exit 5"};
  options.terminal = true;
  ASSERT_NO_FATAL_FAILURE(Run(Prepare(options)));
  EXPECT_EQ(WaitForExit().code, 5);
  EXPECT_THAT(LogRecords(), ElementsAre("stdout F one\r", "stdout F two\r"));
}

TEST_F(MonitorTest, HangingUpBeforeGoRunsNothing) {
  auto monitor = NewMonitor::Launch(Patience(), launcher(), PrepareScript("sleep 1000"));
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  EXPECT_TRUE(MonitorAlive(state_dir()));
  EXPECT_TRUE(monitor->Abandon(Patience()).ok());
  EXPECT_FALSE(MonitorAlive(state_dir()));
  EXPECT_FALSE(base::Exists(state_dir() + "/" + conmon::kRuntimeLogFile));
  EXPECT_FALSE(base::Exists(state_dir() + "/" + conmon::kSocketFile));
}

TEST_F(MonitorTest, HungRuntimeIsKilledWhenTheDaemonGivesUp) {
  const std::string script = directory() + "/hang";
  const std::string pid_file = directory() + "/hang.pid";
  ASSERT_TRUE(base::ReplaceFile(script,
                                StrCat("#!/bin/sh\ncase \"$*\" in *delete*) exit 0;; esac\n"
                                       "echo $$ > ",
                                       pid_file, "\nexec sleep 1000\n"),
                                0700, base::Durability::kVolatile)
                  .ok());
  MonitorSpec spec = PrepareScript("true");
  spec.runtime = {script};
  auto monitor = NewMonitor::Launch(Patience(), launcher(), spec);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Context::Detached(absl::Milliseconds(300)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(pid.status())) << pid.status();
  EXPECT_TRUE(monitor->Abandon(Patience()).ok());
  const std::string runtime_pid = base::ReadFile(pid_file).value_or("");
  ASSERT_FALSE(runtime_pid.empty());
  EXPECT_EQ(kill(atoi(runtime_pid.c_str()), 0), -1);
}

TEST_F(MonitorTest, SecondMonitorIsRefusedWhileTheLockIsHeld) {
  const auto lock = TakeMonitorLock(Patience(), state_dir());
  ASSERT_TRUE(lock.ok()) << lock.status();
  const auto monitor = NewMonitor::Launch(Patience(), launcher(), PrepareScript("true"));
  EXPECT_THAT(std::string(monitor.status().message()), HasSubstr("lock"));
}

TEST_F(MonitorTest, LogThatCannotBeOpenedFailsTheCreate) {
  MonitorSpec spec = PrepareScript("true");
  spec.log_path = directory() + "/no-such-folder/0.log";
  auto monitor = NewMonitor::Launch(Patience(), launcher(), spec);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Patience());
  EXPECT_THAT(std::string(pid.status().message()), HasSubstr("no-such-folder"));
}

TEST_F(MonitorTest, RuntimeThatCannotBeRunIsNamed) {
  MonitorSpec spec = PrepareScript("true");
  spec.runtime = {"/no/such/runtime"};
  auto monitor = NewMonitor::Launch(Patience(), launcher(), spec);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const auto pid = monitor->Create(Patience());
  EXPECT_THAT(std::string(pid.status().message()), HasSubstr("/no/such/runtime: No such file"));
}

TEST_F(MonitorTest, MissingMonitorAndStateDirectoryAreNamed) {
  MonitorSpec spec = PrepareScript("true");
  spec.state_dir = directory() + "/no-such-folder";
  const auto no_folder = NewMonitor::Launch(Patience(), launcher(), spec);
  EXPECT_THAT(std::string(no_folder.status().message()), HasSubstr("No such file"));
  spec.monitor_path = "/no/such/monitor";
  const auto no_monitor = NewMonitor::Launch(Patience(), launcher(), spec);
  EXPECT_THAT(std::string(no_monitor.status().message()), HasSubstr("/no/such/monitor"));
}

TEST_F(MonitorTest, HelpNamesTheOptionsAndNonsenseIsRefused) {
  base::Command command;
  command.argv = {ProgramDirectory() + "/crisp-monitor", "--help"};
  const auto help = base::RunCommand(Patience(), command);
  ASSERT_TRUE(help.ok()) << help.status();
  EXPECT_EQ(help->exit.code, 0);
  EXPECT_THAT(help->out, HasSubstr("--state-dir"));
  command.argv.back() = "--nonsense";
  const auto nonsense = base::RunCommand(Patience(), command);
  ASSERT_TRUE(nonsense.ok()) << nonsense.status();
  EXPECT_EQ(nonsense->exit.code, 2);
  EXPECT_THAT(nonsense->err, HasSubstr("--nonsense"));
}

// Runtimes that are services start their containers elsewhere.
TEST_F(MonitorTest, EndOfAnInitThatIsNobodysChildHasAnUnknownCode) {
  base::Command command;
  command.argv = {"/bin/sleep", "1000"};
  auto init = base::Subprocess::Spawn(command);
  ASSERT_TRUE(init.ok()) << init.status();
  MonitorSpec spec = PrepareScript("true");
  spec.runtime = {"/bin/sh", "-c",
                  StrCat("while test \"$1\" != --pid-file; do shift; done; printf %s ", init->pid(),
                         " > \"$2\""),
                  "runtime"};
  auto monitor = NewMonitor::Launch(Patience(), launcher(), spec);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  ASSERT_EQ(monitor->Create(Patience()).value_or(-1), init->pid());
  ASSERT_TRUE(monitor->Acknowledge().ok());
  auto connection = MonitorConnection::Connect(Patience(), state_dir());
  ASSERT_TRUE(connection.ok()) << connection.status();
  ASSERT_TRUE(init->Kill(SIGKILL).ok());
  pollfd entry = {connection->fd(), POLLRDHUP, 0};
  ASSERT_EQ(poll(&entry, 1, 10'000), 1);
  EXPECT_EQ((*ReadExit(state_dir()))->code, 255);
}

TEST_F(MonitorTest, ContainerAndLogLiveOnWhenTheDaemonIsKilled) {
  const MonitorSpec spec = PrepareScript("while ! test -e /stop; do sleep 0.05; echo tick; done");
  // The test plays the daemon's successor; the child plays the daemon.
  const pid_t daemon = fork();
  if (daemon == 0) {
    auto monitor = NewMonitor::Launch(Patience(), launcher(), spec);
    if (monitor.ok() && monitor->Create(Patience()).ok() && monitor->Acknowledge().ok() &&
        runtime().Start(Patience(), id()).ok()) {
      kill(getpid(), SIGKILL);
    }
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(daemon, &status, 0), daemon);
  ASSERT_TRUE(WIFSIGNALED(status));

  EXPECT_TRUE(MonitorAlive(state_dir()));
  MonitorConnection successor = Connect();
  EXPECT_EQ(kill(successor.state().pid, 0), 0);
  const size_t before = LogRecords().size();
  EXPECT_TRUE(Eventually([&] { return LogRecords().size() > before + 1; }));
  ASSERT_TRUE(
      base::ReplaceFile(directory() + "/bundle/rootfs/stop", "", 0600, base::Durability::kVolatile)
          .ok());
  pollfd entry = {successor.fd(), POLLRDHUP, 0};
  ASSERT_EQ(poll(&entry, 1, 10'000), 1);
  EXPECT_EQ((*ReadExit(state_dir()))->code, 0);
}

TEST_F(MonitorTest, MonitorIgnoresSignalsOfAShutdown) {
  ASSERT_NO_FATAL_FAILURE(
      Run(PrepareScript("while ! test -e /stop; do sleep 0.05; done; echo done")));
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) {
    ASSERT_EQ(kill(connection().state().monitor_pid, number), 0);
  }
  ASSERT_TRUE(
      base::ReplaceFile(directory() + "/bundle/rootfs/stop", "", 0600, base::Durability::kVolatile)
          .ok());
  EXPECT_EQ(WaitForExit().code, 0);
  EXPECT_TRUE(LogHas("stdout F done"));
}

TEST_F(MonitorTest, PidfdOfTheStateSignalsTheInit) {
  ASSERT_NO_FATAL_FAILURE(
      Run(PrepareScript("trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done")));
  ASSERT_TRUE(Eventually([&] { return LogHas("stdout F up"); }));
  ASSERT_GE(connection().pidfd(), 0);
  ASSERT_EQ(syscall(SYS_pidfd_send_signal, connection().pidfd(), SIGUSR1, nullptr, 0), 0);
  EXPECT_EQ(WaitForExit().code, 9);
}

TEST_F(MonitorTest, GrandchildHoldingTheOutputDelaysTheExitByTwoSeconds) {
  BundleOptions options;
  options.args = {"/bin/sh", "-c", "sleep 1000 & echo last; exit 3"};
  options.own_pid_namespace = false;
  ASSERT_NO_FATAL_FAILURE(Run(Prepare(options)));
  const absl::Time start = absl::Now();
  EXPECT_EQ(WaitForExit().code, 3);
  EXPECT_GT(absl::Now() - start, absl::Milliseconds(1500));
  EXPECT_LT(absl::Now() - start, absl::Seconds(4));
  EXPECT_TRUE(LogHas("stdout F last"));
}

TEST_F(MonitorTest, StateDirectoryMayBeLongerThanASocketAddress) {
  MonitorSpec spec = PrepareScript("exit 4");
  spec.state_dir = state_dir() + "/" + std::string(150, 'x');
  ASSERT_TRUE(base::MakeDirectories(spec.state_dir).ok());
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  pollfd entry = {connection().fd(), POLLRDHUP, 0};
  ASSERT_EQ(poll(&entry, 1, 10'000), 1);
  EXPECT_EQ((*ReadExit(spec.state_dir))->code, 4);
}

TEST_F(MonitorTest, MonitorJoinsItsCgroupInEveryHierarchy) {
  const std::string monitors = cgroup() + "-monitors";
  ASSERT_TRUE(base::MakeCgroup(monitors).ok());
  MonitorSpec spec = PrepareScript("sleep 1000");
  spec.cgroup = monitors;
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  const auto cgroups_of = [](pid_t pid) {
    return base::ReadFile(StrCat("/proc/", pid, "/cgroup")).value_or("");
  };
  // cgroup v2 has one hierarchy, which has no name.
  const std::vector<std::string> hierarchies = base::HostCgroupMode() == base::CgroupMode::kV2
                                                   ? std::vector<std::string>{"0:"}
                                                   : std::vector<std::string>{"memory", "pids"};
  for (const std::string& hierarchy : hierarchies) {
    EXPECT_THAT(cgroups_of(connection().state().monitor_pid),
                HasSubstr(StrCat(hierarchy, ":", monitors, "\n")));
    EXPECT_THAT(cgroups_of(connection().state().pid),
                HasSubstr(StrCat(hierarchy, ":", cgroup(), "\n")));
  }
  ASSERT_TRUE(runtime().Delete(Patience(), id()).ok());
  WaitForExit();
  ASSERT_TRUE(TakeMonitorLock(Patience(), state_dir()).ok());
  EXPECT_TRUE(base::RemoveCgroup(monitors).ok());
}

TEST_F(MonitorTest, ExitFileIsTextAndSocketIsGone) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("exit 3")));
  WaitForExit();
  EXPECT_THAT(*base::ReadFile(state_dir() + "/exit"),
              MatchesRegex("crisp-exit 1\ncode 3\nsignal 0\noom 0\ntime [0-9]{19}\ndropped 0\n"));
  EXPECT_FALSE(base::Exists(state_dir() + "/monitor.sock"));
  ASSERT_TRUE(TakeMonitorLock(Patience(), state_dir()).ok());
  EXPECT_FALSE(MonitorAlive(state_dir()));
}

TEST(ExitRecordTest, UnknownNamesAreIgnored) {
  const auto record =
      ParseExitRecord("crisp-exit 1\ncode 137\nsignal 9\nfuture x y\noom 2\ntime 1500000000\n");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->code, 137);
  EXPECT_EQ(record->signal, 9);
  EXPECT_EQ(record->oom_kills, 2);
  EXPECT_EQ(record->time, absl::FromUnixMillis(1500));
}

TEST(ExitRecordTest, DamagedTextIsRefused) {
  const std::string whole = "crisp-exit 1\ncode 137\nsignal 9\noom 2\ntime 1500000000\n";
  ASSERT_TRUE(ParseExitRecord(whole).ok());
  for (size_t length = 0; length < whole.size() - 1; ++length) {
    const auto record = ParseExitRecord(whole.substr(0, length));
    EXPECT_TRUE(absl::IsDataLoss(record.status())) << length;
  }
  EXPECT_FALSE(ParseExitRecord("crisp-exit 1\ncode 256\ntime 5\n").ok());
  EXPECT_FALSE(ParseExitRecord("crisp-exit 1\ncode x\ntime 5\n").ok());
  EXPECT_FALSE(ParseExitRecord("crisp-exit 2\ncode 1\ntime 5\n").ok());
}

TEST(ReadExitTest, NoFileIsNoRecord) {
  const auto record = ReadExit("/nonexistent");
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_FALSE(record->has_value());
}

}  // namespace
}  // namespace runtimeservice
