// What a request says about user namespaces, checked and understood.
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "base/idmap.h"
#include "proto/cri.h"
#include "runtimeservice/spec/user.h"

namespace runtimeservice {

// INVALID_ARGUMENT, naming the field below `where` ("config.linux.security_context"), for options
// that cannot be obeyed: a mode that is neither POD nor NODE; in mode POD anything but one mapping
// of uids and one of gids that give id 0 inside a place; in mode NODE any mapping. Pure.
absl::Status CheckUserNamespace(const cri::NamespaceOption& options, std::string_view where);

// The maps of a pod's user namespace; nothing when it has the host's. For checked options. Pure.
std::optional<base::IdMap> PodIdMap(const cri::PodSandboxConfig& pod);

// INVALID_ARGUMENT, naming the field, when `container` wants another user namespace than its pod
// has, or the host's PID namespace in one of the pod's own, or when a mount's mappings are not
// those of the pod. Pure.
absl::Status CheckContainerUserNamespace(const cri::PodSandboxConfig& pod,
                                         const cri::ContainerConfig& container);

// Whether the mount is to be id-mapped.
inline bool WantsIdMap(const cri::Mount& mount) {
  return mount.uidmappings_size() > 0 || mount.gidmappings_size() > 0;
}

// INVALID_ARGUMENT when an id of `user` is not mapped: no process can have it. Pure.
absl::Status CheckMapped(const ProcessUser& user, const base::IdMap& map);

}  // namespace runtimeservice
