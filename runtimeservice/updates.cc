// UpdateContainerResources, UpdatePodSandboxResources.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/resource_update.h"
#include "runtimeservice/spec/resources.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kUpdateTime = absl::Seconds(30);
// Of fields in an UpdateContainerResourcesRequest.
constexpr std::string_view kMessage = "linux.";

int64_t NumberIn(const std::string& file) {
  const absl::StatusOr<std::string> text = base::ReadFile(file, 64);
  int64_t number = 0;
  return text.ok() && absl::SimpleAtoi(*text, &number) ? number : 0;
}

// What a cgroup holds of memory that cannot be had back at once: all but files not used lately, as
// the kubelet counts it. 0 when it cannot be read.
int64_t MemoryInUse(const std::string& cgroup) {
  const bool v2 = base::HostCgroupMode() == base::CgroupMode::kV2;
  const std::string directory = base::CgroupDirectory("memory", cgroup);
  const absl::StatusOr<std::string> stat = base::ReadFile(directory + "/memory.stat");
  if (directory.empty() || !stat.ok()) {
    return 0;
  }
  const int64_t all = NumberIn(directory + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  int64_t inactive = 0;
  for (const auto& line : absl::StrSplit(*stat, '\n')) {
    const std::pair<std::string, std::string> entry = absl::StrSplit(line, ' ');
    if (entry.first == (v2 ? "inactive_file" : "total_inactive_file")) {
      (void)absl::SimpleAtoi(entry.second, &inactive);
    }
  }
  return std::max<int64_t>(all - inactive, 0);
}

absl::Status CheckMemoryUse(const std::string& cgroup, int64_t limit) {
  const int64_t used = limit > 0 ? MemoryInUse(cgroup) : 0;
  return used <= limit ? absl::OkStatus()
                       : absl::FailedPreconditionError(
                             base::StrCat(kMessage, "memory_limit_in_bytes: ", limit,
                                          " is less than the container uses now, ", used));
}

// LinuxResources leaves it out on v1.
absl::Status LiftQuota(const std::string& cgroup, const cri::LinuxContainerResources& resources) {
  const std::string directory = base::CgroupDirectory("cpu", cgroup);
  return resources.cpu_quota() == -1 && base::HostCgroupMode() == base::CgroupMode::kV1 &&
                 !directory.empty()
             ? base::WriteControlFile(directory + "/cpu.cfs_quota_us", "-1")
             : absl::OkStatus();
}

// Not every runtime's `update` does (runc 1.1).
absl::Status WriteHugepageLimits(const std::string& cgroup,
                                 const cri::LinuxContainerResources& resources) {
  const std::string directory = base::CgroupDirectory("hugetlb", cgroup);
  const bool v2 = base::HostCgroupMode() == base::CgroupMode::kV2;
  for (const cri::HugepageLimit& limit : resources.hugepage_limits()) {
    const std::string file =
        base::StrCat(directory, "/hugetlb.", limit.page_size(), v2 ? ".max" : ".limit_in_bytes");
    if (!directory.empty() && base::Exists(file)) {
      RETURN_IF_ERROR(base::WriteControlFile(file, base::StrCat(limit.limit())));
    }
  }
  return absl::OkStatus();
}

// For every process there is; those to come inherit it.
absl::Status WriteOomScore(const std::string& cgroup, int score) {
  for (const pid_t pid : base::CgroupProcesses(cgroup)) {
    const absl::Status written =
        base::WriteControlFile(base::StrCat("/proc/", pid, "/oom_score_adj"), base::StrCat(score));
    if (!written.ok() && base::Exists(base::StrCat("/proc/", pid))) {
      return written;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RuntimeService::ChangeResources(const Context& ctx, const Container& container,
                                             const cri::LinuxContainerResources& update) {
  const std::string& cgroup = container.record.cgroup();
  const cri::LinuxContainerResources& before = container.Resources();
  const cri::LinuxContainerResources merged = MergeResources(before, update);
  const PodRef pod = registry_->FindPod(container.pod);
  // A handler that the configuration no longer has is no reason to refuse.
  const absl::StatusOr<const Handler*> handler =
      FindHandler(pod == nullptr ? "" : pod->record.runtime_handler());
  const int64_t min_memory = handler.ok() ? (*handler)->traits.min_memory_bytes : 0;
  ASSIGN_OR_RETURN(const base::OrderedJson limits,
                   LinuxResources(merged, host_, min_memory, kMessage));
  ASSIGN_OR_RETURN(const int score, OomScoreAdj(merged, host_, kMessage));
  RETURN_IF_ERROR(CheckMemoryUse(cgroup, update.memory_limit_in_bytes()));
  const Runtime runtime = RuntimeOf(container.record);
  const absl::Status changed = [&] {
    RETURN_IF_ERROR(runtime.Update(ctx, container.id.str(), limits));
    RETURN_IF_ERROR(LiftQuota(cgroup, merged));
    RETURN_IF_ERROR(WriteHugepageLimits(cgroup, merged));
    return update.oom_score_adj() == 0 ? absl::OkStatus() : WriteOomScore(cgroup, score);
  }();
  if (!changed.ok()) {
    const cri::LinuxContainerResources revert = RevertResources(before, update);
    const absl::StatusOr<base::OrderedJson> old = LinuxResources(revert, host_, 0);
    absl::Status reverted = old.ok() ? runtime.Update(ctx, container.id.str(), *old) : old.status();
    reverted.Update(LiftQuota(cgroup, revert));
    if (!reverted.ok()) {
      base::LogWarning("limits of a container may be changed in part: ",
                       base::ToStd(reverted.message()));
    }
    return changed;
  }
  // Last: after a crash in between the status says less than was done, and the caller asks again.
  state::ContainerRunRecord run = container.run;
  *run.mutable_resources() = merged;
  return registry_->PutRun(container.id, std::move(run));
}

absl::StatusOr<cri::UpdateContainerResourcesResponse> RuntimeService::UpdateContainerResources(
    const Context& ctx, const cri::UpdateContainerResourcesRequest& request) {
  ASSIGN_OR_RETURN(const ContainerRef found, registry_->ResolveContainer(request.container_id()));
  const base::LogField field("container", found->id.str());
  const base::LogField pod_field("pod", found->pod.str());
  ASSIGN_OR_RETURN(const LeasedContainer leased, LeaseContainer(ctx, *found));
  const ContainerRef& container = leased.container;
  const std::string what = base::StrCat("update container ", found->id.str());
  if (container->record.state() != state::ContainerRecord::CREATED ||
      container->CriState() == cri::CONTAINER_EXITED) {
    return absl::FailedPreconditionError(base::StrCat(what, ": it has ended"));
  }
  if (request.has_linux()) {
    // A caller that goes does not stop this: half a change would have to be taken back.
    RETURN_IF_ERROR(base::Annotate(
        ChangeResources(Context::Detached(kUpdateTime), *container, request.linux()), what));
    base::LogInfo("container has other limits");
  }
  return cri::UpdateContainerResourcesResponse();
}

absl::StatusOr<cri::UpdatePodSandboxResourcesResponse> RuntimeService::UpdatePodSandboxResources(
    const Context& ctx, const cri::UpdatePodSandboxResourcesRequest& request) {
  ASSIGN_OR_RETURN(const PodRef found, registry_->ResolvePod(request.pod_sandbox_id()));
  const base::LogField field("pod", found->id.str());
  ASSIGN_OR_RETURN(const Leases::Lease lease,
                   leases_.Acquire(ctx, found->id.str(), Leases::Mode::kExclusive));
  const PodRef current = registry_->FindPod(found->id);
  if (!current || current->record.state() == state::PodRecord::REMOVING) {
    return absl::NotFoundError(base::StrCat("no pod sandbox ", found->id.str()));
  }
  // Sums over containers, for virtual machines that must be sized: the pod's own cgroup is the
  // kubelet's.
  Pod pod = *current;
  if (request.has_overhead()) {
    *pod.record.mutable_overhead() = request.overhead();
  }
  if (request.has_resources()) {
    *pod.record.mutable_resources() = request.resources();
  }
  RETURN_IF_ERROR(registry_->PutPod(std::move(pod)));
  return cri::UpdatePodSandboxResourcesResponse();
}

}  // namespace runtimeservice
