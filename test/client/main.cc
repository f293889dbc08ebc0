// crisp-client: the few CRI calls that a person or a script needs to try a daemon, without Go.
// Results are plain lines on standard output, errors one line on standard error.
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "test/client/cri_client.h"
#include "test/client/stream_client.h"

namespace {

using Arguments = std::vector<std::string>;
using test::CriClient;
using test::ImageStub;
using test::RuntimeStub;

constexpr char kUsage[] =
    "usage: crisp-client [--socket PATH] VERB ...\n"
    "  version                             name and version of the runtime\n"
    "  status                              its conditions\n"
    "  pull IMAGE                          prints the image's id\n"
    "  images                              id, size, names\n"
    "  rmi IMAGE\n"
    "  run NAME [LOGDIR [CGROUP]]          a pod; prints its id\n"
    "  ip POD\n"
    "  create POD NAME IMAGE [COMMAND...]  prints the container's id; its log is NAME.log\n"
    "  start|stop|rm CONTAINER\n"
    "  state CONTAINER                     created, running or exited CODE\n"
    "  exec CONTAINER COMMAND...           its output and exit status (ExecSync)\n"
    "  stream CONTAINER COMMAND...         the same while it runs, by a stream (Exec, over SPDY)\n"
    "  pods, ps                            id, state, name\n"
    "  stopp|rmp POD\n";

absl::Status Fail(absl::Status status, std::string_view what) {
  return status.ok() ? status
                     : absl::Status(status.code(),
                                    std::string(what) + ": " + std::string(status.message()));
}

cri::PodSandboxConfig PodConfig(const Arguments& arguments) {
  cri::PodSandboxConfig config;
  config.mutable_metadata()->set_name(arguments[0]);
  config.mutable_metadata()->set_namespace_("default");
  config.mutable_metadata()->set_uid(arguments[0]);
  config.set_hostname(arguments[0]);
  // As the kubelet's default: each container has a PID namespace of its own.
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
      cri::CONTAINER);
  if (arguments.size() > 1) config.set_log_directory(arguments[1]);
  if (arguments.size() > 2) config.mutable_linux()->set_cgroup_parent(arguments[2]);
  return config;
}

absl::Status Version(const CriClient& client, const Arguments&) {
  auto answer = client.Call(&RuntimeStub::Version, cri::VersionRequest());
  if (!answer.ok()) return answer.status();
  std::cout << answer->runtime_name() << " " << answer->runtime_version() << " (CRI "
            << answer->runtime_api_version() << ")\n";
  return absl::OkStatus();
}

absl::Status ShowStatus(const CriClient& client, const Arguments&) {
  auto answer = client.Call(&RuntimeStub::Status, cri::StatusRequest());
  if (!answer.ok()) return answer.status();
  for (const cri::RuntimeCondition& condition : answer->status().conditions()) {
    std::cout << condition.type() << " " << (condition.status() ? "yes" : "no") << " "
              << condition.message() << "\n";
  }
  return absl::OkStatus();
}

absl::Status Pull(const CriClient& client, const Arguments& arguments) {
  cri::PullImageRequest request;
  request.mutable_image()->set_image(arguments[0]);
  auto answer = client.Call(&ImageStub::PullImage, request, absl::Minutes(10));
  if (!answer.ok()) return Fail(answer.status(), "pull");
  std::cout << answer->image_ref() << "\n";
  return absl::OkStatus();
}

absl::Status Images(const CriClient& client, const Arguments&) {
  auto answer = client.Call(&ImageStub::ListImages, cri::ListImagesRequest());
  if (!answer.ok()) return answer.status();
  for (const cri::Image& image : answer->images()) {
    std::cout << image.id() << " " << image.size();
    for (const std::string& name : image.repo_tags()) std::cout << " " << name;
    for (const std::string& name : image.repo_digests()) std::cout << " " << name;
    std::cout << "\n";
  }
  return absl::OkStatus();
}

absl::Status RemoveImage(const CriClient& client, const Arguments& arguments) {
  cri::RemoveImageRequest request;
  request.mutable_image()->set_image(arguments[0]);
  return client.Call(&ImageStub::RemoveImage, request).status();
}

