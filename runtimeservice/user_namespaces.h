// User namespaces of pods: what has to be made for them beyond the namespace itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/idmap.h"
#include "proto/cri.h"
#include "runtimeservice/spec/host_facts.h"
#include "runtimeservice/spec/host_sources.h"

namespace runtimeservice {

// OK when pods can have user namespaces here: the kernel makes them, and the file system of
// `storage` (the layers') can be id-mapped below an overlay. Else the reason, as
// FAILED_PRECONDITION. Starts one short child, `init_path`.
absl::Status ProbeUserNamespaces(const std::string& init_path, const std::string& storage,
                                 const HostFacts& host);

// Gives the file or directory `path` to the namespace's root.
absl::Status GiveToRoot(const std::string& path, const base::IdMap& map);

// Mounts that a container's runtime is to bind and cannot make itself: those of its own volumes
// that are to be id-mapped. They lie in `<bundle>/staged` from StageVolumes until the runtime has
// made its copies, and are found there by ReleaseStaged.
//
// Replaces in `sources` (one per mount of `config`) the path of each mount that wants it by that of
// its id-mapped copy. FAILED_PRECONDITION, naming the mount and the file system, when that cannot
// be mapped.
absl::Status StageVolumes(const std::string& bundle, const cri::ContainerConfig& config,
                          const base::UserNamespace& user, std::vector<MountSource>* sources);

// A copy of the host's /sys, read-only through and through, for a container in a user namespace
// that does not own its network namespace: it may not mount one. Its path.
absl::StatusOr<std::string> StageSysfs(const std::string& bundle);

// Unmounts and removes what was staged. OK if there is nothing; can be repeated.
absl::Status ReleaseStaged(const std::string& bundle);

}  // namespace runtimeservice
