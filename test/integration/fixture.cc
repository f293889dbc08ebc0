#include "test/integration/fixture.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"

namespace test {
namespace {

// One registry serves all cases of this process; it ends with the process.
absl::StatusOr<std::string> RegistryAddress() {
  static auto* const registry = new absl::StatusOr<Registry>(Registry::Start());
  if (!registry->ok()) return registry->status();
  return (*registry)->address();
}

}  // namespace

unsigned EnvironmentNumber(const char* name, unsigned fallback) {
  const char* text = getenv(name);
  return text != nullptr ? static_cast<unsigned>(strtoul(text, nullptr, 10)) : fallback;
}

void IntegrationTest::SetUp() {
  if (geteuid() != 0) GTEST_SKIP() << "SKIP: root";
  for (const char* program : {"docker-registry", "crun", "runc", "busybox", "python3"}) {
    if (!RunProgram({"which", program}).ok()) GTEST_SKIP() << "SKIP: " << program;
  }
  if (!base::Exists(ProgramPath("crisp"))) GTEST_SKIP() << "SKIP: bin/crisp is not built";
  ASSERT_OK_AND_ASSIGN(registry_address_, RegistryAddress());
  auto environment = Environment::Create(registry_address_, runtime_);
  ASSERT_OK(environment);
  environment_.emplace(*std::move(environment));
  daemon_.emplace(*environment_);
  client_.emplace(environment_->Get("SOCKET"));
  Prepare();
  if (!HasFatalFailure()) ASSERT_OK(daemon_->Start());
}

void IntegrationTest::TearDown() {
  if (daemon_ && HasFailure()) {
    const std::string log = daemon_->Log();
    fprintf(stderr, "--- the daemon's log ---\n%s\n",
            log.substr(log.size() > 20000 ? log.size() - 20000 : 0).c_str());
  }
  client_.reset();
  daemon_.reset();
  environment_.reset();
}

std::string IntegrationTest::Image(std::string_view name) const {
  return base::StrCat(registry_address_, "/", name);
}

absl::StatusOr<std::string> IntegrationTest::Pull(std::string_view name) const {
  cri::PullImageRequest request;
  request.mutable_image()->set_image(Image(name));
  ASSIGN_OR_RETURN(cri::PullImageResponse response, client().Call(&ImageStub::PullImage, request));
  return response.image_ref();
}

cri::RunPodSandboxRequest IntegrationTest::PodRequest(std::string_view name) const {
  cri::RunPodSandboxRequest request;
  cri::PodSandboxConfig* config = request.mutable_config();
  config->mutable_metadata()->set_name(std::string(name));
  config->mutable_metadata()->set_namespace_("test");
  config->mutable_metadata()->set_uid(base::StrCat("uid-", name));
  config->set_hostname(std::string(name));
  config->set_log_directory(LogDirectory(name));
  (*config->mutable_labels())["pod"] = std::string(name);
  config->mutable_linux()->set_cgroup_parent(CgroupParent(name));
  // As the kubelet's default.
  config->mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      cri::CONTAINER);
  return request;
}

absl::StatusOr<std::string> IntegrationTest::RunPod(
    const cri::RunPodSandboxRequest& request) const {
  if (!request.config().log_directory().empty()) {
    RETURN_IF_ERROR(base::MakeDirectories(request.config().log_directory()));
  }
  ASSIGN_OR_RETURN(cri::RunPodSandboxResponse response,
                   client().Call(&RuntimeStub::RunPodSandbox, request));
  return response.pod_sandbox_id();
}

absl::StatusOr<std::string> IntegrationTest::RunPod(std::string_view name) const {
  return RunPod(PodRequest(name));
}

absl::Status IntegrationTest::StopPod(std::string_view pod) const {
  cri::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(std::string(pod));
  return client().Call(&RuntimeStub::StopPodSandbox, request).status();
}

absl::Status IntegrationTest::RemovePod(std::string_view pod) const {
  cri::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(std::string(pod));
  return client().Call(&RuntimeStub::RemovePodSandbox, request).status();
}

absl::StatusOr<cri::PodSandboxStatus> IntegrationTest::PodStatus(std::string_view pod) const {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(std::string(pod));
  ASSIGN_OR_RETURN(cri::PodSandboxStatusResponse response,
                   client().Call(&RuntimeStub::PodSandboxStatus, request));
  return response.status();
}

absl::StatusOr<std::vector<cri::PodSandbox>> IntegrationTest::Pods(
    const cri::PodSandboxFilter& filter) const {
  cri::ListPodSandboxRequest request;
  *request.mutable_filter() = filter;
  ASSIGN_OR_RETURN(cri::ListPodSandboxResponse response,
                   client().Call(&RuntimeStub::ListPodSandbox, request));
  return std::vector<cri::PodSandbox>(response.items().begin(), response.items().end());
}

