// crisp-pod-bench: pods through the CRI with the time of every call, for test/bench/pods. The
// requests are like the kubelet's: an image by its id, a cgroup parent, a PID namespace for each
// container, the default seccomp profile, limits of CPU and memory.
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "test/client/cri_client.h"

namespace {

using test::CriClient;
using test::RuntimeStub;

constexpr char kUsage[] =
    "usage: crisp-pod-bench VERB OPTION=VALUE...\n"
    "  sequential  one pod after the other through its life\n"
    "  start       starts pods and leaves them running\n"
    "  end         stops and removes all pods there are\n"
    "options: socket=PATH image=ID count=N threads=N network=host|cni cgroup=PATH logs=DIR "
    "prefix=NAME\n"
    "prints \"STAGE MILLISECONDS\" for every call, for `start` also \"seconds S\" for all "
    "together\n";

struct Options {
  std::string socket;
  std::string image;
  std::string cgroup;
  std::string logs;
  std::string prefix = "pod";
  bool host_network = false;
  int count = 1;
  int threads = 1;
};

double Since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

// Thread-safe.
class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)), client_(options_.socket) {}

  absl::Status Sequential() {
    for (int i = 0; i < options_.count; ++i) {
      auto pod = Start(i);
      if (!pod.ok()) return pod.status();
      if (auto status = End(pod->pod, pod->container); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status StartAll() {
    const auto begin = std::chrono::steady_clock::now();
    const absl::Status status =
        InParallel(options_.count, [this](int i) { return Start(i).status(); });
    std::cout << "seconds " << Since(begin) / 1000 << "\n";
    return status;
  }

  absl::Status EndAll() {
    auto containers = client_.Call(&RuntimeStub::ListContainers, cri::ListContainersRequest());
    if (!containers.ok()) return containers.status();
    return InParallel(containers->containers_size(), [&](int i) {
      const cri::Container& container = containers->containers(i);
      return End(container.pod_sandbox_id(), container.id());
    });
  }

 private:
  struct Pod {
    std::string pod;
    std::string container;
  };

  absl::Status InParallel(int count, const std::function<absl::Status(int)>& task) {
    std::mutex mutex;
    int next = 0;
    absl::Status result;
    std::vector<std::thread> threads;
    for (int t = 0; t < options_.threads; ++t) {
      threads.emplace_back([&] {
        for (;;) {
          int mine = 0;
          {
            const std::lock_guard<std::mutex> lock(mutex);
            if (next == count || !result.ok()) return;
            mine = next++;
          }
          absl::Status status = task(mine);
          if (!status.ok()) {
            const std::lock_guard<std::mutex> lock(mutex);
            result = std::move(status);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return result;
  }

  // One call with its time.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Timed(std::string_view stage,
                                 grpc::Status (RuntimeStub::*verb)(grpc::ClientContext*,
                                                                   const Request&, Response*),
                                 const Request& request) {
    const auto begin = std::chrono::steady_clock::now();
    auto answer = client_.Call(verb, request, absl::Minutes(4));
    const double milliseconds = Since(begin);
    const std::lock_guard<std::mutex> lock(output_);
    if (!answer.ok()) {
      return absl::Status(answer.status().code(),
                          absl::StrCat(std::string(stage), ": ", answer.status().message()));
    }
    std::cout << stage << " " << milliseconds << "\n";
    return answer;
  }

  cri::PodSandboxConfig PodConfig(int number) const {
    cri::PodSandboxConfig config;
    const std::string name = absl::StrCat(options_.prefix, "-", number);
    config.mutable_metadata()->set_name(name);
    config.mutable_metadata()->set_namespace_("bench");
    config.mutable_metadata()->set_uid(name);
    config.set_log_directory(absl::StrCat(options_.logs, "/", name));
    cri::LinuxPodSandboxConfig* linux_config = config.mutable_linux();
    linux_config->set_cgroup_parent(absl::StrCat(options_.cgroup, "/", name));
    cri::LinuxSandboxSecurityContext* security = linux_config->mutable_security_context();
    security->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
    *security->mutable_namespace_options() = Namespaces();
    if (!options_.host_network) config.set_hostname(name);
    return config;
  }

  cri::NamespaceOption Namespaces() const {
    cri::NamespaceOption options;
    options.set_pid(cri::CONTAINER);
    if (options_.host_network) options.set_network(cri::NODE);
    return options;
  }

  cri::ContainerConfig ContainerConfig() const {
    cri::ContainerConfig config;
    config.mutable_metadata()->set_name("main");
    config.mutable_image()->set_image(options_.image);
    config.set_log_path("main/0.log");
    config.add_command("/bin/sleep");
    config.add_args("1000000");
    cri::LinuxContainerResources* resources = config.mutable_linux()->mutable_resources();
    resources->set_cpu_shares(102);
    resources->set_cpu_period(100000);
    resources->set_cpu_quota(50000);
    resources->set_memory_limit_in_bytes(128 << 20);
    cri::LinuxContainerSecurityContext* security =
        config.mutable_linux()->mutable_security_context();
    security->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
    *security->mutable_namespace_options() = Namespaces();
    return config;
  }

  absl::StatusOr<Pod> Start(int number) {
    cri::RunPodSandboxRequest run;
    *run.mutable_config() = PodConfig(number);
    const auto begin = std::chrono::steady_clock::now();
    auto pod = Timed("RunPodSandbox", &RuntimeStub::RunPodSandbox, run);
    if (!pod.ok()) return pod.status();
    cri::CreateContainerRequest create;
    create.set_pod_sandbox_id(pod->pod_sandbox_id());
    *create.mutable_config() = ContainerConfig();
    *create.mutable_sandbox_config() = run.config();
    auto container = Timed("CreateContainer", &RuntimeStub::CreateContainer, create);
    if (!container.ok()) return container.status();
    cri::StartContainerRequest start;
    start.set_container_id(container->container_id());
    if (auto answer = Timed("StartContainer", &RuntimeStub::StartContainer, start); !answer.ok()) {
      return answer.status();
    }
    const std::lock_guard<std::mutex> lock(output_);
    std::cout << "up " << Since(begin) << "\n";
    return Pod{pod->pod_sandbox_id(), container->container_id()};
  }

  absl::Status End(const std::string& pod, const std::string& container) {
    cri::StopContainerRequest stop;
    stop.set_container_id(container);
    cri::RemoveContainerRequest remove;
    remove.set_container_id(container);
    cri::StopPodSandboxRequest stop_pod;
    stop_pod.set_pod_sandbox_id(pod);
    cri::RemovePodSandboxRequest remove_pod;
    remove_pod.set_pod_sandbox_id(pod);
    const auto begin = std::chrono::steady_clock::now();
    for (const absl::Status& status :
         {Timed("StopContainer", &RuntimeStub::StopContainer, stop).status(),
          Timed("RemoveContainer", &RuntimeStub::RemoveContainer, remove).status(),
          Timed("StopPodSandbox", &RuntimeStub::StopPodSandbox, stop_pod).status(),
          Timed("RemovePodSandbox", &RuntimeStub::RemovePodSandbox, remove_pod).status()}) {
      if (!status.ok()) return status;
    }
    const std::lock_guard<std::mutex> lock(output_);
    std::cout << "down " << Since(begin) << "\n";
    return absl::OkStatus();
  }

  const Options options_;
  const CriClient client_;
  std::mutex output_;
};

bool Parse(std::string_view text, Options* options) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view name = text.substr(0, equals);
  const std::string value(text.substr(equals + 1));
  const std::map<std::string_view, std::string*> texts = {
      {"socket", &options->socket}, {"image", &options->image},   {"cgroup", &options->cgroup},
      {"logs", &options->logs},     {"prefix", &options->prefix},
  };
  if (const auto found = texts.find(name); found != texts.end()) {
    *found->second = value;
    return true;
  }
  if (name == "network") {
    options->host_network = value == "host";
    return value == "host" || value == "cni";
  }
  if (name == "count") return absl::SimpleAtoi(value, &options->count);
  return name == "threads" && absl::SimpleAtoi(value, &options->threads);
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string_view, absl::Status (Bench::*)()> verbs = {
      {"sequential", &Bench::Sequential}, {"start", &Bench::StartAll}, {"end", &Bench::EndAll}};
  Options options;
  bool good = argc > 1 && verbs.contains(argv[1]);
  for (int i = 2; i < argc; ++i) good = good && Parse(argv[i], &options);
  if (!good) {
    std::cerr << kUsage;
    return 2;
  }
  Bench bench(std::move(options));
  const absl::Status status = (bench.*verbs.at(argv[1]))();
  if (!status.ok()) {
    std::cerr << "crisp-pod-bench: " << status.ToString() << "\n";
    return 1;
  }
  return 0;
}
