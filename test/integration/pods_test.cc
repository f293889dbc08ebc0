// The life of a pod and its containers, with each OCI runtime.
#include <thread>

#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string UnknownId() { return std::string(64, 'a'); }

class PodLifeTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  PodLifeTest() : IntegrationTest(GetParam()) {}
};

TEST_P(PodLifeTest, PodRunsAContainerAndLeavesNothing) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("life"));
  EXPECT_EQ(pod.size(), 64u);
  ASSERT_OK_AND_ASSIGN(cri::PodSandboxStatus pod_status, PodStatus(pod));
  EXPECT_EQ(pod_status.state(), cri::SANDBOX_READY);
  EXPECT_EQ(pod_status.metadata().uid(), "uid-life");
  EXPECT_THAT(pod_status.network().ip(), testing::StartsWith("10."));

  ASSERT_OK_AND_ASSIGN(const std::string container,
                       Create(ContainerRequest(pod, "c", "echo hello; hostname; exec sleep 4321")));
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_CREATED);
  ASSERT_OK(Start(container));
  ASSERT_OK_AND_ASSIGN(status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
  EXPECT_GT(status.started_at(), 0);
  EXPECT_TRUE(LogGets("life", "c.log", "hello"));
  EXPECT_TRUE(LogGets("life", "c.log", "life"));

  ASSERT_OK(StopContainer(container, 0));
  ASSERT_OK_AND_ASSIGN(status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_GE(status.finished_at(), status.started_at());
  ASSERT_OK(RemoveContainer(container));
  EXPECT_THAT(Status(container), HasCode(absl::StatusCode::kNotFound));

  ASSERT_OK(StopPod(pod));
  ASSERT_OK_AND_ASSIGN(pod_status, PodStatus(pod));
  EXPECT_EQ(pod_status.state(), cri::SANDBOX_NOTREADY);
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(PodStatus(pod), HasCode(absl::StatusCode::kNotFound));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
  EXPECT_NE(ReadLog("life", "c.log"), "") << "logs are the caller's to remove";
}

TEST_P(PodLifeTest, RemovingAPodTakesItsRunningContainersAlong) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("whole"));
  ASSERT_OK(RunContainer(pod, "one", "exec sleep 4321"));
  ASSERT_OK(RunContainer(pod, "two", "exec sleep 4321"));
  ASSERT_OK(Create(ContainerRequest(pod, "three", "exec sleep 4321")));
  ASSERT_OK(RemovePod(pod));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 0u);
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Runtimes, PodLifeTest, testing::Values("crun", "runc"),
                         [](const auto& runtime) { return runtime.param; });

using PodsTest = IntegrationTest;

TEST_F(PodsTest, StopAndRemoveOfWhatIsGoneSucceed) {
  EXPECT_OK(StopPod(UnknownId()));
  EXPECT_OK(RemovePod(UnknownId()));
  EXPECT_OK(StopContainer(UnknownId(), 1));
  EXPECT_OK(RemoveContainer(UnknownId()));

  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("twice"));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(StopPod(pod));
  EXPECT_OK(RemovePod(pod));
  EXPECT_OK(RemovePod(pod));
  EXPECT_OK(StopPod(pod));
}

TEST_F(PodsTest, ParallelRequestsForOnePodGetTheSamePod) {
  absl::StatusOr<std::string> first = absl::UnknownError("");
  absl::StatusOr<std::string> second = absl::UnknownError("");
  std::thread other([&] { first = RunPod("join"); });
  second = RunPod("join");
  other.join();
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(*first, *second);
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_EQ(pods.size(), 1u);
}

TEST_F(PodsTest, ParallelRequestsForOneContainerGetTheSameContainer) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("join"));
  const cri::CreateContainerRequest request = ContainerRequest(pod, "c", "exec sleep 4321");
  absl::StatusOr<std::string> first = absl::UnknownError("");
  absl::StatusOr<std::string> second = absl::UnknownError("");
  std::thread other([&] { first = Create(request); });
  second = Create(request);
  other.join();
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_EQ(*first, *second);
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 1u);
}

TEST_F(PodsTest, AnotherAttemptIsAnotherPod) {
  cri::RunPodSandboxRequest request = PodRequest("attempts");
  ASSERT_OK_AND_ASSIGN(const std::string first, RunPod(request));
  request.mutable_config()->mutable_metadata()->set_attempt(1);
  ASSERT_OK_AND_ASSIGN(const std::string second, RunPod(request));
  EXPECT_NE(first, second);
}

TEST_F(PodsTest, FiltersAreAndedAndIdsMayBePrefixes) {
  ASSERT_OK_AND_ASSIGN(const std::string ready, RunPod("ready"));
  ASSERT_OK_AND_ASSIGN(const std::string stopped, RunPod("stopped"));
  ASSERT_OK(StopPod(stopped));
  const auto ids = [&](const cri::PodSandboxFilter& filter) {
    std::vector<std::string> found;
    const auto pods = Pods(filter);
    if (!pods.ok()) return std::vector<std::string>{pods.status().ToString()};
    for (const cri::PodSandbox& pod : *pods) found.push_back(pod.id());
    return found;
  };
  EXPECT_EQ(ids({}).size(), 2u);
  cri::PodSandboxFilter filter;
  filter.mutable_state()->set_state(cri::SANDBOX_READY);
  EXPECT_THAT(ids(filter), ElementsAre(ready));
  filter.mutable_state()->set_state(cri::SANDBOX_NOTREADY);
  EXPECT_THAT(ids(filter), ElementsAre(stopped));
  (*filter.mutable_label_selector())["pod"] = "ready";
  EXPECT_THAT(ids(filter), IsEmpty());
  filter.clear_state();
  EXPECT_THAT(ids(filter), ElementsAre(ready));
  filter.Clear();
  filter.set_id(ready.substr(0, 13));
  EXPECT_THAT(ids(filter), ElementsAre(ready));
  filter.set_id(UnknownId());
  EXPECT_THAT(ids(filter), IsEmpty());

  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus status, PodStatus(ready.substr(0, 13)));
  EXPECT_EQ(status.id(), ready);
}

