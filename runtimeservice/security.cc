// Profiles and labels of pods and containers: what each is to have, looked at before anything of it
// is made.
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/relabel.h"

namespace runtimeservice {
namespace {

SelinuxLabels LabelsOf(const Pod& pod) {
  return {pod.record.selinux_process_label(), pod.record.selinux_mount_label()};
}

}  // namespace

absl::Status RuntimeService::PrepareSecurity() {
  if (!config_.seccomp_profile.empty()) {
    RETURN_IF_ERROR(
        base::Annotate(seccomp_.SetDefault(config_.seccomp_profile), "seccomp_profile"));
  }
  const absl::Status loaded = apparmor_.LoadDefault(Context());
  if (!loaded.ok()) {
    base::LogWarning("AppArmor: ", base::ToStd(loaded.message()));
  }
  for (const PodRef& pod : registry_->Pods()) {
    selinux_.Reserve(pod->id.str(), LabelsOf(*pod));
  }
  return absl::OkStatus();
}

absl::Status RuntimeService::PlanSecurity(const Pod& pod, NewContainer* plan) {
  const cri::LinuxContainerSecurityContext& security =
      plan->container.record.config().linux().security_context();
  ASSIGN_OR_RETURN(plan->capabilities,
                   ContainerCapabilities(security, config_.defaults.capabilities, host_));
  ASSIGN_OR_RETURN(plan->seccomp, seccomp_.Get(security, plan->capabilities));
  ASSIGN_OR_RETURN(plan->apparmor_profile, apparmor_.Get(security));
  ASSIGN_OR_RETURN(plan->selinux, selinux_.ForContainer(LabelsOf(pod), security));
  return absl::OkStatus();
}

absl::Status RuntimeService::LabelPod(Pod* pod) {
  ASSIGN_OR_RETURN(SelinuxLabels labels,
                   selinux_.ForPod(pod->id.str(), pod->record.config().linux().security_context()));
  pod->record.set_selinux_process_label(std::move(labels.process));
  pod->record.set_selinux_mount_label(std::move(labels.mount));
  return absl::OkStatus();
}

absl::Status RuntimeService::RelabelVolumes(const Context& ctx, const Pod& pod,
                                            const cri::ContainerConfig& config,
                                            const std::vector<MountSource>& sources) {
  if (!selinux_.enabled()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const SelinuxLabels labels,
                   selinux_.ForContainer(LabelsOf(pod), config.linux().security_context()));
  if (labels.mount.empty()) {
    return absl::OkStatus();
  }
  for (int i = 0; i < config.mounts_size(); ++i) {
    const std::string& path = sources[static_cast<size_t>(i)].path;
    if (config.mounts(i).selinux_relabel() && !path.empty()) {
      RETURN_IF_ERROR(base::Annotate(Relabel(ctx, path, labels.mount, &relabel_),
                                     base::StrCat("mounts[", i, "].selinux_relabel")));
    }
  }
  return absl::OkStatus();
}

}  // namespace runtimeservice
