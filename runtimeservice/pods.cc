// RunPodSandbox, StopPodSandbox, RemovePodSandbox.
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/undo.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/sandbox.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kReleaseTime = absl::Minutes(2);

}  // namespace

absl::StatusOr<cri::RunPodSandboxResponse> RuntimeService::RunPodSandbox(
    const Context& ctx, const cri::RunPodSandboxRequest& request) {
  RETURN_IF_ERROR(CheckPodConfig(request.config(), request.has_config()));
  ASSIGN_OR_RETURN(const Handler* handler, FindHandler(request.runtime_handler()));
  RETURN_IF_ERROR(CheckUserNamespaceSupport(request.config(), *handler));
  RETURN_IF_ERROR(CheckSandbox(*handler, request.config()));
  const std::string name = PodName(request.config().metadata());
  ASSIGN_OR_RETURN(const std::string id,
                   creations_.Run(ctx, name, name, [&](const Context& shared) {
                     return CreatePod(shared, request);
                   }));
  cri::RunPodSandboxResponse response;
  response.set_pod_sandbox_id(id);
  return response;
}

absl::StatusOr<std::string> RuntimeService::CreatePod(const Context& ctx,
                                                      const cri::RunPodSandboxRequest& request) {
  const std::string name = PodName(request.config().metadata());
  const PodRef existing = registry_->FindPodByName(name);
  if (existing && existing->record.state() != state::PodRecord::REMOVING) {
    // The retry of a call whose answer was lost gets what that call made.
    if (PodReady(*existing) && SameMessage(existing->record.config(), request.config()) &&
        existing->record.runtime_handler() == request.runtime_handler()) {
      return existing->id.str();
    }
    return absl::AlreadyExistsError(
        base::StrCat("pod sandbox ", existing->id.str(), " has the name ", name));
  }
  Pod pod{.id = base::PodId::Random(), .record = {}};
  const base::LogField field("pod", pod.id.str());
  pod.record.set_id(pod.id.str());
  pod.record.set_state(state::PodRecord::CREATING);
  *pod.record.mutable_config() = request.config();
  pod.record.set_runtime_handler(request.runtime_handler());
  ASSIGN_OR_RETURN(const Handler* handler, FindHandler(request.runtime_handler()));
  pod.record.set_sandboxed(handler->traits.sandboxed);
  pod.record.set_created_at(absl::ToUnixNanos(absl::Now()));
  pod.record.set_boot_id(boot_id_);
  RETURN_IF_ERROR(PlanPodCgroup(&pod));
  if (request.config().linux().security_context().namespace_options().pid() == cri::POD) {
    RETURN_IF_ERROR(PlanInfra(pod).status());
  }
  RETURN_IF_ERROR(PlanNetwork(&pod));
  // Against a late detach of it, when this is undone.
  ASSIGN_OR_RETURN(const Leases::Lease lease,
                   leases_.Acquire(ctx, pod.id.str(), Leases::Mode::kExclusive));
  base::Undo undo;
  undo.Add([this, id = pod.id.str()] { selinux_.Release(id); });
  RETURN_IF_ERROR(LabelPod(&pod));
  RETURN_IF_ERROR(registry_->PutPod(pod));
  undo.Add([&] {
    const absl::Status undone = DiscardPod(Context::Detached(kReleaseTime), pod);
    if (!undone.ok()) {
      base::LogError("undo a pod sandbox: ", base::ToStd(undone.message()));
    }
  });
  RETURN_IF_ERROR(SetUpPod(ctx, &pod));
  undo.Commit();
  base::LogInfo("pod sandbox ", name, " runs");
  return pod.id.str();
}

absl::Status RuntimeService::SetUpPod(const Context& ctx, Pod* pod) {
  RETURN_IF_ERROR(PinPodNamespaces(pod));
  RETURN_IF_ERROR(AttachPod(ctx, pod));
  RETURN_IF_ERROR(MakePodFiles(*pod));
  RETURN_IF_ERROR(StartInfra(ctx, pod));
  RETURN_IF_ERROR(ctx.Check());
  pod->record.set_state(state::PodRecord::READY);
  return registry_->PutPod(*pod);
}

absl::Status RuntimeService::EndPod(const Context& ctx, const std::string& id_or_prefix,
                                    PodEnd end) {
  const absl::StatusOr<PodRef> pod = registry_->ResolvePod(id_or_prefix);
  if (absl::IsNotFound(pod.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(pod.status());
  const base::PodId id = (*pod)->id;
  const base::LogField field("pod", id.str());
  creations_.CancelGroup(id.str());
  ASSIGN_OR_RETURN(const Leases::Lease lease,
                   leases_.Acquire(ctx, id.str(), Leases::Mode::kExclusive));
  // A caller that goes does not stop this: the retry finds less to do.
  return (this->*end)(Context::Detached(kReleaseTime), id);
}

absl::StatusOr<cri::StopPodSandboxResponse> RuntimeService::StopPodSandbox(
    const Context& ctx, const cri::StopPodSandboxRequest& request) {
  RETURN_IF_ERROR(EndPod(ctx, request.pod_sandbox_id(), &RuntimeService::StopPod));
  return cri::StopPodSandboxResponse();
}

absl::Status RuntimeService::StopPod(const Context& ctx, const base::PodId& id) {
  const PodRef current = registry_->FindPod(id);
  if (!current) {
    return absl::OkStatus();
  }
  for (const ContainerRef& container : registry_->ContainersOf(id)) {
    RETURN_IF_ERROR(KillAndWait(ctx, *container));
  }
  Pod pod = *current;
  if (pod.record.state() != state::PodRecord::READY) {
    return ReleasePod(ctx, &pod);  // What an earlier stop could not release.
  }
  // From here on the pod is not ready whatever happens.
  pod.record.set_state(state::PodRecord::STOPPED);
  registry_->ShowPod(pod);
  DetachPod(ctx, &pod);
  registry_->ShowPod(pod);
  return ReleasePod(ctx, &pod);
}

absl::StatusOr<cri::RemovePodSandboxResponse> RuntimeService::RemovePodSandbox(
    const Context& ctx, const cri::RemovePodSandboxRequest& request) {
  RETURN_IF_ERROR(EndPod(ctx, request.pod_sandbox_id(), &RuntimeService::RemovePod));
  return cri::RemovePodSandboxResponse();
}

absl::Status RuntimeService::RemovePod(const Context& ctx, const base::PodId& id) {
  RETURN_IF_ERROR(StopPod(ctx, id));
  const PodRef pod = registry_->FindPod(id);
  if (!pod) {
    return absl::OkStatus();
  }
  for (const ContainerRef& container : registry_->ContainersOf(id)) {
    if (container->record.infra()) {
      continue;  // Goes with the rest of the pod.
    }
    ASSIGN_OR_RETURN(const Leases::Lease lease,
                     leases_.Acquire(ctx, container->id.str(), Leases::Mode::kExclusive));
    RETURN_IF_ERROR(DiscardContainer(ctx, *container));
  }
  RETURN_IF_ERROR(DiscardPod(ctx, *pod));
  base::LogInfo("pod sandbox ", PodName(pod->record.config().metadata()), " is removed");
  return absl::OkStatus();
}

}  // namespace runtimeservice
