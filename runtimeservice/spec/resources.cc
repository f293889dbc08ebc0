#include "runtimeservice/spec/resources.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

// What the kernel takes (kernel/sched: bandwidth).
constexpr int64_t kMinPeriod = 1000;
constexpr int64_t kMaxPeriod = 1'000'000;

absl::Status Invalid(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(base::StrCat(field, ": ", why));
}

absl::Status Unsupported(std::string_view field, std::string_view why) {
  return absl::FailedPreconditionError(base::StrCat(field, ": ", why));
}

absl::StatusOr<OrderedJson> Memory(const cri::LinuxContainerResources& resources,
                                   const HostFacts& host, int64_t min_memory_bytes) {
  OrderedJson memory = OrderedJson::object();
  const int64_t limit = resources.memory_limit_in_bytes();
  const int64_t swap = resources.memory_swap_limit_in_bytes();
  if (limit < -1) {
    return Invalid("memory_limit_in_bytes", base::StrCat(limit, " is negative"));
  }
  if (limit > 0 && limit < min_memory_bytes) {
    return Invalid("memory_limit_in_bytes",
                   base::StrCat(limit, " is less than the ", min_memory_bytes, " a start needs"));
  }
  if (swap < -1 || (swap > 0 && swap < limit)) {
    return Invalid(
        "memory_swap_limit_in_bytes",
        base::StrCat(swap, ": memory and swap together must reach the memory limit ", limit));
  }
  if (swap > 0 && limit <= 0) {
    return Invalid("memory_swap_limit_in_bytes", "needs memory_limit_in_bytes");
  }
  if (limit != 0) {
    memory["limit"] = limit;
  }
  if (host.swap_accounting) {
    // Nothing given means no swap: what a limit is for.
    const int64_t with_swap = swap != 0 ? swap : limit;
    if (with_swap != 0) {
      memory["swap"] = with_swap;
    }
  }
  return memory;
}

// "0-3,8": numbers, ranges and commas; the kernel judges the rest.
absl::Status CheckCpuset(std::string_view field, const std::string& list) {
  if (list.find_first_not_of("0123456789-,") != std::string::npos) {
    return Invalid(field, "not a list of numbers and ranges");
  }
  return absl::OkStatus();
}

absl::StatusOr<OrderedJson> Cpu(const cri::LinuxContainerResources& resources,
                                const HostFacts& host) {
  OrderedJson cpu = OrderedJson::object();
  if (resources.cpu_shares() < 0 || resources.cpu_shares() > 262144) {
    return Invalid("cpu_shares", base::StrCat(resources.cpu_shares(), " is not in 2..262144"));
  }
  if (resources.cpu_quota() < -1 ||
      (resources.cpu_quota() > 0 && resources.cpu_quota() < kMinPeriod)) {
    return Invalid("cpu_quota", base::StrCat(resources.cpu_quota(), " is neither -1 nor ",
                                             kMinPeriod, " µs or more"));
  }
  if (resources.cpu_period() != 0 &&
      (resources.cpu_period() < kMinPeriod || resources.cpu_period() > kMaxPeriod)) {
    return Invalid("cpu_period", base::StrCat(resources.cpu_period(), " is not in ", kMinPeriod,
                                              "..", kMaxPeriod, " µs"));
  }
  RETURN_IF_ERROR(CheckCpuset("cpuset_cpus", resources.cpuset_cpus()));
  RETURN_IF_ERROR(CheckCpuset("cpuset_mems", resources.cpuset_mems()));
  if (resources.cpu_shares() != 0) {
    cpu["shares"] = std::max<int64_t>(resources.cpu_shares(), 2);
  }
  // None is what a v1 cgroup begins with, and crun 1.8 cannot write that.
  if (resources.cpu_quota() != 0 &&
      (resources.cpu_quota() > 0 || host.cgroup_mode == base::CgroupMode::kV2)) {
    cpu["quota"] = resources.cpu_quota();
  }
  if (resources.cpu_period() != 0) {
    cpu["period"] = resources.cpu_period();
  }
  if (!resources.cpuset_cpus().empty()) {
    cpu["cpus"] = resources.cpuset_cpus();
  }
  if (!resources.cpuset_mems().empty()) {
    cpu["mems"] = resources.cpuset_mems();
  }
  return cpu;
}

