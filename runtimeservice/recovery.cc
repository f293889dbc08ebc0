// The start of the daemon: taking up what the last one left. Everything here calls the same release
// functions as the verbs do.
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/log.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/user_namespaces.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kReleaseTime = absl::Minutes(1);
constexpr absl::Duration kConnectTime = absl::Seconds(10);
constexpr absl::Duration kRetryTime = absl::Seconds(5);

absl::StatusOr<std::string> ReadBootId() {
  ASSIGN_OR_RETURN(std::string id, base::ReadFile("/proc/sys/kernel/random/boot_id", 64));
  while (!id.empty() && id.back() == '\n') {
    id.pop_back();
  }
  return id;
}

// When this boot began: everything of an earlier one had ended by then.
absl::Time BootTime() {
  const absl::StatusOr<std::string> stat = base::ReadFile("/proc/stat");
  if (stat.ok()) {
    for (const auto& line : absl::StrSplit(*stat, '\n')) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      int64_t seconds = 0;
      if (words.size() == 2 && words[0] == "btime" && absl::SimpleAtoi(words[1], &seconds)) {
        return absl::FromUnixSeconds(seconds);
      }
    }
  }
  return absl::UnixEpoch();
}

void LogIfError(const absl::Status& status, std::string_view what) {
  if (!status.ok()) {
    base::LogError(what, ": ", base::ToStd(status.message()));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<RuntimeService>> RuntimeService::Open(
    ServiceConfig config, ServiceDependencies dependencies) {
  if (!config.handlers.contains(config.default_handler)) {
    return absl::InvalidArgumentError(base::StrCat("default_runtime \"", config.default_handler,
                                                   "\" is none of the configured runtimes"));
  }
  ASSIGN_OR_RETURN(HostFacts host, GatherHostFacts());
  ASSIGN_OR_RETURN(std::string boot_id, ReadBootId());
  for (const char* directory : {"/pods", "/containers", "/ns", "/exec"}) {
    RETURN_IF_ERROR(base::MakeDirectories(config.run_root + directory, 0711));
  }
  RETURN_IF_ERROR(base::MakeDirectories(config.run_root + "/streams", 0700));
  RETURN_IF_ERROR(network::PrepareNetnsDirectory(dependencies.network.config().netns_dir));
  RETURN_IF_ERROR(base::MakeCgroup(config.monitor_cgroup));
  for (const auto& [name, handler] : config.handlers) {
    if (!handler.monitor_cgroup.empty()) {
      RETURN_IF_ERROR(base::MakeCgroup(handler.monitor_cgroup));
    }
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Registry> registry,
                   Registry::Open(config.root, config.run_root));
  ASSIGN_OR_RETURN(std::unique_ptr<EventLoop> loop, EventLoop::Start());
  std::unique_ptr<RuntimeService> service(new RuntimeService(std::move(config), dependencies,
                                                             std::move(host), std::move(boot_id),
                                                             std::move(registry), std::move(loop)));
  RETURN_IF_ERROR(service->PrepareSecurity());
  service->Recover();
  return service;
}

RuntimeService::RuntimeService(ServiceConfig config, ServiceDependencies dependencies,
                               HostFacts host, std::string boot_id,
                               std::unique_ptr<Registry> registry, std::unique_ptr<EventLoop> loop)
    : config_(std::move(config)),
      uses_(dependencies),
      host_(std::move(host)),
      paths_(config_.run_root, uses_.network.config().netns_dir),
      boot_id_(std::move(boot_id)),
      user_namespaces_(ProbeUserNamespaces(config_.init_path, config_.root, host_)),
      handlers_(config_.handlers, uses_.launcher, host_),
      seccomp_(host_),
      devices_(config_.devices),
      apparmor_({.enabled = host_.apparmor}, config_.apparmor_profile, uses_.launcher),
      selinux_(GatherSelinuxHost(config_.selinux), config_.hostnetwork_disable_selinux),
      relabel_("relabel", 4, 64),
      registry_(std::move(registry)),
      loop_(std::move(loop)),
      exits_(
          *loop_, paths_.Containers(),
          [this](const base::ContainerId& id, absl::StatusOr<ExitRecord> exit) {
            HandleExit(id, std::move(exit));
          },
          [this](const base::ContainerId& id) { HandleInitEnd(id); }),
      streams_(config_.streams, paths_.Streams(), uses_.launcher, *loop_,
               [this](const std::string& directory) { KillExec(directory); }),
      pod_ranges_(config_.root + "/pod-ranges"),
      gc_("gc", 2, 10'000),
      network_gc_("network-gc", 1, 1) {}

RuntimeService::~RuntimeService() {
  network_gc_stop_->Cancel();
  // Their tasks use the loop, and wait for what it alone can tell: the exit of who was killed.
  streams_.Stop();
  network_gc_.Stop();
  gc_.Stop();
  loop_.reset();  // Its callbacks use the rest.
}

void RuntimeService::Recover() {
  const std::vector<ContainerRef> containers = registry_->Containers();
  for (const ContainerRef& container : containers) {
    PinImages(container->record);
  }
  for (const ContainerRef& container : containers) {
    const base::LogField field("container", container->id.str());
    if (container->record.infra() && registry_->FindPod(container->pod) == nullptr) {
      LogIfError(DiscardContainer(Context::Detached(kReleaseTime), *container),
                 "remove the holder of a lost pod's PID namespace");
      continue;
    }
    RecoverContainer(*container);
  }
  RecoverExecs();
  streams_.Recover();
  SalvageDetaches();
  for (const PodRef& pod : registry_->Pods()) {
    const base::LogField field("pod", pod->id.str());
    RecoverPod(*pod);
  }
  SweepStrays();
  RequestNetworkGc();
  if (!user_namespaces_.ok()) {
    base::LogInfo("pods cannot have user namespaces: ", base::ToStd(user_namespaces_.message()));
  }
  const absl::Status ready = ProgramsReady();
  if (!ready.ok()) {
    base::LogError("no pod can run: ", base::ToStd(ready.message()));
  }
  const absl::Status handlers = HandlersReady();
  if (ready.ok() && !handlers.ok()) {
    base::LogWarning("some pods cannot run: ", base::ToStd(handlers.message()));
  }
  const Context ctx;
  base::LogInfo("pods taken up: ", ListPodSandbox(ctx, {}).value().items_size(),
                ", containers: ", ListContainers(ctx, {}).value().containers_size());
}

void RuntimeService::RecoverContainer(const Container& container) {
  const Context ctx = Context::Detached(kReleaseTime);
  const state::ContainerRecord& record = container.record;
  if (record.boot_id() != boot_id_ && record.state() == state::ContainerRecord::CREATED) {
    const state::ContainerEnd& end = record.end();
    registry_->SetExit(container.id,
                       record.has_end() ? ExitRecord{.code = end.code(),
                                                     .signal = end.signal(),
                                                     .oom_kills = end.oom_kills(),
                                                     .time = absl::FromUnixNanos(end.finished_at())}
                                        : ExitRecord{.code = 255, .time = BootTime()});
    return;
  }
  if (record.state() != state::ContainerRecord::CREATED) {
    // Its monitor, not acknowledged, ends by itself; DiscardContainer waits for its lock.
    LogIfError(DiscardContainer(ctx, container), "finish removing a container");
    return;
  }
  const absl::Status taken_up = Reconnect(ctx.WithTimeout(kConnectTime), container);
  if (taken_up.ok()) {
    return;
  }
  if (!absl::IsNotFound(taken_up) || MonitorAlive(paths_.Container(container.id))) {
    // A monitor that hangs on its log's disk, or a shortage of ours: the container is not lost.
    base::LogError("take up a container, to be tried again: ", base::ToStd(taken_up.message()));
    TakeUpLater(container.id);
    return;
  }
  const absl::StatusOr<std::optional<ExitRecord>> exit = ReadExit(paths_.Container(container.id));
  if (exit.ok() && exit->has_value()) {
    ShowExit(container.id, **exit);
  } else if (container.run.started_at() == 0) {
    // The daemon ended between record and acknowledgement, so its monitor undid the create.
    LogIfError(DiscardContainer(ctx, container), "undo a container");
  } else {
    HandleExit(container.id, exit.ok() ? taken_up : exit.status());
  }
}

absl::Status RuntimeService::Reconnect(const Context& ctx, const Container& container) {
  ASSIGN_OR_RETURN(MonitorConnection monitor,
                   MonitorConnection::Connect(ctx, paths_.Container(container.id)));
  registry_->SetPid(container.id, monitor.state().pid);
  RETURN_IF_ERROR(exits_.Watch(container.id, std::move(monitor)));
  if (!container.run.start_error().empty()) {
    KillContainer(container);  // Its start failed; the daemon ended before it could kill it.
  }
  if (container.run.started_at() != 0) {
    return absl::OkStatus();
  }
  // Whether a start came through is the runtime's to say. If it cannot, better to wait for the exit
  // of one that was not started than to miss that of one that was.
  const absl::StatusOr<RuntimeState> now =
      RuntimeOf(container.record).State(ctx, container.id.str());
  if (!now.ok() || (now->status != "created" && now->status != "creating")) {
    state::ContainerRunRecord run = container.run;
    run.set_started_at(absl::ToUnixNanos(absl::Now()));
    LogIfError(registry_->PutRun(container.id, std::move(run)), "record a start");
  }
  return absl::OkStatus();
}

void RuntimeService::TakeUpLater(const base::ContainerId& id) {
  loop_->At(base::SteadyTime::Now() + kRetryTime, [this, id] {
    const absl::Status posted = gc_.Post([this, id] {
      const base::LogField field("container", id.str());
      if (const ContainerRef container = registry_->FindContainer(id)) {
        RecoverContainer(*container);
      }
    });
    LogIfError(posted, "take up a container");
  });
}

void RuntimeService::RecoverPod(const Pod& pod) {
  const Context ctx = Context::Detached(kReleaseTime);
  Pod changed = pod;
  const state::PodRecord::State now = pod.record.state();
  if (now == state::PodRecord::READY && pod.record.boot_id() == boot_id_) {
    return;
  }
  const bool listed = now == state::PodRecord::READY || now == state::PodRecord::STOPPED;
  changed.record.set_state(listed ? state::PodRecord::STOPPED : state::PodRecord::REMOVING);
  if (changed.record.state() != now) {
    LogIfError(registry_->PutPod(changed), "record the end of a pod");
  }
  if (pod.record.network_attached()) {
    // In the background: a plugin that hangs must not delay the start.
    const absl::Status released = ReleasePod(ctx, &changed);
    LogIfError(released, "release a pod");
    if (released.ok() && changed.record.state() == state::PodRecord::REMOVING) {
      changed.record.set_only_detach_owed(true);
      registry_->ShowPod(changed);
    }
    OweDetach(changed, "the daemon ended before it was detached",
              network::DetachDebts::FirstTry::kNow);
    return;
  }
  if (changed.record.state() == state::PodRecord::REMOVING) {
    LogIfError(DiscardPod(ctx, changed), "finish removing a pod");
  } else {
    LogIfError(ReleasePod(ctx, &changed), "release a pod");
  }
}

absl::Status RuntimeService::SweepContainer(const Context& ctx, const std::string& name) {
  const absl::StatusOr<base::ContainerId> id = base::ContainerId::Parse(name);
  const std::string directory = base::StrCat(paths_.Containers(), "/", name);
  if (id.ok()) {
    // Whichever runtime made it kills it, and its monitor ends then.
    for (const Handler* handler : handlers_.All()) {
      if (access(handler->runtime.config().path.c_str(), X_OK) == 0) {
        RETURN_IF_ERROR(handler->runtime.Delete(ctx, name));
      }
    }
    RETURN_IF_ERROR(TakeMonitorLock(ctx, directory).status());
    RETURN_IF_ERROR(uses_.rootfs.Remove(ctx, *id));
    RETURN_IF_ERROR(ReleaseStaged(directory));
  }
  return base::RemoveTree(directory);
}

absl::Status RuntimeService::SweepNamespaces(const std::string& name) {
  const std::string directory = base::StrCat(paths_.AllNamespaces(), "/", name);
  for (const char* type : {"/ipc", "/uts", "/pid", "/user"}) {
    RETURN_IF_ERROR(network::UnpinNamespace(directory + type));
  }
  // Another daemon may pin in the same directory: ours are those of our own pods.
  const absl::StatusOr<base::PodId> id = base::PodId::Parse(name);
  if (id.ok()) {
    RETURN_IF_ERROR(network::UnpinNamespace(paths_.Netns(*id)));
  }
  return base::RemoveTree(directory);
}

void RuntimeService::SweepStrays() {
  const Context ctx = Context::Detached(kReleaseTime);
  const auto sweep = [](const std::string& directory, auto&& known, auto&& remove) {
    const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory);
    if (!names.ok()) {
      return;
    }
    for (const std::string& name : *names) {
      if (!known(name)) {
        base::LogWarning("sweep ", directory, "/", name, ": it belongs to no record");
        LogIfError(remove(name), "sweep");
      }
    }
  };
  const auto is_pod = [&](const std::string& name) {
    const absl::StatusOr<base::PodId> id = base::PodId::Parse(name);
    return id.ok() && registry_->FindPod(*id) != nullptr;
  };
  sweep(
      paths_.Containers(),
      [&](const std::string& name) {
        const absl::StatusOr<base::ContainerId> id = base::ContainerId::Parse(name);
        return id.ok() && registry_->FindContainer(*id) != nullptr;
      },
      [&](const std::string& name) { return SweepContainer(ctx, name); });
  sweep(paths_.Pods(), is_pod, [&](const std::string& name) {
    RETURN_IF_ERROR(base::Unmount(base::StrCat(paths_.Pods(), "/", name, "/shm")));
    return base::RemoveTree(base::StrCat(paths_.Pods(), "/", name));
  });
  sweep(paths_.AllNamespaces(), is_pod,
        [&](const std::string& name) { return SweepNamespaces(name); });
  const absl::StatusOr<std::vector<base::ContainerId>> writable = uses_.rootfs.List();
  for (const base::ContainerId& id : writable.value_or(std::vector<base::ContainerId>())) {
    if (registry_->FindContainer(id) == nullptr) {
      base::LogWarning("sweep the writable directory of ", id.str(), ": it belongs to no record");
      LogIfError(uses_.rootfs.Remove(ctx, id), "sweep");
    }
  }
}

}  // namespace runtimeservice
