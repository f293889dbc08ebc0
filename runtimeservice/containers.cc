// CreateContainer, StartContainer, RemoveContainer, ReopenContainerLog.
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/undo.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/signals.h"
#include "runtimeservice/spec/user_namespace.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kReleaseTime = absl::Minutes(2);

}  // namespace

absl::StatusOr<cri::CreateContainerResponse> RuntimeService::CreateContainer(
    const Context& ctx, const cri::CreateContainerRequest& request) {
  RETURN_IF_ERROR(CheckContainerConfig(request.config(), request.has_config()));
  ASSIGN_OR_RETURN(const PodRef pod, registry_->ResolvePod(request.pod_sandbox_id()));
  const base::LogField field("pod", pod->id.str());
  const std::string name =
      ContainerName(request.config().metadata(), pod->record.config().metadata());
  ASSIGN_OR_RETURN(const std::string id,
                   creations_.Run(ctx, name, pod->id.str(), [&](const Context& shared) {
                     return CreateInPod(shared, pod, request.config());
                   }));
  cri::CreateContainerResponse response;
  response.set_container_id(id);
  return response;
}

absl::StatusOr<std::string> RuntimeService::CreateInPod(const Context& ctx, const PodRef& pod,
                                                        const cri::ContainerConfig& config) {
  ASSIGN_OR_RETURN(const std::string before, AlreadyCreated(pod->id, config));
  if (!before.empty()) {
    return before;
  }
  // Without the lease: a path that hangs must not keep the pod from being stopped.
  ASSIGN_OR_RETURN(HostParts host, LookAtHost(ctx, *pod, config));
  RETURN_IF_ERROR(RelabelVolumes(ctx, *pod, config, host.mounts));
  ASSIGN_OR_RETURN(const Leases::Lease lease,
                   leases_.Acquire(ctx, pod->id.str(), Leases::Mode::kShared));
  ASSIGN_OR_RETURN(const std::string meanwhile, AlreadyCreated(pod->id, config));
  if (!meanwhile.empty()) {
    return meanwhile;
  }
  const PodRef current = registry_->FindPod(pod->id);
  ASSIGN_OR_RETURN(NewContainer plan, PlanContainer(ctx, *current, config, std::move(host)));
  base::Undo undo;
  undo.Add([this, id = plan.container.id, record = plan.container.record] {
    ReleaseImages(id, record);
  });
  ASSIGN_OR_RETURN(const std::string id, MakeContainer(ctx, *current, std::move(plan)));
  undo.Commit();
  const base::LogField field("container", id);
  base::LogInfo("container ", ContainerName(config.metadata(), current->record.config().metadata()),
                " is created");
  return id;
}

absl::StatusOr<std::string> RuntimeService::AlreadyCreated(const base::PodId& pod,
                                                           const cri::ContainerConfig& config) {
  const PodRef current = registry_->FindPod(pod);
  if (!current || !PodReady(*current)) {
    return absl::FailedPreconditionError(base::StrCat("pod sandbox ", pod.str(), " is not ready"));
  }
  const std::string name = ContainerName(config.metadata(), current->record.config().metadata());
  const ContainerRef existing = registry_->FindContainerByName(name);
  if (!existing) {
    return std::string();
  }
  // The retry of a call whose answer was lost gets what that call made.
  if (existing->CriState() == cri::CONTAINER_CREATED &&
      SameMessage(existing->record.config(), config)) {
    return existing->id.str();
  }
  return absl::AlreadyExistsError(
      base::StrCat("container ", existing->id.str(), " has the name ", name));
}

