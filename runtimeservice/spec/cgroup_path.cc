#include "runtimeservice/spec/cgroup_path.h"

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

absl::Status Invalid(std::string_view parent, std::string_view why) {
  return absl::InvalidArgumentError(base::StrCat("linux.cgroup_parent \"", parent, "\": ", why));
}

}  // namespace

absl::StatusOr<std::string> CgroupParent(std::string_view cgroup_parent) {
  if (cgroup_parent.empty()) {
    return "/crisp";
  }
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

absl::StatusOr<std::string> CgroupPath(std::string_view cgroup_parent,
                                       const base::ContainerId& id) {
  ASSIGN_OR_RETURN(const std::string parent, CgroupParent(cgroup_parent));
  return base::StrCat(parent, "/crisp-", id.str());
}

}  // namespace runtimeservice
