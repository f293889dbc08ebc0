// The cgroup of a pod: by which driver, where, and its end when it is the pod's alone.
#include <algorithm>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/systemd.h"
#include "runtimeservice/runtime_service.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kStopTime = absl::Seconds(30);

}  // namespace

absl::Status RuntimeService::PlanPodCgroup(Pod* pod) const {
  const CgroupDriver driver = config_.cgroup_driver;
  pod->record.set_cgroup_driver(driver);
  const std::string& parent = pod->record.config().linux().cgroup_parent();
  if (parent.empty()) {
    pod->record.set_cgroup_parent(OwnPodCgroup(driver, pod->id));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(*pod->record.mutable_cgroup_parent(), CgroupParent(driver, parent));
  return absl::OkStatus();
}

absl::Status RuntimeService::RemovePodCgroup(const Context& ctx, const Pod& pod) const {
  const std::string& path = pod.record.cgroup_parent();
  if (!pod.record.config().linux().cgroup_parent().empty() || path.empty()) {
    return absl::OkStatus();
  }
  const std::vector<std::string> directories = base::CgroupDirectories(path);
  const bool there = std::any_of(directories.begin(), directories.end(), base::Exists);
  // systemd starts a slice with its first scope, and keeps it after the last.
  if (there && pod.record.cgroup_driver() == state::SYSTEMD && base::SystemdIsInit()) {
    RETURN_IF_ERROR(base::StopSystemdUnit(ctx.WithTimeout(kStopTime), LastName(path)));
  }
  return base::RemoveCgroup(ctx, path);
}

}  // namespace runtimeservice
