// The host's side of a container's mounts: everything BuildSpec needs of them from system calls.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

// One mount of a request, ready for the runtime.
struct MountSource {
  std::string path;       // Absolute, without symlinks.
  bool directory = true;  // Known for recursive_read_only alone.
};

// The sources of `config`'s mounts, one per mount, in order: symlinks resolved, missing directories
// made (0755). INVALID_ARGUMENT for a contradictory mount, FAILED_PRECONDITION when the source's
// mount has not the propagation that is asked for; errors name the field ("mounts[2].host_path").
// An image volume's is left empty: it is mounted later (image_volumes.cc).
// May block as long as the file systems it asks.
absl::StatusOr<std::vector<MountSource>> ResolveMountSources(const cri::ContainerConfig& config);

}  // namespace runtimeservice
