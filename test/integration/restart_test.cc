// The daemon dies and comes back: pods run on, and nothing is forgotten.
#include <signal.h>

#include <algorithm>
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

class RestartTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  RestartTest() : IntegrationTest(GetParam()) {}

  // Everything the lists say, in an order that does not depend on the daemon.
  std::vector<std::string> Listed() const {
    std::vector<std::string> all;
    const auto pods = Pods();
    const auto containers = Containers();
    EXPECT_OK(pods);
    EXPECT_OK(containers);
    if (!pods.ok() || !containers.ok()) return all;
    for (const cri::PodSandbox& pod : *pods) all.push_back(pod.SerializeAsString());
    for (const cri::Container& container : *containers) {
      all.push_back(container.SerializeAsString());
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  // The pid of the pod's process with this argument; 0 if there is none.
  pid_t FindProcess(std::string_view pod_name, std::string_view argument) const {
    for (const pid_t pid : Processes(pod_name)) {
      const auto line = base::ReadFile(base::StrCat("/proc/", pid, "/cmdline"));
      if (line.ok() && absl::StrContains(*line, base::ToAbsl(argument))) return pid;
    }
    return 0;
  }
};

TEST_P(RestartTest, EverythingIsListedAsBefore) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("one"));
  ASSERT_OK_AND_ASSIGN(const std::string stopped, RunPod("two"));
  ASSERT_OK(RunContainer(pod, "running", "exec sleep 4321"));
  ASSERT_OK(Create(ContainerRequest(pod, "created", "exec sleep 4321")));
  ASSERT_OK_AND_ASSIGN(const std::string exited, RunContainer(pod, "exited", "exit 3"));
  ASSERT_OK(WaitForExit(exited));
  ASSERT_OK(StopPod(stopped));
  const std::vector<std::string> before = Listed();
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus pod_before, PodStatus(pod));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus exit_before, Status(exited));

  ASSERT_OK(CrashAndRestart());
  EXPECT_EQ(Listed(), before);
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus pod_after, PodStatus(pod));
  EXPECT_EQ(pod_after.network().ip(), pod_before.network().ip());
  EXPECT_EQ(pod_after.created_at(), pod_before.created_at());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus exit_after, Status(exited));
  EXPECT_EQ(exit_after.exit_code(), 3);
  EXPECT_EQ(exit_after.finished_at(), exit_before.finished_at());
  EXPECT_EQ(exit_after.started_at(), exit_before.started_at());

  ASSERT_OK(RemovePod(pod));
  ASSERT_OK(RemovePod(stopped));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_P(RestartTest, ContainersRunOnAndLogMeanwhile) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(
      const std::string container,
      RunContainer(pod, "c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"));
  ASSERT_TRUE(LogGets("pod", "c.log", "line 3"));
  ASSERT_OK(daemon().Crash());
  const size_t size = ReadLog("pod", "c.log").size();
  EXPECT_TRUE(Eventually([&] { return ReadLog("pod", "c.log").size() > size + 100; }))
      << "the log goes on without the daemon";
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse exec, Exec(container, {"echo", "here"}));
  EXPECT_EQ(exec.stdout(), "here\n");
  ASSERT_OK(StopContainer(container, 0));
  // No line is lost or out of order.
  const std::string log = ReadLog("pod", "c.log");
  int line = 1;
  while (absl::StrContains(log, base::StrCat(" line ", line, "\n"))) ++line;
  EXPECT_EQ(line - 1, std::count(log.begin(), log.end(), '\n'));
}

