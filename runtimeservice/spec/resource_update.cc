#include "runtimeservice/spec/resource_update.h"

#include <algorithm>
#include <cstdint>

namespace runtimeservice {
namespace {

constexpr int64_t kDefaultPeriod = 100'000;  // The kernel's, in µs.
constexpr int64_t kDefaultShares = 1024;
constexpr int64_t kLeastShares = 2;

void MergeHugepages(const cri::LinuxContainerResources& update,
                    cri::LinuxContainerResources* merged) {
  for (const cri::HugepageLimit& limit : update.hugepage_limits()) {
    auto* known = merged->mutable_hugepage_limits();
    const auto same = std::find_if(known->begin(), known->end(), [&](const auto& other) {
      return other.page_size() == limit.page_size();
    });
    *(same == known->end() ? merged->add_hugepage_limits() : &*same) = limit;
  }
}

void MergeMemory(const cri::LinuxContainerResources& update, cri::LinuxContainerResources* merged) {
  const bool no_swap = merged->memory_swap_limit_in_bytes() > 0 &&
                       merged->memory_swap_limit_in_bytes() == merged->memory_limit_in_bytes();
  if (update.memory_limit_in_bytes() != 0) {
    merged->set_memory_limit_in_bytes(update.memory_limit_in_bytes());
    if (no_swap) {
      merged->set_memory_swap_limit_in_bytes(update.memory_limit_in_bytes());
    }
  }
  if (update.memory_swap_limit_in_bytes() != 0) {
    merged->set_memory_swap_limit_in_bytes(update.memory_swap_limit_in_bytes());
  }
}

}  // namespace

cri::LinuxContainerResources MergeResources(const cri::LinuxContainerResources& in_force,
                                            const cri::LinuxContainerResources& update) {
  cri::LinuxContainerResources merged = in_force;
  if (update.cpu_period() != 0) merged.set_cpu_period(update.cpu_period());
  if (update.cpu_quota() != 0) merged.set_cpu_quota(update.cpu_quota());
  if (update.cpu_shares() != 0) merged.set_cpu_shares(update.cpu_shares());
  if (update.oom_score_adj() != 0) merged.set_oom_score_adj(update.oom_score_adj());
  if (!update.cpuset_cpus().empty()) merged.set_cpuset_cpus(update.cpuset_cpus());
  if (!update.cpuset_mems().empty()) merged.set_cpuset_mems(update.cpuset_mems());
  MergeMemory(update, &merged);
  MergeHugepages(update, &merged);
  for (const auto& [file, value] : update.unified()) {
    (*merged.mutable_unified())[file] = value;
  }
  return merged;
}

cri::LinuxContainerResources RevertResources(const cri::LinuxContainerResources& before,
                                             const cri::LinuxContainerResources& update) {
  cri::LinuxContainerResources revert = before;
  if (update.memory_limit_in_bytes() != 0 && before.memory_limit_in_bytes() == 0) {
    revert.set_memory_limit_in_bytes(-1);
  }
  if (update.cpu_quota() != 0 && before.cpu_quota() == 0) revert.set_cpu_quota(-1);
  if (update.cpu_period() != 0 && before.cpu_period() == 0) revert.set_cpu_period(kDefaultPeriod);
  if (update.cpu_shares() != 0 && before.cpu_shares() == 0) revert.set_cpu_shares(kDefaultShares);
  return revert;
}

cri::LinuxContainerResources EffectiveResources(cri::LinuxContainerResources resources,
                                                const HostFacts& host) {
  if (resources.cpu_quota() != 0 && resources.cpu_period() == 0) {
    resources.set_cpu_period(kDefaultPeriod);
  }
  if (resources.cpu_shares() != 0) {
    resources.set_cpu_shares(std::max(resources.cpu_shares(), kLeastShares));
  }
  if (host.swap_accounting && resources.memory_swap_limit_in_bytes() == 0) {
    resources.set_memory_swap_limit_in_bytes(resources.memory_limit_in_bytes());
  }
  resources.set_oom_score_adj(std::max<int64_t>(resources.oom_score_adj(), host.min_oom_score_adj));
  return resources;
}

}  // namespace runtimeservice