absl::Status RunPod(const CriClient& client, const Arguments& arguments) {
  cri::RunPodSandboxRequest request;
  *request.mutable_config() = PodConfig(arguments);
  auto answer = client.Call(&RuntimeStub::RunPodSandbox, request, absl::Minutes(4));
  if (!answer.ok()) return answer.status();
  std::cout << answer->pod_sandbox_id() << "\n";
  return absl::OkStatus();
}

absl::Status PodIp(const CriClient& client, const Arguments& arguments) {
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(arguments[0]);
  auto answer = client.Call(&RuntimeStub::PodSandboxStatus, request);
  if (!answer.ok()) return answer.status();
  std::cout << answer->status().network().ip() << "\n";
  return absl::OkStatus();
}

absl::Status Create(const CriClient& client, const Arguments& arguments) {
  cri::CreateContainerRequest request;
  request.set_pod_sandbox_id(arguments[0]);
  cri::PodSandboxStatusRequest pod;
  pod.set_pod_sandbox_id(arguments[0]);
  auto status = client.Call(&RuntimeStub::PodSandboxStatus, pod);
  if (!status.ok()) return status.status();
  *request.mutable_sandbox_config()->mutable_metadata() = status->status().metadata();
  *request.mutable_config()
       ->mutable_linux()
       ->mutable_security_context()
       ->mutable_namespace_options() = status->status().linux().namespaces().options();
  cri::ContainerConfig* config = request.mutable_config();
  config->mutable_metadata()->set_name(arguments[1]);
  config->mutable_image()->set_image(arguments[2]);
  config->set_log_path(arguments[1] + ".log");
  for (size_t i = 3; i < arguments.size(); ++i) config->add_command(arguments[i]);
  auto answer = client.Call(&RuntimeStub::CreateContainer, request, absl::Minutes(2));
  if (!answer.ok()) return answer.status();
  std::cout << answer->container_id() << "\n";
  return absl::OkStatus();
}

absl::Status Start(const CriClient& client, const Arguments& arguments) {
  cri::StartContainerRequest request;
  request.set_container_id(arguments[0]);
  return client.Call(&RuntimeStub::StartContainer, request).status();
}

absl::Status Stop(const CriClient& client, const Arguments& arguments) {
  cri::StopContainerRequest request;
  request.set_container_id(arguments[0]);
  request.set_timeout(2);
  return client.Call(&RuntimeStub::StopContainer, request).status();
}

absl::Status Remove(const CriClient& client, const Arguments& arguments) {
  cri::RemoveContainerRequest request;
  request.set_container_id(arguments[0]);
  return client.Call(&RuntimeStub::RemoveContainer, request).status();
}

absl::Status State(const CriClient& client, const Arguments& arguments) {
  cri::ContainerStatusRequest request;
  request.set_container_id(arguments[0]);
  auto answer = client.Call(&RuntimeStub::ContainerStatus, request);
  if (!answer.ok()) return answer.status();
  const cri::ContainerStatus& status = answer->status();
  static constexpr const char* kStates[] = {"created", "running", "exited", "unknown"};
  std::cout << kStates[status.state() & 3];
  if (status.state() == cri::CONTAINER_EXITED) {
    std::cout << " " << status.exit_code() << " " << status.reason();
  }
  std::cout << "\n";
  return absl::OkStatus();
}

// The command's exit status, once it has ended.
int exec_exit_code = 0;

absl::Status Exec(const CriClient& client, const Arguments& arguments) {
  cri::ExecSyncRequest request;
  request.set_container_id(arguments[0]);
  request.set_timeout(60);
  for (size_t i = 1; i < arguments.size(); ++i) request.add_cmd(arguments[i]);
  auto answer = client.Call(&RuntimeStub::ExecSync, request, absl::Seconds(90));
  if (!answer.ok()) return answer.status();
  std::cout << answer->stdout();
  std::cerr << answer->stderr();
  exec_exit_code = answer->exit_code();
  return absl::OkStatus();
}