cri::CreateContainerRequest IntegrationTest::ContainerRequest(std::string_view pod,
                                                              std::string_view name,
                                                              std::string_view script) const {
  cri::CreateContainerRequest request;
  request.set_pod_sandbox_id(std::string(pod));
  cri::ContainerConfig* config = request.mutable_config();
  config->mutable_metadata()->set_name(std::string(name));
  config->mutable_image()->set_image(Image(kBusybox));
  config->set_log_path(base::StrCat(name, ".log"));
  config->add_command("sh");
  config->add_command("-c");
  config->add_command(std::string(script));
  (*config->mutable_labels())["container"] = std::string(name);
  const auto status = PodStatus(pod);
  if (status.ok()) {
    *request.mutable_sandbox_config()->mutable_metadata() = status->metadata();
    *config->mutable_linux()->mutable_security_context()->mutable_namespace_options() =
        status->linux().namespaces().options();
  }
  return request;
}

absl::StatusOr<std::string> IntegrationTest::Create(
    const cri::CreateContainerRequest& request) const {
  ASSIGN_OR_RETURN(cri::CreateContainerResponse response,
                   client().Call(&RuntimeStub::CreateContainer, request));
  return response.container_id();
}

absl::Status IntegrationTest::Start(std::string_view container) const {
  cri::StartContainerRequest request;
  request.set_container_id(std::string(container));
  return client().Call(&RuntimeStub::StartContainer, request).status();
}

absl::StatusOr<std::string> IntegrationTest::RunContainer(std::string_view pod,
                                                          std::string_view name,
                                                          std::string_view script) const {
  ASSIGN_OR_RETURN(std::string container, Create(ContainerRequest(pod, name, script)));
  RETURN_IF_ERROR(Start(container));
  return container;
}

absl::Status IntegrationTest::StopContainer(std::string_view container, int64_t seconds) const {
  cri::StopContainerRequest request;
  request.set_container_id(std::string(container));
  request.set_timeout(seconds);
  return client().Call(&RuntimeStub::StopContainer, request).status();
}

absl::Status IntegrationTest::RemoveContainer(std::string_view container) const {
  cri::RemoveContainerRequest request;
  request.set_container_id(std::string(container));
  return client().Call(&RuntimeStub::RemoveContainer, request).status();
}

absl::StatusOr<cri::ContainerStatus> IntegrationTest::Status(std::string_view container) const {
  cri::ContainerStatusRequest request;
  request.set_container_id(std::string(container));
  ASSIGN_OR_RETURN(cri::ContainerStatusResponse response,
                   client().Call(&RuntimeStub::ContainerStatus, request));
  return response.status();
}

absl::StatusOr<std::vector<cri::Container>> IntegrationTest::Containers(
    const cri::ContainerFilter& filter) const {
  cri::ListContainersRequest request;
  *request.mutable_filter() = filter;
  ASSIGN_OR_RETURN(cri::ListContainersResponse response,
                   client().Call(&RuntimeStub::ListContainers, request));
  return std::vector<cri::Container>(response.containers().begin(), response.containers().end());
}

absl::StatusOr<cri::ExecSyncResponse> IntegrationTest::Exec(std::string_view container,
                                                            const std::vector<std::string>& command,
                                                            int64_t timeout_seconds) const {
  cri::ExecSyncRequest request;
  request.set_container_id(std::string(container));
  request.set_timeout(timeout_seconds);
  request.mutable_cmd()->Assign(command.begin(), command.end());
  return client().Call(&RuntimeStub::ExecSync, request);
}

absl::StatusOr<cri::ContainerStatus> IntegrationTest::WaitForExit(
    std::string_view container) const {
  absl::StatusOr<cri::ContainerStatus> status = absl::UnknownError("");
  const bool exited = Eventually([&] {
    status = Status(container);
    return !status.ok() || status->state() == cri::CONTAINER_EXITED;
  });
  if (!exited) return absl::DeadlineExceededError("the container does not exit");
  return status;
}

std::string IntegrationTest::LogDirectory(std::string_view pod_name) const {
  return base::StrCat(environment().Get("LOGS"), "/", pod_name);
}

std::string IntegrationTest::ReadLog(std::string_view pod_name, std::string_view file) const {
  return base::ReadFile(base::StrCat(LogDirectory(pod_name), "/", file)).value_or("");
}

bool IntegrationTest::LogGets(std::string_view pod_name, std::string_view file,
                              std::string_view text, std::string_view stream) const {
  const std::string wanted = base::StrCat(" ", stream, " F ", text, "\n");
  return Eventually([&] { return absl::StrContains(ReadLog(pod_name, file), wanted); });
}

std::string IntegrationTest::CgroupParent(std::string_view pod_name) const {
  return base::StrCat(environment().Get("CGROUP"), "/pods/", pod_name);
}

std::vector<pid_t> IntegrationTest::Processes(std::string_view pod_name) const {
  return base::CgroupProcesses(CgroupParent(pod_name));
}

absl::Status IntegrationTest::CrashAndRestart() {
  RETURN_IF_ERROR(daemon().Crash());
  return daemon().Start();
}

}  // namespace test