absl::StatusOr<OrderedJson> Hugepages(const cri::LinuxContainerResources& resources,
                                      const HostFacts& host) {
  OrderedJson limits = OrderedJson::array();
  for (int i = 0; i < resources.hugepage_limits_size(); ++i) {
    const cri::HugepageLimit& limit = resources.hugepage_limits(i);
    if (host.hugepage_sizes.contains(limit.page_size())) {
      limits.push_back({{"pageSize", limit.page_size()}, {"limit", limit.limit()}});
    } else if (limit.limit() != 0) {
      // None allowed of a size that nobody can limit is what the kubelet sends for every size.
      return Unsupported(
          base::StrCat("hugepage_limits[", i, "]"),
          base::StrCat("the host cannot limit pages of \"", limit.page_size(), "\""));
    }
  }
  return limits;
}

absl::StatusOr<OrderedJson> Unified(const cri::LinuxContainerResources& resources,
                                    const HostFacts& host) {
  OrderedJson unified = OrderedJson::object();
  for (const auto& [file, value] : resources.unified()) {
    const std::string field = base::StrCat("unified[\"", file, "\"]");
    if (host.cgroup_mode != base::CgroupMode::kV2) {
      return Unsupported(field, "the host has no cgroup v2");
    }
    if (file.find('.') == std::string::npos || file.find('/') != std::string::npos ||
        file.front() == '.' || file.rfind("cgroup.", 0) == 0) {
      return Invalid(field, "not a file of a controller");
    }
    unified[file] = value;
  }
  return unified;
}

absl::StatusOr<OrderedJson> Limits(const cri::LinuxContainerResources& resources,
                                   const HostFacts& host, int64_t min_memory_bytes) {
  OrderedJson result = OrderedJson::object();
  const auto put = [&result](const char* name, OrderedJson part) {
    if (!part.empty()) {
      result[name] = std::move(part);
    }
  };
  ASSIGN_OR_RETURN(OrderedJson memory, Memory(resources, host, min_memory_bytes));
  put("memory", std::move(memory));
  ASSIGN_OR_RETURN(OrderedJson cpu, Cpu(resources, host));
  put("cpu", std::move(cpu));
  ASSIGN_OR_RETURN(OrderedJson hugepages, Hugepages(resources, host));
  put("hugepageLimits", std::move(hugepages));
  ASSIGN_OR_RETURN(OrderedJson unified, Unified(resources, host));
  put("unified", std::move(unified));
  return result;
}

absl::Status InMessage(std::string_view message, const absl::Status& status) {
  return absl::Status(status.code(), base::StrCat(message, base::ToStd(status.message())));
}

}  // namespace

absl::StatusOr<OrderedJson> LinuxResources(const cri::LinuxContainerResources& resources,
                                           const HostFacts& host, int64_t min_memory_bytes,
                                           std::string_view message) {
  absl::StatusOr<OrderedJson> limits = Limits(resources, host, min_memory_bytes);
  return limits.ok() ? std::move(limits) : InMessage(message, limits.status());
}

absl::StatusOr<int> OomScoreAdj(const cri::LinuxContainerResources& resources,
                                const HostFacts& host, std::string_view message) {
  const int64_t score = resources.oom_score_adj();
  if (score < -1000 || score > 1000) {
    return InMessage(message,
                     Invalid("oom_score_adj", base::StrCat(score, " is not in -1000..1000")));
  }
  return std::max(static_cast<int>(score), host.min_oom_score_adj);
}

}  // namespace runtimeservice
