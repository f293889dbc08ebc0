// What a container is made of: bundle, root file system, monitor, cgroup. The release can be
// repeated and needs only the container's id and record.
#include <sys/stat.h>

#include <utility>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/annotations.h"
#include "runtimeservice/spec/user_namespace.h"
#include "runtimeservice/user_namespaces.h"

namespace runtimeservice {
namespace {

// A scope that failed, such as by an OOM kill, goes like any other.
std::map<std::string, std::string> CgroupAnnotations(CgroupDriver driver) {
  if (driver == state::CGROUPFS) {
    return {};
  }
  return {{"org.systemd.property.CollectMode", "'inactive-or-failed'"}};
}

std::string ParentOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

absl::StatusOr<NamespacePaths> RuntimeService::NamespacesFor(
    const Pod& pod, const cri::ContainerConfig& config) const {
  NamespacePaths paths;
  std::string shared_pid;
  for (const state::NamespacePin& pin : pod.record.pins()) {
    if (pin.type() == "net") paths.net = pin.path();
    if (pin.type() == "uts") paths.uts = pin.path();
    if (pin.type() == "ipc") paths.ipc = pin.path();
    if (pin.type() == "pid") shared_pid = pin.path();
    if (pin.type() == "user") paths.user = pin.path();
  }
  const cri::NamespaceOption& options = EffectiveNamespaces(pod.record.config(), config);
  constexpr char kField[] = "config.linux.security_context.namespace_options";
  if (options.pid() == cri::POD) {
    if (shared_pid.empty() && !pod.record.sandboxed()) {
      return absl::FailedPreconditionError(
          base::StrCat(kField, ".pid: the pod sandbox has no PID namespace to share"));
    }
    paths.pid = shared_pid;
  } else if (options.pid() == cri::TARGET && pod.record.sandboxed()) {
    return absl::FailedPreconditionError(
        base::StrCat(kField, ".pid: the pod's runtime does not join containers' namespaces"));
  } else if (options.pid() == cri::TARGET) {
    const absl::StatusOr<ContainerRef> found = registry_->ResolveContainer(options.target_id());
    if (!found.ok()) {
      return absl::InvalidArgumentError(
          base::StrCat(kField, ".target_id: ", base::ToStd(found.status().message())));
    }
    const ContainerRef& target = *found;
    if (target->pod != pod.id) {
      return absl::InvalidArgumentError(
          base::StrCat(kField, ".target_id: container ", target->id.str(), " is in another pod"));
    }
    if (target->CriState() != cri::CONTAINER_RUNNING) {
      return absl::FailedPreconditionError(
          base::StrCat(kField, ".target_id: container ", target->id.str(), " does not run"));
    }
    paths.pid = base::StrCat("/proc/", target->pid, "/ns/pid");
  }
  return paths;
}

std::optional<base::UserNamespace> RuntimeService::UserNamespaceOf(const Pod& pod) const {
  const std::optional<base::IdMap> map = PodIdMap(pod.record.config());
  if (!map.has_value()) {
    return std::nullopt;
  }
  return base::UserNamespace{.path = paths_.Namespaces(pod.id) + "/user", .map = *map};
}

absl::StatusOr<std::string> RuntimeService::PrepareUserNamespace(const Pod& pod,
                                                                 const base::UserNamespace& user,
                                                                 NewContainer* plan) {
  const std::string bundle = paths_.Container(plan->container.id);
  if (plan->container.record.infra()) {
    RETURN_IF_ERROR(GiveToRoot(plan->rootfs, user.map));  // The runtime makes mount points in it.
  }
  plan->mounts_staged = true;
  RETURN_IF_ERROR(StageVolumes(bundle, plan->container.record.config(), user, &plan->mounts));
  const cri::NamespaceOption& options =
      pod.record.config().linux().security_context().namespace_options();
  return options.network() == cri::NODE ? StageSysfs(bundle) : std::string();
}

absl::Status RuntimeService::WriteBundle(const Context& ctx, const Pod& pod, NewContainer* plan) {
  state::ContainerRecord& record = plan->container.record;
  const std::string bundle = paths_.Container(plan->container.id);
  RETURN_IF_ERROR(base::MakeDirectories(bundle, 0711));
  const std::optional<base::UserNamespace> user_namespace = UserNamespaceOf(pod);
  plan->user_namespace = user_namespace.has_value();
  if (record.infra()) {
    plan->rootfs = bundle + "/root";  // Not Rootfs' mount point; the bundle's removal takes it.
    RETURN_IF_ERROR(base::MakeDirectories(plan->rootfs));
  } else {
    ASSIGN_OR_RETURN(plan->rootfs,
                     uses_.rootfs.Prepare(ctx, plan->container.id,
                                          {record.chain_ids().begin(), record.chain_ids().end()},
                                          user_namespace, plan->selinux.mount));
  }
  std::string sysfs;
  if (user_namespace.has_value()) {
    ASSIGN_OR_RETURN(sysfs, PrepareUserNamespace(pod, *user_namespace, plan));
  }
  RETURN_IF_ERROR(MountImageVolumes(ctx, pod, plan));
  if (!user_namespace.has_value()) {  // Its root could not be given what is made here.
    RETURN_IF_ERROR(MakeDeclaredVolumes(ctx, plan));
  }
  cri::ContainerConfig config = record.config();
  *config.mutable_linux()->mutable_security_context()->mutable_namespace_options() =
      EffectiveNamespaces(pod.record.config(), record.config());
  ASSIGN_OR_RETURN(ProcessUser user, ResolveUser(config.linux().security_context(),
                                                 plan->process.user, plan->rootfs));
  if (user_namespace.has_value()) {
    RETURN_IF_ERROR(CheckMapped(user, user_namespace->map));
  }
  *record.mutable_user() = user.ToCri();
  ASSIGN_OR_RETURN(NamespacePaths namespaces, NamespacesFor(pod, record.config()));
  ASSIGN_OR_RETURN(std::string hostname, PodHostname(pod.record.config(), host_.hostname, pod.id));
  std::map<std::string, std::string> annotations =
      IdentityAnnotations({.pod = pod.record.config(),
                           .container = record.config(),
                           .pod_id = pod.id.str(),
                           .container_id = record.id(),
                           .image_id = record.image_id(),
                           .log_path = record.log_path(),
                           .holds_sandbox = record.infra()});
  annotations.merge(CgroupAnnotations(record.cgroup_driver()));
  const SpecInput input{.pod = pod.record.config(),
                        .container = config,
                        .image = plan->process,
                        .host = host_,
                        .handler = handlers_.at(plan->handler).traits,
                        .defaults = config_.defaults,
                        .seccomp = *plan->seccomp,
                        .user = std::move(user),
                        .rootfs = plan->rootfs,
                        .cgroups_path = OciCgroupsPath(record.cgroup_driver(), record.cgroup()),
                        .namespaces = std::move(namespaces),
                        .pod_files = record.infra() ? PodFiles() : PodFilesIn(paths_.Pod(pod.id)),
                        .hostname = std::move(hostname),
                        .mounts = plan->mounts,
                        .devices = plan->devices.nodes,
                        .apparmor_profile = plan->apparmor_profile,
                        .extra_mounts = plan->extra_mounts,
                        .selinux = plan->selinux,
                        .annotations = std::move(annotations),
                        .sysfs = std::move(sysfs)};
  ASSIGN_OR_RETURN(base::OrderedJson spec, BuildSpec(input));
  if (!record.infra()) {
    devices_.Edit(input.pod, record.config(), plan->devices, &spec);
  }
  return base::ReplaceFile(bundle + "/config.json", base::DumpJson(spec), 0600,
                           base::Durability::kVolatile);
}

absl::Status RuntimeService::CheckTarget(const cri::ContainerConfig& config) const {
  const cri::NamespaceOption& options = config.linux().security_context().namespace_options();
  if (options.pid() != cri::TARGET) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const ContainerRef target, registry_->ResolveContainer(options.target_id()));
  return exits_.Running(target->id) ? absl::OkStatus()
                                    : absl::FailedPreconditionError(base::StrCat(
                                          "container ", target->id.str(), " has ended"));
}

absl::Status RuntimeService::CreateWithMonitor(const Context& ctx, NewContainer* plan) {
  Container& container = plan->container;
  state::ContainerRecord& record = container.record;
  const cri::ContainerConfig& config = record.config();
  if (!record.log_path().empty()) {
    RETURN_IF_ERROR(base::MakeDirectories(ParentOf(record.log_path())));
  }
  const std::string directory = paths_.Container(container.id);
  const Handler& handler = handlers_.at(plan->handler);
  const MonitorSpec spec{
      .monitor_path = config_.monitor_path,
      .container_id = container.id.str(),
      .runtime = RuntimeOf(record).MonitorCommand(),
      .bundle = directory,
      .state_dir = directory,
      .log_path = record.log_path(),
      .terminal = config.tty(),
      .has_stdin = config.stdin(),
      .stdin_once = config.stdin_once(),
      .own_stdin = plan->user_namespace || record.user().linux().uid() != 0,
      .sandboxed = record.sandboxed(),
      .environment = handler.monitor_env,
      .cgroup = handler.monitor_cgroup.empty() ? config_.monitor_cgroup : handler.monitor_cgroup};
  const Context limited = ctx.WithTimeout(handler.create_timeout);
  ASSIGN_OR_RETURN(NewMonitor monitor, NewMonitor::Launch(limited, uses_.launcher, spec));
  plan->monitor.emplace(std::move(monitor));
  ASSIGN_OR_RETURN(container.pid, plan->monitor->Create(limited));
  if (plan->mounts_staged) {
    RETURN_IF_ERROR(ReleaseStaged(directory));
  }
  // A target is joined by its number; had it ended meanwhile, that might be another's by now.
  RETURN_IF_ERROR(CheckTarget(config));
  record.set_state(state::ContainerRecord::CREATED);
  RETURN_IF_ERROR(registry_->PutContainer(container));
  RETURN_IF_ERROR(plan->monitor->Acknowledge());
  plan->monitor.reset();
  ASSIGN_OR_RETURN(MonitorConnection connection, MonitorConnection::Connect(limited, directory));
  return exits_.Watch(container.id, std::move(connection));
}

absl::Status RuntimeService::DiscardContainer(const Context& ctx, Container container) {
  const std::string directory = paths_.Container(container.id);
  if (container.record.state() != state::ContainerRecord::REMOVING) {
    container.record.set_state(state::ContainerRecord::REMOVING);
    registry_->ShowContainer(container);
  }
  RETURN_IF_ERROR(KillAndWait(ctx, container));
  RETURN_IF_ERROR(base::KillCgroup(ctx, container.record.cgroup()));
  const absl::StatusOr<base::UniqueFd> lock = TakeMonitorLock(ctx, directory);
  if (!lock.ok() && !absl::IsNotFound(lock.status())) {
    return base::Annotate(lock.status(), "wait for the container's monitor");
  }
  RETURN_IF_ERROR(RuntimeOf(container.record).Delete(ctx, container.id.str()));
  RETURN_IF_ERROR(base::RemoveCgroup(ctx, container.record.cgroup()));
  RETURN_IF_ERROR(uses_.rootfs.Remove(ctx, container.id));
  RETURN_IF_ERROR(ReleaseStaged(directory));
  RETURN_IF_ERROR(base::RemoveTree(directory));
  ReleaseImages(container.id, container.record);
  return registry_->DeleteContainer(container.id);
}

}  // namespace runtimeservice
