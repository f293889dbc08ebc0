// Pods of gVisor's runsc: one sandbox for all containers of a pod.
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

class GvisorTest : public IntegrationTest {
 protected:
  void SetUp() override {
    if (!RunProgram({"which", "runsc"}).ok()) GTEST_SKIP() << "SKIP: runsc";
    IntegrationTest::SetUp();
  }
  void Prepare() override {
    // Without a network of its own: Debian 12's runsc refuses to make one on newer kernels, where
    // it takes every network namespace for the host's.
    ASSERT_OK(environment().EditConfig("[crisp.image]",
                                       "[crisp.runtime.runtimes.gvisor]\n"
                                       "runtime_path = \"/usr/bin/runsc\"\n"
                                       "runtime_arguments = [\"--network=none\"]\n"
                                       "allowed_annotations = [\"dev.gvisor.\"]\n\n"
                                       "[crisp.image]"));
  }

  cri::RunPodSandboxRequest GvisorPod(std::string_view name,
                                      cri::NamespaceMode pid = cri::CONTAINER) const {
    cri::RunPodSandboxRequest request = PodRequest(name);
    request.set_runtime_handler("gvisor");
    request.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(pid);
    return request;
  }
  std::string Output(const std::string& container, std::vector<std::string> command) const {
    const auto result = Exec(container, std::move(command));
    return result.ok() ? result->stdout() : result.status().ToString();
  }
};

TEST_F(GvisorTest, ContainersOfAPodRunInOneSandboxAndLeaveNothing) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(GvisorPod("sandbox")));
  ASSERT_OK_AND_ASSIGN(const std::string one, RunContainer(pod, "one",
                                                           "dmesg | grep -q gVisor && echo inside;"
                                                           " echo to-stderr >&2; exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string two, RunContainer(pod, "two", "exec sleep 4321"));
  EXPECT_TRUE(LogGets("sandbox", "one.log", "inside")) << ReadLog("sandbox", "one.log");
  EXPECT_TRUE(LogGets("sandbox", "one.log", "to-stderr", "stderr"));
  EXPECT_EQ(Output(two, {"echo", "hello"}), "hello\n");
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 2u) << "what holds the sandbox is not listed";

  ASSERT_OK(StopContainer(one, 0));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(one));
  EXPECT_EQ(status.state(), cri::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_EQ(Output(two, {"echo", "on"}), "on\n") << "the other runs on";
  ASSERT_OK(RemoveContainer(one));
  ASSERT_OK(StopPod(pod));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus ended, Status(two));
  EXPECT_EQ(ended.state(), cri::CONTAINER_EXITED);
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

TEST_F(GvisorTest, ExitCodesAndStopSignalsAreTheContainersOwn) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(GvisorPod("codes")));
  ASSERT_OK_AND_ASSIGN(const std::string failing, RunContainer(pod, "f", "echo last; exit 7"));
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, WaitForExit(failing));
  EXPECT_EQ(status.exit_code(), 7);
  EXPECT_EQ(status.reason(), "Error");
  EXPECT_THAT(ReadLog("codes", "f.log"), HasSubstr("last")) << "complete before it is EXITED";
  ASSERT_OK_AND_ASSIGN(
      const std::string polite,
      RunContainer(pod, "p", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"));
  ASSERT_TRUE(LogGets("codes", "p.log", "ready"));
  ASSERT_OK(StopContainer(polite, 60));
  ASSERT_OK_AND_ASSIGN(status, Status(polite));
  EXPECT_EQ(status.exit_code(), 5);
}

TEST_F(GvisorTest, WhatWasNeverStartedCanBeStoppedAndRemoved) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(GvisorPod("created")));
  ASSERT_OK_AND_ASSIGN(const std::string one, Create(ContainerRequest(pod, "one", "sleep 4321")));
  ASSERT_OK(Create(ContainerRequest(pod, "two", "sleep 4321")));
  ASSERT_OK(RemoveContainer(one));
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

TEST_F(GvisorTest, ARestartOfTheDaemonLosesNothing) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(GvisorPod("restart")));
  ASSERT_OK_AND_ASSIGN(const std::string one, RunContainer(pod, "one", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string two, Create(ContainerRequest(pod, "two", "exit 3")));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus ready, PodStatus(pod));
  EXPECT_EQ(ready.state(), cri::SANDBOX_READY);
  EXPECT_EQ(Output(one, {"echo", "on"}), "on\n");
  ASSERT_OK(Start(two));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(two));
  EXPECT_EQ(status.exit_code(), 3);
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

TEST_F(GvisorTest, AnExecThatTakesTooLongLeavesNoProcessInTheSandbox) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(GvisorPod("exec")));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  EXPECT_THAT(Exec(id, {"sleep", "1234"}, 1), HasCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(Eventually(
      [&] { return Output(id, {"ps", "-o", "args"}).find("sleep 1234") == std::string::npos; }));
  EXPECT_THAT(Output(id, {"ps", "-o", "args"}), HasSubstr("sleep 4321"));
}

TEST_F(GvisorTest, OnePidNamespaceForThePodIsTheSandboxsFirst) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(GvisorPod("pids", cri::POD)));
  ASSERT_OK(RunContainer(pod, "one", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string two, RunContainer(pod, "two", "exec sleep 1234"));
  EXPECT_THAT(Output(two, {"ps", "-o", "args"}), HasSubstr("sleep 4321"));
}

TEST_F(GvisorTest, NamespacesOfTheHostAreRefused) {
  for (const char* space : {"network", "ipc", "pid"}) {
    cri::RunPodSandboxRequest request = GvisorPod("host");
    auto* options = request.mutable_config()
                        ->mutable_linux()
                        ->mutable_security_context()
                        ->mutable_namespace_options();
    if (std::string_view(space) == "network") options->set_network(cri::NODE);
    if (std::string_view(space) == "ipc") options->set_ipc(cri::NODE);
    if (std::string_view(space) == "pid") options->set_pid(cri::NODE);
    const absl::Status refused = RunPod(request).status();
    EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition)) << space;
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr(base::StrCat("namespace_options.", space)));
  }
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(GvisorTest, TheSandboxIsNamedByThePodsIdInBothFamilies) {
  cri::RunPodSandboxRequest request = GvisorPod("marks");
  auto& wanted = *request.mutable_config()->mutable_annotations();
  wanted["dev.gvisor.spec.mount.x.source"] = "/tmp/x";
  wanted["dev.gvisor.spec.mount.x.type"] = "tmpfs";
  wanted["dev.gvisor.spec.mount.x.share"] = "pod";
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       base::ReadFile(base::StrCat(environment().Get("RUN_ROOT"), "/containers/",
                                                   pod, "/config.json")));
  ASSERT_OK_AND_ASSIGN(const base::Json spec, base::ParseJson(text));
  const base::Json annotations = spec["annotations"];
  EXPECT_EQ(annotations["io.kubernetes.cri.container-type"], "sandbox");
  EXPECT_EQ(annotations["io.kubernetes.cri.sandbox-id"], pod);
  EXPECT_EQ(annotations["io.kubernetes.cri-o.ContainerType"], "sandbox");
  EXPECT_EQ(annotations["io.kubernetes.cri-o.SandboxID"], pod);
  EXPECT_EQ(annotations["dev.gvisor.spec.mount.x.share"], "pod");
}

}  // namespace
}  // namespace test
