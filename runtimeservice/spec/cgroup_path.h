// Where a container's cgroup is (driver cgroupfs).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/id.h"

namespace runtimeservice {

// `cgroup_parent` of a pod as a path below each hierarchy's root: absolute, without "." or "..";
// "/crisp" when empty. INVALID_ARGUMENT, naming the field, for other forms (a systemd slice's
// name).
absl::StatusOr<std::string> CgroupParent(std::string_view cgroup_parent);

// "<parent>/crisp-<id>".
absl::StatusOr<std::string> CgroupPath(std::string_view cgroup_parent, const base::ContainerId& id);

}  // namespace runtimeservice
