// What a pod is made of: namespaces, network, files, cgroup and, for a shared PID namespace, the
// process that holds it. Each release can be repeated and needs only the pod's id and record.
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/files.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/relabel.h"
#include "runtimeservice/spec/security_profile.h"
#include "runtimeservice/spec/sysctls.h"
#include "runtimeservice/user_namespaces.h"

namespace runtimeservice {
namespace {

constexpr uint64_t kShmBytes = 64 << 20;

const cri::NamespaceOption& Namespaces(const Pod& pod) {
  return pod.record.config().linux().security_context().namespace_options();
}

void AddPin(const network::NamespacePin& pin, uint64_t inode, state::PodRecord* record) {
  state::NamespacePin* recorded = record->add_pins();
  recorded->set_type(pin.type);
  recorded->set_path(pin.path);
  recorded->set_inode(inode);
}

}  // namespace

absl::Status RuntimeService::PinPodNamespaces(Pod* pod) {
  network::NamespaceSetup setup;
  const std::string directory = paths_.Namespaces(pod->id);
  if (Namespaces(*pod).network() != cri::NODE) {
    setup.pins.push_back({.type = "net", .path = paths_.Netns(pod->id)});
    setup.pins.push_back({.type = "uts", .path = directory + "/uts"});
    ASSIGN_OR_RETURN(setup.hostname, PodHostname(pod->record.config(), host_.hostname, pod->id));
  }
  if (Namespaces(*pod).ipc() != cri::NODE) {
    setup.pins.push_back({.type = "ipc", .path = directory + "/ipc"});
  }
  if (const std::optional<base::UserNamespace> user = UserNamespaceOf(*pod)) {
    setup.pins.push_back({.type = "user", .path = user->path});
    setup.user = {.map = user->map, .holder = config_.init_path};
  }
  ASSIGN_OR_RETURN(setup.sysctls, PodSysctls(pod->record.config(), config_.defaults.sysctls));
  if (setup.pins.empty()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto inodes, network::PinNamespaces(setup));
  for (const network::NamespacePin& pin : setup.pins) {
    AddPin(pin, inodes.at(pin.type), &pod->record);
  }
  return absl::OkStatus();
}

absl::Status RuntimeService::MakePodFiles(const Pod& pod) {
  RETURN_IF_ERROR(base::MakeDirectories(paths_.Pod(pod.id), 0711));
  if (Namespaces(pod).ipc() != cri::NODE) {
    RETURN_IF_ERROR(base::MakeDirectories(paths_.Shm(pod.id), 01777));
    RETURN_IF_ERROR(
        base::MountTmpfs(paths_.Shm(pod.id), kShmBytes, 01777, pod.record.selinux_mount_label()));
  }
  const std::vector<std::string> ips(pod.record.ips().begin(), pod.record.ips().end());
  ASSIGN_OR_RETURN(const std::string hostname,
                   PodHostname(pod.record.config(), host_.hostname, pod.id));
  ASSIGN_OR_RETURN(const PodFiles files,
                   WritePodFiles(paths_.Pod(pod.id), pod.record.config(), hostname, ips));
  if (const std::optional<base::UserNamespace> user = UserNamespaceOf(pod)) {
    for (const std::string& path : {files.resolv_conf, files.hostname, files.hosts, files.shm}) {
      if (path != files.shm || Namespaces(pod).ipc() != cri::NODE) {
        RETURN_IF_ERROR(GiveToRoot(path, user->map));
      }
    }
  }
  if (const std::string& label = pod.record.selinux_mount_label(); !label.empty()) {
    for (const std::string* file : {&files.resolv_conf, &files.hostname, &files.hosts}) {
      RETURN_IF_ERROR(SetFileLabel(*file, label));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RuntimeService::NewContainer> RuntimeService::PlanInfra(const Pod& pod) {
  ASSIGN_OR_RETURN(const Handler* handler, FindHandler(pod.record.runtime_handler()));
  // A runtime with sandboxes finds that of a container by the id of what holds it.
  NewContainer plan(pod.record.sandboxed() ? *base::ContainerId::Parse(pod.id.str())
                                           : base::ContainerId::Random(),
                    pod.id);
  plan.handler = handler->name;
  plan.container.record.set_infra(true);
  cri::ContainerConfig* config = plan.container.record.mutable_config();
  config->mutable_metadata()->set_name("POD");
  config->add_command("/crisp-init");
  config->add_command("pause");
  cri::Mount* program = config->add_mounts();
  program->set_host_path(config_.init_path);
  program->set_container_path("/crisp-init");
  program->set_readonly(true);
  config->mutable_linux()->mutable_resources()->set_oom_score_adj(-998);
  cri::LinuxContainerSecurityContext* security =
      config->mutable_linux()->mutable_security_context();
  *security->mutable_namespace_options() = Namespaces(pod);
  security->mutable_namespace_options()->set_pid(cri::CONTAINER);
  const cri::LinuxSandboxSecurityContext& wanted = pod.record.config().linux().security_context();
  CopyPodProfiles(wanted, security);
  if (wanted.has_run_as_user()) {
    *security->mutable_run_as_user() = wanted.run_as_user();
  }
  if (wanted.has_run_as_group()) {
    *security->mutable_run_as_group() = wanted.run_as_group();
  }
  *security->mutable_supplemental_groups() = wanted.supplemental_groups();
  security->set_supplemental_groups_policy(wanted.supplemental_groups_policy());
  security->mutable_capabilities()->add_drop_capabilities("ALL");
  security->set_readonly_rootfs(true);
  security->set_no_new_privs(true);
  ASSIGN_OR_RETURN(plan.mounts, ResolveMountSources(*config));
  RETURN_IF_ERROR(PlanSecurity(pod, &plan));
  return plan;
}

absl::Status RuntimeService::StartInfra(const Context& ctx, Pod* pod) {
  if (Namespaces(*pod).pid() != cri::POD && !pod->record.sandboxed()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(NewContainer plan, PlanInfra(*pod));
  pod->record.set_infra_container_id(plan.container.id.str());
  ASSIGN_OR_RETURN(const std::string id, MakeContainer(ctx, *pod, std::move(plan)));
  const ContainerRef infra = registry_->FindContainer(*base::ContainerId::Parse(id));
  RETURN_IF_ERROR(base::Annotate(StartCreated(*infra), "start what holds the pod"));
  if (pod->record.sandboxed()) {
    return absl::OkStatus();  // Its namespaces are within the sandbox.
  }
  // Joined through a pin and not by number: the holder may end and its number be another's.
  const network::NamespacePin pin{.type = "pid", .path = paths_.Namespaces(pod->id) + "/pid"};
  ASSIGN_OR_RETURN(const uint64_t inode, network::PinProcessNamespace(infra->pid, pin));
  AddPin(pin, inode, &pod->record);
  return absl::OkStatus();
}

bool RuntimeService::PodReady(const Pod& pod) const {
  if (pod.record.state() != state::PodRecord::READY || pod.record.boot_id() != boot_id_) {
    return false;
  }
  for (const state::NamespacePin& pin : pod.record.pins()) {
    const absl::StatusOr<uint64_t> inode = network::NamespaceInode(pin.path());
    if (!inode.ok() || *inode != pin.inode()) {
      return false;
    }
  }
  const absl::StatusOr<base::ContainerId> infra =
      base::ContainerId::Parse(pod.record.infra_container_id());
  if (!infra.ok()) {
    return true;
  }
  const ContainerRef holder = registry_->FindContainer(*infra);
  return holder && holder->CriState() == cri::CONTAINER_RUNNING;
}

absl::Status RuntimeService::ReleasePod(const Context& ctx, Pod* pod) {
  // Found by their own records: the pod's may be older than its infra container.
  for (const ContainerRef& container : registry_->ContainersOf(pod->id)) {
    if (container->record.infra()) {
      RETURN_IF_ERROR(DiscardContainer(ctx, *container));
    }
  }
  RETURN_IF_ERROR(base::Unmount(paths_.Shm(pod->id)));
  RETURN_IF_ERROR(base::RemoveTree(paths_.Pod(pod->id)));
  const std::string directory = paths_.Namespaces(pod->id);
  for (const char* type : {"/ipc", "/uts", "/pid", "/user"}) {
    RETURN_IF_ERROR(network::UnpinNamespace(directory + type));
  }
  RETURN_IF_ERROR(base::RemoveTree(directory));
  if (!pod->record.network_attached()) {
    RETURN_IF_ERROR(network::UnpinNamespace(paths_.Netns(pod->id)));
  }
  return absl::OkStatus();
}

absl::Status RuntimeService::DiscardPod(const Context& ctx, Pod pod) {
  if (pod.record.state() != state::PodRecord::REMOVING) {
    pod.record.set_state(state::PodRecord::REMOVING);
    registry_->ShowPod(pod);
  }
  DetachPod(ctx, &pod);
  RETURN_IF_ERROR(ReleasePod(ctx, &pod));
  RETURN_IF_ERROR(RemovePodCgroup(ctx, pod));
  if (!pod.record.network_attached()) {
    selinux_.Release(pod.id.str());
    return registry_->DeletePod(pod.id);
  }
  pod.record.set_only_detach_owed(true);
  registry_->ShowPod(std::move(pod));
  return absl::OkStatus();
}

}  // namespace runtimeservice
