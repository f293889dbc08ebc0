// Where cgroups of pods and containers are, and what they are called, by driver. Names alone tell:
// nothing here asks systemd or the kernel.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/id.h"
#include "proto/state.pb.h"

namespace runtimeservice {

// CGROUPFS: directories made by the OCI runtime. SYSTEMD: transient scopes in slices.
using CgroupDriver = crisp::state::CgroupDriver;

// `cgroup_parent` of a pod as a path below each hierarchy's root, without a slash at its end; never
// called for an empty one. With cgroupfs an absolute path without "." or "..". With systemd a
// slice's name ("a-b.slice" is /a.slice/a-b.slice) or its whole path; not the root slice.
// INVALID_ARGUMENT, naming the field, for other forms.
absl::StatusOr<std::string> CgroupParent(CgroupDriver driver, std::string_view cgroup_parent);

// The cgroup of a pod that names no parent: below /crisp or crisp.slice, by the pod's id.
std::string OwnPodCgroup(CgroupDriver driver, const base::PodId& pod);

// The container's cgroup below its pod's path: "crisp-<id>" or the scope "crisp-<id>.scope".
std::string ContainerCgroup(CgroupDriver driver, std::string_view pod_cgroup,
                            const base::ContainerId& id);

// linux.cgroupsPath of a container with that cgroup: the path, or "SLICE:crisp:ID".
std::string OciCgroupsPath(CgroupDriver driver, std::string_view cgroup);

// The last name of a path: for a pod's path with systemd its slice.
std::string LastName(std::string_view path);

}  // namespace runtimeservice
