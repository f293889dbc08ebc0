// ExecSync: output, limits, and that nothing it started stays.
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

class ExecTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  ExecTest() : IntegrationTest(GetParam()) {}
  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
    ASSERT_OK_AND_ASSIGN(container_, RunContainer(pod_, "c", "exec sleep 100000"));
  }

  // Whether a process of the pod has this argument.
  bool Runs(std::string_view argument) const {
    for (const pid_t pid : Processes("pod")) {
      const auto line = base::ReadFile(base::StrCat("/proc/", pid, "/cmdline"));
      if (line.ok() && absl::StrContains(*line, base::ToAbsl(argument))) return true;
    }
    return false;
  }

  // Calls that are cancelled after 2 to 61 ms, 50 in each of four threads.
  void CancelManyCalls(const std::string& container) const {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([this, caller, &container] {
        for (int i = 0; i < 50; ++i) {
          cri::ExecSyncRequest request;
          request.set_container_id(container);
          request.add_cmd("sleep");
          request.add_cmd("4321");
          (void)client().Call(&RuntimeStub::ExecSync, request,
                              absl::Milliseconds(2 + (i * 7 + caller * 3) % 60));
        }
      });
    }
    for (std::thread& caller : callers) {
      caller.join();
    }
  }

  std::string pod_;
  std::string container_;
};

TEST_P(ExecTest, OutputAndExitCodeComeBack) {
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse hello,
                       Exec(container_, {"echo", "-n", "hello"}));
  EXPECT_EQ(hello.stdout(), "hello");
  EXPECT_EQ(hello.stderr(), "");
  EXPECT_EQ(hello.exit_code(), 0);
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse both,
                       Exec(container_, {"sh", "-c", "echo out; echo err >&2; exit 3"}));
  EXPECT_EQ(both.stdout(), "out\n");
  EXPECT_EQ(both.stderr(), "err\n");
  EXPECT_EQ(both.exit_code(), 3);
}

TEST_P(ExecTest, TimeoutLeavesNoProcess) {
  const auto result = Exec(container_, {"sh", "-c", "sleep 4321 & sleep 4321"}, 1);
  EXPECT_THAT(result, HasCode(absl::StatusCode::kDeadlineExceeded));
  // They are killed by then; the kernel takes a moment to bury them.
  EXPECT_TRUE(Eventually([&] { return !Runs("4321"); }, absl::Seconds(1)));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container_));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
}

TEST_P(ExecTest, CancelledCallLeavesNoProcess) {
  cri::ExecSyncRequest request;
  request.set_container_id(container_);
  request.add_cmd("sleep");
  request.add_cmd("4321");
  const auto result = client().Call(&RuntimeStub::ExecSync, request, absl::Seconds(1));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(Eventually([&] { return !Runs("4321"); }));
}

TEST_P(ExecTest, CallsCancelledAtAnyMomentLeaveNoProcess) {
  CancelManyCalls(container_);
  EXPECT_TRUE(Eventually([&] { return !Runs("4321"); }));
}

TEST_P(ExecTest, CallsCancelledAtAnyMomentLeaveNoProcessInASharedPidNamespace) {
  ASSERT_OK(RemovePod(pod_));
  cri::RunPodSandboxRequest request = PodRequest("pod");
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  cri::CreateContainerRequest create = ContainerRequest(pod, "c", "exec sleep 100000");
  create.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(create));
  ASSERT_OK(Start(container));
  CancelManyCalls(container);
  EXPECT_TRUE(Eventually([&] { return !Runs("4321"); }));
}

TEST_P(ExecTest, DeathOfTheDaemonLeavesNoProcess) {
  std::thread caller([&] { EXPECT_FALSE(Exec(container_, {"sleep", "4321"}, 300).ok()); });
  EXPECT_TRUE(Eventually([&] { return Runs("4321"); }));
  EXPECT_OK(daemon().Crash());
  caller.join();
  ASSERT_OK(daemon().Start());
  EXPECT_TRUE(Eventually([&] { return !Runs("4321"); }));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container_));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
  EXPECT_OK(Exec(container_, {"true"}));
}

TEST_P(ExecTest, ABackgroundChildDoesNotHoldTheCall) {
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse result,
                       Exec(container_, {"sh", "-c", "sleep 4321 & echo done"}, 20));
  EXPECT_EQ(result.stdout(), "done\n");
  EXPECT_EQ(result.exit_code(), 0);
}

TEST_P(ExecTest, MuchOutputIsCutAndNotAnError) {
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse result,
                       Exec(container_, {"sh", "-c", "yes | head -c 20000000"}, 60));
  EXPECT_EQ(result.exit_code(), 0);
  EXPECT_GT(result.stdout().size(), size_t{8} << 20);
  EXPECT_LE(result.stdout().size(), size_t{16} << 20);
}

TEST_P(ExecTest, ManyAtOnceAllSucceed) {
  std::vector<std::thread> callers;
  std::vector<std::string> outputs(20);
  for (size_t i = 0; i < outputs.size(); ++i) {
    callers.emplace_back([&, i] {
      const auto result = Exec(container_, {"echo", std::to_string(i)}, 60);
      outputs[i] = result.ok() ? result->stdout() : result.status().ToString();
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (size_t i = 0; i < outputs.size(); ++i) EXPECT_EQ(outputs[i], std::to_string(i) + "\n");
}

TEST_P(ExecTest, OnlyARunningContainerCan) {
  ASSERT_OK_AND_ASSIGN(const std::string created, Create(ContainerRequest(pod_, "d", "true")));
  EXPECT_THAT(Exec(created, {"true"}), HasCode(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(StopContainer(container_, 0));
  EXPECT_THAT(Exec(container_, {"true"}), HasCode(absl::StatusCode::kFailedPrecondition));
}

TEST_P(ExecTest, ACommandThatDoesNotExistIsAnErrorOrACode) {
  const auto result = Exec(container_, {"/no/such/program"});
  EXPECT_TRUE(!result.ok() || result->exit_code() != 0);
  EXPECT_OK(Exec(container_, {"true"}));
}

INSTANTIATE_TEST_SUITE_P(Runtimes, ExecTest, testing::Values("crun", "runc"),
                         [](const auto& runtime) { return runtime.param; });

}  // namespace
}  // namespace test