absl::StatusOr<RuntimeService::NewContainer> RuntimeService::PlanContainer(
    const Context& ctx, const Pod& pod, const cri::ContainerConfig& config, HostParts host) {
  RETURN_IF_ERROR(ctx.Check());
  NewContainer plan(base::ContainerId::Random(), pod.id);
  plan.mounts = std::move(host.mounts);
  plan.extra_mounts = std::move(host.extra_mounts);
  state::ContainerRecord& record = plan.container.record;
  *record.mutable_config() = config;
  ASSIGN_OR_RETURN(const Handler* handler, FindHandler(pod.record.runtime_handler()));
  plan.handler = handler->name;
  if (config.linux().security_context().privileged() &&
      !pod.record.config().linux().security_context().privileged()) {
    return absl::InvalidArgumentError(
        "config.linux.security_context.privileged: the pod sandbox is not privileged");
  }
  RETURN_IF_ERROR(CheckContainerUserNamespace(pod.record.config(), config));
  RETURN_IF_ERROR(NamespacesFor(pod, config).status());
  ASSIGN_OR_RETURN(plan.devices, devices_.Plan(pod.record.config(), config, handler->traits));
  RETURN_IF_ERROR(PlanSecurity(pod, &plan));
  ASSIGN_OR_RETURN(imageservice::ContainerImage image,
                   uses_.images.Acquire(config.image().image(), plan.container.id.str()));
  base::Undo undo;
  undo.Add([&] { ReleaseImages(plan.container.id, record); });
  if (!image.artifact_type.empty()) {
    return absl::InvalidArgumentError(base::StrCat(
        "config.image: ", config.image().image(), " is an OCI artifact of type \"",
        image.artifact_type, "\" and no image: it can be a volume and not a container"));
  }
  record.set_image_id(image.id);
  record.set_image_ref(image.ref);
  for (const std::string& chain_id : image.chain_ids) {
    record.add_chain_ids(chain_id);
  }
  RETURN_IF_ERROR(AcquireImageVolumes(&plan));
  RETURN_IF_ERROR(CommandLine(config, image.config).status());
  ASSIGN_OR_RETURN(const int signal, StopSignal(config.stop_signal(), image.config.stop_signal));
  record.set_stop_signal(signal);
  plan.process = std::move(image.config);
  const std::string& logs = pod.record.config().log_directory();
  if (!logs.empty() && !config.log_path().empty()) {
    record.set_log_path(base::StrCat(logs, "/", config.log_path()));
  }
  undo.Commit();
  return plan;
}

absl::StatusOr<std::string> RuntimeService::MakeContainer(const Context& ctx, const Pod& pod,
                                                          NewContainer plan) {
  Container& container = plan.container;
  const base::LogField field("container", container.id.str());
  const Handler& handler = handlers_.at(plan.handler);
  state::ContainerRecord& record = container.record;
  record.set_id(container.id.str());
  record.set_pod_id(pod.id.str());
  record.set_state(state::ContainerRecord::CREATING);
  record.set_created_at(absl::ToUnixNanos(absl::Now()));
  record.set_boot_id(boot_id_);
  record.set_sandboxed(pod.record.sandboxed() && !record.infra());
  record.set_runtime_path(handler.runtime.config().path);
  record.set_runtime_root(handler.runtime.config().root);
  for (const std::string& argument : handler.runtime.config().extra_arguments) {
    record.add_runtime_arguments(argument);
  }
  record.set_cgroup_driver(pod.record.cgroup_driver());
  record.set_cgroup(
      ContainerCgroup(pod.record.cgroup_driver(), pod.record.cgroup_parent(), container.id));
  RETURN_IF_ERROR(registry_->PutContainer(container));
  base::Undo undo;
  undo.Add([&] {
    if (plan.monitor.has_value()) {
      plan.monitor->Abandon(Context::Detached(kReleaseTime)).IgnoreError();
    }
    const absl::Status undone = DiscardContainer(Context::Detached(kReleaseTime), container);
    if (!undone.ok()) {
      base::LogError("undo a container: ", base::ToStd(undone.message()));
    }
  });
  RETURN_IF_ERROR(WriteBundle(ctx, pod, &plan));
  RETURN_IF_ERROR(CreateWithMonitor(ctx, &plan));
  undo.Commit();
  return container.id.str();
}

absl::StatusOr<RuntimeService::LeasedContainer> RuntimeService::LeaseContainer(
    const Context& ctx, const Container& found) {
  ASSIGN_OR_RETURN(Leases::Lease pod, leases_.Acquire(ctx, found.pod.str(), Leases::Mode::kShared));
  ASSIGN_OR_RETURN(Leases::Lease own,
                   leases_.Acquire(ctx, found.id.str(), Leases::Mode::kExclusive));
  ContainerRef container = registry_->FindContainer(found.id);
  if (!container) {
    return absl::NotFoundError(base::StrCat("no container ", found.id.str()));
  }
  return LeasedContainer{std::move(pod), std::move(own), std::move(container)};
}

