#include "runtimeservice/spec/host_facts.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <string_view>

#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/apparmor.h"
#include "runtimeservice/spec/capabilities.h"

namespace runtimeservice {
namespace {

std::string GoArchitecture(std::string_view machine) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"x86_64", "amd64"},    {"aarch64", "arm64"}, {"i686", "386"},
      {"armv7l", "arm"},      {"armv8l", "arm"},    {"ppc64le", "ppc64le"},
      {"riscv64", "riscv64"}, {"s390x", "s390x"},   {"loongarch64", "loong64"},
  };
  for (const auto& [kernel, go] : kNames) {
    if (kernel == machine) {
      return std::string(go);
    }
  }
  return std::string(machine);
}

// The number at the front of `*text`, which is cut off with one character behind it.
template <typename Number>
Number CutNumber(std::string_view* text, int base = 10) {
  Number number = 0;
  const auto result = std::from_chars(text->data(), text->data() + text->size(), number, base);
  const auto used = static_cast<size_t>(result.ptr - text->data());
  text->remove_prefix(std::min(used + 1, text->size()));
  return number;
}

KernelVersion ParseRelease(std::string_view release) {
  KernelVersion version;
  version.major = CutNumber<int>(&release);
  version.minor = CutNumber<int>(&release);
  return version;
}

// The mask in the line `name` of /proc/self/status.
uint64_t StatusMask(std::string_view status, std::string_view name) {
  const size_t begin = status.find(name);
  if (begin == std::string_view::npos) {
    return 0;
  }
  std::string_view value = status.substr(begin + name.size());
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  return CutNumber<uint64_t>(&value, 16);
}

absl::StatusOr<std::vector<std::string>> HeldCapabilities() {
  ASSIGN_OR_RETURN(const std::string status, base::ReadFile("/proc/self/status"));
  const uint64_t held = StatusMask(status, "CapEff:") & StatusMask(status, "CapBnd:");
  std::vector<std::string> names;
  for (int number = 0; !CapabilityName(number).empty(); ++number) {
    if ((held >> number & 1) != 0) {
      names.emplace_back(CapabilityName(number));
    }
  }
  return names;
}

// Who lacks CAP_SYS_RESOURCE cannot go below the score it was given.
absl::StatusOr<int> MinOomScoreAdj(const std::vector<std::string>& capabilities) {
  if (std::find(capabilities.begin(), capabilities.end(), "CAP_SYS_RESOURCE") !=
      capabilities.end()) {
    return -1000;
  }
  ASSIGN_OR_RETURN(const std::string text, base::ReadFile("/proc/self/oom_score_adj"));
  std::string_view rest = text;
  const int floor = CutNumber<int>(&rest);
  base::LogWarning("no CAP_SYS_RESOURCE: containers get an oom_score_adj of at least ", floor);
  return floor;
}

bool HasSwapAccounting(base::CgroupMode mode) {
  const std::string root = base::CgroupDirectory("memory", "/");
  if (root.empty()) {
    return false;
  }
  if (mode == base::CgroupMode::kV1) {
    return base::Exists(root + "/memory.memsw.limit_in_bytes");
  }
  // The root of v2 has no limits, so any other cgroup with the controller is asked.
  const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(root);
  return names.ok() && std::any_of(names->begin(), names->end(), [&root](const std::string& name) {
           return base::Exists(base::StrCat(root, "/", name, "/memory.swap.max"));
         });
}

bool HasHugetlbController(base::CgroupMode mode) {
  const std::string root = base::CgroupDirectory("hugetlb", "/");
  if (mode == base::CgroupMode::kV1) {
    return !root.empty();
  }
  const absl::StatusOr<std::string> controllers = base::ReadFile(root + "/cgroup.controllers");
  return controllers.ok() && controllers->find("hugetlb") != std::string::npos;
}

// "hugepages-2048kB" as "2MB".
std::string HugepageSize(std::string_view name) {
  constexpr std::string_view kPrefix = "hugepages-";
  if (name.substr(0, kPrefix.size()) != kPrefix) {
    return "";
  }
  name.remove_prefix(kPrefix.size());
  uint64_t size = CutNumber<uint64_t>(&name);
  constexpr std::string_view kUnits[] = {"KB", "MB", "GB"};
  size_t unit = 0;
  for (; unit + 1 < std::size(kUnits) && size >= 1024 && size % 1024 == 0; ++unit) {
    size /= 1024;
  }
  return size == 0 ? std::string() : base::StrCat(size, kUnits[unit]);
}

std::set<std::string> HugepageSizes(base::CgroupMode mode) {
  std::set<std::string> sizes;
  const absl::StatusOr<std::vector<std::string>> names =
      base::ListDirectory("/sys/kernel/mm/hugepages");
  if (!names.ok() || !HasHugetlbController(mode)) {
    return sizes;
  }
  for (const std::string& name : *names) {
    if (std::string size = HugepageSize(name); !size.empty()) {
      sizes.insert(std::move(size));
    }
  }
  return sizes;
}

}  // namespace

absl::StatusOr<HostFacts> GatherHostFacts() {
  HostFacts facts;
  facts.cgroup_mode = base::HostCgroupMode();
  facts.swap_accounting = HasSwapAccounting(facts.cgroup_mode);
  facts.hugepage_sizes = HugepageSizes(facts.cgroup_mode);
  ASSIGN_OR_RETURN(facts.capabilities, HeldCapabilities());
  ASSIGN_OR_RETURN(facts.min_oom_score_adj, MinOomScoreAdj(facts.capabilities));
  const absl::StatusOr<std::string> apparmor =
      base::ReadFile("/sys/module/apparmor/parameters/enabled");
  facts.apparmor = apparmor.ok() && !apparmor->empty() && apparmor->front() == 'Y' &&
                   base::Exists(AppArmorHost().loaded_file);
  utsname names = {};
  if (uname(&names) != 0) {
    return base::ErrnoStatus(errno, "uname");
  }
  facts.kernel = ParseRelease(names.release);
  facts.architecture = GoArchitecture(names.machine);
  facts.hostname = names.nodename;
  return facts;
}

}  // namespace runtimeservice