TEST_P(RestartTest, ExitsMeanwhileAreKnown) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const std::string script = "trap 'exit 7' USR1; echo armed; while :; do sleep 0.02; done";
  ASSERT_OK_AND_ASSIGN(const std::string coded, RunContainer(pod, "coded", script + " # coded"));
  ASSERT_OK_AND_ASSIGN(const std::string killed, RunContainer(pod, "killed", "exec sleep 4321"));
  ASSERT_TRUE(LogGets("pod", "coded.log", "armed"));
  const pid_t coded_pid = FindProcess("pod", "# coded");
  ASSERT_GT(coded_pid, 0);
  // While it executes another program it has no command line.
  pid_t killed_pid = 0;
  ASSERT_TRUE(Eventually([&] { return (killed_pid = FindProcess("pod", "4321")) > 0; }));
  ASSERT_OK(daemon().Crash());
  const absl::Time down = absl::Now();
  ASSERT_EQ(kill(coded_pid, SIGUSR1), 0);
  ASSERT_EQ(kill(killed_pid, SIGKILL), 0);
  ASSERT_TRUE(Eventually([&] { return Processes("pod").empty(); }));
  const absl::Time up = absl::Now();
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, WaitForExit(coded));
  EXPECT_EQ(status.exit_code(), 7);
  EXPECT_GE(status.finished_at(), absl::ToUnixNanos(down));
  EXPECT_LE(status.finished_at(), absl::ToUnixNanos(up + absl::Seconds(1)));
  ASSERT_OK_AND_ASSIGN(status, WaitForExit(killed));
  EXPECT_EQ(status.exit_code(), 137);
}

TEST_P(RestartTest, AStopThatTheDaemonDidNotSurviveCanBeRepeated) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(
      const std::string container,
      RunContainer(pod, "c", "trap 'echo asked' TERM; echo armed; while :; do sleep 0.02; done"));
  ASSERT_TRUE(LogGets("pod", "c.log", "armed"));
  std::thread caller([&] { EXPECT_FALSE(StopContainer(container, 100).ok()); });
  EXPECT_TRUE(LogGets("pod", "c.log", "asked"));
  EXPECT_OK(daemon().Crash());
  caller.join();
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
  ASSERT_OK(StopContainer(container, 0));
  ASSERT_OK_AND_ASSIGN(status, Status(container));
  EXPECT_EQ(status.exit_code(), 137);
}

INSTANTIATE_TEST_SUITE_P(Runtimes, RestartTest, testing::Values("crun", "runc"),
                         [](const auto& runtime) { return runtime.param; });

using DaemonTest = IntegrationTest;

TEST_F(DaemonTest, ASecondOneIsRefused) {
  Daemon second(environment());
  ASSERT_OK(second.Launch());
  ASSERT_OK_AND_ASSIGN(const base::ExitState exit, second.WaitForEnd());
  EXPECT_NE(exit.code, 0);
  EXPECT_EQ(exit.signal, 0);
  EXPECT_THAT(second.Log(), testing::HasSubstr(base::StrCat(daemon().pid())))
      << "it names the daemon that runs";
  EXPECT_OK(client().Call(&RuntimeStub::Version, cri::VersionRequest()));
}

TEST_F(DaemonTest, ASocketLeftByACrashIsReplaced) {
  ASSERT_OK(daemon().Crash());
  ASSERT_TRUE(base::Exists(environment().Get("SOCKET")));
  EXPECT_OK(daemon().Start());
}

TEST_F(DaemonTest, EndsOnRequestAndLeavesContainersRunning) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const base::ExitState exit, daemon().Stop());
  EXPECT_EQ(exit.code, 0);
  EXPECT_FALSE(Processes("pod").empty());
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
}

TEST_F(DaemonTest, ADamagedRecordIsSetAsideAndTheRestIsServed) {
  ASSERT_OK_AND_ASSIGN(const std::string good, RunPod("good"));
  ASSERT_OK_AND_ASSIGN(const std::string damaged, RunPod("damaged"));
  ASSERT_OK(daemon().Crash());
  const std::string record = base::StrCat(environment().Get("ROOT"), "/records/pods/", damaged);
  ASSERT_OK_AND_ASSIGN(std::string bytes, base::ReadFile(record));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  ASSERT_OK(base::ReplaceFile(record, bytes, 0600, base::Durability::kVolatile));
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  ASSERT_EQ(pods.size(), 1u);
  EXPECT_EQ(pods[0].id(), good);
  EXPECT_THAT(daemon().Log(), testing::HasSubstr(damaged));
}

}  // namespace
}  // namespace test