absl::StatusOr<cri::StartContainerResponse> RuntimeService::StartContainer(
    const Context& ctx, const cri::StartContainerRequest& request) {
  ASSIGN_OR_RETURN(const ContainerRef found, registry_->ResolveContainer(request.container_id()));
  const base::LogField field("container", found->id.str());
  const base::LogField pod_field("pod", found->pod.str());
  ASSIGN_OR_RETURN(const LeasedContainer leased, LeaseContainer(ctx, *found));
  const ContainerRef& container = leased.container;
  if (container->CriState() != cri::CONTAINER_CREATED ||
      container->record.state() != state::ContainerRecord::CREATED) {
    return absl::FailedPreconditionError(
        base::StrCat("start container ", found->id.str(), ": it is ",
                     container->CriState() == cri::CONTAINER_RUNNING ? "running" : "exited"));
  }
  RETURN_IF_ERROR(
      base::Annotate(StartCreated(*container), base::StrCat("start container ", found->id.str())));
  base::LogInfo("container is started");
  return cri::StartContainerResponse();
}

absl::Status RuntimeService::StartCreated(Container container) {
  // A caller that goes does not stop this: a half-started container could only be killed.
  const Context ctx = Context::Detached(config_.start_timeout);
  const absl::Status started = container.record.sandboxed()
                                   ? StartByMonitor(ctx, container)
                                   : RuntimeOf(container.record).Start(ctx, container.id.str());
  container.run.set_started_at(absl::ToUnixNanos(absl::Now()));
  if (started.ok()) {
    return registry_->PutRun(container.id, std::move(container.run));
  }
  // It cannot run any more: it is listed as exited, with the runtime's words.
  container.run.set_start_error(std::string(started.message()));
  RETURN_IF_ERROR(registry_->PutRun(container.id, container.run));
  const absl::Status killed = KillAndWait(Context::Detached(absl::Seconds(30)), container);
  if (!killed.ok()) {
    base::LogWarning(base::ToStd(killed.message()));
  }
  return started;
}

absl::StatusOr<cri::RemoveContainerResponse> RuntimeService::RemoveContainer(
    const Context& ctx, const cri::RemoveContainerRequest& request) {
  const absl::StatusOr<ContainerRef> found = registry_->ResolveContainer(request.container_id());
  if (absl::IsNotFound(found.status())) {
    return cri::RemoveContainerResponse();
  }
  RETURN_IF_ERROR(found.status());
  const base::ContainerId id = (*found)->id;
  const base::LogField field("container", id.str());
  const base::LogField pod_field("pod", (*found)->pod.str());
  ASSIGN_OR_RETURN(const Leases::Lease pod_lease,
                   leases_.Acquire(ctx, (*found)->pod.str(), Leases::Mode::kShared));
  ASSIGN_OR_RETURN(const Leases::Lease lease,
                   leases_.Acquire(ctx, id.str(), Leases::Mode::kExclusive));
  if (const ContainerRef container = registry_->FindContainer(id)) {
    // A caller that goes does not stop this: the retry finds less to do.
    RETURN_IF_ERROR(DiscardContainer(Context::Detached(kReleaseTime), *container));
    base::LogInfo("container is removed");
  }
  return cri::RemoveContainerResponse();
}

absl::StatusOr<cri::ReopenContainerLogResponse> RuntimeService::ReopenContainerLog(
    const Context& ctx, const cri::ReopenContainerLogRequest& request) {
  ASSIGN_OR_RETURN(const ContainerRef container,
                   registry_->ResolveContainer(request.container_id()));
  const base::LogField field("container", container->id.str());
  if (container->CriState() != cri::CONTAINER_RUNNING) {
    return absl::FailedPreconditionError(
        base::StrCat("reopen the log of container ", container->id.str(), ": it is not running"));
  }
  if (container->record.log_path().empty()) {
    return absl::FailedPreconditionError(
        base::StrCat("container ", container->id.str(), " has no log"));
  }
  ASSIGN_OR_RETURN(MonitorConnection monitor,
                   MonitorConnection::Connect(ctx, paths_.Container(container->id)));
  RETURN_IF_ERROR(
      monitor.ReopenLog(ctx.WithTimeout(absl::Seconds(30)), container->record.log_path()));
  return cri::ReopenContainerLogResponse();
}

}  // namespace runtimeservice