// Hands on what comes as it comes; the input stays here.
absl::Status Stream(const CriClient& client, const Arguments& arguments) {
  cri::ExecRequest request;
  request.set_container_id(arguments[0]);
  request.set_stdout(true);
  request.set_stderr(true);
  for (size_t i = 1; i < arguments.size(); ++i) request.add_cmd(arguments[i]);
  auto answer = client.Call(&RuntimeStub::Exec, request);
  if (!answer.ok()) return answer.status();
  auto session = test::CommandSession::Open(answer->url(), test::CommandOptions());
  if (!session.ok()) return session.status();
  test::CommandOutcome outcome;
  while (!(*session)->done()) {
    auto event = (*session)->Next(absl::InfiniteDuration());
    if (!event.ok()) return event.status();
    if (event->kind == test::CommandEvent::Kind::kBroken) {
      return absl::UnavailableError("the stream broke off");
    }
    if (event->kind != test::CommandEvent::Kind::kData) continue;
    if (event->channel == test::Channel::kStdout) std::cout << event->bytes << std::flush;
    if (event->channel == test::Channel::kStderr) std::cerr << event->bytes;
    if (event->channel == test::Channel::kError) outcome.status += event->bytes;
  }
  exec_exit_code = outcome.exit_code();
  return exec_exit_code >= 0 ? absl::OkStatus() : absl::UnknownError(outcome.status);
}

absl::Status Pods(const CriClient& client, const Arguments&) {
  auto answer = client.Call(&RuntimeStub::ListPodSandbox, cri::ListPodSandboxRequest());
  if (!answer.ok()) return answer.status();
  for (const cri::PodSandbox& pod : answer->items()) {
    std::cout << pod.id() << " " << (pod.state() == cri::SANDBOX_READY ? "ready" : "notready")
              << " " << pod.metadata().name() << "\n";
  }
  return absl::OkStatus();
}

absl::Status Containers(const CriClient& client, const Arguments&) {
  auto answer = client.Call(&RuntimeStub::ListContainers, cri::ListContainersRequest());
  if (!answer.ok()) return answer.status();
  static constexpr const char* kStates[] = {"created", "running", "exited", "unknown"};
  for (const cri::Container& container : answer->containers()) {
    std::cout << container.id() << " " << kStates[container.state() & 3] << " "
              << container.metadata().name() << "\n";
  }
  return absl::OkStatus();
}

absl::Status StopPod(const CriClient& client, const Arguments& arguments) {
  cri::StopPodSandboxRequest request;
  request.set_pod_sandbox_id(arguments[0]);
  return client.Call(&RuntimeStub::StopPodSandbox, request).status();
}

absl::Status RemovePod(const CriClient& client, const Arguments& arguments) {
  cri::RemovePodSandboxRequest request;
  request.set_pod_sandbox_id(arguments[0]);
  return client.Call(&RuntimeStub::RemovePodSandbox, request).status();
}

struct Verb {
  std::string_view name;
  size_t least_arguments;
  absl::Status (*run)(const CriClient&, const Arguments&);
};

constexpr Verb kVerbs[] = {
    {"version", 0, Version}, {"status", 0, ShowStatus}, {"pull", 1, Pull},
    {"images", 0, Images},   {"rmi", 1, RemoveImage},   {"run", 1, RunPod},
    {"ip", 1, PodIp},        {"create", 3, Create},     {"start", 1, Start},
    {"stop", 1, Stop},       {"rm", 1, Remove},         {"state", 1, State},
    {"exec", 2, Exec},       {"pods", 0, Pods},         {"ps", 0, Containers},
    {"stopp", 1, StopPod},   {"rmp", 1, RemovePod},     {"stream", 2, Stream},
};

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments(argv + 1, argv + argc);
  std::string socket = "/run/crisp/crisp.sock";
  if (arguments.size() >= 2 && arguments[0] == "--socket") {
    socket = arguments[1];
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  for (const Verb& verb : kVerbs) {
    if (arguments.empty() || arguments[0] != verb.name) continue;
    const std::string name = arguments[0];
    arguments.erase(arguments.begin());
    if (arguments.size() < verb.least_arguments) break;
    const absl::Status status = verb.run(CriClient(socket), arguments);
    if (!status.ok()) {
      std::cerr << "crisp-client: " << name << ": " << status.ToString() << "\n";
      return 1;
    }
    return exec_exit_code;
  }
  std::cerr << kUsage;
  return 2;
}
