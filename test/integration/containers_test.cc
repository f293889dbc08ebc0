// Containers: states, exits, images' defaults, logs.
#include <signal.h>
#include <sys/stat.h>

#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ContainersTest : public IntegrationTest {
 protected:
  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
  }

  std::string pod_;
};

TEST_F(ContainersTest, ExitCodeAndReasonAreKept) {
  ASSERT_OK_AND_ASSIGN(const std::string good, RunContainer(pod_, "good", "exit 0"));
  ASSERT_OK_AND_ASSIGN(const std::string bad, RunContainer(pod_, "bad", "exit 7"));
  ASSERT_OK_AND_ASSIGN(const std::string killed, RunContainer(pod_, "killed", "kill -9 $$; true"));
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, WaitForExit(good));
  EXPECT_EQ(status.exit_code(), 0);
  EXPECT_EQ(status.reason(), "Completed");
  ASSERT_OK_AND_ASSIGN(status, WaitForExit(bad));
  EXPECT_EQ(status.exit_code(), 7);
  EXPECT_EQ(status.reason(), "Error");
  EXPECT_GE(status.finished_at(), status.started_at());
  EXPECT_GE(status.started_at(), status.created_at());
  // The first process of a PID namespace cannot kill itself: this one goes on to `true`.
  ASSERT_OK_AND_ASSIGN(status, WaitForExit(killed));
  EXPECT_EQ(status.exit_code(), 0);
}

