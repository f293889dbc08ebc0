#include "runtimeservice/spec/cgroup_path.h"

#include <algorithm>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

namespace state = crisp::state;

constexpr std::string_view kSlice = ".slice";
constexpr std::string_view kScope = ".scope";
constexpr std::string_view kPrefix = "crisp-";
constexpr size_t kMaxUnitName = 255;

absl::Status Invalid(std::string_view parent, std::string_view why) {
  return absl::InvalidArgumentError(base::StrCat("linux.cgroup_parent \"", parent, "\": ", why));
}

absl::StatusOr<std::string> PlainPath(std::string_view cgroup_parent) {
  if (cgroup_parent.front() != '/') {
    return Invalid(cgroup_parent, "the cgroupfs driver needs an absolute path, not a slice's name");
  }
  std::string path;
  size_t begin = 0;
  while (begin < cgroup_parent.size()) {
    size_t end = cgroup_parent.find('/', begin);
    end = end == std::string_view::npos ? cgroup_parent.size() : end;
    const std::string_view name = cgroup_parent.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty()) {
      continue;
    }
    if (name == "." || name == "..") {
      return Invalid(cgroup_parent, "it climbs");
    }
    for (const char c : name) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
        return Invalid("…", "it has control characters");
      }
    }
    path += base::StrCat("/", name);
  }
  return path;
}

// Those systemd gives another name in the tree, since the kernel has files of that name there
// (cg_escape of its sources).
bool NeedsEscape(std::string_view stem) {
  constexpr std::string_view kTaken[] = {"cgroup", "cpu",  "cpuacct", "cpuset",     "io",
                                         "blkio",  "misc", "memory",  "devices",    "pids",
                                         "rdma",   "dmem", "hugetlb", "bpf-devices"};
  return stem.front() == '_' || stem.front() == '.' ||
         std::find(std::begin(kTaken), std::end(kTaken), stem) != std::end(kTaken);
}

// A unit name's characters but "@", which slices do not have, and ":", which parts cgroupsPath.
bool IsUnitCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-' || c == '\\';
}

// Each "-" is a level: "a-b.slice" is /a.slice/a-b.slice.
absl::StatusOr<std::string> SlicePath(std::string_view parent, std::string_view slice) {
  if (!slice.ends_with(kSlice)) {
    return Invalid(parent, "the systemd driver needs the name of a slice, such as \"a-b.slice\"");
  }
  const std::string_view stem = slice.substr(0, slice.size() - kSlice.size());
  if (stem == "-") {
    return Invalid(parent, "the root slice holds no pods");
  }
  if (slice.size() > kMaxUnitName || stem.empty() ||
      !std::all_of(stem.begin(), stem.end(), IsUnitCharacter)) {
    return Invalid(slice.size() > kMaxUnitName ? "…" : parent, "not the name of a slice");
  }
  std::string path;
  for (size_t dash = stem.find('-');; dash = stem.find('-', dash + 1)) {
    const std::string_view level = stem.substr(0, dash);
    if (level.empty() || level.back() == '-') {
      return Invalid(parent, "a part between its dashes is empty");
    }
    if (NeedsEscape(level)) {
      return Invalid(parent, base::StrCat("systemd has no cgroup \"", level, kSlice, "\""));
    }
    path += base::StrCat("/", level, kSlice);
    if (dash == std::string_view::npos) {
      return path;
    }
  }
}

}  // namespace

absl::StatusOr<std::string> CgroupParent(CgroupDriver driver, std::string_view cgroup_parent) {
  if (driver == state::CGROUPFS) {
    return PlainPath(cgroup_parent);
  }
  const std::string slice = LastName(cgroup_parent);
  ASSIGN_OR_RETURN(std::string path, SlicePath(cgroup_parent, slice));
  if (cgroup_parent != slice && cgroup_parent != path) {
    return Invalid(cgroup_parent, base::StrCat("the slice's path is ", path));
  }
  return path;
}

std::string OwnPodCgroup(CgroupDriver driver, const base::PodId& pod) {
  return driver == state::SYSTEMD ? base::StrCat("/crisp.slice/", kPrefix, pod.str(), kSlice)
                                  : base::StrCat("/crisp/", pod.str());
}

std::string ContainerCgroup(CgroupDriver driver, std::string_view pod_cgroup,
                            const base::ContainerId& id) {
  return base::StrCat(pod_cgroup, "/", kPrefix, id.str(), driver == state::SYSTEMD ? kScope : "");
}

std::string OciCgroupsPath(CgroupDriver driver, std::string_view cgroup) {
  if (driver == state::CGROUPFS) {
    return std::string(cgroup);
  }
  const std::string slice = LastName(cgroup.substr(0, cgroup.rfind('/')));
  const std::string scope = LastName(cgroup);
  return base::StrCat(slice, ":crisp:",
                      scope.substr(kPrefix.size(), scope.size() - kPrefix.size() - kScope.size()));
}

std::string LastName(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace runtimeservice
