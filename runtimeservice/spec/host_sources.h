// The host's side of a container's mounts: everything BuildSpec needs of them from system calls.
#pragma once

#include <functional>
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

// A mount that no request asked for; one of the request at the same place takes its place.
struct ExtraMount {
  std::string destination;  // In the container: absolute, without "." and "..".
  std::string source;
  bool readonly = true;
};

// Called before a path of the host is touched, with the request's field; an error ends the look.
using BeforePath = std::function<absl::Status(std::string field, std::string path)>;

// `path` without symlinks; NOT_FOUND when it is missing. May block as long as the file systems it
// asks.
absl::StatusOr<std::string> RealPath(const std::string& path);

// The sources of `config`'s mounts, one per mount, in order: symlinks resolved, missing directories
// made (0755), but for those in `reject_absent`. INVALID_ARGUMENT for a contradictory mount,
// FAILED_PRECONDITION when the source's mount has not the propagation that is asked for; errors
// name the field ("mounts[2].host_path"). An image volume's is left empty: it is mounted later
// (image_volumes.cc). May block as long as the file systems it asks.
absl::StatusOr<std::vector<MountSource>> ResolveMountSources(
    const cri::ContainerConfig& config, const std::vector<std::string>& reject_absent = {},
    const BeforePath& before = nullptr);

}  // namespace runtimeservice