TEST_F(ContainersTest, OnlyACreatedContainerStarts) {
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod_, "c", "exec sleep 4321"));
  EXPECT_THAT(Start(container), HasCode(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(StopContainer(container, 0));
  EXPECT_THAT(Start(container), HasCode(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ContainersTest, StopSignalIsSentAndTheGraceIsWaitedFor) {
  ASSERT_OK_AND_ASSIGN(
      const std::string polite,
      RunContainer(pod_, "polite",
                   "trap 'echo stopping; exit 5' TERM; echo armed; while :; do sleep 0.05; done"));
  ASSERT_TRUE(LogGets("pod", "polite.log", "armed"));
  ASSERT_OK(StopContainer(polite, 20));
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, Status(polite));
  EXPECT_EQ(status.state(), cri::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 5);
  EXPECT_TRUE(LogGets("pod", "polite.log", "stopping"));

  ASSERT_OK_AND_ASSIGN(
      const std::string stubborn,
      RunContainer(pod_, "stubborn", "trap '' TERM; echo armed; while :; do sleep 0.05; done"));
  ASSERT_TRUE(LogGets("pod", "stubborn.log", "armed"));
  const absl::Time start = absl::Now();
  ASSERT_OK(StopContainer(stubborn, 1));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(900));
  ASSERT_OK_AND_ASSIGN(status, Status(stubborn));
  EXPECT_EQ(status.exit_code(), 137);
}

TEST_F(ContainersTest, AShorterStopShortensTheWait) {
  ASSERT_OK_AND_ASSIGN(
      const std::string container,
      RunContainer(pod_, "c", "trap 'echo asked' TERM; echo armed; while :; do sleep 0.05; done"));
  ASSERT_TRUE(LogGets("pod", "c.log", "armed"));
  const absl::Time start = absl::Now();
  absl::Status patient;
  std::thread first([&] { patient = StopContainer(container, 50); });
  EXPECT_TRUE(LogGets("pod", "c.log", "asked"));
  EXPECT_OK(StopContainer(container, 0));
  first.join();
  EXPECT_OK(patient);
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
}

TEST_F(ContainersTest, ACommandThatDoesNotExistFailsToStartAndLeavesNoProcess) {
  cri::CreateContainerRequest request = ContainerRequest(pod_, "c", "");
  request.mutable_config()->clear_command();
  request.mutable_config()->add_command("/no/such/program");
  const absl::StatusOr<std::string> container = Create(request);
  if (container.ok()) {
    EXPECT_FALSE(Start(*container).ok());
    const auto status = Status(*container);
    if (status.ok()) {
      EXPECT_EQ(status->state(), cri::CONTAINER_EXITED);
      EXPECT_NE(status->exit_code(), 0);
    }
  } else {
    EXPECT_THAT(container.status().message(), HasSubstr("/no/such/program"));
  }
  EXPECT_THAT(Processes("pod"), IsEmpty());
}

TEST_F(ContainersTest, ImageGivesUserDirectoryCommandAndFiles) {
  ASSERT_OK(Pull("crisp-test/layers"));
  cri::CreateContainerRequest request = ContainerRequest(pod_, "c", "");
  request.mutable_config()->mutable_image()->set_image(Image("crisp-test/layers"));
  request.mutable_config()->clear_command();
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  ASSERT_OK(WaitForExit(container));
  EXPECT_TRUE(LogGets("pod", "c.log", "upper")) << "the image's Cmd is `cat /etc/layer`";

  request.mutable_config()->mutable_metadata()->set_name("d");
  request.mutable_config()->set_log_path("d.log");
  for (const char* word :
       {"sh", "-c", "id -u; pwd; ls /etc/nsswitch.conf 2>&1; ls -ld /tmp | cut -c1-10"}) {
    request.mutable_config()->add_command(word);
  }
  ASSERT_OK_AND_ASSIGN(const std::string other, Create(request));
  ASSERT_OK(Start(other));
  ASSERT_OK(WaitForExit(other));
  EXPECT_TRUE(LogGets("pod", "d.log", "1000"));
  EXPECT_TRUE(LogGets("pod", "d.log", "/srv/work"));
  EXPECT_TRUE(LogGets("pod", "d.log", "ls: /etc/nsswitch.conf: No such file or directory"));
  EXPECT_TRUE(LogGets("pod", "d.log", "drwxrwxrwt"));
}

TEST_F(ContainersTest, EnvironmentOfImageAndRequestAreMerged) {
  cri::CreateContainerRequest request =
      ContainerRequest(pod_, "c", "echo \"$GREETING $HOSTNAME\"; echo $PATH");
  cri::KeyValue* variable = request.mutable_config()->add_envs();
  variable->set_key("GREETING");
  variable->set_value("good day");
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  EXPECT_TRUE(LogGets("pod", "c.log", "good day pod"));
  EXPECT_TRUE(
      LogGets("pod", "c.log", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
}

TEST_F(ContainersTest, HostDirectoriesAreMounted) {
  const std::string directory = base::StrCat(environment().Get("RUN"), "/volume");
  ASSERT_OK(base::MakeDirectories(directory));
  ASSERT_OK(base::ReplaceFile(directory + "/file", "text\n", 0644, base::Durability::kVolatile));
  cri::CreateContainerRequest request =
      ContainerRequest(pod_, "c", "cat /rw/file; echo new >/rw/new; touch /ro/x || echo refused");
  for (const bool read_only : {false, true}) {
    cri::Mount* mount = request.mutable_config()->add_mounts();
    mount->set_host_path(directory);
    mount->set_container_path(read_only ? "/ro" : "/rw");
    mount->set_readonly(read_only);
  }
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  EXPECT_TRUE(LogGets("pod", "c.log", "text"));
  EXPECT_TRUE(LogGets("pod", "c.log", "refused"));
  EXPECT_EQ(base::ReadFile(directory + "/new").value_or(""), "new\n");
  ASSERT_OK(RemovePod(pod_));
  EXPECT_TRUE(base::Exists(directory + "/file"));
}

TEST_F(ContainersTest, TheHostsNullDeviceIsNotGivenToTheContainersUser) {
  cri::CreateContainerRequest request = ContainerRequest(pod_, "c", "cat; echo ended");
  constexpr uid_t kUser = 54321;
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_run_as_user()
      ->set_value(kUser);
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  EXPECT_TRUE(LogGets("pod", "c.log", "ended"));
  struct stat null = {};
  ASSERT_EQ(stat("/dev/null", &null), 0);
  EXPECT_NE(null.st_uid, kUser);
}

TEST_F(ContainersTest, MemoryLimitKillsAndIsReported) {
  cri::CreateContainerRequest request =
      ContainerRequest(pod_, "c", "dd if=/dev/zero of=/dev/null bs=40M");
  cri::LinuxContainerResources* resources =
      request.mutable_config()->mutable_linux()->mutable_resources();
  resources->set_memory_limit_in_bytes(16 << 20);
  resources->set_memory_swap_limit_in_bytes(16 << 20);
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK(Start(container));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(container));
  EXPECT_EQ(status.reason(), "OOMKilled");
  EXPECT_EQ(status.exit_code(), 137);
}

TEST_F(ContainersTest, FiltersAreAndedAndIdsMayBePrefixes) {
  ASSERT_OK_AND_ASSIGN(const std::string running, RunContainer(pod_, "running", "sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string exited, RunContainer(pod_, "exited", "exit 0"));
  ASSERT_OK_AND_ASSIGN(const std::string other_pod, RunPod("other"));
  ASSERT_OK_AND_ASSIGN(const std::string created,
                       Create(ContainerRequest(other_pod, "created", "exit 0")));
  ASSERT_OK(WaitForExit(exited));
  const auto ids = [&](const cri::ContainerFilter& filter) {
    std::vector<std::string> found;
    const auto containers = Containers(filter);
    if (!containers.ok()) return std::vector<std::string>{containers.status().ToString()};
    for (const cri::Container& container : *containers) found.push_back(container.id());
    return found;
  };
  EXPECT_EQ(ids({}).size(), 3u);
  cri::ContainerFilter filter;
  filter.mutable_state()->set_state(cri::CONTAINER_CREATED);
  EXPECT_THAT(ids(filter), ElementsAre(created));
  filter.mutable_state()->set_state(cri::CONTAINER_RUNNING);
  EXPECT_THAT(ids(filter), ElementsAre(running));
  filter.set_pod_sandbox_id(other_pod);
  EXPECT_THAT(ids(filter), IsEmpty());
  filter.Clear();
  filter.set_pod_sandbox_id(other_pod.substr(0, 13));
  EXPECT_THAT(ids(filter), ElementsAre(created));
  filter.Clear();
  (*filter.mutable_label_selector())["container"] = "exited";
  EXPECT_THAT(ids(filter), ElementsAre(exited));
  filter.set_id(running.substr(0, 13));
  EXPECT_THAT(ids(filter), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(running.substr(0, 13)));
  EXPECT_EQ(status.id(), running);
}

TEST_F(ContainersTest, LogHasBothStreamsAndMarksPartialLines) {
  ASSERT_OK_AND_ASSIGN(const std::string container,
                       RunContainer(pod_, "c", "echo out; echo err >&2; printf unfinished"));
  ASSERT_OK(WaitForExit(container));
  EXPECT_TRUE(LogGets("pod", "c.log", "out"));
  EXPECT_TRUE(LogGets("pod", "c.log", "err", "stderr"));
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(ReadLog("pod", "c.log"), " stdout P unfinished\n");
  })) << ReadLog("pod", "c.log");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.log_path(), base::StrCat(LogDirectory("pod"), "/c.log"));
}

TEST_F(ContainersTest, ReopenedLogGrowsAndTheRenamedOneDoesNot) {
  ASSERT_OK_AND_ASSIGN(
      const std::string container,
      RunContainer(pod_, "c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"));
  ASSERT_TRUE(LogGets("pod", "c.log", "line 1"));
  const std::string log = base::StrCat(LogDirectory("pod"), "/c.log");
  ASSERT_EQ(rename(log.c_str(), (log + ".old").c_str()), 0);
  cri::ReopenContainerLogRequest request;
  request.set_container_id(container);
  ASSERT_OK(client().Call(&RuntimeStub::ReopenContainerLog, request));
  ASSERT_TRUE(base::Exists(log)) << "it is there when the call returns";
  const std::string old = ReadLog("pod", "c.log.old");
  ASSERT_TRUE(Eventually([&] { return ReadLog("pod", "c.log").size() > 100; }));
  EXPECT_EQ(ReadLog("pod", "c.log.old"), old);

  ASSERT_OK(StopContainer(container, 0));
  EXPECT_FALSE(client().Call(&RuntimeStub::ReopenContainerLog, request).ok())
      << "a container that does not run has no log to reopen";
}

}  // namespace
}  // namespace test