TEST_F(PodsTest, LabelsAndAnnotationsComeBackAsSent) {
  cri::RunPodSandboxRequest request = PodRequest("marks");
  (*request.mutable_config()->mutable_labels())["io.kubernetes.pod.uid"] = "x";
  (*request.mutable_config()->mutable_annotations())["note"] = "line\n\"quoted\" \xc3\xa4";
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus status, PodStatus(pod));
  EXPECT_EQ(status.labels().at("io.kubernetes.pod.uid"), "x");
  EXPECT_EQ(status.annotations().at("note"), "line\n\"quoted\" \xc3\xa4");
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  ASSERT_EQ(pods.size(), 1u);
  EXPECT_EQ(pods[0].annotations().at("note"), "line\n\"quoted\" \xc3\xa4");
}

TEST_F(PodsTest, PodsDnsBecomesItsResolvConf) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("dns");
  cri::DNSConfig* dns = request.mutable_config()->mutable_dns_config();
  dns->add_servers("10.10.10.10");
  dns->add_searches("a.example");
  dns->add_searches("b.example");
  dns->add_options("ndots:8");
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse file,
                       Exec(container, {"cat", "/etc/resolv.conf"}));
  EXPECT_EQ(file.stdout(), "nameserver 10.10.10.10\nsearch a.example b.example\noptions ndots:8\n");
}

TEST_F(PodsTest, HostNetworkPodIsOnTheHost) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("host");
  request.mutable_config()->clear_hostname();
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_network(cri::NODE);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus status, PodStatus(pod));
  EXPECT_EQ(status.network().ip(), "");
  EXPECT_EQ(status.linux().namespaces().options().network(), cri::NODE);
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse inside,
                       Exec(container, {"readlink", "/proc/self/ns/net"}));
  ASSERT_OK_AND_ASSIGN(const std::string outside, RunProgram({"readlink", "/proc/self/ns/net"}));
  EXPECT_EQ(inside.stdout(), outside);
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
}

TEST_F(PodsTest, ContainersOfAPodShareOnePidNamespaceWhenItSaysSo) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("pids");
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK(RunContainer(pod, "one", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string two, RunContainer(pod, "two", "exec sleep 1234"));
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse processes, Exec(two, {"ps", "-o", "args"}));
  EXPECT_THAT(processes.stdout(), testing::HasSubstr("sleep 4321"));
  EXPECT_THAT(processes.stdout(), testing::HasSubstr("sleep 1234"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 2u) << "the holder of the namespace is not listed";
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(PodsTest, ContainersOfAPodShareNetworkAndHostnameButNotFiles) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("shared"));
  ASSERT_OK_AND_ASSIGN(const std::string one,
                       RunContainer(pod, "one", "touch /mine /dev/shm/ours; exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string two, RunContainer(pod, "two", "exec sleep 4321"));
  const auto output = [&](const std::string& container, std::vector<std::string> command) {
    const auto result = Exec(container, command);
    return result.ok() ? result->stdout() : result.status().ToString();
  };
  for (const char* space : {"net", "ipc", "uts"}) {
    const std::string path = base::StrCat("/proc/self/ns/", space);
    EXPECT_EQ(output(one, {"readlink", path}), output(two, {"readlink", path}));
  }
  EXPECT_NE(output(one, {"readlink", "/proc/self/ns/pid"}),
            output(two, {"readlink", "/proc/self/ns/pid"}));
  EXPECT_TRUE(Eventually([&] { return output(two, {"ls", "/dev/shm"}) == "ours\n"; }));
  EXPECT_EQ(output(two, {"ls", "/mine"}), "");
}

TEST_F(PodsTest, HostileAnnotationsDoNotReachTheRuntime) {
  ASSERT_OK(Pull(kBusybox));
  const std::map<std::string, std::string> hostile = {
      {"run.oci.seccomp_bpf_data", "BgAAAAAA/38="},
      {"run.oci.hooks.stdout", "/tmp/hooks"},
      {"run.oci.handler", "krun"},
      {"run.oci.keep_original_groups", "1"},
      {"org.systemd.property.ExecStart", "'/bin/sh'"},
      {"io.kubernetes.cri-o.userns-mode", "auto"},
      {"org.criu.config", "/tmp/criu"}};
  cri::RunPodSandboxRequest pod_request = PodRequest("hostile");
  pod_request.mutable_config()->mutable_annotations()->insert(hostile.begin(), hostile.end());
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(pod_request));
  cri::CreateContainerRequest request = ContainerRequest(pod, "c", "exec sleep 4321");
  request.mutable_config()->mutable_annotations()->insert(hostile.begin(), hostile.end());
  ASSERT_OK_AND_ASSIGN(const std::string container, Create(request));
  ASSERT_OK_AND_ASSIGN(const std::string spec,
                       base::ReadFile(base::StrCat(environment().Get("RUN_ROOT"), "/containers/",
                                                   container, "/config.json")));
  EXPECT_THAT(spec, testing::HasSubstr("sleep 4321"));
  for (const auto& [name, value] : hostile) {
    EXPECT_THAT(spec, testing::Not(testing::HasSubstr(name)));
  }
}

}  // namespace
}  // namespace test
