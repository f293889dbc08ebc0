// What the machine and the daemon's own process allow, looked up once at start.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/cgroup.h"

namespace runtimeservice {

struct KernelVersion {
  int major = 0;
  int minor = 0;
  friend auto operator<=>(const KernelVersion&, const KernelVersion&) = default;
};

// A plain value: the spec is a function of it, and tests make their own.
struct HostFacts {
  base::CgroupMode cgroup_mode = base::CgroupMode::kV2;
  bool swap_accounting = false;           // The memory controller can limit memory + swap.
  std::set<std::string> hugepage_sizes;   // That the hugetlb controller can limit: "2MB", "1GB".
  std::vector<std::string> capabilities;  // Held by the daemon, "CAP_…", in the kernel's order.
  int min_oom_score_adj = -1000;          // The lowest score the daemon may give.
  bool apparmor = false;  // The kernel has it, and its list of profiles can be read.
  KernelVersion kernel;
  std::string architecture;  // Go's name: "amd64", "arm64", …
  std::string hostname;
};

// Reads /proc, /sys and the daemon's own capabilities. Logs what the daemon may not do (lower OOM
// scores). Fails only when /proc is unusable.
absl::StatusOr<HostFacts> GatherHostFacts();

}  // namespace runtimeservice
